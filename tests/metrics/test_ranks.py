"""Ranks that are counted from single precision, against the stable order of the true similarities."""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import torch
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import jaxtyped

from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.metrics import block_ranks, counting, device_ranks, ranks, retrieval
from xgap_analysis.metrics.block_ranks import BlockRanks
from xgap_analysis.metrics.counting import add_close, cosine, count
from xgap_analysis.metrics.ranks import _bounds, relevant_ranks
from xgap_analysis.scoring.blocks import descending
from xgap_analysis.scoring.cosine import products


def unit(vectors):
    return torch.nn.functional.normalize(torch.as_tensor(vectors, dtype=torch.float64), dim=1).float()


def draw(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def true_ranks(scores, relevant):
    """Ranks of the columns `relevant` in the stable order, and those columns in that order."""
    order = np.argsort(-scores, kind="stable")
    place = np.flatnonzero(np.isin(order, relevant))
    return place, order[place]


def counted(scores, relevant, margin=0.0, truth=None, most=5000):
    """The same by `count` and `add_close`, for one row."""
    truth = scores if truth is None else truth
    _, columns = true_ranks(truth, relevant)
    cells, rank = scores[None].copy(), np.full(len(relevant), -1)
    cells[0, relevant] = -np.inf
    begin, close = np.array([0, len(relevant)]), np.empty((3, most), np.uint32)
    seen = count(cells, 0, begin, columns, truth[columns], np.float32(margin), close, rank, 0, 1)
    if seen > 0:
        _, own, place = close[:, :seen]
        add_close(np.array([0, seen]), own, place, truth[own], 0, begin, columns, truth[columns], rank, 0, 1)
    return rank + np.arange(len(rank)), columns, seen


@given(st.integers(0, 10_000), st.integers(1, 400), st.sampled_from([1, 20, 10_000, 2**31]))
def test_counted_ranks_are_those_of_the_stable_order(seed, n, levels):
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, levels, n) / levels * 2 - 1).astype(np.float32)  # few levels: many ties
    relevant = np.sort(rng.choice(n, rng.integers(1, n + 1), replace=False))
    junk = rng.random(n) < 0.2
    junk[relevant] = False
    scores[junk] = -np.inf
    rank, columns, anew = counted(scores, relevant)
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
    rank, *_ = counted(off, relevant, error + 2**-23, truth)
    assert rank.tolist() == true_ranks(truth, relevant)[0].tolist()


def test_only_what_lies_within_the_margin_is_computed_again():
    gallery, query = unit(draw(0, 5000, 8)).numpy(), unit(draw(1, 1, 8))[0].numpy()
    truth = np.array([cosine(query, x) for x in gallery])
    relevant = np.arange(0, 5000, 500)
    near = np.abs(truth[:, None] - truth[relevant]).min(axis=1) <= 1e-4
    near[relevant] = False
    assert 0 < near.sum() < 100
    assert counted(truth, relevant, 1e-4)[2] == near.sum()
    assert counted(truth, relevant, 1e-4, most=near.sum())[2] == near.sum()
    assert counted(truth, relevant, 1e-4, most=near.sum() - 1)[2] == -1


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
    """Queries among a gallery, what is relevant, and row and rank of that by double precision, without the query."""
    n, m, d = 60, 3000, 200
    gallery = Features(unit(CLOUDS[cloud](m, d)), [f"g{i}" for i in range(m)], "image", "image")
    query = gallery.select(gallery.ids[::47][:n])
    bound = Relevance.from_labels([i % 9 for i in range(n)], [i % labels for i in range(m)]).bind(
        query.ids, gallery.ids
    )
    order = descending(products(query.vectors, gallery.vectors, torch.empty(n, m)))
    itself = torch.tensor([gallery.ids.index(i) for i in query.ids])
    hits = bound.grades(0, n).gather(1, order)[order != itself[:, None]].reshape(n, m - 1) > 0
    return query, gallery, bound, hits.nonzero()


def found(query, gallery, bound, **how):
    """Row and rank of each relevant item."""
    parts = list(relevant_ranks(query, gallery, bound, exclude_self=True, block=None, **how))
    starts = np.cumsum([0, *(part.queries for part in parts)])
    rows = torch.cat([part.row + int(start) for part, start in zip(parts, starts[:-1], strict=True)])
    return torch.stack([rows, torch.cat([part.rank for part in parts])], dim=1)


WAYS = {"sliced": {128: 0.0}, "single": {}, "double": {}}  # what a similarity costs in slices of so many dimensions


def by(way, monkeypatch):
    """Makes a way of computing similarities the cheapest."""
    monkeypatch.setattr(block_ranks, "COSTS", WAYS[way])
    monkeypatch.setattr(block_ranks, "WHOLE", 2.0 if way == "double" else 0.5)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("labels", [40, 3000])
@pytest.mark.parametrize("product", [None, coarse])
def test_no_rank_depends_on_the_product_that_a_processor_has(cloud, labels, product, monkeypatch):
    query, gallery, bound, expected = searched(cloud, labels)
    if product is not None:
        monkeypatch.setattr(torch, "mm", product)
    assert torch.equal(found(query, gallery, bound), expected)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("columns", [700, 3000])
@pytest.mark.parametrize("width", [None, 64, 200])
def test_every_way_and_every_chunk_give_the_ranks_of_double_precision(cloud, columns, width, monkeypatch):
    query, gallery, bound, expected = searched(cloud, 400)
    monkeypatch.setattr(ranks, "_columns", lambda gallery, dim: columns)
    monkeypatch.setattr(ranks, "QUERIES", 23)
    monkeypatch.setattr(BlockRanks, "choose", lambda own: width)
    assert torch.equal(found(query, gallery, bound), expected)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("labels", [2, 400])
def test_a_device_counts_the_same_ranks(cloud, labels):
    query, gallery, bound, expected = searched(cloud, labels)
    parts = list(device_ranks.cosine_ranks(query, gallery, bound, True, 25, False))
    rows = torch.cat([part.row + start for part, start in zip(parts, (0, 25, 50), strict=True)])
    assert torch.equal(torch.stack([rows, torch.cat([part.rank for part in parts])], dim=1), expected)
    grades = torch.cat([part.grade for part in parts])
    assert torch.equal(grades, torch.ones(len(expected)))


def test_a_device_repeats_close_calls_only(monkeypatch):
    query, gallery, bound, expected = searched("random", 400)
    seen = []
    cosines = device_ranks._cosines
    monkeypatch.setattr(
        device_ranks, "_cosines", lambda q, g, row, column: seen.append(len(row)) or cosines(q, g, row, column)
    )
    monkeypatch.setattr(device_ranks, "products", None)  # no block is computed in double precision
    (part,) = device_ranks.cosine_ranks(query, gallery, bound, True, None, False)
    assert torch.equal(part.rank, expected[:, 1])
    relevant, probes, close = seen
    assert (relevant, probes) == (len(expected), len(query) * block_ranks.PROBES)
    assert 0 < close < 0.01 * len(query) * len(gallery)


def test_a_product_that_is_right_for_the_relevant_item_alone_is_noticed_on_a_device(monkeypatch):
    query, gallery, _, _ = searched("random", 3000)
    one = query.select(query.ids[:1])
    bound = Relevance.from_labels([5], range(3000)).bind(one.ids, gallery.ids)

    def wrong(rows, of, out, **how):
        products(rows, of, out=out)
        kept = out[:, 5].clone()
        out += 0.01 * torch.from_numpy(np.random.default_rng(0).normal(size=out.shape))
        out[:, 5] = kept
        return out

    (true,) = device_ranks.cosine_ranks(one, gallery, bound, True, None, False)
    monkeypatch.setattr(device_ranks, "single_products", wrong)
    (part,) = device_ranks.cosine_ranks(one, gallery, bound, True, None, False)
    assert torch.equal(part.rank, true.rank)


def test_a_chunk_without_a_probe_is_computed_in_double_precision(monkeypatch):
    _, gallery, _, _ = searched("random", 400)
    query = gallery.select(gallery.ids[:1])
    bound = Relevance.from_labels([0], [i % 600 for i in range(3000)]).bind(query.ids, gallery.ids)
    expected = found(query, gallery, bound)
    monkeypatch.setattr(ranks, "_columns", lambda gallery, dim: 20)  # 150 chunks, and 16 probes
    monkeypatch.setattr(torch, "mm", coarse)
    assert torch.equal(found(query, gallery, bound), expected)


def adversarial(seed, n, m, d):
    """Galleries of exact duplicates, of neighbours a few last bits away, of few levels, and of scores around 0."""
    rng = np.random.default_rng(seed)
    kind = seed % 4
    vectors = rng.normal(size=(m, d))
    if kind == 0:
        vectors = vectors[rng.integers(0, max(1, m // 5), m)]
    elif kind == 1:
        vectors = vectors[rng.integers(0, max(1, m // 5), m)] * (1 + rng.integers(-2, 3, (m, d)) * 2.0**-24)
    elif kind == 2:
        vectors = rng.integers(-1, 2, (m, d)).astype(float)
        vectors[:, 0] = 1
    else:
        vectors[:, 0] = 1e-7 * rng.integers(-3, 4, m)
        query = np.zeros((n, d))
        query[:, 0] = 1  # every cosine is about 0, and many are equal
        return unit(query), unit(vectors)
    return unit(vectors[rng.integers(0, m, n)] + (kind == 2) * rng.integers(-1, 2, (n, d)) * (np.arange(d) > 0)), unit(
        vectors
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 9), st.integers(2, 150), st.sampled_from([1, 3, 70, 300]))
def test_near_ties_of_every_kind_are_ranked_as_in_double_precision(seed, n, m, d):
    query, gallery = adversarial(seed, n, m, max(d, 2))
    labels = np.random.default_rng(seed + 1).integers(0, 3, n + m)
    x = Features(query, [f"q{i}" for i in range(n)], "image", "image")
    y = Features(gallery, [f"g{i}" for i in range(m)], "image", "image")
    bound = Relevance.from_labels(labels[:n].tolist(), labels[n:].tolist()).bind(x.ids, y.ids)
    order = descending(products(x.vectors, y.vectors, torch.empty(n, m)))
    expected = (bound.grades(0, n).gather(1, order) > 0).nonzero()
    assert torch.equal(found(x, y, bound), expected)
    (part,) = device_ranks.cosine_ranks(x, y, bound, True, None, False)
    assert torch.equal(torch.stack([part.row, part.rank], dim=1), expected)
    chunks = [BlockRanks.of(x.vectors, m, bound, 0, True) for _ in range(2)]
    with ThreadPoolExecutor(1) as pool:
        for own, width in zip(chunks, (None, d), strict=True):
            for first in range(0, m, 37):
                own.collect(y.vectors[first : first + 37], first, pool)
            own.width = width
            for first in range(0, m, 37):
                own.add(y.vectors[first : first + 37], first, torch.empty(n * 37), pool)
            assert torch.equal(torch.stack([own.ranks().row, own.ranks().rank], dim=1), expected)


@pytest.mark.parametrize("on", ["processor", "device"])
@pytest.mark.parametrize("labels", [2, 40])
def test_ties_are_counted_on_either_side(on, labels):
    rng = np.random.default_rng(labels)
    x = Features(unit(rng.integers(-1, 2, (12, 4)) + np.eye(4)[0] * 2), [str(i) for i in range(12)], "image", "image")
    y = Features(unit(rng.integers(-1, 2, (90, 4)) + np.eye(4)[0] * 2), [str(i) for i in range(90)], "image", "image")
    bound = Relevance.from_labels([i % labels for i in range(12)], [i % labels for i in range(90)]).bind(x.ids, y.ids)
    if on == "processor":
        (part,) = relevant_ranks(x, y, bound, exclude_self=True, block=None, ties=True)
    else:
        (part,) = device_ranks.cosine_ranks(x, y, bound, True, None, True)
    scores = products(x.vectors, y.vectors, torch.empty(12, 90))
    for i in range(12):
        same = [j for j in range(90) if j % labels == i % labels and j != i]
        others = [j for j in range(90) if j % labels != i % labels]
        own = sorted(same, key=lambda j: (-scores[i, j], j))
        assert part.others[i] == len(others)
        assert part.best[part.row == i].tolist() == [sum(scores[i, o] > scores[i, j] for o in others) for j in own]
        assert part.worst[part.row == i].tolist() == [sum(scores[i, o] >= scores[i, j] for o in others) for j in own]


@pytest.mark.parametrize("way", WAYS)
def test_the_sample_chooses_the_way(way, monkeypatch):
    query, gallery, bound, expected = searched("random", 400)
    by(way, monkeypatch)
    chosen = []
    choose = BlockRanks.choose
    monkeypatch.setattr(BlockRanks, "choose", lambda own: chosen.append(choose(own)) or chosen[-1])
    monkeypatch.setattr(BlockRanks, "_close", lambda own, margin: margin)
    if way == "double":
        monkeypatch.setattr(block_ranks, "single_products", None)
    assert torch.equal(found(query, gallery, bound), expected)
    assert chosen == [{"sliced": 128, "single": 200, "double": None}[way]]


def test_where_almost_all_is_tied_all_is_computed_in_double_precision(monkeypatch):
    gallery = Features(torch.eye(4).repeat(100, 1), [str(i) for i in range(400)], "image", "image")
    bound = Relevance.from_labels([i % 7 for i in range(400)], [i % 7 for i in range(400)]).bind(
        gallery.ids, gallery.ids
    )
    monkeypatch.setattr(block_ranks, "single_products", None)
    ranked = list(relevant_ranks(gallery, gallery, bound, exclude_self=False, block=None))
    order = descending(gallery.vectors @ gallery.vectors.T)
    assert torch.equal(ranked[0].rank, (bound.grades(0, 400).gather(1, order) > 0).nonzero()[:, 1])


@pytest.mark.parametrize("spread", [0, 1e-7, 1e-5])
def test_a_collapsed_space(spread):
    n, m = 20, 500
    gallery = Features(unit(1 + spread * draw(0, m, 32)), [f"g{i}" for i in range(m)], "image", "image")
    query = Features(unit(1 + spread * draw(1, n, 32)), [f"q{i}" for i in range(n)], "image", "image")
    bound = Relevance.from_labels([0] * n, [i % 3 // 2 for i in range(m)]).bind(query.ids, gallery.ids)
    (part,) = relevant_ranks(query, gallery, bound, exclude_self=False, block=None)
    order = descending(products(query.vectors, gallery.vectors, torch.empty(n, m)))
    assert torch.equal(part.rank, (bound.grades(0, n).gather(1, order) > 0).nonzero()[:, 1])


def test_a_gallery_that_passes_by_once_for_several_blocks_gives_each_its_ranks(monkeypatch):
    query, gallery, bound, expected = searched("a narrow cone", 400)
    monkeypatch.setattr(ranks, "_columns", lambda gallery, dim: 512)
    monkeypatch.setattr(ranks, "QUERIES", 7)
    reads = []
    block = Features.block
    monkeypatch.setattr(
        Features, "block", lambda self, *at: (reads.append(at) if len(self) == 3000 else None) or block(self, *at)
    )
    assert torch.equal(found(query, gallery, bound), expected)
    assert len(reads) == 2 * 6 - 1  # all blocks at once; the last chunk is there when the second reading begins


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
