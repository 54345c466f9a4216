"""Ranks that are counted from single precision, against the stable order of the true similarities."""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import torch
from beartype import beartype
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import jaxtyped

from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.metrics import counting, retrieval
from xgap_analysis.metrics.counting import cosine, count
from xgap_analysis.metrics.ranks import PROBES, _Block, _bounds, relevant_ranks
from xgap_analysis.scoring.blocks import descending
from xgap_analysis.scoring.cosine import products

MUCH = 10**9


def unit(vectors):
    return torch.nn.functional.normalize(torch.as_tensor(vectors, dtype=torch.float64), dim=1).float()


def draw(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def true_ranks(scores, relevant):
    """Ranks of the columns `relevant` in the stable order, and those columns in that order."""
    order = np.argsort(-scores, kind="stable")
    place = np.flatnonzero(np.isin(order, relevant))
    return place, order[place]


def counted(scores, relevant, margin=0.0, query=None, gallery=None, truth=None, most=MUCH):
    """The same by `count`, for one row."""
    truth = scores if truth is None else truth
    _, columns = true_ranks(truth, relevant)
    cells, rank = scores[None].copy(), np.full(len(relevant), -1)
    cells[0, relevant] = -np.inf
    begin = np.array([0, len(relevant)])
    none = np.zeros((1, 1), np.float32)
    sides = (none, none) if query is None else (query[None], gallery)
    seen = count(cells, begin, columns, truth[columns], np.float32(margin), *sides, most, rank, 0, 1)
    return rank, columns, seen


@given(st.integers(0, 10_000), st.integers(1, 400), st.sampled_from([1, 20, 10_000, 2**31]))
def test_counted_ranks_are_those_of_the_stable_order(seed, n, levels):
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, levels, n) / levels * 2 - 1).astype(np.float32)  # few levels: many ties
    relevant = np.sort(rng.choice(n, rng.integers(1, n + 1), replace=False))
    junk = rng.random(n) < 0.2
    junk[relevant] = False
    scores[junk] = -np.inf
    rank, columns, (anew, _) = counted(scores, relevant)
    place, expected = true_ranks(scores, relevant)
    assert (rank.tolist(), columns.tolist(), anew) == (place.tolist(), expected.tolist(), 0)


@given(st.integers(0, 10_000), st.integers(1, 300), st.sampled_from([1e-7, 1e-4, 0.1]))
def test_scores_off_by_less_than_the_margin_change_no_rank(seed, n, error):
    rng = np.random.default_rng(seed)
    gallery, query = unit(draw(seed, n, 5)).numpy(), unit(draw(seed + 1, 1, 5))[0].numpy()
    gallery[rng.integers(0, n, n // 3)] = gallery[0]  # ties, which the errors below part
    truth = np.array([cosine(query, x) for x in gallery])
    relevant = np.sort(rng.choice(n, rng.integers(1, n + 1), replace=False))
    off = (truth + rng.uniform(-error, error, n)).astype(np.float32)
    rank, *_ = counted(off, relevant, error + 2**-23, query, gallery, truth)
    assert rank.tolist() == true_ranks(truth, relevant)[0].tolist()


def test_only_what_lies_within_the_margin_is_computed_again():
    gallery, query = unit(draw(0, 5000, 8)).numpy(), unit(draw(1, 1, 8))[0].numpy()
    truth = np.array([cosine(query, x) for x in gallery])
    relevant = np.arange(0, 5000, 500)
    near = np.abs(truth[:, None] - truth[relevant]).min(axis=1) <= 1e-4
    near[relevant] = False
    assert 0 < near.sum() < 100
    assert counted(truth, relevant, 1e-4, query, gallery)[2] == (near.sum(), 0)
    assert counted(truth, relevant, 1e-4, query, gallery, most=near.sum() - 1)[2][0] == -1
    off = truth.copy()
    off[near] += np.float32(3e-5)
    assert counted(off, relevant, 1e-4, query, gallery, truth)[2][1] == pytest.approx(3e-5, rel=0.01)


CLOUDS = {
    "random": lambda n, d: draw(0, n, d),
    "a narrow cone": lambda n, d: draw(0, n, d) * 0.5 + 1,
    "one loud dimension": lambda n, d: draw(0, n, d) + 20 * torch.eye(d)[3],
    "everything thrice": lambda n, d: draw(0, n // 3 + 1, d).repeat(3, 1)[:n],
    "near duplicates": lambda n, d: draw(0, n // 4 + 1, d).repeat(4, 1)[:n] + 1e-7 * draw(1, n, d),
}


def coarse(query, gallery, out=None):
    """A product as processors with bfloat16 units make it, on any processor."""
    made = (query.bfloat16() @ gallery.bfloat16()).float()
    return made if out is None else out.copy_(made)


def searched(cloud, labels):
    """Queries among a gallery, what is relevant, and the ranks by double precision."""
    n, m, d = 60, 4000, 64
    gallery = Features(unit(CLOUDS[cloud](m, d)), [f"g{i}" for i in range(m)], "image", "image")
    query = gallery.select(gallery.ids[::67][:n])
    bound = Relevance.from_labels([i % 9 for i in range(n)], [i % labels for i in range(m)]).bind(
        query.ids, gallery.ids
    )
    own = _Block.of(query.vectors, gallery.vectors, bound, 0, True)
    with ThreadPoolExecutor(2) as pool:
        expected = own.true_ranks(products(query.vectors, gallery.vectors, torch.empty(n, m)), pool)
    return query, gallery, bound, own, expected


@pytest.mark.parametrize("cloud", CLOUDS)
def test_single_precision_gives_the_ranks_of_double_precision(cloud):
    query, gallery, bound, own, expected = searched(cloud, 400)
    n, m = len(query), len(gallery)
    # Rounded from the true similarities: the processor's own product may be any, and has a test below.
    single = products(query.vectors, gallery.vectors, torch.empty(n, m)) * (1 + 2**-22)
    with ThreadPoolExecutor(2) as pool:
        found = own.near_ranks(single, pool)
    assert found is not None  # not so many are close that all were computed
    for part in ("row", "rank", "grade"):
        assert torch.equal(getattr(found, part), getattr(expected, part))
    order = descending(products(query.vectors, gallery.vectors, torch.empty(n, m)))
    itself = torch.tensor([gallery.ids.index(i) for i in query.ids])
    hits = bound.grades(0, n).gather(1, order)[order != itself[:, None]].reshape(n, m - 1) > 0
    assert torch.equal(torch.stack([expected.row, expected.rank], dim=1), hits.nonzero())


def test_a_coarse_product_is_counted_again_where_few_are_close():
    query, gallery, _, own, expected = searched("random", 4000)
    with ThreadPoolExecutor(2) as pool:
        found = own.near_ranks(coarse(query.vectors, gallery.vectors.T), pool)
    assert found is not None
    assert torch.equal(found.rank, expected.rank)


def test_a_coarse_product_is_given_up_where_many_are_close():
    query, gallery, _, own, _ = searched("a narrow cone", 40)
    with ThreadPoolExecutor(2) as pool:
        assert own.near_ranks(coarse(query.vectors, gallery.vectors.T), pool) is None


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("labels", [40, 4000])
@pytest.mark.parametrize("product", [None, coarse])
def test_no_rank_depends_on_the_product_that_a_processor_has(cloud, labels, product, monkeypatch):
    query, gallery, bound, _, expected = searched(cloud, labels)
    if product is not None:
        monkeypatch.setattr(torch, "mm", product)
    parts = list(relevant_ranks(query, gallery, bound, exclude_self=True, block=None, normalise=None))
    assert torch.equal(torch.cat([part.rank for part in parts]), expected.rank)


def test_where_almost_all_is_tied_all_is_computed_in_double_precision():
    gallery = Features(torch.eye(4).repeat(100, 1), [str(i) for i in range(400)], "image", "image")
    bound = Relevance.from_labels([i % 7 for i in range(400)], [i % 7 for i in range(400)]).bind(
        gallery.ids, gallery.ids
    )
    own = _Block.of(gallery.vectors, gallery.vectors, bound, 0, False)
    with ThreadPoolExecutor(2) as pool:
        assert own.near_ranks(gallery.vectors @ gallery.vectors.T, pool) is None
    ranked = list(relevant_ranks(gallery, gallery, bound, exclude_self=False, block=None, normalise=None))
    order = descending(gallery.vectors @ gallery.vectors.T)
    assert torch.equal(ranked[0].rank, (bound.grades(0, 400).gather(1, order) > 0).nonzero()[:, 1])


@pytest.mark.parametrize("spread", [0, 1e-7, 1e-5])
def test_a_collapsed_space(spread):
    n, m = 20, 500
    gallery = Features(unit(1 + spread * draw(0, m, 32)), [f"g{i}" for i in range(m)], "image", "image")
    query = Features(unit(1 + spread * draw(1, n, 32)), [f"q{i}" for i in range(n)], "image", "image")
    bound = Relevance.from_labels([0] * n, [i % 3 // 2 for i in range(m)]).bind(query.ids, gallery.ids)
    (ranks,) = relevant_ranks(query, gallery, bound, exclude_self=False, block=None, normalise=None)
    order = descending(products(query.vectors, gallery.vectors, torch.empty(n, m)))
    assert torch.equal(ranks.rank, (bound.grades(0, n).gather(1, order) > 0).nonzero()[:, 1])


def test_errors_that_the_sample_does_not_hold_are_seen_in_what_is_computed_again():
    n, m = 8, 6000
    gallery = Features(unit(draw(0, m, 3)), [f"g{i}" for i in range(m)], "image", "image")
    query = Features(unit(draw(1, n, 3)), [f"q{i}" for i in range(n)], "image", "image")
    bound = Relevance.from_labels([0] * n, [i % 100 for i in range(m)]).bind(query.ids, gallery.ids)
    truth = products(query.vectors, gallery.vectors, torch.empty(n, m))
    sampled = torch.arange(n * PROBES) * m // (n * PROBES)
    off = truth + 1e-4 * (torch.rand(n, m, generator=torch.Generator().manual_seed(0)) - 0.5)
    off[:, sampled] = truth[:, sampled]
    off[bound.grades(0, n) > 0] = truth[bound.grades(0, n) > 0]
    with ThreadPoolExecutor(1) as pool:
        found = _Block.of(query.vectors, gallery.vectors, bound, 0, False).near_ranks(off, pool)
    assert found is not None
    expected = (bound.grades(0, n).gather(1, descending(truth)) > 0).nonzero()[:, 1]
    assert torch.equal(found.rank, expected)


def test_loops_are_compiled_where_nothing_can_be_kept(monkeypatch):
    def refusing(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(counting, "njit", refusing)
    assert counting._compiled()(lambda x: x + 1)(2) == 3


def test_a_loop_in_the_wrapper_of_a_type_checker_is_compiled_and_kept():
    @jaxtyped(typechecker=beartype)
    def twice(x: int) -> int:
        return 2 * x

    loop = counting._compiled()(twice)
    assert loop(2) == 4
    assert loop.stats.cache_hits or loop.stats.cache_misses


def test_vectors_in_any_memory_order():
    x = Features(draw(0, 7, 50).T, [str(i) for i in range(50)], "image", "image")
    y = Features(x.vectors.contiguous(), x.ids, "image", "image")
    relevance = Relevance.from_labels([i % 5 for i in range(50)], [i % 5 for i in range(50)])
    assert retrieval(x, x, relevance).equals(retrieval(y, y, relevance))


@given(st.lists(st.integers(0, 2_000_000), min_size=1, max_size=600), st.integers(1, 5_000_000))
def test_blocks_keep_to_the_budget(n_relevant, columns):
    n_relevant = [min(n, columns) for n in n_relevant]
    bounds = list(_bounds(np.array(n_relevant), columns, None))
    assert [0, *(stop for _, stop in bounds)] == [*(start for start, _ in bounds), len(n_relevant)]
    for start, stop in bounds:
        n, pairs = stop - start, sum(n_relevant[start:stop])
        assert n == 1 or (n * columns * 8 <= 2**29 and pairs * 256 <= 2**27)
    assert next(_bounds(np.array(n_relevant), columns, 7)) == (0, min(7, len(n_relevant)))
