"""The modules of an adapter, made for one model: drawn, checked, trained, and read again from files."""

import contextlib
import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.writing import written_whole
from xgap_analysis.models.adaptation.adapter import Adapter, adapter
from xgap_analysis.models.adaptation.backbone import Backbone
from xgap_analysis.models.adaptation.part import ENCODERS, Part, PartTokenizer
from xgap_analysis.models.adapters.assembled import seeded
from xgap_analysis.models.checkpoint import refuse_pointer
from xgap_analysis.models.fingerprint import PROBES
from xgap_analysis.models.locks import lock_of
from xgap_analysis.models.shadows import shadowed

ABOUT, WEIGHTS = "adapter.json", "adapter.safetensors"
CLOSE = 1e-5  # of unit features: rounding of a sum


@dataclass(frozen=True, eq=False)
class Attached:
    """An adapter with its modules.

    Args:
        adapter: what it is.
        modules: the module of each tower that it enters, by modality.
    """

    adapter: Adapter
    modules: nn.ModuleDict

    def after(self, modality: str, features: Tensor) -> Tensor:
        """Features `[n, d']` after the head of a modality, in float32; as they are where the adapter has none."""
        if modality not in self.modules or self.adapter.inside:
            return features
        with torch.autocast(features.device.type, enabled=False):
            made: Tensor = self.modules[modality](features.float())
        return made

    def within(self, module: Any, *modalities: str) -> contextlib.AbstractContextManager[None]:
        """Within, the towers of the base have the parts of the adapter inside, where it enters there.

        Args:
            module: open_clip's model.
            modalities: of the towers; all by default.
        """
        entering = (modalities or tuple(self.modules)) if self.adapter.inside else ()
        parts: list[Any] = [self.modules[modality] for modality in entering if modality in self.modules]
        return shadowed([shadow for part in parts for shadow in part.shadows(module)])

    def is_whole(self, module: Any, modality: str) -> bool:
        """Whether the part of a modality stands for the whole pass of its tower."""
        part: Any = self.modules[modality]
        with lock_of(module):  # another thread's pass may show something else
            return any(name in ENCODERS for _, name, _ in part.shadows(module))

    def tokenizer(self, tokenize: Any) -> Any:
        """The tokenizer of texts, given that of the base."""
        part: Any = self.modules["text"] if self.adapter.inside and "text" in self.modules else None
        return tokenize if part is None else PartTokenizer(part, tokenize)

    def copied(self) -> "Attached":
        """The same with modules of its own."""
        return Attached(self.adapter, copy.deepcopy(self.modules))

    def save(self, folder: Path) -> None:
        """Write name and options (JSON) and weights (safetensors); the weights first, whole or not at all."""
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in self.modules.state_dict().items()}
        with written_whole(folder / WEIGHTS, "the weights of an adapter") as place:
            save_file(tensors, place)
        with written_whole(folder / ABOUT, "the name of an adapter") as place:
            place.write_text(json.dumps({"adapter": self.adapter.in_full}, indent=2) + "\n", "utf-8")


def attached(
    what: Adapter,
    dims: Mapping[str, int],
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    base: Backbone | None = None,
) -> Attached:
    """The modules of an adapter for towers of given dimensions, drawn from a seed, in evaluation.

    Args:
        what: the adapter.
        dims: modality to the dimensions d of the features of its tower.
        base: the modules that it enters, for one that enters a tower itself.
        seed: of what is drawn.
        device: where they compute.

    Raises:
        XgapError: something else than modules by modality, a modality that is not in `dims`, features of another shape,
            towers whose features no longer have the same dimensions, other features than the base's from an adapter
            that says it starts as the base, or a place that the model does not have.
    """
    try:
        with seeded(seed):
            made = _built(what, dims, base)
    except KeyError as error:
        if not error.args or error.args[0] in dims:
            raise
        what_for = f"adapter {what} looks for the dimensions of {error.args[0]!r}"
        raise XgapError(f"{what_for}, and the towers of this model are: {', '.join(dims)}") from error
    except XgapError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise XgapError(f"adapter {what} cannot be made with these options ({_said(error)})") from error
    if not isinstance(made, Mapping) or not made or not all(isinstance(m, nn.Module) for m in made.values()):
        raise XgapError(f"adapter {what} must give a torch module for each modality that it enters, not {made!r:.60}")
    unknown = [modality for modality in made if modality not in dims]
    if unknown:
        raise XgapError(f"adapter {what} enters {unknown[0]!r}, and the towers of this model are: {', '.join(dims)}")
    modules = nn.ModuleDict(dict(made)).eval()
    after = dict(dims)
    for modality, module in modules.items():
        if base is not None and what.inside:
            after[modality] = _checked_inside(Attached(what, modules), modality, base)
        else:
            after[modality] = _checked(what, modality, module, dims[modality])
    if len(set(after.values())) > len(set(dims.values())):
        sizes = ", ".join(f"{modality} {d}" for modality, d in after.items())
        raise XgapError(f"adapter {what} leaves features of different dimensions, which cannot be compared: {sizes}")
    return Attached(what, modules.to(device))


def saved_adapter(
    folder: Path, dims: Mapping[str, int], device: torch.device | str = "cpu", base: Backbone | None = None
) -> Attached | None:
    """The adapter beside the weights of a trained model; None where there is none.

    Only its name, options and numbers are read: its code is what is registered here under that name. Memory is taken
    only where the sizes in the weights' header are those of the options. Modules of towers that are not in `dims` (of
    an image model that was trained with the head of a text tower beside) are left out.

    Raises:
        XgapError: a file that is damaged or missing, an adapter or its language model that is not known here, or
            weights of another one.
    """
    about, weights = folder / ABOUT, folder / WEIGHTS
    if not about.is_file():
        return None
    try:
        name = json.loads(about.read_text("utf-8"))["adapter"]
        what = adapter(str(name))
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, XgapError):
            hint = "register it first (--plugin my_file.py on the command line)"
            raise XgapError(f"{about} names an adapter that is not known here, {hint}: {error}") from error
        raise XgapError(f'{about} is not the description of an adapter, {{"adapter": "name(option=value)"}}') from error
    if not weights.is_file():
        raise XgapError(f"{weights} is missing: the weights of adapter {what} were saved beside {ABOUT}")
    refuse_pointer(weights)
    what = _with_language(what, folder)
    try:
        with safe_open(weights, framework="pt") as file:
            there = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise XgapError(f"{weights} is damaged ({error}); it should hold the weights of adapter {what}") from error
    further = {key.partition(".")[0] for key in there} - dims.keys()
    if what.inside:  # a part is made for a tower that is there
        there = {key: shape for key, shape in there.items() if key.partition(".")[0] not in further}
        further = set()
    every = {**dims, **dict.fromkeys(further, next(iter(dims.values())))}  # towers of a model share their dimensions
    expected = _shapes(what, every, base)
    if expected is not None and expected != there:
        listed = ", ".join(f"{key} {shape}" for key, shape in expected.items())
        raise XgapError(f"{weights} does not hold the weights of adapter {what}, which are {listed}")
    made = attached(what, every, device=device, base=base)
    try:
        loaded = load_file(weights, device=str(device))
        made.modules.load_state_dict({key: loaded[key] for key in there})
    except RuntimeError as error:
        raise XgapError(f"{weights} does not hold the weights of adapter {what}") from error
    for modality in further & made.modules.keys():
        del made.modules[modality]
    return made


def _with_language(what: Adapter, folder: Path) -> Adapter:
    """A saved adapter with its language model where that is now: as named, or in a folder of its name by the weights.

    The weights hold a digest of it, so another model of that name is refused.
    """
    named = what.options.get("language")
    if not named or (Path(str(named)).expanduser() / "config.json").is_file():
        return what
    place = folder / Path(str(named)).name
    if not (place / "config.json").is_file():
        raise XgapError(
            f"the adapter {what.name} in {folder} reads a language model that was in {str(named)!r} when it was saved "
            f"and is not there now: copy its folder (config.json, weights, tokenizer) to {place}"
        )
    return replace(what, options={**what.options, "language": str(place)})


def check_images_alone(own: Attached, base: Backbone) -> None:
    """Refuse an adapter that a model without its text tower could not have, as it is after training on images alone.

    Raises:
        XgapError: such an adapter.
    """
    if not own.adapter.inside:
        return
    alone = replace(base, dims={"image": base.dims["image"]}, tokenize=None)
    try:
        attached(own.adapter, alone.dims, base=alone)
    except XgapError as error:
        raise XgapError(
            f"objectives of images alone leave a model without a text tower, which adapter {own.adapter} does not fit "
            f"({error}): take one with captions, such as clip, or an adapter of the image tower"
        ) from error


def _built(what: Adapter, dims: Mapping[str, int], base: Backbone | None) -> Any:
    if not what.inside:
        return what.build(dict(dims), **what.options)
    if base is None:
        raise XgapError(
            f"adapter {what} enters the modules of a model ({what.place}), and only those of open_clip's can be entered"
        )
    with lock_of(base.module):  # in the midst of another thread's pass the base would show parts of that
        return what.build(base, **what.options)


def _shapes(what: Adapter, dims: Mapping[str, int], base: Backbone | None) -> dict[str, list[int]] | None:
    """The shapes of an adapter's weights by name, without memory for them; None of one that cannot be built so."""
    try:
        with torch.device("meta"), seeded():
            made = nn.ModuleDict(dict(_built(what, dims, base)))
    except XgapError:
        raise
    except Exception:  # `attached` says what is wrong with it
        return None
    return {key: list(tensor.shape) for key, tensor in made.state_dict().items()}


def _checked_inside(own: Attached, modality: str, base: Backbone) -> int:
    """The dimensions of the features of a tower with its part inside."""
    what, part = own.adapter, own.modules[modality]
    if not isinstance(part, Part):
        raise XgapError(f"adapter {what} must give a Part for the {modality} tower, not {type(part).__name__}")
    module = base.module
    if modality == "text":
        encode, name = own.tokenizer(base.tokenize), "encode_text"
        plain, batch = base.ids(part.captions(PROBES[:1])), encode(list(PROBES[:1]))
    else:
        size, name = module.visual.image_size, "encode_image"
        height, width = (size, size) if isinstance(size, int) else tuple(size)
        plain = batch = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    device, training = next(module.parameters()).device, module.training
    own.modules.to(device)
    module.eval()
    with torch.no_grad(), lock_of(module):
        before = getattr(module, name)(plain.to(device)).float() if what.starts_as_base_of(modality) else None
        try:
            with own.within(module, modality):
                made = getattr(module, name)(batch.to(device)).float()
        except XgapError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError) as error:
            raise XgapError(
                f"adapter {what} does not fit the {modality} tower of this model, whose pass fails with it "
                f"({_said(error)})"
            ) from error
        finally:
            module.train(training)
    if before is not None:
        unit = F.normalize(before, dim=1)
        if made.shape != before.shape or float((F.normalize(made, dim=1) - unit).abs().max()) > CLOSE:
            raise _not_the_base(what, modality)
    return made.shape[1]


def _not_the_base(what: Adapter, modality: str) -> XgapError:
    return XgapError(
        f"adapter {what} says that it starts as the base, but it changes {modality} features before any "
        "training; register it with starts_as_base=False, or start its last map at zero"
    )


def _said(error: Exception) -> str:
    """What went wrong, in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _checked(what: Adapter, modality: str, module: nn.Module, dim: int) -> int:
    """The dimensions of the features that a module gives."""
    features = torch.randn(4, dim, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            made = module(features)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise XgapError(
            f"the {modality} module of adapter {what} fails on features [4, {dim}] ({_said(error)})"
        ) from error
    if not isinstance(made, Tensor) or made.ndim != 2 or len(made) != 4 or not made.is_floating_point():
        found = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise XgapError(
            f"the {modality} module of adapter {what} must give features [n, d], not {found} for [4, {dim}]"
        )
    if what.starts_as_base_of(modality):
        unit = F.normalize(features, dim=1)
        if made.shape[1] != dim or float((F.normalize(made, dim=1) - unit).abs().max()) > CLOSE:
            raise _not_the_base(what, modality)
    return made.shape[1]
