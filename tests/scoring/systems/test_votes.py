"""Votes: against a loop over snippets, the known answers, and pieces found by CCA in an embedded dataset."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import xgap_analysis as xg
from tests.scoring.systems.conftest import RAGGED, sets_of, some
from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.metrics import identified


def by_loop(query: TokenFeatures, gallery: TokenFeatures, k: int) -> np.ndarray:
    owner = [item for item, rows in enumerate(sets_of(gallery)) for _ in rows]
    snippets = np.concatenate(sets_of(gallery))
    votes = np.zeros((len(query), len(gallery)))
    for q, rows in enumerate(sets_of(query)):
        for row in rows:
            for nearest in np.argsort(-(snippets @ row))[:k]:
                votes[q, owner[nearest]] += 1
    return votes


@given(lengths=RAGGED, others=RAGGED, k=st.integers(1, 5), seed=st.integers(0, 50))
def test_each_snippet_votes_for_the_pieces_of_its_nearest(
    lengths: list[int], others: list[int], k: int, seed: int
) -> None:
    query, gallery = some(lengths, seed), some(others, seed + 1)
    k = min(k, sum(others))
    made = xg.score(query, gallery, f"votes(k={k})").numpy()
    np.testing.assert_allclose(made, by_loop(query, gallery, k))
    np.testing.assert_allclose(made.sum(1), [k * n for n in lengths])


@given(lengths=RAGGED, k=st.integers(1, 4), seed=st.integers(0, 50))
def test_votes_are_those_of_any_order_of_the_gallery_also_of_equal_snippets(
    lengths: list[int], k: int, seed: int
) -> None:
    gallery = some(lengths, seed)
    twice = gallery.vectors[torch.arange(len(gallery.vectors)) // 2]
    gallery = TokenFeatures(twice, gallery.offsets, gallery.ids, "image", "image")
    query, k = some([2, 3], seed + 1), min(k, sum(lengths))
    order = np.random.default_rng(seed).permutation(len(gallery))
    other = gallery.select([gallery.ids[i] for i in order])
    one, two = (xg.score(query, of, f"votes(k={k})").numpy() for of in (gallery, other))
    np.testing.assert_allclose(one[:, order], two, atol=1e-6)
    np.testing.assert_allclose(two.sum(1), [2 * k, 3 * k], rtol=1e-6)


def test_one_vote_of_one_snippet_is_the_nearest_neighbour() -> None:
    query, gallery = some([1] * 6, 0), some([3, 1, 4], 1)
    nearest = xg.score(query, gallery, "late_interaction(inner=max)").argmax(1)
    votes = xg.score(query, gallery, "votes(k=1)")
    assert votes.argmax(1).tolist() == nearest.tolist()
    assert votes.sum(1).tolist() == [1.0] * 6


def test_a_piece_without_votes_is_last_and_the_published_rule_is_optimistic() -> None:
    labels = {"q0": "a", "q1": "b", "q2": "c", "a": "a", "b": "b", "c": "c", "d": "d"}
    scores = {"q0": [3.0, 1, 0, 0], "q1": [3.0, 1, 1, 0], "q2": [5.0, 0, 0, 0]}
    x = TokenFeatures(torch.eye(4)[:3], range(4), ["q0", "q1", "q2"], "audio", "audio")
    y = TokenFeatures(torch.eye(4), range(5), ["a", "b", "c", "d"], "image", "image")
    table = identified(x, y, labels, scorer=lambda q, g: torch.tensor([scores[item] for item in x.ids]))
    assert table["votes"].tolist() == [3, 1, 0]
    assert table["rank"].tolist() == [1, 3, 4]  # ties count against the query
    assert table["rank_published"].tolist() == [1, 3, 1]  # one piece has votes
    assert table["reciprocal_rank"].tolist() == [1, 1 / 3, 1 / 4]
    alone = xg.Features(torch.eye(4), list("abcd"), "image", "image")  # a query leaves itself out of its own ranking
    assert identified(alone, alone, ["x", "x", "y", "y"], scorer="cosine")["rank"].tolist() == [3, 3, 3, 3]
    with pytest.raises(XgapError, match="no query has a relevant piece in this gallery"):
        identified(x, y, {**labels, "q0": "e", "q1": "e", "q2": "e"}, scorer="cosine")


def test_a_study_ranks_pieces_by_votes(oracle: object) -> None:
    data = xg.load_dataset("emoji-pieces").split("test").limit(4)
    how = {"scorers": ["votes(k=1)"], "metrics": ["identified"], "main": "reciprocal_rank", "progress": False}
    row = xg.main_rows(xg.Study([oracle], [data], ["names-regions"], store=None, **how).run())
    assert row["value"].tolist() == [1.0]


def test_the_oracle_finds_every_piece_by_votes(oracle: object) -> None:
    data = xg.load_dataset("emoji-pieces").split("test")
    heard = xg.tokens(oracle, data.items_of("audio"), "names", store=None, progress=False)
    drawn = xg.tokens(oracle, data.images, "regions", store=None, progress=False)
    for k in (1, 5):
        assert float(xg.retrieval(heard, drawn, data, scorer=f"votes(k={k})")["hit_at_1"].mean()) == 1.0
    assert (identified(heard, drawn, data, scorer="votes(k=1)")["rank"] == 1).all()


def test_turned_snippets_are_found_by_cca_one_by_one_and_as_pieces() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 12, generator=generator)
    y = x @ torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q
    ids = [f"{i // 10}/{i % 10}" for i in range(400)]
    audio, sheets = xg.Features(x, ids, "audio", "audio"), xg.Features(y, ids, "image", "image")
    fit, held = ids[:200], ids[200:]
    calibration = Calibration({"audio": audio.select(fit), "image": sheets.select(fit)}, split="train")
    found = {}
    for name in ("none", "bridge(kind=cca, source=audio)", "bridge-shuffled(kind=cca, source=audio)"):
        by = xg.correction(name).fit(calibration)
        heard, seen = by(audio.select(held)), by(sheets.select(held))
        snippets = xg.retrieval(heard, seen, {item: item for item in held})["hit_at_1"].mean()
        pieces = [xg.grouped(of, [item.split("/")[0] for item in held]) for of in (heard, seen)]
        labels = {item: item for item in pieces[0].ids}
        found[name] = (snippets, identified(*pieces, labels, scorer="votes(k=1)")["reciprocal_rank"].mean())
    assert found["bridge(kind=cca, source=audio)"] == (1.0, 1.0)
    assert max(found["none"][0], found["bridge-shuffled(kind=cca, source=audio)"][0]) < 0.1
    assert max(found["none"][1], found["bridge-shuffled(kind=cca, source=audio)"][1]) < 0.7


@pytest.mark.parametrize("k", [0, 9, 1.5, True])
def test_votes_of_no_token_or_of_too_many_are_refused(k: object) -> None:
    with pytest.raises(XgapError, match="k of votes is a whole number from 1 to the 8 tokens of this gallery"):
        xg.score(some([2], 0), some([3, 5], 1), xg.scorer("votes", k=k))


def test_rows_without_a_whole_are_refused() -> None:
    with pytest.raises(XgapError, match="2 names were given for 3 rows"):
        xg.grouped(np.eye(3), ["a", "b"])
    with pytest.raises(XgapError, match="row '2' belongs to nothing"):
        xg.grouped(np.eye(3), {"0": "a", "1": "b"})
