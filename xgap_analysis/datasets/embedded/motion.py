"""How a drawing moves: the frames of one event, made from one drawing by one of seven motions."""

from collections.abc import Callable

from PIL import Image

FRAME = 64  # pixels, width and height
SIZE = 44  # of a drawing that moves or turns: its corners stay inside while it turns
ROOM = FRAME - SIZE  # that it moves through
SMALL, LARGE = 40, 64  # of a drawing that grows or shrinks, first and last
DRAWN_AS = 1  # of the way of drawing; another way, another number, so that no stored feature is taken for it
HALF = ROOM // 2


def _at(x: float, y: float, size: float = SIZE, angle: float = 0) -> tuple[float, float, float, float]:
    return x, y, size, angle


def _scaled(size: float) -> tuple[float, float, float, float]:
    return _at((FRAME - size) / 2, (FRAME - size) / 2, size)


# Left edge, top edge, size and angle, from t, the share of the motion that is done, 0 in the first frame and 1 in the
# last, and s, which would be 1 in the frame after the last: a full turn does not end with the frame that it began with.
MOTIONS: dict[str, Callable[[float, float], tuple[float, float, float, float]]] = {
    "moves right": lambda t, s: _at(t * ROOM, HALF),
    "moves left": lambda t, s: _at((1 - t) * ROOM, HALF),
    "rises": lambda t, s: _at(HALF, (1 - t) * ROOM),
    "falls": lambda t, s: _at(HALF, t * ROOM),
    "grows": lambda t, s: _scaled(SMALL + t * (LARGE - SMALL)),
    "shrinks": lambda t, s: _scaled(LARGE - t * (LARGE - SMALL)),
    "turns": lambda t, s: _at(HALF, HALF, SIZE, -360 * s),
}


def frame(drawing: Image.Image, motion: str, place: int, length: int) -> Image.Image:
    """One frame of an event: the drawing on white, where the motion has brought it.

    Args:
        drawing: on white, of any size.
        motion: one of `MOTIONS`.
        place: of the frame in the event, from 0.
        length: of the event, in frames (2 or more).

    Example:
        >>> kite = Image.new("RGB", (64, 64), "red")
        >>> frame(kite, "rises", 0, 3).getbbox(), frame(kite, "rises", 0, 3).getpixel((32, 60))
        ((0, 0, 64, 64), (255, 0, 0))
    """
    x, y, size, angle = MOTIONS[motion](place / (length - 1), place / length)
    small = drawing.convert("RGB").resize((round(size), round(size)), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (FRAME, FRAME), "white")
    canvas.paste(small, (round(x), round(y)))
    return canvas.rotate(angle, Image.Resampling.BICUBIC, fillcolor="white") if angle else canvas
