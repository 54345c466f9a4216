"""Whether differences of pairs are noise: worlds in which they are, and in which they have a direction."""

import numpy as np
import pytest
import torch
from scipy.stats import normaltest

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.corrections import correction
from xgap_analysis.metrics import residuals

D = 64


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def world(seed: int, gap: float, n: int = 400) -> tuple[Features, Features]:
    """Texts, and images that are the texts with noise, each moved along one direction."""
    ids = [f"p{i}" for i in range(n)]
    texts = torch.nn.functional.normalize(draw(seed, n, D), dim=1)
    direction = torch.nn.functional.normalize(draw(99, D), dim=0)
    images = texts + 0.016**0.5 * draw(seed + 1, n, D)
    return (
        Features(images + gap * direction, ids, "image", "image"),
        Features(texts - gap * direction, ids, "text", "text"),
    )


def test_the_columns_against_numpy() -> None:
    x, y = world(0, 0.4)
    r = x.vectors.numpy().astype(np.float64) - y.vectors.numpy().astype(np.float64)
    row = residuals(x, y).iloc[0]
    assert row["n"] == 400
    mean = r.mean(0)
    assert row["mean_share"] == pytest.approx((mean @ mean) / (r**2).sum(1).mean())
    values = np.linalg.eigvalsh(np.cov(r.T, bias=True))
    assert row["variance"] == pytest.approx(values.mean())
    assert row["isotropy"] == pytest.approx(values.sum() ** 2 / D / (values**2).sum())
    assert row["non_gaussian"] == pytest.approx((normaltest(r).pvalue < 0.05).mean())
    cosine = (x.vectors * y.vectors).sum(1).double().mean()
    assert row["cosine"] == pytest.approx(float(cosine), abs=1e-6)
    assert row["noise_variance"] == pytest.approx((1 / float(cosine) ** 2 - 1) / D, abs=1e-6)


def test_a_gap_with_a_direction_is_no_noise_until_it_is_centred() -> None:
    (x, y), (fit_x, fit_y) = world(0, 0.4), world(10, 0.4)
    by = correction("center").fit(Calibration({"image": fit_x, "text": fit_y}, "train"))
    native, centred = residuals(x, y).iloc[0], residuals(by(x), by(y)).iloc[0]
    assert native["mean_share"] > 0.3
    assert native["p_mean"] < 0.001
    assert centred["mean_share"] < 0.05
    assert centred["mean_share"] < native["mean_share"] / 10


def test_noise_of_maccaps_variance_is_recognised_as_noise() -> None:
    texts = Features(draw(0, 500, 512), [f"p{i}" for i in range(500)], "text", "text")
    noisy = correction("noise").fit(Calibration({"text": texts}, "train"))(texts)
    row = residuals(noisy, texts).iloc[0]
    assert row["cosine"] == pytest.approx(0.33, abs=0.01)
    assert row["noise_variance"] == pytest.approx(0.016, rel=0.05)
    assert row["p_mean"] > 0.01
    assert row["mean_share"] < 0.01
    assert row["non_gaussian"] == pytest.approx(0.05, abs=0.04)


def test_the_test_of_the_mean_rejects_noise_no_more_often_than_its_level() -> None:
    draws = [residuals(*world(20 * s, 0.0, 40), resamples=200).loc[0, "p_mean"] < 0.05 for s in range(100)]
    assert sum(draws) <= 5 + 3 * (100 * 0.05 * 0.95) ** 0.5


def test_what_is_not_gaussian_is_seen() -> None:
    x, y = world(0, 0.0)
    heavy = torch.distributions.StudentT(2.0)
    torch.manual_seed(0)
    moved = Features(y.vectors + 0.05 * heavy.sample((400, D)), y.ids, "image", "image")
    assert residuals(moved, y).loc[0, "non_gaussian"] > 0.5
    assert residuals(x, y).loc[0, "non_gaussian"] < 0.2


def test_mistakes_are_one_sentence() -> None:
    x, y = world(0, 0.4)
    with pytest.raises(XgapError, match="on 20 pairs or more, and 5 items have one id"):
        residuals(x.select(x.ids[:5]), y)
    with pytest.raises(XgapError, match="have 64 and 3 dimensions"):
        residuals(x, Features(torch.ones(400, 3), y.ids, "text", "text"))
    with pytest.raises(XgapError, match="are the same"):
        residuals(x, x)
