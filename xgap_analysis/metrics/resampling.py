"""How many resamples are held at a time."""

CELLS = 1 << 22  # of a chunk of resamples held at a time (32 MB)


def chunks(resamples: int, width: int, cells: int | None = None) -> list[int]:
    """Numbers of resamples of this width that are drawn at a time, of this many cells in all."""
    step = max(1, (cells or CELLS) // width)
    return [min(step, resamples - start) for start in range(0, resamples, step)]
