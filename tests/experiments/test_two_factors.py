"""Two factors: a correction that trades the nuisance for the class, one that helps both, and one that does nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.items import NO_IMAGES, NO_TEXTS, Vectors
from xgap_analysis.experiments.two_factors import two_factors
from xgap_analysis.metrics import moad, paired_test
from xgap_analysis.views import Precomputed

KINDS, VOICES, N = 24, 20, 480
KIND = {str(i): f"kind {i % KINDS}" for i in range(N)}
VOICE = {str(i): f"voice {i // KINDS}" for i in range(N)}


def dataset(seed: int, split: str = "test") -> xg.Dataset:
    """Kinds in eight dimensions, voices in eight others, noise in all."""
    rng = np.random.default_rng(99)
    kinds, voices = rng.normal(size=(KINDS, 8)), rng.normal(size=(VOICES, 8))
    rows = np.hstack([kinds[np.arange(N) % KINDS], voices[np.arange(N) // KINDS]])
    rows = rows + 0.8 * np.random.default_rng(seed).normal(size=rows.shape)
    audio = xg.Features(rows, [str(i) for i in range(N)], "audio", "audio")
    splits = {"train": lambda: dataset(1, "train")} if split == "test" else {}
    labels = {"kind": KIND, "voice": VOICE}
    return xg.Dataset("sounds", split, NO_IMAGES, NO_TEXTS, labels, items={"audio": Vectors(audio)}, splits=splits)


def drop_voice(calibration: xg.Calibration) -> Callable[[xg.Features], xg.Features]:
    """Without the dimensions of voices."""
    return lambda features: replace(
        features, vectors=features.vectors * features.vectors.new_tensor([1.0] * 8 + [0.0] * 8)
    )


def denoise(calibration: xg.Calibration) -> Callable[[xg.Features], xg.Features]:
    """What an item would be without noise, for both factors alike."""
    rng = np.random.default_rng(99)
    kinds, voices = rng.normal(size=(KINDS, 8)), rng.normal(size=(VOICES, 8))

    def apply(features: xg.Features) -> xg.Features:
        at = np.array([int(i) for i in features.ids])
        clean = np.hstack([kinds[at % KINDS], voices[at // KINDS]])
        return replace(features, vectors=features.vectors + features.vectors.new_tensor(clean))

    return apply


def same(calibration: xg.Calibration) -> Callable[[xg.Features], xg.Features]:
    """Nothing."""
    return lambda features: features


@pytest.fixture
def study() -> xg.Study:
    comparison = xg.Comparison("A-A", "audio", "audio")
    corrections = ["none", drop_voice, denoise, same]
    return xg.Study([Precomputed("features")], [dataset(0)], [comparison], corrections, progress=False)


def test_a_trade_and_a_gain_are_distinguished(study: xg.Study) -> None:
    table = two_factors(study, "voice").set_index("correction")
    assert table["label_set"].tolist() == ["kind"] * 4
    base, trade, gain, same = (table.loc[name] for name in ("none", "drop_voice", "denoise", "same"))
    assert np.isnan(base["difference"])
    assert base["class_value"] > 0
    assert trade["class_difference_low"] > 0
    assert trade["nuisance_difference_high"] < 0
    assert (trade["verdict"], trade["n_groups"]) == ("higher", VOICES)
    assert gain["class_difference_low"] > 0
    assert gain["nuisance_difference_low"] > 0
    assert same["difference"] == 0
    assert same["verdict"] == "inconclusive"
    assert set(table.loc[["drop_voice", "denoise", "same"], "family_size"]) == {3}


def test_each_number_is_that_of_two_plain_studies(study: xg.Study) -> None:
    row = two_factors(study, "voice").set_index("correction").loc["drop_voice"]
    changes = {}
    for factor, label_set, labels in (("class", "kind", KIND), ("nuisance", "voice", VOICE)):
        own = xg.main_rows(replace(study, label_set=label_set).run()).set_index("correction")
        assert row[f"{factor}_value"] == pytest.approx(own.loc["drop_voice", "value"])
        for part in ("difference", "difference_low", "difference_high", "p_value", "n_groups"):
            assert row[f"{factor}_{part}"] == pytest.approx(own.loc["drop_voice", part]), part
        evaluation = next(iter(replace(study, label_set=label_set).evaluations()))
        comparison = study.comparisons[0]
        changes[factor] = evaluation.scores(comparison, drop_voice)["ap"] - evaluation.scores(comparison)["ap"]
        changes[f"{factor} groups"] = [labels[i] for i in changes[factor].index]
    contrast = changes["class"] - changes["nuisance"]
    zero = pd.Series(0.0, contrast.index)
    tests = [paired_test(zero, contrast, groups=changes[f"{factor} groups"]) for factor in ("class", "nuisance")]
    assert row["difference"] == pytest.approx(tests[0].difference)
    assert row["difference_low"] <= min(test.low for test in tests) + 1e-12
    assert row["difference_high"] >= max(test.high for test in tests) - 1e-12
    assert row["p_value"] >= max(test.p_value for test in tests)


def test_a_contrast_that_depends_on_both_labels_is_not_found_by_chance() -> None:
    """Effects of 20 classes and of 20 nuisance labels with a mean of zero: either grouping alone finds one in eight."""
    from xgap_analysis.experiments.two_factors import FACTORS, _two_way

    index = [str(i) for i in range(400)]
    labels = {factor: {i: str(int(i) % 20 if k else int(i) // 20) for i in index} for k, factor in enumerate(FACTORS)}
    found = []
    for seed in range(400):
        random = np.random.default_rng(seed)
        one, other = random.normal(size=(2, 20))
        change = pd.Series(np.repeat(one, 20) + np.tile(other, 20) + 0.5 * random.normal(size=400), index)
        found.append(_two_way(change, labels)["p_value"] < 0.05)
    assert np.mean(found) < 0.08


def test_moad_says_which_factor_orders_the_space() -> None:
    audio = dataset(0).items_of("audio").features
    before = moad(audio, KIND, VOICE)
    scaled = audio.vectors * audio.vectors.new_tensor([2.0] * 8 + [0.5] * 8)
    assert moad(replace(audio, vectors=scaled), KIND, VOICE) > max(0.3, before)


def test_mistakes_are_one_sentence(study: xg.Study) -> None:
    with pytest.raises(XgapError, match="both 'kind'"):
        two_factors(study, "kind")
    with pytest.raises(XgapError, match="no labels 'colour'"):
        two_factors(study, "colour")


def test_what_has_no_nuisance_is_said_in_its_row() -> None:
    table = two_factors(xg.Study(["tiny"], ["emoji"], ["I-I", "T-T"], limit=4, progress=False), "artist")
    notes = table.set_index("comparison")["note"]
    assert notes["I-I"] == ""
    assert "query ids have no label" in notes["T-T"]
