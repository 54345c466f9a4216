"""Grids by name: the tables of the debate, ready to run on any model and data set."""

from dataclasses import dataclass

from xgap_analysis.errors import unknown_name


@dataclass(frozen=True)
class Grid:
    """What a named table compares. `models`, `datasets` and `limit` are what it is run on where nothing is said."""

    comparisons: tuple[str, ...]
    corrections: tuple[str, ...] = ("none",)
    models: tuple[str, ...] = ("tiny",)
    datasets: tuple[str, ...] = ("emoji",)
    limit: int | None = None


GRIDS = {
    # 60 labels, and no captions inverted but the queries': five minutes on two cores of a laptop.
    "corrections": Grid(
        comparisons=("I-I", "OTI-I", "I+OTI-I", "T-T", "OVI-T", "T+OVI-T", "I-T", "T-I", "zero-shot", "OTI-T"),
        corrections=(
            "none",
            "center",
            "gap-shift",
            "isoclip",
            "pca-text",
            "pca-image",
            "random-subspace",
            "whiten",
            "text-signature",
            "text-signature(compare=kl)",
            "inverted-softmax",
            "dynamic-inverted-softmax",
            "dual-inverted-softmax",
            "dual-dynamic-inverted-softmax",
        ),
        models=("tiny", "tiny-intra"),
        limit=60,
    ),
}


def grid(name: str) -> Grid:
    """A grid by name.

    Raises:
        XgapError: an unknown name (the nearest are told).
    """
    if name not in GRIDS:
        raise unknown_name("table", name, GRIDS)
    return GRIDS[name]
