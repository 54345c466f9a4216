"""Token maps against numpy, item by item, on ragged sets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring import score
from xgap_analysis.scoring.token_maps import TOKEN_MAPS, medoids, mixed, token_map, top_tokens, windows

LENGTHS = st.lists(st.integers(3, 9), min_size=1, max_size=4)


def ragged(lengths: list[int], seed: int, d: int = 5, weighted: bool = True) -> TokenFeatures:
    generator = torch.Generator().manual_seed(seed)
    sets = [torch.randn(n, d, generator=generator) for n in lengths]
    weights = [torch.rand(n, generator=generator) for n in lengths] if weighted else None
    return TokenFeatures.from_sets(sets, [f"i{k}" for k in range(len(sets))], "image", "image", weights=weights)


def items(tokens: TokenFeatures) -> list[NDArray[np.float64]]:
    return [tokens.tokens_of(i).numpy().astype(np.float64) for i in tokens.ids]


def column(tokens: TokenFeatures, name: str) -> list[NDArray[np.float64]]:
    return np.split(getattr(tokens, name).numpy().astype(np.float64), tokens.offsets[1:-1].tolist())


def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@settings(max_examples=20)
@given(LENGTHS, st.integers(0, 999), st.integers(1, 3), st.sampled_from(["weights", "norms"]))
def test_top_keeps_the_heaviest_in_their_order(lengths: list[int], seed: int, k: int, by: str) -> None:
    tokens = ragged(lengths, seed)
    made = top_tokens(tokens, k, by)
    for before, after, weight in zip(items(tokens), items(made), column(tokens, by), strict=True):
        np.testing.assert_array_equal(after, before[np.sort(np.argsort(-weight, kind="stable")[:k])])
    assert (made.ids, made.space, made.provenance["token_map"]) == (tokens.ids, "image", f"top({k}, by={by})")
    expected = [np.sort(w)[::-1][:k].sum() for w in column(tokens, "norms" if by == "norms" else "weights")]
    np.testing.assert_allclose([w.sum() for w in column(made, by)], expected, rtol=1e-6)


def medoids_of(x: NDArray[np.float64], k: int) -> list[int]:
    """The same, said slowly."""
    away = np.linalg.norm(x[:, None] - x[None], axis=2)
    chosen = [int(np.linalg.norm(x, axis=1).argmax())]
    while len(chosen) < k:
        rest = [i for i in range(len(x)) if i not in chosen]
        chosen.append(max(rest, key=lambda i: (min(away[i][c] for c in chosen), -i)))
    for _ in range(100):
        group = [min(range(k), key=lambda j: (i != chosen[j], away[i][chosen[j]], j)) for i in range(len(x))]
        groups = [[i for i in range(len(x)) if group[i] == j] for j in range(k)]
        anew = [min(of, key=lambda i: (sum(away[i][o] for o in of), i)) for of in groups]
        if anew == chosen:
            break
        chosen = anew
    return sorted(chosen)


@settings(max_examples=20)
@given(LENGTHS, st.integers(0, 999), st.integers(1, 3))
def test_medoids_against_a_slow_search(lengths: list[int], seed: int, k: int) -> None:
    tokens = ragged(lengths, seed)
    made = medoids(tokens, k)
    for before, norms, after in zip(items(tokens), column(tokens, "norms"), items(made), strict=True):
        np.testing.assert_array_equal(after, before[medoids_of(before * norms[:, None], k)])


def test_medoids_are_one_of_each_cluster_and_all_tokens_at_full_number() -> None:
    centres = 10 * torch.eye(3)
    clip = centres[[0, 0, 0, 1, 1, 1, 2, 2]] + 0.1 * torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    tokens = TokenFeatures(clip, [0, 8], ["clip"], "image", "image")
    assert medoids(tokens, 3).vectors.argmax(dim=1).tolist() == [0, 1, 2]
    whole = medoids(tokens, 8)
    assert torch.equal(whole.vectors, tokens.vectors)
    assert torch.equal(whole.norms, tokens.norms)
    torch.testing.assert_close(whole.pooled().vectors, tokens.pooled().vectors)
    same = TokenFeatures(torch.ones(5, 3), [0, 5], ["still"], "image", "image")  # all in one place
    assert len(medoids(same, 3).vectors) == 3


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 999), st.integers(1, 9))
def test_windows_are_means_of_neighbours_with_a_border_that_reflects(lengths: list[int], seed: int, size: int) -> None:
    tokens = ragged(lengths, seed)
    made = windows(tokens, size)
    query = ragged([1], 7, weighted=False)
    for before, after, norms in zip(items(tokens), items(made), column(made, "norms"), strict=True):
        before_, behind = (size + 1) // 2, size - (size + 1) // 2
        padded = np.pad(before, ((before_, behind), (0, 0)), mode="reflect" if len(before) > 1 else "edge")
        means = np.stack([padded[i : i + size].mean(0) for i in range(len(before))])
        np.testing.assert_allclose(after, unit(means), atol=1e-5)
        # What HowToCaption ranks: the mean of the cosines of a window's frames.
        cosines = padded @ query.vectors[0].numpy().astype(np.float64)
        mean = [cosines[i : i + size].mean() for i in range(len(before))]
        np.testing.assert_allclose(norms * (after @ query.vectors[0].numpy()), mean, atol=1e-5)
    assert made.weights is not None
    assert torch.equal(made.offsets, tokens.offsets)


def test_a_window_of_one_token_changes_nothing_and_one_window_of_one_token_is_a_cosine() -> None:
    one, query = ragged([1, 1], 0), ragged([1], 1)
    assert torch.equal(windows(one, 1).vectors, one.vectors)
    best = score(query, windows(one, 8), "late_interaction(inner=max, outer=mean)")
    torch.testing.assert_close(best, score(query, one, "cosine"))
    torch.testing.assert_close(windows(one, 8).norms, torch.ones(2))
    opposite = TokenFeatures(torch.tensor([[1.0, 0], [-1, 0], [1, 0]]), [0, 3], ["clip"], "image", "image")
    with pytest.raises(XgapError, match="item 'clip' has a token, number 0, that is zero"):
        windows(opposite, 2)


@settings(max_examples=20)
@given(LENGTHS, st.integers(0, 999), st.integers(1, 3), st.booleans())
def test_mixtures_of_tokens_around_those_that_weigh_most(lengths: list[int], seed: int, k: int, weighted: bool) -> None:
    tokens = ragged(lengths, seed, weighted=weighted)
    vectors = torch.randn(len(lengths), 5, generator=torch.Generator().manual_seed(seed + 1))
    whole = Features(vectors, tokens.ids, "image", "image")
    made = mixed(tokens, k, whole=whole, weight=0.7, tau=0.3)
    weights = column(tokens, "weights") if weighted else None
    for i, (parts, after) in enumerate(zip(items(tokens), items(made), strict=True)):
        c = whole.vectors[i].numpy().astype(np.float64)
        best = np.argsort(-(weights[i] if weights else parts @ c), kind="stable")[:k]
        share = np.exp(parts[best] @ parts.T / 0.3)
        mixture = unit(share / share.sum(1, keepdims=True) @ parts)
        np.testing.assert_allclose(after, unit(c + 0.7 * mixture), atol=1e-5)


def test_without_a_mixture_a_sub_region_is_the_whole_item() -> None:
    tokens = ragged([4, 6], 0)
    made = mixed(tokens, 3, weight=0.0)
    assert made.lengths.tolist() == [3, 3]
    torch.testing.assert_close(made.vectors, tokens.pooled().vectors.repeat_interleave(3, dim=0))


def test_maps_have_a_notation() -> None:
    tokens = ragged([4, 6], 0)
    assert set(TOKEN_MAPS) == {"medoids", "windows", "top", "mixed"}
    assert torch.equal(token_map("medoids(2)")(tokens).vectors, medoids(tokens, 2).vectors)
    assert torch.equal(token_map("top(k=2, by=norms)")(tokens).vectors, top_tokens(tokens, 2, "norms").vectors)
    with pytest.raises(XgapError, match="unknown token map 'medoid'; nearest names: medoids"):
        token_map("medoid(2)")
    with pytest.raises(XgapError, match="unknown option of top 'kk'"):
        token_map("top(kk=2)")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("medoids(5)", r"medoids\(5\) needs 5 tokens per item, and item 'i0' has 4; choose a smaller k"),
        ("top(5)", "item 'i0' has 4; choose a smaller k"),
        ("mixed(5)", "item 'i0' has 4; choose a smaller k"),
        ("medoids(0)", "must be a whole number of 1 or more"),
        ("top(2, by=size)", "by weights or norms, not by 'size'"),
        ("windows(0)", "a whole number of tokens of 1 or more, not 0"),
        ("medoids(2, 3)", "medoids takes tokens and k, not what stands in 'medoids\\(2, 3\\)'"),
        ("mixed(2, tau=0.0)", r"is positive, not 0\.0"),
    ],
)
def test_mistakes_are_one_sentence(wanted: str, message: str) -> None:
    with pytest.raises(XgapError, match=message):
        token_map(wanted)(ragged([4, 6], 0))


def test_tokens_without_weights_cannot_be_kept_by_them() -> None:
    with pytest.raises(XgapError, match="these tokens have no weights"):
        top_tokens(ragged([4], 0, weighted=False), 2)
    with pytest.raises(XgapError, match="have 3 dimensions, their tokens 5"):
        mixed(ragged([4], 0), 2, whole=Features(torch.ones(1, 3), ["i0"], "image", "image"))
