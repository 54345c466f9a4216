"""The harness: features or token features on either side, any block, bounded memory, and scorers of one's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import TokenFeatures, as_tokens
from xgap_analysis.scoring import rows, tokens
from xgap_analysis.scoring.blocks import score_blocks
from xgap_analysis.scoring.late_interaction import late_interaction
from xgap_analysis.scoring.rows import runs
from xgap_analysis.scoring.score import score
from xgap_analysis.scoring.scorer import SCORERS, Scorer, register_scorer, scorer
from xgap_analysis.scoring.tokens import TokenBlock

NAMES = [
    "late_interaction(inner=max, outer=mean)",
    "late_interaction(inner=mean, outer=max)",
    "late_interaction(inner=sum, outer=sum)",
    "late_interaction(inner=softmax(0.1), outer=top(1), symmetric=True)",
    "late_interaction(outer=assignment)",
    "pooled(weights=softmax, tau=0.1)",
    "pooled(weights=minmax(0.1), base=first)",
    "pooled(weights=scan)",
    "pooled(weights=scan, outer=lse(6))",
    "late_interaction(inner=lme(5), outer=lse(6))",
    "exchanged(pooled(weights=scan, outer=lse(6)))",
    "sum(late_interaction, pooled, weights=[1, 0.5])",
    "rerank(late_interaction(inner=mean, outer=mean), late_interaction, depth=4)",
]


def some(lengths: list[int], seed: int, d: int = 6) -> TokenFeatures:
    generator = torch.Generator().manual_seed(seed)
    sets = [torch.randn(n, d, generator=generator) for n in lengths]
    return TokenFeatures.from_sets(sets, map(str, range(len(sets))), "image", "image")


@pytest.mark.parametrize("name", NAMES)
def test_no_number_depends_on_the_block_or_on_the_tile(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery = some([3, 1, 9, 2, 5, 4, 1], 0), some([4, 1, 2, 7, 7, 3, 1, 12, 2, 5, 1], 1)
    whole = score(query, gallery, name)
    for block in (1, 2, 3, 100):
        assert torch.allclose(score(query, gallery, name, block=block), whole, atol=1e-6)
    for tile, most in ((1, 1), (30, 4), (200, 30)):
        monkeypatch.setitem(rows.TILE, "cpu", tile)
        monkeypatch.setitem(rows.QUERY_TOKENS, "cpu", most)
        assert torch.allclose(score(query, gallery, name), whole, atol=1e-6)
    monkeypatch.setattr(rows, "CHUNK", 4 * 6 * 5)
    assert torch.allclose(score(query, gallery, name), whole, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in NAMES if "rerank" not in n])
def test_the_order_of_items_orders_the_scores_and_changes_none(name: str) -> None:
    query, gallery = some([3, 1, 4], 0), some([4, 1, 2, 7, 3], 1)
    turned = score(query.select("210"), gallery.select("40213"), name)
    assert torch.allclose(turned, score(query, gallery, name)[[2, 1, 0]][:, [4, 0, 2, 1, 3]], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_features_are_one_token_per_item(name: str) -> None:
    sets = some([4, 2, 3, 5, 2, 3, 4, 2], 0)
    features = Features(torch.randn(7, 6), "abcdefg", "text", "text")
    assert torch.equal(score(features, sets, name), score(as_tokens(features), sets, name))
    assert torch.equal(score(sets, features, name), score(sets, as_tokens(features), name))
    assert torch.equal(score(features, features, name), score(as_tokens(features), as_tokens(features), name))


def test_one_token_per_item_has_a_cosine_and_more_have_none() -> None:
    features = Features(torch.randn(5, 6), "abcde", "text", "text")
    assert torch.equal(score(as_tokens(features), features), score(features, features))
    with pytest.raises(
        XgapError, match=r"cosine compares one vector per item, and item '1' of the gallery has 3 tokens"
    ):
        score(features, some([1, 3], 0))
    with pytest.raises(XgapError, match=r"item '0' of the query has 2 tokens; score with late_interaction or pooled"):
        score(some([2], 0), features)


def test_blocks_cover_the_queries_in_their_order() -> None:
    query, gallery = some([2, 1, 3, 1, 2], 0), some([2, 3], 1)
    spans = [(start, stop, tuple(part.shape)) for start, stop, part in score_blocks(query, gallery, NAMES[0], block=2)]
    assert spans == [(0, 2, (2, 2)), (2, 4, (2, 2)), (4, 5, (1, 2))]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=40), st.integers(1, 100))
@settings(max_examples=50)
def test_runs_hold_every_item_once_within_the_limit(lengths: list[int], most: int) -> None:
    found = list(runs(torch.tensor(lengths), most))
    assert sorted(torch.cat(found).tolist()) == list(range(len(lengths)))
    for run in found:
        assert len(run) == 1 or len(run) * max(lengths[i] for i in run.tolist()) <= most


def test_one_long_item_does_not_pad_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def sizes(query: TokenBlock, gallery: TokenBlock) -> torch.Tensor:
        seen.append(gallery.mask.numel())
        return late_interaction(query, gallery)

    monkeypatch.setitem(rows.TILE, "cpu", 2**8)
    gallery = some([2] * 300 + [500] + [2] * 300, 1)
    score(some([1], 0), gallery, sizes)
    assert sum(seen) <= 2 * 600 + 500 + 2**8
    assert max(seen) <= 500


def test_an_empty_side_other_dimensions_and_a_block_of_nothing_are_refused() -> None:
    none = TokenFeatures(torch.zeros(0, 6), [0], [], "image", "image")
    with pytest.raises(XgapError, match="the query is empty"):
        score(none, some([1], 0), NAMES[0])
    with pytest.raises(XgapError, match="the gallery is empty"):
        score(some([1], 0), none, NAMES[0])
    with pytest.raises(XgapError, match="6 dimensions and the gallery 5"):
        score(some([2], 0), some([2], 1, d=5), NAMES[0])
    with pytest.raises(XgapError, match="block, a number of queries, is a whole number of 1 or more, not 0"):
        score(some([2], 0), some([2], 1), NAMES[0], block=0)


def test_a_scorer_of_ones_own_is_given_what_it_takes() -> None:
    sets, features = some([2, 3, 1], 0), Features(torch.randn(4, 6), "abcd", "text", "text")
    expected = score(features, sets, "late_interaction")

    def own(query: TokenBlock, gallery: TokenBlock, *, power: int = 1) -> torch.Tensor:
        assert isinstance(query, TokenBlock)
        return late_interaction(query, gallery) ** power

    assert torch.equal(score(features, sets, own), expected)
    assert torch.equal(score(features, sets, scorer(own, power=2)), expected**2)
    assert torch.equal(score(features, features, lambda q, g: q @ g.T), features.vectors @ features.vectors.T)
    assert torch.equal(score(features, sets, late_interaction), expected)  # the function itself, by no name
    assert torch.allclose(score(features, features, late_interaction), score(features, features), atol=1e-6)
    try:
        register_scorer("own-tokens", takes="tokens")(own)
        assert torch.equal(score(features, sets, "own-tokens(power=3)"), expected**3)
        assert torch.equal(score(features, sets, "sum(own-tokens)"), expected)

        @register_scorer("own-features", takes="features")
        def by_id(query: TokenFeatures, gallery: TokenFeatures) -> torch.Tensor:
            return torch.tensor([[float(q == g) for g in gallery.ids] for q in query.ids])

        assert score(sets, sets, "own-features", block=2).equal(torch.eye(3))
    finally:
        for name in ("own-tokens", "own-features"):
            SCORERS._entries.pop(name, None)
    with pytest.raises(XgapError, match="a scorer takes vectors, tokens, features, not 'sets'"):
        register_scorer("own", takes="sets")


def test_weights_norms_and_ids_come_with_their_tokens() -> None:
    sets = [torch.full((n, 2), float(n)) for n in (2, 1, 3)]
    weights = [torch.arange(n) + 10.0 * n for n in (2, 1, 3)]
    gallery = TokenFeatures.from_sets(sets, "abc", "image", "image", weights=weights)
    found: dict[str, tuple[list[float], list[float]]] = {}

    def read(query: TokenBlock, block: TokenBlock) -> torch.Tensor:
        for i, item in enumerate(block.ids):
            there = block.mask[i]
            found[item] = (block.weights[i, there].tolist(), block.norms[i, there].tolist())
            assert block.weights[i, ~there].eq(0).all()
            assert block.vectors[i, ~there].eq(0).all()
        return torch.zeros(len(query), len(block))

    score(gallery.select("a"), gallery, read)
    assert {item: pair[0] for item, pair in found.items()} == {"a": [20, 21], "b": [10], "c": [30, 31, 32]}
    np.testing.assert_allclose(found["c"][1], [3 * 2**0.5] * 3, rtol=1e-6)


def test_scores_that_are_not_finite_or_of_another_shape_are_refused() -> None:
    sets = some([2, 1], 0)
    with pytest.raises(XgapError, match="NaN or infinite"):
        score(sets, sets, lambda q, g: torch.full((len(q), len(g)), torch.nan))
    with pytest.raises(XgapError, match=r"must give a tensor of scores \(2, 2\), not \(2, 1\)"):
        score(sets, sets, lambda q, g: torch.zeros(len(q), 1))


def test_memory_grows_with_the_block_and_not_with_all_pairs_of_tokens() -> None:
    status = Path("/proc/self/status")
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the kernel does not say what memory was used")

    def kilobytes(name: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))

    query, gallery = some([50] * 40, 0, d=16), some([16] * 3000, 1, d=16)
    score(query.select(["0"]), gallery, NAMES[0])
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = kilobytes("VmRSS")
    score(query, gallery, NAMES[0])
    pairs = 40 * 50 * 3000 * 16 * 4 // 1024
    assert kilobytes("VmHWM") - before < pairs / 5


def test_a_scorer_says_its_name() -> None:
    for name in NAMES:
        assert str(scorer(str(scorer(name)))) == str(scorer(name))
    assert isinstance(scorer(NAMES[0]), Scorer)
    assert str(scorer("pooled(weights=softmax, tau=0.1)")) == "pooled(weights=softmax, tau=0.1)"


@pytest.mark.parametrize("name", NAMES)
def test_a_device_without_double_precision_gives_the_same_to_rounding(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, gallery = some([3, 1, 4], 0), some([4, 2, 2, 7, 3], 1)
    whole = score(query, gallery, name)
    monkeypatch.setattr(tokens, "widest", lambda device: torch.float32)
    monkeypatch.setattr(torch.Tensor, "double", lambda self: pytest.fail("no float64 here"))
    if "assignment" not in name:  # solved on the processor
        assert torch.allclose(score(query, gallery, name), whole, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", NAMES)
def test_scores_are_made_on_the_device_of_the_query(name: str) -> None:
    query, gallery = some([3, 1, 4], 0), some([4, 2, 2, 7, 3], 1)
    whole = score(query, gallery, name)
    for there in ("cpu", "cuda"):
        found = score(query.to("cuda"), gallery.to(there), name)
        assert found.device.type == "cuda"
        assert torch.allclose(found.cpu(), whole, atol=1e-5)
