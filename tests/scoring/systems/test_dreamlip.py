"""DreamLIP equals its formula on ragged input, gives known answers, and separates captions that a mean confuses."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.score import score

from .conftest import Matrix, sets_of, some

RAGGED = st.lists(st.integers(2, 5), min_size=1, max_size=5)


def by_formula(t: Matrix, v: Matrix, delta: float) -> float:
    found = []
    for caption in t:
        s = v @ caption
        s = (s - s.min()) / (s.max() - s.min())
        s = np.where(s < delta, 0, s)
        made = s / s.sum() @ v
        found.append(caption @ made / np.linalg.norm(made))
    return float(np.mean(found))


@pytest.mark.parametrize("delta", [0.0, 0.3, 1.0])
@settings(max_examples=10)
@given(q=RAGGED, g=RAGGED, seed=st.integers(0, 999))
def test_it_equals_its_formula(delta: float, q: list[int], g: list[int], seed: int) -> None:
    query, gallery = some(q, seed), some(g, seed + 1)
    sets = [sets_of(side) for side in (query, gallery)]
    expected = [[by_formula(t, v, delta) for v in sets[1]] for t in sets[0]]
    np.testing.assert_allclose(score(query, gallery, f"dreamlip(delta={delta})"), expected, atol=3e-6)


def test_known_answers() -> None:
    captions, one, patches = some([3, 2], 0), some([1, 1, 1], 1), some([4, 2], 2)
    mean = score(captions, one, "late_interaction(inner=mean)")
    assert torch.allclose(score(captions, one, "dreamlip"), mean, atol=1e-6), "one patch is what is grouped"
    single = some([1, 1], 3)
    best = score(single, patches, "late_interaction(inner=max)")
    assert torch.allclose(score(single, patches, "dreamlip(delta=1)"), best, atol=1e-6)
    with pytest.raises(XgapError, match=r"delta of weights=minmax.2. must lie between 0 and 1"):
        score(captions, patches, "dreamlip(delta=2)")


def test_on_scenes_of_the_oracle_each_sub_caption_groups_its_own_region(oracle: Any, scenes: Any) -> None:
    """Captions of a scene and its regions: near a single region's cosine, where the mean over regions is diluted."""
    images, texts = scenes
    regions = xg.tokens(oracle, images, "regions", progress=False)
    captions = xg.tokens(oracle, texts, "captions", progress=False)
    found = score(captions, regions, "dreamlip")
    alone = torch.stack([(captions.tokens_of(f"{i}/list") * regions.tokens_of(i)).sum(1).mean() for i in regions.ids])
    diluted = score(captions, regions, "pooled(weights=uniform)").diagonal()
    assert torch.allclose(found.diagonal(), alone, atol=0.02)
    assert (found.diagonal() > diluted + 0.1).all()
    assert (found.argmax(1) == torch.arange(len(regions))).all()
