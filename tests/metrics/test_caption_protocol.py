"""The protocol of image-text benchmarks against a naive loop over sorted rows, with its known answers."""

import numpy as np
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.metrics import caption_protocol, folds


def naive(images: np.ndarray, texts: np.ndarray, sign: int = 1) -> dict[str, float]:
    """Recalls and ranks of one fold, captions of image i at 5 i to 5 i + 4; of equal scores, the first if sign is 1."""
    scores = np.round(images @ texts.T, 6)

    def sorted_by(row: np.ndarray) -> list[int]:
        return sorted(range(len(row)), key=lambda j: (-row[j], sign * j))

    i2t = [min(sorted_by(row).index(5 * i + k) for k in range(5)) for i, row in enumerate(scores)]
    t2i = [sorted_by(column).index(j // 5) for j, column in enumerate(scores.T)]
    made = {}
    for way, ranks in (("i2t", np.array(i2t)), ("t2i", np.array(t2i))):
        made |= {f"{way}_r{k}": 100 * float((ranks < k).mean()) for k in (1, 5, 10)}
        made |= {f"{way}_median": np.floor(np.median(ranks)) + 1, f"{way}_mean": ranks.mean() + 1}
    made["rsum"] = sum(value for name, value in made.items() if "_r" in name)
    return made


def world(seed: int, n: int = 12) -> tuple[torch.Tensor, torch.Tensor, tuple[list[int], list[int]]]:
    """Rows whose cosines are quarters, so that many of them are equal."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((6 * n, 6))
    for row in rows:
        row[rng.choice(6, 4, replace=False)] = rng.choice([-1, 1], 4) / 2
    return torch.from_numpy(rows[:n]), torch.from_numpy(rows[n:]), (list(range(n)), [i // 5 for i in range(5 * n)])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("ties", "sign"), [("gallery", 1), ("reversed", -1)])
def test_it_equals_a_naive_loop_in_each_fold(seed: int, ties: str, sign: int) -> None:
    images, texts, labels = world(seed)
    table = caption_protocol(images, texts, labels, fold=5, ties=ties)
    assert table["n_images"].tolist() == [5, 5]  # the last two are in no fold
    for place, row in enumerate(table.to_dict("records")):
        part = slice(5 * place, 5 * place + 5), slice(25 * place, 25 * place + 25)
        expected = naive(images[part[0]].numpy(), texts[part[1]].numpy(), sign)
        assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_the_sum_is_the_sum_and_no_multiple_of_one_direction() -> None:
    images, texts, labels = world(3)
    table = caption_protocol(images, texts, labels, fold=4)
    recalls = [f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]
    assert table["rsum"].mean() == pytest.approx(table[recalls].mean().sum())
    assert table["rsum"].mean() != pytest.approx(6 * table[recalls[:3]].mean().mean())


def test_block_diagonal_similarities_have_100_everywhere_and_a_sum_of_600() -> None:
    table = caption_protocol(torch.eye(7), torch.eye(7).repeat_interleave(5, 0), (list(range(7)), np.arange(35) // 5))
    row = table.iloc[0]
    assert all(row[f"{way}_r{k}"] == 100 for way in ("i2t", "t2i") for k in (1, 5, 10))
    assert (row["rsum"], row["i2t_median"], row["t2i_median"], row["t2i_mean"]) == (600, 1, 1, 1)


def test_the_first_five_captions_in_file_order_count_and_fewer_are_refused() -> None:
    images = xg.Features(torch.eye(3), "abc", "image", "image")
    ids = [f"{image}#{k}" for image in "abc" for k in range(6)]
    vectors = torch.eye(3).repeat_interleave(6, 0)
    vectors[5::6] = -vectors[5::6]  # each image's sixth caption is nowhere near it
    texts = xg.Features(vectors, ids, "text", "text")
    relevance = xg.Relevance.from_labels({i: i for i in "abc"}, {i: i[0] for i in ids})
    five = caption_protocol(images, texts, relevance)
    assert (five["rsum"].item(), five["n_texts"].item()) == (600, 15)
    every = caption_protocol(images, texts, relevance, captions=None)
    assert (every["n_texts"].item(), every["t2i_r1"].item()) == (18, pytest.approx(100 * 5 / 6))
    with pytest.raises(xg.XgapError, match="image 'a' has 6 captions, and the protocol needs 7"):
        caption_protocol(images, texts, relevance, captions=7)


@pytest.mark.parametrize("captions", [0, -1])
def test_captions_of_an_image_are_counted_from_1(captions: int) -> None:
    images, texts, labels = world(0)
    with pytest.raises(xg.XgapError, match="captions is a whole number of 1 or more, or None for all"):
        caption_protocol(images, texts, labels, captions=captions)


def test_folds_are_blocks_in_order_or_shuffled_by_their_seed() -> None:
    ids = [str(i) for i in range(10)]
    assert folds(ids, 4) == [ids[:4], ids[4:8]]
    assert folds(ids, None) == [ids]
    shuffled = folds(ids, 3, seed=1)
    assert shuffled == folds(ids, 3, seed=1) != folds(ids, 3, seed=2)
    assert len({i for fold in shuffled for i in fold}) == 9
    for size in (0, 11):
        with pytest.raises(xg.XgapError, match=f"a fold of {size} images cannot be made of 10"):
            folds(ids, size)


def test_a_scorer_of_sets_of_tokens_ranks_in_both_directions() -> None:
    images = xg.TokenFeatures(torch.eye(4), [0, 2, 4], ["a", "b"], "image", "image")
    texts = xg.TokenFeatures(torch.eye(4), [0, 2, 4], ["A", "B"], "text", "text")
    relevance = xg.Relevance.from_labels({"a": 1, "b": 2}, {"A": 1, "B": 2})
    table = caption_protocol(images, texts, relevance, captions=1, ks=(1,), scorer="late_interaction")
    assert table["rsum"].item() == 200


def test_image_to_text_reads_a_score_of_its_own_or_one_matrix_by_its_columns() -> None:
    """A text of three words that are nearly those of the right text wins the columns of a sum of exponentials."""
    images = xg.TokenFeatures(torch.eye(2), [0, 1, 2], ["a", "b"], "image", "image")
    words = torch.tensor([[1.0, 0.2], [1.0, 0.3], [1.0, 0.3], [1.0, 0.3], [0.0, 1.0]])
    texts = xg.TokenFeatures(words, [0, 1, 4, 5], ["A", "longer", "B"], "text", "text")
    relevance = xg.Relevance.from_labels({"a": 1, "b": 2}, {"A": 1, "longer": 2, "B": 2})
    lse = "pooled(weights=scan, outer=lse(6))"
    for image_scorer, found in ((None, 100), (f"exchanged({lse})", 50)):
        made = caption_protocol(images, texts, relevance, captions=None, ks=(1,), scorer=lse, image_scorer=image_scorer)
        assert made["i2t_r1"].item() == found
