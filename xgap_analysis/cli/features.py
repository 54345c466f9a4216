"""What `encode`, `invert` and `study` share: reading their arguments, saying where features are.

This module is heavy; commands import it when they run.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from xgap_analysis.cli.arguments import OfItems
from xgap_analysis.cli.output import say
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.features_io import check_suffix, save_features
from xgap_analysis.datasets import Dataset, load_dataset
from xgap_analysis.experiments.shared_work import Work, shared
from xgap_analysis.experiments.study import Study
from xgap_analysis.models import Model, load_model
from xgap_analysis.store import Engine, Store, engine
from xgap_analysis.store.engines import Local, Ranks, Ray
from xgap_analysis.views import View
from xgap_analysis.views.encode import encode


def split_of(name: str, split: str, limit: int | None) -> Dataset:
    """A split by name, or the part of it that has `limit` labels."""
    data = load_dataset(name).split(split)
    return data if limit is None else data.limit(limit)


def leading(name: str) -> Engine:
    """The engine that an option names. Of ranks that were started together, the first one waits for the others and
    prints what comes out, and they end when their shares are stored.
    """
    by = engine(name)
    return replace(by, waits=by.waits and by.rank == 0) if isinstance(by, Ranks) else by


def encoded(command: OfItems, data: Dataset, own: View) -> tuple[Model, Features, Store]:
    """The model that a command names, its features of the modality that the command names, and where they are kept.

    Args:
        command: whose engine computes.
        data: the split.
        own: the view that the command is about: native or inverted.
    """
    items = data.items_of(command.space)
    if not len(items):
        raise XgapError(f"dataset {data.name!r} ({data.split_name}) has no {command.space}s")
    by, device, store = leading(command.engine), command.device, Store(retry_failed=command.retry_failed)
    if isinstance(by, Ray) and command.activation:
        what = "--activation does not reach the workers of --engine ray"
        raise XgapError(f"{what}; name the model with it, as in ViT-B-32-gelu//FILE")
    if isinstance(by, Ranks):
        device = by.device(device)
    model = load_model(command.model, device=device, precision=command.precision, activation=command.activation)
    if not isinstance(by, Local):
        study = Study(
            [command.model if isinstance(by, Ray) else model],
            [command.dataset],
            ["I-I"],
            split=command.split,
            limit=command.limit,
            on_error=command.on_error,
            device=device,
            precision=command.precision,
            batch_size=command.batch_size,
            num_workers=command.num_workers,
            store=store,
            engine=by,
        )
        store = shared(study, lambda _: [Work(own, "all")]).store or store
    features = encode(
        model,
        items,
        layer=own.options.get("layer"),
        on_error=command.on_error,
        batch_size=command.batch_size,
        num_workers=command.num_workers,
        store=store,
    )
    return model, features, store


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
