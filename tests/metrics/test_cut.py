"""The set that is kept after a ranking, against a slow count."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.corrections import QueryGallery
from xgap_analysis.metrics import cut, relevancy, retrieval, thresholds
from xgap_analysis.metrics.metric import metric, scores
from xgap_analysis.scoring import score


def features(n: int, seed: int, name: str, d: int = 4) -> Features:
    vectors = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return Features(vectors, [f"{name}{i}" for i in range(n)], "image", "image")


def relevance(n: int, m: int, seed: int, same: bool) -> Relevance:
    rng = np.random.default_rng(seed)
    gallery = {f"g{j}": str(rng.integers(3)) for j in range(m)}
    query = gallery if same else {f"q{i}": str(rng.integers(4)) for i in range(n)}  # some are relevant to nothing
    return Relevance.from_labels(query, gallery)


@settings(max_examples=25)
@given(st.integers(2, 9), st.integers(3, 12), st.integers(0, 99), st.integers(1, 5), st.booleans())
def test_a_cut_against_a_slow_count(n: int, m: int, seed: int, k: int, same: bool) -> None:
    gallery = features(m, seed, "g")
    query = gallery if same else features(n, seed + 1, "q")
    given_relevance = relevance(n, m, seed, same)
    similar = score(query, gallery).numpy()
    threshold = float(np.quantile(similar, 0.6))
    bound = given_relevance.bind(query.ids, gallery.ids)
    grades = bound.grades(0, len(query)).numpy() > 0
    made = cut(query, gallery, given_relevance, k=k, threshold=threshold, block=2)
    for i, row in enumerate(made.itertuples()):
        others = [j for j in range(m) if not (same and i == j)]
        kept = [j for j in sorted(others, key=lambda j: (-similar[i, j], j))[:k] if similar[i, j] >= threshold]
        relevant = [j for j in others if grades[i, j]]
        both = len(set(kept) & set(relevant))
        assert row.n_kept == len(kept)
        assert row.empty == (not kept)
        expected = (both / len(kept) if kept else np.nan, both / len(relevant) if relevant else np.nan)
        np.testing.assert_allclose((row.set_precision, row.set_recall), expected)
    assert made.attrs["empty"] == made["empty"].mean()


def test_without_a_threshold_it_is_the_first_k_and_above_all_it_is_empty() -> None:
    query, gallery, known = features(8, 0, "q"), features(12, 1, "g"), relevance(8, 12, 0, False)
    whole = cut(query, gallery, known, k=5)
    assert (whole["n_kept"] == 5).all()
    expected = retrieval(query, gallery, known, ks=(5,))["recall_at_5"]
    pd.testing.assert_series_equal(whole["set_recall"], expected, check_names=False)
    nothing = cut(query, gallery, known, k=5, threshold=1.5)
    assert nothing.attrs["empty"] == 1
    assert nothing["set_precision"].isna().all()
    assert nothing["set_recall"].dropna().eq(0).all()
    table = thresholds(query, gallery, known, [-1.0, 0.3, 1.5], k=5)
    assert table["n_kept"].is_monotonic_decreasing
    assert table.loc[1.5, "empty"] == 1


def test_candidates_of_one_scorer_are_cut_by_another() -> None:
    query, gallery, known = features(6, 0, "q"), features(12, 1, "g"), relevance(6, 12, 0, False)
    first = score(query, gallery).numpy()

    def opposite(q: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return -(q @ g.T)

    made = cut(query, gallery, known, k=2, candidates=4, scorer=opposite)
    bound = known.bind(query.ids, gallery.ids).grades(0, 6).numpy() > 0
    for i in range(6):
        best = np.argsort(-first[i], kind="stable")[:4]
        kept = best[np.argsort(first[i, best], kind="stable")[:2]]
        assert made["set_precision"].iloc[i] == bound[i, kept].mean()


def test_sets_of_vectors_are_cut_by_their_scorer() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = TokenFeatures.from_sets(
        [torch.randn(n, 4, generator=generator) for n in (2, 3, 1, 4)], "abcd", "image", "image"
    )
    made = cut(tokens, tokens, (["x", "x", "y", "y"], ["x", "x", "y", "y"]), k=1, scorer="late_interaction")
    similar = score(tokens, tokens, "late_interaction").fill_diagonal_(-9)
    right = similar.argmax(1) == torch.tensor([1, 0, 3, 2])
    assert made["set_precision"].tolist() == right.float().tolist()


def test_a_relevancy_is_the_logistic_regression_of_relevance_on_the_score() -> None:
    from scipy.optimize import minimize

    query, gallery = features(30, 0, "q"), features(25, 1, "g")
    labels = torch.randint(0, 4, (30,), generator=torch.Generator().manual_seed(3)).tolist()
    centres = torch.eye(4)
    noise = torch.Generator().manual_seed(4)
    query = Features(centres[labels] + 0.5 * torch.randn(30, 4, generator=noise), query.ids, "image", "image")
    own = [i % 4 for i in range(25)]
    gallery = Features(centres[own] + 0.5 * torch.randn(25, 4, generator=noise), gallery.ids, "text", "text")
    known = (labels, own)
    made = relevancy(query, gallery, known, block=7)
    s = score(query, gallery).numpy().astype(np.float64).ravel()
    y = (np.array(labels)[:, None] == np.array(own)[None]).ravel()

    def loss(p: np.ndarray) -> float:
        z = p[0] * s + p[1]
        return float(np.logaddexp(0, z).sum() - z[y].sum())

    best = minimize(loss, np.zeros(2), method="BFGS").x
    np.testing.assert_allclose((made.slope, made.intercept), best, rtol=1e-3)
    assert made.rate == pytest.approx(y.mean())
    at = made.score_at(0.3)
    assert float(made(torch.tensor(at))) == pytest.approx(0.3)
    # A threshold by chance is one by score: the relevancy keeps the order.
    by_chance = cut(query, gallery, known, k=9, threshold=0.3, normalise=made)
    by_score = cut(query, gallery, known, k=9, threshold=at)
    pd.testing.assert_frame_equal(by_chance, by_score)
    assert by_score["set_precision"].mean() > cut(query, gallery, known, k=9)["set_precision"].mean()


def test_a_threshold_of_one_comparison_does_not_serve_another_until_they_are_centred() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = [i % 8 for i in range(80)]
    content = torch.randn(8, 16, generator=generator)[labels]
    gap = torch.zeros(16)
    gap[0] = 3
    sides = (content + 0.4 * torch.randn(80, 16, generator=generator) + side for side in (gap, -gap))
    images, texts = (
        Features(vectors, [f"{space}{k}" for k in range(80)], space, space)
        for vectors, space in zip(sides, ("image", "text"), strict=True)
    )

    def shares(x: Features, y: Features) -> list[float]:
        at = relevancy(x, x, (labels, labels)).score_at(0.5)  # of I-I
        return [cut(x, of, (labels, labels), threshold=at).attrs["empty"] for of in (x, y)]

    within, across = shares(images, texts)
    assert within < 0.1
    assert across > 0.9  # no text reaches what images reach
    moved = [Features(of.vectors - of.vectors.mean(0), of.ids, of.space, of.origin) for of in (images, texts)]
    assert shares(*moved)[1] < 0.1


def test_it_is_a_metric_with_options() -> None:
    query, gallery, known = features(6, 0, "q"), features(12, 1, "g"), relevance(6, 12, 0, False)
    made = scores("cut(k=3, threshold=0.2)", QueryGallery(query, gallery), known)
    pd.testing.assert_frame_equal(made, cut(query, gallery, known, k=3, threshold=0.2), check_names=False)
    assert str(metric("cut", k=3)) == "cut(k=3)"


def test_mistakes_are_one_sentence() -> None:
    query, gallery, known = features(6, 0, "q"), features(12, 1, "g"), relevance(6, 12, 0, False)
    with pytest.raises(XgapError, match="k of a cut is 1 or more, not 0"):
        cut(query, gallery, known, k=0)
    with pytest.raises(XgapError, match="candidates of a cut is 1 or more, not 0"):
        cut(query, gallery, known, candidates=0)
    with pytest.raises(XgapError, match="all 66 are of one kind"):
        relevancy(query, features(11, 1, "g"), (["a"] * 6, ["a"] * 11))
    with pytest.raises(XgapError, match="a chance lies between 0 and 1"):
        relevancy(query, query, (list("aabbcc"), list("aabbcc")), exclude_self=False).score_at(1.0)
    opposite = Features(-query.vectors, query.ids, "text", "text")
    with pytest.raises(XgapError, match="do not score above the others"):
        relevancy(query, opposite, (list("abcdef"), list("abcdef")))


@pytest.mark.parametrize(("rate", "difference"), [(1e-3, 0.05), (2e-4, 0.1)])
def test_a_relevancy_is_found_where_few_pairs_are_relevant_and_scores_lie_in_a_narrow_range(
    rate: float, difference: float
) -> None:
    rng = np.random.default_rng(0)
    n, spread = 100_000, 0.03
    relevant = np.zeros(n, dtype=bool)
    relevant[: int(rate * n)] = True
    s = 0.8 + spread * rng.normal(size=n) + difference * relevant
    query = Features(torch.eye(2), ["q", "r"], "image", "image")
    gallery = Features(torch.randn(n // 2, 2), map(str, range(n // 2)), "text", "text")

    def given(q: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(s.reshape(2, -1))[(q @ torch.tensor([0.0, 1.0])).long()].float()

    known = {i: {str(j): 1 for j in np.flatnonzero(relevant.reshape(2, -1)[k])} for k, i in enumerate("qr")}
    made = relevancy(query, gallery, Relevance.from_qrels(known), scorer=given)
    # Of two normal distributions of one width, the log odds are linear: slope difference / variance.
    assert made.slope == pytest.approx(difference / spread**2, rel=0.25)


def test_first_without_candidates_is_refused() -> None:
    x = features(3, 0, "q")
    with pytest.raises(XgapError, match="say how many, candidates=100"):
        cut(x, x, (["a", "a", "b"], ["a", "a", "b"]), first="cosine")
