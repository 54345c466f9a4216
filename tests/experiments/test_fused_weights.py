"""The best weight of a fused query: where it is known, how sure it is, and what centring does to it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.experiments.fused_weights import Sweep, swept

IDS = [str(i) for i in range(60)]
SAME = {i: i for i in IDS}


def drawn(noise: tuple[float, float], gap: float = 0.0, seed: int = 0) -> tuple[xg.Features, ...]:
    """Images and texts of a code each with noise of their own, and sounds; `gap` moves images and texts apart."""
    random = np.random.default_rng(seed)
    code = random.normal(size=(60, 16))
    cone = np.eye(16)[0]
    rows = [code + n * random.normal(size=code.shape) for n in noise]
    sets = zip((rows[0] + gap * cone, rows[1] - gap * cone, code), ("image", "text", "audio"), strict=True)
    return tuple(xg.Features(x, IDS, space, space) for x, space in sets)


def test_the_ends_are_one_modality_and_the_better_one_gets_the_weight() -> None:
    image, text, audio = drawn((1.0, 3.0))
    sets = {"image": image, "text": text}
    found = swept(sets, audio, SAME, steps=10)
    for weight, alone in ((0.0, image), (1.0, text)):
        pd.testing.assert_series_equal(
            found.values[weight], xg.retrieval(alone, audio, SAME)["ap"], check_names=False, check_exact=True
        )
    best = found.best()
    assert 0 < best.weight < 0.5  # each knows something, the image more
    assert best.low <= best.weight <= best.high
    assert found.table()["value"].max() > max(found.table()["value"].iloc[[0, -1]])
    turned = swept(dict(reversed(sets.items())), audio, SAME, steps=10)
    assert turned.best().weight == pytest.approx(1 - best.weight)


def test_a_modality_of_noise_gets_no_weight() -> None:
    image, _, audio = drawn((0.5, 0.0))
    noise = xg.Features(np.random.default_rng(9).normal(size=(60, 16)), IDS, "text", "text")
    assert swept({"image": image, "text": noise}, audio, SAME, steps=5).best().weight < 0.5


def test_the_best_weight_of_resamples_is_that_of_a_loop() -> None:
    values = pd.DataFrame(np.random.default_rng(0).random((9, 3)), columns=[0.0, 0.5, 1.0])
    groups = [0, 0, 0, 0, 1, 1, 2, 2, 2]
    one = Sweep(values, groups)
    random = np.random.default_rng(0)
    times = random.multinomial(3, np.full(3, 1 / 3), 2000)
    best = [sum((t[g] * values.to_numpy()[i] for i, g in enumerate(groups)), np.zeros(3)).argmax() / 2 for t in times]
    assert (one.best().low, one.best().high) == tuple(np.quantile(best, [0.025, 0.975]))
    assert one.moved(to=one) == (0.0, 0.0, 0.0)
    shifted = dataclasses.replace(one, values=values[values.columns[::-1]].set_axis(values.columns, axis=1))
    assert one.moved(to=shifted).weight == shifted.best().weight - one.best().weight


def test_sweeps_of_other_queries_and_bad_options_are_refused() -> None:
    image, text, audio = drawn((1.0, 1.0))
    found = swept({"image": image, "text": text}, audio, SAME, steps=2)
    fewer = swept({"image": image, "text": text}, audio, SAME, steps=1)
    with pytest.raises(XgapError, match="two sweeps are compared query by query"):
        found.moved(to=fewer)
    with pytest.raises(XgapError, match="the weights of two modalities are swept, and there are 1"):
        swept({"image": image}, audio, SAME)
    with pytest.raises(XgapError, match="in 1 step or more"):
        swept({"image": image, "text": text}, audio, SAME, steps=0)
    with pytest.raises(XgapError, match="query '1' has no group"):
        swept({"image": image, "text": text}, audio, SAME, steps=1, groups={"0": "a"})
    with pytest.raises(XgapError, match="not 'mrr'"):
        swept({"image": image, "text": text}, audio, SAME, steps=1, measure="mrr")
