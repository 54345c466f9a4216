"""Adapters from the files that their authors' code writes: one row of `FORMATS` for each kind of file."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xgap_analysis.core.errors import XgapError, notice
from xgap_analysis.models.adaptation.adapted import dims_of, with_attached
from xgap_analysis.models.adaptation.adapter import adapter
from xgap_analysis.models.adaptation.attached import Attached, attached
from xgap_analysis.models.adaptation.backbone import Backbone, blocks_of, mlp_of, text_part
from xgap_analysis.models.adaptation.entered import backbone_of
from xgap_analysis.models.adapters.longclip import GATE, KEPT, STRETCHED, expert_of
from xgap_analysis.models.checkpoint import existing_checkpoint, read_checkpoint, state_dict, under
from xgap_analysis.models.hub import reason_of
from xgap_analysis.models.tower import Model

Weights = Mapping[str, Tensor]
PREFIXES = {"image": "visual.transformer.resblocks.", "text": "transformer.resblocks."}


@dataclass(frozen=True)
class Format:
    """A kind of file that holds an adapter.

    Args:
        adapter: its name here.
        said: what such a file is called in messages.
        match: a name that each of these is a beginning of (a regular expression) is in every such file.
        rename: weights of the file, and the base, to weights of the adapter's modules by their names there.
        shapes: weights of the file, and the base, to options of the adapter that their sizes say.
        unsaid: an option that must be given, as no file says it.
        check: refuses a base that the file was not made from.
    """

    adapter: str
    said: str
    match: tuple[str, ...]
    rename: Callable[[Weights, Backbone], dict[str, Tensor]]
    shapes: Callable[[Weights, Backbone], dict[str, Any]]
    unsaid: str | None = None
    check: Callable[[Weights, Backbone, Path], None] = lambda weights, base, path: None

    def fits(self, weights: Weights) -> bool:
        """Whether the names are those of such a file."""
        return all(any(re.match(start, name) for name in weights) for start in self.match)


def load_adapter(model: Model, file: str | Path, **options: Any) -> Model:
    """A model with the adapter of a published checkpoint inside.

    Which one it is, is read off the names in the file, its sizes off the shapes; nothing of the file is run. Other
    weights of the file, as those of the frozen model beside the prompts of MaPLe, are not read.

    Args:
        model: the base, the one that the adapter was trained on.
        file: of the authors' code (`.pt`, `.pth`, `.ckpt`, `model.pth.tar-5`, `.safetensors`, `.bin`).
        options: of the adapter that no file says: `k` of CLIP-MoE, `template` of MaPLe, `language` of LLM2CLIP.

    Raises:
        XgapError: a file that is damaged or holds no known adapter, or one that does not fit the model; the file and
            what was expected are named.

    Example:
        >>> import tempfile, torch, xgap_analysis as xg
        >>> prompts = {"ctx": torch.zeros(2, 128), "proj.weight": torch.zeros(160, 128), "proj.bias": torch.zeros(160)}
        >>> file = tempfile.mkdtemp() + "/model.pt"
        >>> torch.save({f"prompt_learner.{name}": tensor for name, tensor in prompts.items()}, file)
        >>> model = xg.load_adapter(xg.load_model("tiny-untrained"), file)
        >>> model.name
        'tiny-untrained+maple(length=2, depth=1)'
    """
    path = existing_checkpoint(file)
    try:
        weights = state_dict(read_checkpoint(path), path)
    except XgapError:
        raise
    except Exception as error:  # torch's and safetensors' checks of files raise kinds of their own
        raise XgapError(
            f"{path} cannot be read: {reason_of(error)}; it should hold the weights of an adapter"
        ) from error
    found = [row for row in FORMATS if row.fits(weights)]
    if not found:
        known = "; ".join(f"{row.said} has {' and '.join(_plain(start) for start in row.match)}" for row in FORMATS)
        raise XgapError(f"{path} holds no adapter that is known: {known}")
    dims = dims_of(model)
    base = backbone_of(model, dims)
    if base is None:
        raise XgapError(f"{path} is {found[0].said}, and only models of open_clip's can be entered, not {model.name!r}")
    own = _filled(found[0], weights, base, path, options)
    return with_attached(model, Attached(own.adapter, own.modules.to(model.device)))


def _filled(row: Format, weights: Weights, base: Backbone, path: Path, options: Mapping[str, Any]) -> Attached:
    """The adapter of a file, with its weights."""
    if row.unsaid is not None and row.unsaid not in options:
        kind = row.said.partition(" ")[2]
        raise XgapError(
            f"no {kind} says its {row.unsaid}: say it, as in load_adapter(model, {path.name!r}, {row.unsaid}=...)"
        )
    try:
        row.check(weights, base, path)
        sizes, given = row.shapes(weights, base), row.rename(weights, base)
    except XgapError:
        raise
    except KeyError as error:
        raise XgapError(
            f"{path} is {row.said} without {error.args[0]}, so it is damaged or of another release"
        ) from error
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        raise XgapError(
            f"{path} is {row.said} whose weights are not of the shapes or names that these have, so it is damaged or "
            f"of another release ({reason_of(error)})"
        ) from error
    what = adapter(row.adapter, **{**sizes, **options})
    own = attached(what, base.dims, base=base)
    state = own.modules.state_dict()
    for name, tensor in given.items():
        if name not in state or state[name].shape != tensor.shape:
            wanted = list(state[name].shape) if name in state else "nothing of that name"
            raise XgapError(
                f"{path} is {row.said} whose {name} is {list(tensor.shape)}, and with this model {what} has {wanted}: "
                "take the model that it was trained on"
            )
        if not bool(tensor.isfinite().all()):
            raise XgapError(f"{path} is {row.said} whose {name} holds numbers that are not finite, so it is damaged")
        state[name].copy_(tensor)
    filled = {state[name].data_ptr() for name in given}  # towers may share a weight
    absent = [name for name, p in own.modules.named_parameters() if p.data_ptr() not in filled]
    if absent:
        raise XgapError(f"{path} is {row.said} without what {absent[0]} of {what} would be read from")
    used = sum(tensor.numel() for tensor in given.values())
    beside = sum(tensor.numel() for tensor in weights.values()) - used
    if beside > 0:
        notice(f"{path}: {beside} numbers beside those of {what} are not read; the base is the model that was given")
    return own


def _plain(start: str) -> str:
    """A regular expression as a reader knows the names."""
    return re.sub(r"\\d\+", "0", start.replace(".*", "...")).replace("\\", "")


def _positions(weights: Weights, base: Backbone) -> dict[str, Tensor]:
    return {"text.rows": weights[STRETCHED][KEPT:]}


def _factor(weights: Weights, base: Backbone) -> dict[str, Any]:
    own = len(text_part(base.module).positional_embedding) - KEPT
    factor, rest = divmod(len(weights[STRETCHED]) - KEPT, max(own, 1))
    if own < 2 or rest or factor < 2:
        rows = len(weights[STRETCHED])
        raise XgapError(f"{rows} positions are no stretch of the {own + KEPT} of this model, of which {KEPT} stay")
    return {"keep": KEPT, "factor": factor}


def _prompts(weights: Weights, base: Backbone) -> dict[str, Tensor]:
    own = {"text.ctx": weights["prompt_learner.ctx"]}
    for kind in ("weight", "bias"):
        own[f"image.maps.0.{kind}"] = weights[f"prompt_learner.proj.{kind}"]
    for name, tensor in weights.items():
        if deep := re.fullmatch(r"prompt_learner\.compound_prompts_text\.(\d+)", name):
            own[f"text.deep.{deep[1]}"] = tensor
        elif deep := re.fullmatch(r"prompt_learner\.compound_prompt_projections\.(\d+)\.(\w+)", name):
            own[f"image.maps.{int(deep[1]) + 1}.{deep[2]}"] = tensor
    return own


def _prompt_sizes(weights: Weights, base: Backbone) -> dict[str, Any]:
    deep = sum(name.startswith("prompt_learner.compound_prompts_text.") for name in weights)
    return {"length": len(weights["prompt_learner.ctx"]), "depth": 1 + deep}


def _blocks_with_experts(weights: Weights, modality: str) -> list[int]:
    found = {int(m[1]) for name in weights if (m := re.fullmatch(re.escape(PREFIXES[modality]) + GATE, name))}
    return sorted(found)


def _experts(weights: Weights, base: Backbone) -> dict[str, Tensor]:
    own = {}
    for modality, prefix in PREFIXES.items():
        blocks = _blocks_with_experts(weights, modality)
        for name, tensor in weights.items():
            if not name.startswith(prefix):
                continue
            if gate := re.fullmatch(GATE, name.removeprefix(prefix)):
                own[f"{modality}.gates.{blocks.index(int(gate[1]))}"] = tensor
            elif (expert := expert_of(name)) and expert[0]:
                block = int(name.removeprefix(prefix).split(".")[0])
                own[f"{modality}.experts.{blocks.index(block)}.{expert[0] - 1}.{expert[1]}"] = tensor
    return own


def _expert_sizes(weights: Weights, base: Backbone) -> dict[str, Any]:
    gates = [tensor for name, tensor in weights.items() if re.search(GATE + "$", name)]
    counts = {f"{modality}_blocks": len(_blocks_with_experts(weights, modality)) for modality in PREFIXES}
    return {"experts": len(gates[0]), **counts}


def _check_experts(weights: Weights, base: Backbone, path: Path) -> None:
    """The blocks with experts are the last ones, and the base's own MLPs are the first experts."""
    for modality, prefix in PREFIXES.items():
        blocks, found = blocks_of(base.module, modality)[2], _blocks_with_experts(weights, modality)
        if found and found[-1] < len(blocks) and found != list(range(len(blocks)))[-len(found) :]:
            where = f"blocks {', '.join(map(str, found))} of {len(blocks)} of the {modality} tower"
            raise XgapError(
                f"{path} is a CLIP-MoE checkpoint with experts in {where}, and only experts of the last blocks are "
                "known"
            )
        for number in found:
            first = under(f"{prefix}{number}.experts.0.", weights)
            mlp = mlp_of(blocks[number]).state_dict() if number < len(blocks) else {}
            if first.keys() != mlp.keys() or not all(_alike(first[name], own.cpu()) for name, own in mlp.items()):
                raise XgapError(
                    f"{path} is a CLIP-MoE checkpoint whose first experts are not the MLPs of this model: load that "
                    f"from the same file, LongCLIP-ViT-L-14//{str(path).lstrip('/')} (or -B-16)"
                )


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.to(b.dtype), b)


def _sentences(weights: Weights, base: Backbone) -> dict[str, Tensor]:
    start = "text.text_adaptor."
    return {f"text.adaptor.{n.removeprefix(start)}": t for n, t in weights.items() if n.startswith(start)}


def _pools(weights: Weights, base: Backbone) -> dict[str, Tensor]:
    return {
        "image.pool": weights["pseudo_language_token_pool"].squeeze(0),
        "text.pool": weights["pseudo_vision_token_pool"].squeeze(0),
    }


def _pool_sizes(weights: Weights, base: Backbone) -> dict[str, Any]:
    return {"pool": weights["pseudo_vision_token_pool"].shape[-2]}


def _words(weights: Weights, base: Backbone) -> dict[str, Tensor]:
    return {
        **{f"text.maps.{kind}": weights[f"encoder_q.ln.{kind}"] for kind in ("weight", "bias")},
        **{f"image.maps.{kind}": weights[f"encoder_p.ln_post.{kind}"] for kind in ("weight", "bias")},
        "image.words": weights["encoder_p.proj"],
    }


def _nothing(weights: Weights, base: Backbone) -> dict[str, Any]:
    return {}


FORMATS = (
    Format(
        "clip-moe",
        "a CLIP-MoE checkpoint",
        (r".*resblocks\.\d+\.experts\.", r".*resblocks\.\d+\.gate\.weight"),
        _experts,
        _expert_sizes,
        "k",
        _check_experts,
    ),
    Format("long-clip", "a Long-CLIP checkpoint", (STRETCHED,), _positions, _factor),
    Format("maple", "a MaPLe checkpoint", (r"prompt_learner\.ctx", r"prompt_learner\.proj\."), _prompts, _prompt_sizes),
    Format("llm2clip", "an LLM2CLIP checkpoint", (r"text\.text_adaptor\.",), _sentences, _nothing, "language"),
    Format(
        "ptunifier",
        "a PTUnifier checkpoint",
        ("pseudo_vision_token_pool", "pseudo_language_token_pool"),
        _pools,
        _pool_sizes,
    ),
    Format("vdr", "a VDR checkpoint", (r"encoder_q\.ln\.", r"encoder_p\.proj"), _words, _nothing),
)
