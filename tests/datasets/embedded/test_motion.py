"""How drawings move: where the drawing is in the first and the last frame of each motion."""

import numpy as np
import pytest
from PIL import Image

from xgap_analysis.datasets.embedded.motion import FRAME, LARGE, MOTIONS, ROOM, SIZE, SMALL, frame

RED = Image.new("RGB", (64, 64), "red")
L_SHAPE = Image.new("RGB", (64, 64), "white")
L_SHAPE.paste("black", (8, 8, 16, 56))
L_SHAPE.paste("black", (8, 48, 56, 56))


def box_of(image: Image.Image) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is not white."""
    rows, columns = np.nonzero((np.asarray(image) < 250).any(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def path_of(motion: str, length: int = 5) -> list[tuple[int, int, int, int]]:
    return [box_of(frame(RED, motion, place, length)) for place in range(length)]


@pytest.mark.parametrize(
    ("motion", "first", "last"),
    [
        ("moves right", (0, ROOM // 2), (ROOM, ROOM // 2)),
        ("moves left", (ROOM, ROOM // 2), (0, ROOM // 2)),
        ("rises", (ROOM // 2, ROOM), (ROOM // 2, 0)),
        ("falls", (ROOM // 2, 0), (ROOM // 2, ROOM)),
    ],
)
def test_a_drawing_goes_from_one_edge_to_the_other(motion: str, first: tuple[int, int], last: tuple[int, int]) -> None:
    path = path_of(motion)
    assert path[0] == (*first, first[0] + SIZE, first[1] + SIZE)
    assert path[-1] == (*last, last[0] + SIZE, last[1] + SIZE)
    steps = np.diff([left + top for left, top, *_ in path])
    assert (steps == ROOM // 4 * np.sign(sum(last) - sum(first))).all()


def test_growing_is_shrinking_backwards_about_the_centre() -> None:
    grows, shrinks = path_of("grows"), path_of("shrinks")
    assert grows == shrinks[::-1]
    assert grows[0] == ((FRAME - SMALL) // 2, (FRAME - SMALL) // 2, (FRAME + SMALL) // 2, (FRAME + SMALL) // 2)
    assert grows[-1] == (0, 0, LARGE, LARGE)
    assert all(left + right == top + bottom == FRAME for left, top, right, bottom in grows)


def test_a_turn_goes_once_around_and_does_not_repeat_its_first_frame() -> None:
    turned = [np.asarray(frame(L_SHAPE, "turns", place, 4), dtype=float) for place in range(4)]
    for place, expected in enumerate(turned):
        assert np.abs(np.rot90(turned[0], -place) - expected).max() <= 1, "a quarter turn, clockwise"
        assert all(np.abs(expected - other).mean() > 5 for i, other in enumerate(turned) if i != place)


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_drawing_never_leaves_the_frame(motion: str) -> None:
    drawing = Image.new("RGB", (64, 64), "white")
    drawing.paste("red", (8, 8, 56, 56))
    area = [float((np.asarray(frame(drawing, motion, place, 12)) < 250).any(axis=2).sum()) for place in range(12)]
    scale = {"grows": (SMALL, LARGE), "shrinks": (SMALL, LARGE)}.get(motion, (SIZE, SIZE))
    for low_or_high, side in zip((min(area), max(area)), scale, strict=True):
        assert low_or_high == pytest.approx((side * 48 / 64) ** 2, rel=0.15)  # an edge of half a pixel
    assert frame(drawing, motion, 0, 12).size == (FRAME, FRAME)
    assert frame(drawing, motion, 0, 12).mode == "RGB"
