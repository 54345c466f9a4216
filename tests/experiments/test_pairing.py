"""Corrections in a study that see more than one set of features: pairs, roles, banks, and an old model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.core.features_io import save_features

N = 60
LABELS = {f"item {i}": str(i % 12) for i in range(N)}


def vectors(seed: int, gap: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    content = torch.randn(12, 16, generator=torch.Generator().manual_seed(99))[torch.arange(N) % 12]
    return content + 0.5 * torch.randn(N, 16, generator=generator) + gap


def features(space: str, seed: int, turn: torch.Tensor | None = None) -> xg.Features:
    made = vectors(seed, 1.0 if space == "image" else -1.0)
    return xg.Features(made if turn is None else made @ turn, list(LABELS), space, space)


def study(corrections: list[Any], comparisons: list[Any], **changed: Any) -> xg.Study:
    """Images and texts without a model; those of other seeds are what corrections are fitted on."""
    made = xg.study_of_features(
        [features("image", 0), features("text", 1)],
        LABELS,
        ["I-I", "I-T"],
        ["none"],
        calibration=[features("image", 2), features("text", 3)],
    )
    return replace(made, corrections=corrections, comparisons=comparisons, **changed)


def test_a_row_says_where_both_banks_are_one() -> None:
    table = xg.main_rows(study(["none", "dual-inverted-softmax", "sinkhorn"], ["I-I", "I-T"]).run())
    notes = table.set_index(["correction", "comparison"])["note"]
    for name in ("dual-inverted-softmax", "sinkhorn"):
        assert notes[name, "I-I"] == "both banks are the calibration items of space 'image'"
        assert notes[name, "I-T"] == ""
    assert notes["none", "I-I"] == ""


def test_a_bridge_is_fitted_to_the_pairs_of_the_calibration_split() -> None:
    names = ["none", "bridge(kind=ridge)", "bridge-shuffled(kind=ridge)"]
    made = study(names, ["I-T"])
    table = xg.main_rows(made.run()).set_index("correction")
    assert table.loc[names[1], "value"] > table.loc["none", "value"] > 0
    assert table["control"].tolist() == [False, False, True]
    assert set(table.loc[names[1:], "fitted_on"]) == {"calibration"}
    evaluation = next(made.evaluations())
    pair = evaluation.pair("I-T", names[1])
    assert (pair.query.space, pair.query.provenance["fitted_on"]) == ("text", "calibration")


def test_roles_are_those_of_the_split_that_it_is_fitted_on() -> None:
    evaluation = next(study(["none"], ["I-I"]).evaluations())
    assert evaluation.fit_data is not None
    texts = features("text", 3)
    evaluation.fit_data = replace(evaluation.fit_data, query_ids={"text": texts.ids[:20]})
    pair = evaluation.pair("I-T", "center(roles=True)")
    moved = features("text", 1).vectors - texts.vectors[20:].mean(0)
    torch.testing.assert_close(pair.gallery.vectors, torch.nn.functional.normalize(moved, dim=1))
    whole = features("image", 0).vectors - features("image", 2).vectors.mean(0)
    torch.testing.assert_close(pair.query.vectors, torch.nn.functional.normalize(whole, dim=1))


def test_new_queries_on_an_old_gallery(tmp_path: Path) -> None:
    turn = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(5))).Q
    save_features(features("image", 0, turn), tmp_path / "old-images.npz")
    save_features(features("text", 3, turn), tmp_path / "old-texts.npz")
    by = xg.correction("xbt", old=str(tmp_path / "old-texts.npz"), kind="procrustes")
    old = xg.view("precomputed", str(tmp_path / "old-images.npz"))
    own = xg.Comparison("new-old", "image", old, baseline="I-I")
    table = xg.main_rows(study(["none", by], ["I-I", own]).run()).set_index(["comparison", "correction"])["value"]
    assert table["new-old", str(by)] == pytest.approx(table["I-I", "none"], abs=0.02)
    assert table["new-old", "none"] < 0.5 * table["I-I", "none"]
    assert table["I-I", str(by)] < 0.5 * table["I-I", "none"]  # whose gallery is not old


def test_a_view_of_two_spaces_maps_each_of_its_parts() -> None:
    made = study(["none"], ["I-I"])
    evaluation = next(made.evaluations())
    mean = {f.space: f.vectors.mean(0) for f in (features("image", 2), features("text", 3))}
    seen: list[xg.Features] = []

    def both(model: Any, items: Any, *, transform: Any = None) -> xg.Features:
        parts = [features("image", 0), replace(features("text", 1), ids=features("image", 0).ids, origin="image")]
        seen.extend(parts if transform is None else map(transform, parts))
        return xg.fuse(*seen[-2:])

    own = xg.Comparison("both-I", both, "image", baseline="I-I")
    evaluation.pair(own, "center")
    for part, space in zip(seen[-2:], ("image", "text"), strict=True):
        moved = features(space, {"image": 0, "text": 1}[space]).vectors - mean[space]
        torch.testing.assert_close(part.vectors, torch.nn.functional.normalize(moved, dim=1))
