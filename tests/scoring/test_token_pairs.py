"""Contributions of token pairs equal their formula in numpy, and sum to the score whatever the scorer."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring import SCORERS, TokenBlock, register_scorer
from xgap_analysis.scoring.score import score
from xgap_analysis.scoring.token_pairs import token_pairs

Matrix = np.ndarray
SUMMING = [
    *(f"late_interaction(inner={i}, outer={o})" for i in ("max", "mean", "sum", "top(2)", "softmax(0.2)")
      for o in ("max", "mean", "sum", "top(2)", "softmax(0.3)")),
    "late_interaction(symmetric=True)",
    "late_interaction(inner=top(2), outer=softmax(0.5), symmetric=True)",
    "late_interaction(outer=assignment)",
    *(f"pooled(weights={w})" for w in ("uniform", "top(2)", "softmax", "minmax(0.3)", "ratio", "scan")),
    "pooled(tau=0.5, base=first, outer=max)",
]  # fmt: skip


def one(tokens: Matrix, name: str = "a") -> TokenFeatures:
    return TokenFeatures(tokens, [0, len(tokens)], [name], "image", "image")


def some(seed: int, t: int, s: int, d: int = 6) -> tuple[TokenFeatures, TokenFeatures]:
    draw = np.random.default_rng(seed)
    return one(draw.normal(size=(t, d))), one(draw.normal(size=(s, d)) + 0.3, "b")


def softmax(x: Matrix, tau: float) -> Matrix:
    e = np.exp((x - x.max()) / tau)
    return e / e.sum()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 99), t=st.integers(2, 5), s=st.integers(3, 6), by=st.sampled_from(SUMMING))
def test_contributions_sum_to_the_score(seed: int, t: int, s: int, by: str) -> None:
    query, gallery = some(seed, t, s)
    pairs = token_pairs(query, gallery, by)
    assert pairs.contributions.shape == (t, s)
    assert pairs.score == pytest.approx(float(score(query, gallery, by)), abs=1e-5)
    np.testing.assert_allclose(pairs.similarities, query.vectors @ gallery.vectors.T, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), t=st.integers(2, 5), s=st.integers(2, 6))
def test_they_equal_the_formulas(seed: int, t: int, s: int) -> None:
    query, gallery = some(seed, t, s)
    q, g = query.vectors.double().numpy(), gallery.vectors.double().numpy()
    S = q @ g.T
    best, weighted, pooled, two = (np.zeros_like(S) for _ in range(4))
    for i, row in enumerate(S):
        best[i, row.argmax()] = row.max() / t
        w = softmax(row, 0.1)
        pooled[i] = w * row / np.linalg.norm(w @ g) / t
        weighted[i] = softmax(row, 0.2) * row
        for j in np.argsort(-row, kind="stable")[:2]:
            two[i, j] = row[j] / 2
    weighted *= softmax(weighted.sum(1), 0.3)[:, None]
    kept = two.sum(1).argmax()
    two[np.arange(t) != kept] = 0
    expected = {
        "late_interaction": best,
        "late_interaction(inner=softmax(0.2), outer=softmax(0.3))": weighted,
        "late_interaction(inner=top(2), outer=max)": two,
        "pooled": pooled,
        "late_interaction(inner=mean, outer=mean)": S / (t * s),
    }
    for by, of in expected.items():
        np.testing.assert_allclose(token_pairs(query, gallery, by).contributions, of, atol=1e-6, err_msg=by)


def test_known_answers() -> None:
    eye = np.eye(4)
    query, gallery = one(eye[:2]), one(np.vstack([eye[1], eye[0], eye[3]]), "b")
    pairs = token_pairs(query, gallery, "late_interaction")
    assert pairs.contributions.tolist() == [[0, 0.5, 0], [0.5, 0, 0]]
    assert token_pairs(query, gallery, "late_interaction(outer=assignment)").contributions.tolist() == [
        [0, 0.5, 0],
        [0.5, 0, 0],
    ]
    mean = token_pairs(query, gallery, "pooled(weights=uniform)")  # the mean of three has length 1 / sqrt(3)
    np.testing.assert_allclose(mean.contributions, pairs.contributions / np.sqrt(3), atol=1e-7)
    table = pairs.table()
    assert len(table) == 6
    assert table.loc[table["contribution"] > 0, ["query_token", "gallery_token"]].to_numpy().tolist() == [
        [0, 1],
        [1, 0],
    ]
    tie = token_pairs(query, one(np.vstack([eye[0], eye[0]]), "b"), "late_interaction").contributions
    assert tie.tolist() == [[0.5, 0], [0, 0]], "of equal similarities the first counts"


def test_one_vector_per_item_is_one_pair() -> None:
    x, y = (Features(np.random.default_rng(i).normal(size=(1, 5)), ["a"], "image", "image") for i in range(2))
    for by in ("cosine", lambda query, gallery: -torch.cdist(query, gallery)):
        pairs = xg.token_pairs(x, y, by)
        assert pairs.contributions.shape == (1, 1)
        assert pairs.score == pytest.approx(float(score(x, y, by)))


@pytest.fixture
def named() -> Iterator[Callable[..., None]]:
    added: list[str] = []

    def add(name: str, **how: object) -> None:
        def first(query: TokenBlock, gallery: TokenBlock) -> torch.Tensor:
            return query.vectors[:, 0] @ gallery.vectors[:, 0].T

        register_scorer(name, takes="tokens", **how)(first)  # type: ignore[arg-type]
        added.append(name)

    yield add
    for name in added:
        SCORERS.remove(name)


def test_a_scorer_of_ones_own_says_what_its_pairs_add(named: Callable[..., None]) -> None:
    def adds(query: TokenBlock, gallery: TokenBlock) -> torch.Tensor:
        values = query.vectors[0] @ gallery.vectors[0].T
        marks = torch.zeros_like(values)
        marks[0, 0] = 1
        return marks * values

    query, gallery = some(0, 2, 3)
    named("silent")
    with pytest.raises(
        XgapError, match=r"silent does not say what each pair .* these do: late_interaction, pooled, and"
    ):
        token_pairs(query, gallery, "silent")
    named("first-token", contributions=adds)
    pairs = token_pairs(query, gallery, "first-token")
    assert pairs.score == pytest.approx(float(pairs.similarities[0, 0]))
    named("wrong-sum", contributions=lambda q, g: q.vectors[0] @ g.vectors[0].T)
    with pytest.raises(XgapError, match="they must sum to the score"):
        token_pairs(query, gallery, "wrong-sum")
    named("wrong-shape", contributions=lambda q, g: q.vectors[0])
    with pytest.raises(XgapError, match=r"must be a tensor \(2, 3\), not \(2, 6\)"):
        token_pairs(query, gallery, "wrong-shape")


def test_mistakes_are_one_sentence() -> None:
    query, gallery = some(0, 2, 3)
    two = TokenFeatures(torch.eye(6)[:3], [0, 1, 3], ["a", "b"], "image", "image")
    with pytest.raises(XgapError, match=r"the gallery has 2; take one by select"):
        token_pairs(query, two, "late_interaction")
    with pytest.raises(XgapError, match="compares one vector per item"):
        token_pairs(query, gallery)
    with pytest.raises(XgapError, match=r"top\(9\) needs 9 tokens"):
        token_pairs(query, gallery, "late_interaction(inner=top(9))")
    with pytest.raises(XgapError, match="6 dimensions and the gallery 4"):
        token_pairs(query, one(np.eye(4)), "late_interaction")
