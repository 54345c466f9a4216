"""Corrections in a chain: equal to successive calls and to numpy, refusals, and a study's row."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import xgap_analysis as xg
from tests.corrections.test_protocol import calibration, features, opposite
from xgap_analysis.core.features import Features
from xgap_analysis.corrections import Calibration, correction
from xgap_analysis.experiments.pairing import fitted_scorer


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def after(own: Calibration, by: Any) -> Calibration:
    return replace(own, features={space: by(of) for space, of in own.features.items()})


@pytest.mark.parametrize(
    "names",
    [
        ("center", "pca-text(rank=3, words=captions)"),
        ("gap-shift(lambda_=0.3)", "whiten", "center"),
        ("standardise", "random-subspace(rank=4)", "none"),
        ("realign", "chain(center, whiten)"),
    ],
)
def test_a_chain_is_its_corrections_one_after_another(names: tuple[str, ...]) -> None:
    own, given = calibration(), (features(5, 6, "image", 7), features(4, 6, "text", 8))
    chained = correction("chain", *names).fit(own)
    assert chained.name == f"chain({', '.join(names)})"
    expected = given
    for name in names:
        by = correction(name).fit(own)
        expected = tuple(by(of) for of in expected)
        own = after(own, by)
    for before, made, of in zip(given, map(chained, given), expected, strict=True):
        assert torch.equal(made.vectors, of.vectors)
        assert (made.ids, made.space, made.origin) == (of.ids, of.space, of.origin)
        assert made.provenance == {"model": "none", "correction": chained.name, "fitted_on": "train"}
        assert not torch.allclose(made.vectors, before.vectors, atol=1e-2)


def test_a_chain_of_two_is_written_out_in_numpy() -> None:
    own, given = calibration(), features(5, 6, "image", 7)
    images, texts = (of.vectors.double().numpy() for of in (own.images, own.texts))
    texts_after = unit(texts - texts.mean(0))
    kept = np.linalg.svd(np.cov(texts_after.T))[0][:, :3]
    expected = unit(unit(given.vectors.double().numpy() - images.mean(0)) @ kept)
    made = correction("chain(center, pca-text(rank=3, words=captions))").fit(own)(given).vectors.double().numpy()
    np.testing.assert_allclose(made @ made.T, expected @ expected.T, atol=1e-5)
    other = correction("chain(pca-text(rank=3, words=captions), center)").fit(own)(given).vectors.double().numpy()
    assert np.abs(other @ other.T - expected @ expected.T).max() > 1e-2  # the order counts


def test_texts_that_a_correction_encodes_go_through_those_before() -> None:
    class Tower:
        space = "text"

        def prepare(self, items: Any) -> list[str]:
            return list(items)

        def encode(self, batch: list[str]) -> torch.Tensor:
            rows = [torch.randn(6, generator=torch.Generator().manual_seed(len(word))) + 1 for word in batch]
            return 3 * torch.stack(rows)

    model = xg.Model("mine", {"text": Tower()})
    own = replace(calibration(), model=model, class_words=("a", "bb", "ccc", "dddd"))
    chained = correction("chain(center, pca-text(rank=2, words=classes, template='{}'))").fit(own)
    anchors = unit(Tower().encode(list(own.class_words)).double().numpy())
    anchors = unit(anchors - own.texts.vectors.double().numpy().mean(0))
    given = features(5, 6, "text", 8)
    kept = np.linalg.svd(np.cov(anchors.T))[0][:, :2]
    moved = unit(given.vectors.double().numpy() - own.texts.vectors.double().numpy().mean(0))
    expected = unit(moved @ kept)
    made = chained(given).vectors.double().numpy()
    np.testing.assert_allclose(made @ made.T, expected @ expected.T, atol=1e-4)


@pytest.mark.parametrize("last", ["inverted-softmax", "sinkhorn"])
def test_the_last_correction_may_change_scores(last: str) -> None:
    own = calibration()
    query, gallery = features(5, 6, "image", 7), features(9, 6, "text", 8)
    chained = correction(f"chain(center, {last})")
    center = correction("center").fit(own)
    pair = chained.fit(own).apply(query, gallery)
    expected = correction(last).fit(after(own, center)).apply(center(query), center(gallery))
    labels = {i: str(place % 3) for of in (query, gallery) for place, i in enumerate(of.ids)}
    relevance = xg.Relevance.from_labels(labels, labels)
    found, single = (xg.metrics.scores("retrieval", of, relevance) for of in (pair, expected))
    assert found.equals(single)
    assert pair.query.provenance["correction"] == pair.gallery.provenance["correction"] == str(chained)
    assert chained.transductive is correction(last).transductive
    with pytest.raises(xg.XgapError, match="changes scores: use its apply"):
        chained.fit(own)(query)


@pytest.mark.parametrize("names", ["center, sinkhorn", "center, chain(whiten, sinkhorn)"])
def test_before_a_change_of_scores_each_part_of_a_view_is_mapped_in_its_own_space(names: str) -> None:
    own = calibration()
    images, gallery = features(5, 6, "image", 7), features(9, 6, "image", 8)
    texts = replace(features(5, 6, "text", 9), ids=images.ids, origin="image")
    chained = correction(f"chain({names})").fit(own)
    pair = chained.apply_to(
        lambda by: xg.fuse(images, texts) if by is None else xg.fuse(by(images), by(texts)),
        lambda by: gallery if by is None else by(gallery),
    )
    maps = correction(f"chain({names})".replace("sinkhorn", "none")).fit(own)
    torch.testing.assert_close(pair.query.vectors, xg.fuse(maps(images), maps(texts)).vectors)
    assert torch.equal(pair.gallery.vectors, maps(gallery).vectors)
    assert pair.query.provenance["correction"] == chained.name


def test_a_learned_scorer_is_fitted_to_what_it_scores_behind_a_chain_that_changes_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    def noted(scoring: Any, query: Features, gallery: Features, **_: Any) -> Any:
        seen.append((query, gallery))
        return scoring

    monkeypatch.setattr("xgap_analysis.experiments.pairing.fitted", noted)
    study = xg.Study(["tiny-untrained"], ["emoji"], ["T-I"], limit=6, fit_split="val", progress=False)
    (evaluation,) = study.evaluations()
    for name in ("center", "chain(center, inverted-softmax)", "inverted-softmax", "none"):
        fitted_scorer(evaluation, study.comparison("T-I"), name, "x_pool(epochs=1)", 0)
    centred, chained, plain, none = seen
    for role in (0, 1):
        assert torch.equal(chained[role].vectors, centred[role].vectors)
        assert torch.equal(plain[role].vectors, none[role].vectors)
        assert not torch.equal(chained[role].vectors, none[role].vectors)


def test_the_last_correction_may_have_a_map_for_each_role() -> None:
    own = calibration()
    own = replace(own, queries={"image": own.images.ids[:8]})
    whiten = correction("whiten").fit(own)
    query, gallery = features(5, 6, "image", 7), features(9, 6, "image", 8)
    pair = correction("chain(whiten, center(roles=True))").fit(own).apply(query, gallery)
    center = correction("center(roles=True)").fit(after(own, whiten)).apply(whiten(query), whiten(gallery))
    assert torch.equal(pair.query.vectors, center.query.vectors)
    assert torch.equal(pair.gallery.vectors, center.gallery.vectors)


def refused(name: str, own: Calibration | None = None) -> str:
    with pytest.raises(xg.XgapError) as caught:
        correction(name).fit(own or calibration())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_stands_before_another_maps_features_alike() -> None:
    own = calibration()
    roles = replace(own, queries={"image": own.images.ids[:8]})
    assert refused("chain(sinkhorn, center)") == (
        "correction sinkhorn changes scores, so that nothing can be fitted behind it; put it last in the chain"
    )
    assert "maps queries in one way and the gallery in another" in refused("chain(center(roles=True), whiten)", roles)
    paired = replace(own, labels={i: str(n) for of in own.features.values() for n, i in enumerate(of.ids)})
    assert "bridge leads two spaces into 'text'" in refused("chain(bridge, center)", paired)
    assert "of two corrections or more, as chain(center, whiten), not 1" in refused("chain(center)")
    assert "not 0" in refused("chain")
    for name, message in (
        ("chain(center, pca-txt)", "pca-text"),
        ("chain(center, pca-text(rnk=3))", "rank"),
        ("chain(center, 3)", "made of corrections, and 3 is none"),
        ("chain(center, whiten, rank=3)", "option of chain"),
        ("center(whiten)", "takes options by name"),
    ):
        with pytest.raises(xg.XgapError, match=message):
            correction(name)
    with pytest.raises(xg.XgapError, match="takes options by name, and no corrections: center"):
        correction("center", "whiten")


def test_a_chain_has_what_its_corrections_have() -> None:
    assert correction("chain(center, random-subspace)").control
    assert not correction("chain(center, whiten)").control
    assert correction("chain(center, sinkhorn)").transductive
    assert correction("chain(noise, random-subspace)").from_model
    assert not correction("chain(center, isoclip)").from_model
    assert correction("chain(center, pca-text)").with_options({"pca-text": {"rank": 5}}) == correction(
        "chain(center, pca-text(rank=5))"
    )


def test_chains_in_a_study_have_rows_of_their_own() -> None:
    def half(calibration: Calibration) -> Callable[[Features], Features]:
        return lambda f: replace(f, vectors=f.vectors[:, : f.dim // 2])

    def other(calibration: Calibration) -> Callable[[Features], Features]:
        return lambda f: replace(f, vectors=f.vectors[:, f.dim // 2 :])

    other.__name__ = half.__name__
    mine = [xg.correction("chain", "center", by) for by in (half, other, opposite)]
    chained = "chain(center, pca-text(words=captions))"
    study = xg.Study(
        ["tiny-untrained"],
        ["emoji"],
        ["I-I"],
        [chained, *mine],
        axes={"pca-text.rank": [2, 16]},
        limit=6,
        fit_split="val",
        progress=False,
    )
    table = xg.main_rows(study.run())
    assert len(table) == 5
    assert table["value"].notna().all()
    rows = table[table["correction"].str.contains("pca-text")].set_index("pca-text.rank")
    assert rows["correction"].tolist() == [f"chain(center, pca-text(words=captions, rank={rank}))" for rank in (2, 16)]
    assert (rows["fitted_on"] == "val").all()
    assert rows["value"].nunique() == 2
    halves = table[table["correction"] == "chain(center, half)"]["value"]
    assert halves.nunique() == 2
    (evaluation,) = study.evaluations()
    images = evaluation.view("image", "all")
    center = evaluation.fitted("center")
    made = evaluation.fitted(mine[2])(images)
    assert torch.equal(made.vectors, -center(images).vectors)
