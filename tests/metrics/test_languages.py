"""Ranks of the same item in several languages, and how far they lie apart."""

import numpy as np
import pandas as pd
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.metrics import best_ranks, rank_variance


@pytest.mark.parametrize("seed", range(4))
def test_the_first_relevant_rank_is_that_of_a_sorted_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    query, gallery = rng.normal(size=(9, 5)), rng.normal(size=(20, 5))
    labels = rng.integers(0, 4, 9), rng.integers(0, 5, 20)
    labels[0][0] = 9  # relevant to nothing
    query, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery))
    made = best_ranks(query, gallery, (labels[0].tolist(), labels[1].tolist()))
    assert np.isnan(made.iloc[0])
    for i in range(1, 9):
        order = np.argsort(-(query[i] @ gallery.T))
        assert made.iloc[i] == np.flatnonzero(labels[1][order] == labels[0][i])[0]


def test_equal_ranks_have_no_variance_and_0_and_2_have_a_variance_of_1() -> None:
    assert rank_variance(np.full((4, 3), 7)) == 0
    assert rank_variance(np.array([[0, 2]])) == rank_variance(np.array([[0, 2]]), root=True) == 1
    rng = np.random.default_rng(0)
    ranks = pd.DataFrame(rng.integers(0, 50, (6, 12)).astype(float))
    spreads = [np.sqrt(np.mean((row - row.mean()) ** 2)) for row in ranks.to_numpy()]
    assert rank_variance(ranks, root=True) == pytest.approx(np.mean(spreads))
    assert rank_variance(ranks) == pytest.approx(np.mean(np.square(spreads)))
    ranks.iloc[2, 1] = np.nan
    assert rank_variance(ranks) == pytest.approx(np.mean(np.square(np.delete(spreads, 2))))
    for wrong in (np.zeros(3), np.zeros((3, 1)), np.full((2, 2), np.nan)):
        with pytest.raises(xg.XgapError, match=r"two languages or more|no item has a rank in each language"):
            rank_variance(wrong)


def test_names_of_a_concept_in_its_languages() -> None:
    """A model whose English is good and whose other languages are noise has a larger variance than a good one."""
    data = xg.load_dataset("emoji:parallel").split("val").limit(20)
    names = data.texts.parts_of("captions").items
    concept, language = (data.labels_of(of) for of in ("concept", "language"))
    images = list(data.images.ids)
    centre = dict(zip(sorted({concept[i] for i in images}), torch.eye(64), strict=False))
    drawn = torch.Generator().manual_seed(0)
    gallery = torch.stack([centre[concept[i]] for i in images])
    good = torch.stack([centre[concept[i]] for i in names.ids])
    noise = torch.nn.functional.normalize(torch.randn(good.shape, generator=drawn), dim=1)
    english = torch.tensor([language[i] == "en" for i in names.ids])
    found = {}
    for name, vectors in (("all", good), ("english", torch.where(english[:, None], good, noise))):
        query = xg.Features(vectors, names.ids, "text", "text")
        ranks = best_ranks(query, xg.Features(gallery, images, "image", "image"), data.relevance("concept"))
        about = {"concept": [concept[i] for i in ranks.index], "language": [language[i] for i in ranks.index]}
        table = pd.DataFrame({"rank": ranks.to_numpy(), **about}).pivot(
            index="concept", columns="language", values="rank"
        )
        assert table.shape[1] >= 12
        found[name] = rank_variance(table)
    assert found["all"] == 0
    assert found["english"] > 10
