"""Principal angles against scipy, and where they are known."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics import effective_rank, principal_angles, principal_angles_table


def plane(n, d, rank, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) + rng.normal(size=d)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def basis(rows, rank, centred):
    rows = np.float32(rows).astype(float)
    return np.linalg.svd(rows - centred * rows.mean(0))[2][:rank].T


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("ranks", [(3, 3), (2, 6), (7, 4)])
def test_angles_are_scipys(centred, ranks):
    x, y = (plane(30, 12, 6, seed) for seed in (0, 1))
    for rank in ranks[:1]:
        found = principal_angles(x, y, rank=min(rank, 6), centred=centred)
        bases = [basis(rows, min(rank, 6), centred) for rows in (x, y)]
        assert found.degrees == pytest.approx(np.degrees(subspace_angles(*bases))[::-1], abs=1e-4)
        assert list(found.degrees) == sorted(found.degrees)


@pytest.mark.parametrize("centred", [False, True])
def test_the_rank_holds_the_energy_or_is_the_effective_one(centred):
    x, y = plane(40, 10, 10, 2), plane(25, 10, 5, 3)
    for energy in (0.5, 0.9, 0.99):
        found = principal_angles(x, y, energy=energy, centred=centred)
        for rows, rank in ((x, found.rank_x), (y, found.rank_y)):
            squares = np.linalg.svd(rows - centred * rows.mean(0), compute_uv=False) ** 2
            assert squares[:rank].sum() >= energy * squares.sum() > squares[: rank - 1].sum()
        bases = [basis(rows, rank, centred) for rows, rank in ((x, found.rank_x), (y, found.rank_y))]
        assert found.degrees == pytest.approx(np.degrees(subspace_angles(*bases))[::-1], abs=1e-4)
    found = principal_angles(x, y, rank="effective", centred=centred)
    assert (found.rank_x, found.rank_y) == tuple(round(effective_rank(rows, centred=centred)) for rows in (x, y))


def test_weak_directions_of_many_rows_are_no_rounding():
    spread = np.geomspace(1, 1e-3, 8)
    x = np.random.default_rng(0).normal(size=(60_000, 8)) * spread
    found = principal_angles(x, np.eye(8)[7:], rank="energy", energy=1.0)
    assert (found.rank_x, found.rank_y) == (8, 1)
    assert found.degrees == pytest.approx([0], abs=1e-4)


def test_known_angles():
    turned = np.eye(6)[:3].copy()
    turned[2] = np.cos(0.4) * np.eye(6)[2] + np.sin(0.4) * np.eye(6)[5]
    assert np.radians(principal_angles(np.eye(6)[:3], turned).degrees) == pytest.approx([0, 0, 0.4], abs=1e-6)
    x = plane(30, 12, 4, 0)
    same = principal_angles(x, x @ np.linalg.qr(np.eye(12))[0])
    assert same.degrees == pytest.approx([0] * same.rank_x, abs=1e-5)
    assert principal_angles(np.eye(6)[:3], np.eye(6)[3:]).degrees == pytest.approx([90] * 3)


def test_dimensions_alone_decide_and_it_is_said():
    x, y = (np.random.default_rng(seed).normal(size=(50, 6)) for seed in (0, 1))
    whole = principal_angles(x, y, rank=6)
    assert whole.note == "full rank, no information"
    assert whole.degrees == pytest.approx([0] * 6, abs=1e-4)
    some = principal_angles(x, y, rank=4)
    assert some.note == "2 of 4 angles are 0 by the number of dimensions"
    assert some.degrees[:2] == pytest.approx([0, 0], abs=1e-4) != some.degrees[2:]
    assert principal_angles(x, y, rank=3).note == ""


def test_chance_is_that_of_random_subspaces():
    x, y = (np.random.default_rng(seed).normal(size=(200, 40)) for seed in (0, 1))
    found = principal_angles(x, y, rank=5)  # directions of noise are random
    assert np.mean(found.degrees) == pytest.approx(np.mean(found.chance), abs=6)
    assert found.chance[0] < 70 < found.chance[-1]
    assert principal_angles(x, y, rank=5, seed=1).chance != found.chance


def test_the_direction_of_a_cone_is_shared_only_before_centring():
    rng = np.random.default_rng(0)
    cone = np.zeros(20)
    cone[19] = 5
    x, y = np.zeros((60, 20)), np.zeros((60, 20))
    x[:, :3], y[:, 3:6] = rng.normal(size=(60, 3)), rng.normal(size=(60, 3))
    table = principal_angles_table(x + cone, y + cone, rank=3).set_index("rows")
    assert table.loc["uncentred", "smallest"] < 5
    assert table.loc["centred", "smallest"] > 30
    assert list(table["dim"]) == [20, 20]
    found = principal_angles(x + cone, y + cone, rank=3)
    assert table.loc["uncentred", ["smallest", "mean", "largest", "mean_by_chance"]].tolist() == pytest.approx(
        [found.degrees[0], np.mean(found.degrees), found.degrees[-1], np.mean(found.chance)]
    )


def test_mistakes_are_one_sentence():
    x = plane(30, 12, 4, 0)
    with pytest.raises(XgapError, match="12 dimensions and y 11"):
        principal_angles(x, x[:, :11])
    with pytest.raises(XgapError, match=r"span 5 directions.* not 6"):
        principal_angles(x, x, rank=6)
    for how in ({"rank": "all"}, {"energy": 0.0}):
        with pytest.raises(XgapError, match="one of energy, effective"):
            principal_angles(x, x, **how)
    with pytest.raises(XgapError, match="span no direction"):
        principal_angles(np.ones((4, 3)), x[:, :3], centred=True)
