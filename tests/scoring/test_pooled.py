"""Pooled equals its formula on ragged input, keeps its laws, and gives the cards' known answers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.score import score
from xgap_analysis.scoring.scorer import scorer

Matrix = np.ndarray
RAGGED = st.lists(st.integers(2, 5), min_size=1, max_size=5)


def unit(x: Matrix) -> Matrix:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x: Matrix) -> Matrix:
    weight = np.exp(x - x.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def top(s: Matrix, k: int) -> Matrix:
    weight = np.zeros_like(s)
    for row, order in zip(weight, np.argsort(-s, axis=1, kind="stable"), strict=True):
        row[order[:k]] = 1
    return weight


def minmax(s: Matrix, delta: float) -> Matrix:
    low, high = s.min(1, keepdims=True), s.max(1, keepdims=True)
    x = (s - low) / (high - low)
    x = np.where(x < delta, 0, x)
    return x / x.sum(1, keepdims=True)


def ratio(s: Matrix) -> Matrix:
    total, size = s.sum(1, keepdims=True), np.abs(s).sum(1, keepdims=True)
    good = (total > 0) & (total >= size / 10)
    return np.where(good, s / np.where(good, total, 1), 1 / s.shape[1])


def scan(s: Matrix) -> Matrix:
    a = np.where(s > 0, s, 0.1 * s)
    return softmax(9 * a / np.linalg.norm(a, axis=0, keepdims=True))  # each region's row over the words


WEIGHTS: dict[str, Callable[[Matrix], Matrix]] = {  # of similarities [query tokens, gallery tokens]
    "uniform": np.ones_like,
    "top(1)": lambda s: top(s, 1),
    "top(2)": lambda s: top(s, 2),
    "softmax": lambda s: softmax(s / 0.1),
    "softmax(0.5)": lambda s: softmax(s / 0.5),
    "minmax": lambda s: minmax(s, 0),
    "minmax(0.4)": lambda s: minmax(s, 0.4),
    "ratio": ratio,
    "scan": scan,
}


def some(lengths: list[int], seed: int, d: int = 6) -> TokenFeatures:
    generator = torch.Generator().manual_seed(seed)
    sets = [torch.randn(n, d, generator=generator) for n in lengths]
    return TokenFeatures.from_sets(sets, map(str, range(len(sets))), "image", "image")


def by_formula(query: TokenFeatures, gallery: TokenFeatures, pair: Callable[[Matrix, Matrix], float]) -> Matrix:
    sets = [[side.tokens_of(i).double().numpy() for i in side.ids] for side in (query, gallery)]
    return np.array([[pair(q, g) for g in sets[1]] for q in sets[0]])


@pytest.mark.parametrize("weights", WEIGHTS)
@settings(max_examples=5)
@given(q=RAGGED, g=RAGGED, seed=st.integers(0, 999))
def test_it_equals_its_formula(weights: str, q: list[int], g: list[int], seed: int) -> None:
    query, gallery = some(q, seed), some(g, seed + 1)

    def cosines(a: Matrix, b: Matrix) -> Matrix:
        return (a * unit(WEIGHTS[weights](a @ b.T) @ b)).sum(1)

    found = score(query, gallery, f"pooled(weights={weights})")
    np.testing.assert_allclose(found, by_formula(query, gallery, lambda a, b: cosines(a, b).mean()), atol=2e-6)
    found = score(query, gallery, f"pooled(weights={weights}, outer=max)")
    np.testing.assert_allclose(found, by_formula(query, gallery, lambda a, b: cosines(a, b).max()), atol=2e-6)


@settings(max_examples=5)
@given(q=RAGGED, g=st.lists(st.integers(3, 5), min_size=1, max_size=5), seed=st.integers(0, 999))
@pytest.mark.parametrize("weights", ["ratio", "uniform", "softmax", "top(2)"])
def test_a_base_is_the_first_token_and_the_others_are_weighed(
    weights: str, q: list[int], g: list[int], seed: int
) -> None:
    query, gallery = some(q, seed), some(g, seed + 1)

    def pair(a: Matrix, b: Matrix) -> float:
        parts = b[1:]
        weight = WEIGHTS[weights](a @ parts.T)
        weight = weight / weight.sum(1, keepdims=True)
        return float((a * unit(b[0] + weight @ parts)).sum(1).mean())

    found = score(query, gallery, f"pooled(weights={weights}, base=first)")
    np.testing.assert_allclose(found, by_formula(query, gallery, pair), atol=2e-6)


@pytest.mark.parametrize("weights", ["uniform", "top(1)", "softmax", "minmax", "minmax(0.5)", "ratio", "scan"])
@pytest.mark.parametrize("base", [None, "first"])
def test_one_token_per_item_is_the_cosine(weights: str, base: str | None) -> None:
    query, gallery = (Features(torch.randn(n, 5), map(str, range(n)), "image", "image") for n in (4, 6))
    one = scorer("pooled", weights=weights, base=base)
    assert torch.allclose(score(query, gallery, one), score(query, gallery), atol=1e-6)
    assert torch.allclose(score(gallery, query, one).T, score(query, gallery), atol=1e-6)


@pytest.mark.parametrize("weights", [*WEIGHTS, "top(2)"])
def test_identical_tokens_are_one_token_and_padding_changes_nothing(weights: str) -> None:
    one = torch.randn(3, 5)
    gallery = TokenFeatures.from_sets(
        [one[:1].repeat(4, 1), one[1:2].repeat(2, 1), one[2:].repeat(7, 1)], "abc", "i", "i"
    )
    query = some([2, 3], 4, d=5)
    single = TokenFeatures.from_sets(list(one.split(1)), "abc", "i", "i")
    expected = score(query, single, "late_interaction(inner=max)")  # of one token: the mean cosine
    assert torch.allclose(score(query, gallery, f"pooled(weights={weights})"), expected, atol=1e-6)


def test_the_order_of_tokens_and_the_other_items_change_nothing() -> None:
    query, gallery = some([3, 1, 4], 0), some([2, 5, 3], 1)
    turned = TokenFeatures.from_sets([gallery.tokens_of(i).flip(0) for i in gallery.ids], gallery.ids, "image", "image")
    for weights in ("uniform", "softmax", "minmax(0.2)", "ratio", "scan"):
        name = f"pooled(weights={weights})"
        found = score(query, gallery, name)
        assert torch.allclose(score(query, turned, name), found, atol=1e-6)
        assert torch.allclose(score(query, gallery.select(["2", "0"]), name), found[:, [2, 0]], atol=1e-6)
        assert torch.allclose(score(query.select(["1"]), gallery, name), found[1:2], atol=1e-6)


def test_x_pools_baselines_agree_in_their_limits() -> None:
    query, gallery = some([1, 1, 1], 0), some([4, 4], 1)
    mean = score(query, gallery, "pooled(weights=uniform)")
    assert torch.allclose(score(query, gallery, "pooled(tau=1e6)"), mean, atol=1e-5)
    assert torch.allclose(score(query, gallery, "pooled(weights=top(4))"), mean, atol=1e-6)
    best = score(query, gallery, "late_interaction")
    assert torch.allclose(score(query, gallery, "pooled(tau=1e-5)"), best, atol=1e-6)
    assert torch.allclose(score(query, gallery, "pooled(weights=top(1))"), best, atol=1e-6)


def test_a_mean_of_unit_frames_divides_the_mean_cosine_by_its_own_length() -> None:
    query, gallery = some([1, 1], 0), some([3, 5], 1)
    length = torch.tensor([float(gallery.tokens_of(i).mean(0).norm()) for i in gallery.ids])
    cosines = score(query, gallery, "late_interaction(inner=mean)")
    assert torch.allclose(score(query, gallery, "pooled(weights=uniform)"), cosines / length, atol=1e-6)


def test_clips_of_the_oracle_have_the_closed_form_of_their_shares() -> None:
    codes = torch.linalg.qr(torch.randn(32, 32, dtype=torch.float64))[0]
    g = 0.7
    frame = codes[:8] + 0.3 * codes[20] + g * codes[30]
    text = codes[:8] + g * codes[31]
    clips = [[0] * 12, [0] * 6 + [1] * 6, [0] * 4 + [1] * 4 + [2] * 4, [0, 1, 2, 3] * 3]
    gallery = TokenFeatures.from_sets([frame[of] for of in clips], "abcd", "image", "image")
    query = Features(text[:1], ["event"], "text", "text")
    found = score(query, gallery, "pooled(weights=uniform)")[0]
    np.testing.assert_allclose(found, [0.6517, 0.3942, 0.2857, 0.2248], atol=6e-5)
    np.testing.assert_allclose(score(query, gallery, "pooled(tau=1e-4)")[0], [0.6517] * 4, atol=6e-5)


def test_comclip_with_all_sub_images_equal_to_the_image_is_the_cosine() -> None:
    images = torch.randn(3, 6)
    gallery = TokenFeatures.from_sets([v.repeat(n, 1) for v, n in zip(images, (4, 2, 3), strict=True)], "abc", "i", "i")
    single = Features(images, "abc", "i", "i")
    query = Features(torch.randn(4, 6), "wxyz", "text", "text")
    found = score(query, gallery, "pooled(weights=ratio, base=first)")
    assert torch.allclose(found, score(query, single), atol=1e-6)
    text = Features(torch.tensor([[1.0, 0, 0, 0]]), ["t"], "text", "text")  # similar to one part alone: weights (1, 0)
    parts = torch.tensor([[0.0, 0, 0, 1], [0.6, 0.8, 0, 0], [0, 0, 1, 0]])
    whole = TokenFeatures(parts, [0, 3], ["a"], "image", "image")
    assert score(text, whole, "pooled(weights=ratio, base=first)").item() == pytest.approx(0.6 / 2**0.5)


def test_scan_of_one_region_is_the_cosine_of_each_word_with_it() -> None:
    words, regions = some([4, 2], 0), some([1, 1, 1], 1)
    found = score(words, regions, "pooled(weights=scan)")
    assert torch.allclose(found, score(words, regions, "late_interaction"), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_scan_by_log_sum_exp_equals_its_formula_in_both_directions(seed: int) -> None:
    """Words W and regions V of ragged items, as published: 9 and 6 for text to image, 4 and 5 for image to text."""
    words, regions = some([4, 1, 3], seed), some([2, 5, 3, 1], seed + 1)

    def pair(query: Matrix, gallery: Matrix, smooth: float, last: float, mean: bool) -> float:
        a = gallery @ query.T  # [gallery tokens, query tokens]
        a = np.where(a > 0, a, 0.1 * a)
        a = a / (np.sqrt((a**2).sum(axis=1, keepdims=True)) + 1e-8)
        weight = np.exp(smooth * a) / np.exp(smooth * a).sum(axis=0, keepdims=True)
        context = unit(weight.T @ gallery)
        cosines = (unit(query) * context).sum(axis=1)
        made = np.exp(last * cosines)
        return float(np.log(made.mean() if mean else made.sum()) / last)

    for query, gallery, smooth, last in ((words, regions, 9, 6), (regions, words, 4, 5)):
        for name, mean in (("lse", False), ("lme", True)):
            found = score(query, gallery, f"pooled(weights=scan({smooth}), outer={name}({last}))")
            expected = by_formula(query, gallery, lambda q, g, s=smooth, e=last, m=mean: pair(q, g, s, e, m))
            np.testing.assert_allclose(found, expected, atol=2e-6)


def test_log_sum_exp_adds_the_logarithm_of_the_number_of_tokens_and_log_mean_exp_nothing() -> None:
    """Texts of 1, 3 and 8 equal words: only the bonus tells them apart."""
    word = torch.tensor([[0.6, 0.8]])
    texts = TokenFeatures.from_sets([word.repeat(n, 1) for n in (1, 3, 8)], "abc", "text", "text")
    image = Features(torch.tensor([[1.0, 0.0]]), ["i"], "image", "image")
    lse = score(texts, image, "pooled(weights=scan, outer=lse(6))")[:, 0]
    np.testing.assert_allclose(lse, 0.6 + np.log([1, 3, 8]) / 6, atol=1e-6)
    for outer in ("mean", "lme(6)", "max"):
        assert torch.allclose(score(texts, image, f"pooled(weights=scan, outer={outer})")[:, 0], torch.tensor(0.6))
    back = score(image, texts, "exchanged(pooled(weights=scan, outer=lse(6)))")
    assert back.argmax().item() == 2  # the longest text stands first for the image
    with pytest.raises(XgapError, match=r"lse\(6\) is no weighted sum"):
        xg.token_pairs(texts.select(["b"]), image, "pooled(weights=scan, outer=lse(6))")


@pytest.mark.parametrize(
    "part", ["votes(k=1)", "rerank(late_interaction, pooled, depth=1)", "sum(late_interaction, votes(k=1))"]
)
def test_what_ranks_a_whole_gallery_is_not_exchanged(part: str) -> None:
    """It would see the queries of one block alone, so that its scores would hang on their number."""
    query, gallery = some([3, 4, 2], 0), some([4, 1], 1)
    with pytest.raises(XgapError, match=r"(votes|rerank)\(.*\) compares the items of a whole gallery"):
        score(query, gallery, f"exchanged({part})")


def test_zero_sums_fall_back_to_equal_weights() -> None:
    query = Features(torch.tensor([[1.0, 0, 0]]), ["q"], "text", "text")
    level = torch.tensor([[0.5, 0.75**0.5, 0], [0.5, 0, 0.75**0.5]])  # equal similarities
    signs = torch.tensor([[0.6, 0.8, 0], [-0.6, 0, 0.8]])  # they add up to zero
    below = torch.tensor([[-0.6, 0.8, 0], [-0.2, 0, 0.96**0.5]])  # to less than zero
    gallery = TokenFeatures.from_sets([level, signs, below], "abc", "image", "image")
    uniform = score(query, gallery, "pooled(weights=uniform)")[0]
    assert torch.allclose(score(query, gallery, "pooled(weights=ratio)")[0], uniform, atol=1e-6)
    assert torch.allclose(score(query, gallery, "pooled(weights=minmax)")[0, :1], uniform[:1], atol=1e-6)
    assert score(query, gallery, "pooled(weights=minmax)")[0, 1].item() == pytest.approx(0.6)  # the higher one alone


def test_tokens_that_cancel_out_are_an_error_that_names_the_item() -> None:
    v = torch.randn(1, 6)
    gallery = TokenFeatures.from_sets([torch.randn(3, 6), torch.cat([v, -v])], "ab", "image", "image")
    query = Features(torch.randn(2, 6), "xy", "text", "text")
    with pytest.raises(XgapError, match="item 'b' cancel out"):
        score(query, gallery, "pooled(weights=uniform)")
    assert score(query, gallery, "pooled").isfinite().all()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("pooled(weights=top(3))", "weights=top.3. needs 3 tokens per item, and item '1' has 2"),
        ("pooled(weights=top(2), base=first)", "weights=top.2. needs 2 tokens per item, and item '1' has 1"),
        ("pooled(outer=top(4))", "outer=top.4. needs 4 tokens per item, and item '0' has 3"),
        ("pooled(weights=sofmax)", "unknown weights 'sofmax'; nearest names: softmax"),
        ("pooled(weights=minmax(2))", "must lie between 0 and 1"),
        ("pooled(tau=0)", "must be greater than 0"),
        ("pooled(tau=x)", "must be a number"),
        ("pooled(weights=top)", "weights=top needs its k"),
        ("pooled(base=last)", "base is None or first"),
        ("pooled(weights=ratio(2))", "write ratio, without brackets"),
    ],
)
def test_a_mistake_is_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(XgapError, match=sentence):
        score(some([3], 0), some([4, 2], 1), name)
