"""What a notebook shows of an object in one line."""

from collections.abc import Callable

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.datasets.items import Vectors


def features() -> xg.Features:
    return xg.Features(np.eye(3), ["a", "b", "c"], "text", "image")


def dataset() -> xg.Dataset:
    texts = xg.Texts(["a", "b"], ["one", "two"])
    return xg.Dataset("mine", "test", texts=texts, labels={"kind": {"a": "x", "b": "y"}})


SHOWN: dict[str, tuple[Callable[[], object], str]] = {
    "features": (features, "Features([3, 3], space='text', origin='image')"),
    "tokens": (
        lambda: xg.TokenFeatures(np.eye(3), [0, 2, 3], ["a", "b"], "image", "image"),
        "TokenFeatures(2 items, [3, 3], space='image', origin='image')",
    ),
    "texts": (lambda: dataset().texts, "Texts(2 of modality 'text', the first 'a')"),
    "no images": (lambda: dataset().images, "Images(0 of modality 'image')"),
    "vectors": (lambda: Vectors(features()), "Vectors(3 of modality 'image', the first 'a')"),
    "dataset": (dataset, "Dataset('mine', 'test': 2 text; label sets: kind)"),
    "study": (lambda: xg.Study(["tiny"], [dataset()]), "Study(models=['tiny'], datasets=['mine'])"),
    "changed": (
        lambda: xg.Study(
            ["tiny"], ["emoji"], [xg.Comparison("mine", "image", "text"), "I-I"], [xg.correction("pca-text", rank=3)],
            limit=3,
        ),
        "Study(models=['tiny'], datasets=['emoji'], comparisons=['mine', 'I-I'], corrections=['pca-text(rank=3)'], "
        "limit=3)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SHOWN)
def test_it_is_one_line(kind: str) -> None:
    make, expected = SHOWN[kind]
    assert repr(make()) == expected
