"""Banks: the calibration items that stand for queries, and those that stand for a gallery."""

from xgap_analysis.core.calibration import Calibration
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features


def bank_of(calibration: Calibration, space: str, name: str, like: Features) -> Features:
    """The calibration items of a space, on the device of other features.

    Raises:
        XgapError: a space without calibration features, none in it, or features of another dimension.
    """
    bank = calibration.of(space).to(like.vectors.device)
    if not len(bank):
        raise XgapError(f"the bank of {name} is empty: fit it on a split that has items")
    if bank.dim != like.dim:
        raise XgapError(f"the bank of {name} has {bank.dim} dimensions, and the gallery {like.dim}")
    return bank


def note_of(query: Features, gallery: Features) -> str:
    """What a row says where the bank of queries and the bank of gallery items are one."""
    one = query.space == gallery.space
    return f"both banks are the calibration items of space {query.space!r}" if one else ""
