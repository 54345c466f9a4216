"""What `encode`, `invert` and `study` share: reading their arguments, saying where features are.

This module is heavy; commands import it when they run.
"""

import tempfile
from pathlib import Path

from xgap_analysis.cli.encode import Encode
from xgap_analysis.cli.invert import Invert
from xgap_analysis.cli.output import say
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.features_io import check_suffix, save_features
from xgap_analysis.datasets import Dataset, load_dataset
from xgap_analysis.models import Model, load_model
from xgap_analysis.store import Store
from xgap_analysis.views.encode import encode


def split_of(name: str, split: str, limit: int | None) -> Dataset:
    """A split by name, or the part of it that has `limit` labels."""
    data = load_dataset(name).split(split)
    if limit is not None and limit < 1:
        raise XgapError(f"--limit is a number of labels, at least 1, not {limit}")
    return data.limit(limit) if limit else data


def encoded(command: Encode | Invert, data: Dataset, layer: int | None = None) -> tuple[Model, Features]:
    """The model that a command names, and its features of the modality that the command names, or those of a layer."""
    items = data.items_of(command.space)
    if not len(items):
        raise XgapError(f"dataset {data.name!r} ({data.split_name}) has no {command.space}s")
    model = load_model(command.model, device=command.device, precision=command.precision, activation=command.activation)
    return model, encode(model, items, layer=layer, on_error=command.on_error)


def print_where(features: Features, out: Path | None) -> None:
    """Print the key of the features in the store, and write them to `out` if it is given."""
    key = features.provenance.get("entry")
    say(f"in the store: {key}" if key and Store().folder(key).is_dir() else "not kept in the store")
    if out is not None:
        say(f"written: {save_features(features, out)}")


def check_out(out: Path | None) -> None:
    """Raise if features cannot be written to this file, before the work rather than after it."""
    if out is not None:
        check_suffix(out)
        check_writable(out)


def check_writable(out: Path) -> None:
    """Raise if this file cannot be written, before the work rather than after it."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise XgapError(f"{out} cannot be written ({error.strerror or error})") from error
    if out.is_dir():
        raise XgapError(f"{out} is a folder; name a file")
