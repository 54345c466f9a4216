"""A frozen language model from a folder, and the small changes that are trained around it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.checkpoint import refuse_pointer
from xgap_analysis.models.locks import lock_of
from xgap_analysis.models.shadows import shadowed

ABSENT = -1  # the id of padding, which no vocabulary has
TUNED = ("c_attn", "q_proj", "v_proj", "query", "value")  # ends of the names of what LoRA changes


class Language:
    """A language model of transformers, frozen: it is no part of what is trained or saved.

    Args:
        folder: of `config.json`, weights and tokenizer.
        length: tokens of a caption.

    Raises:
        XgapError: no such folder, or something in it that cannot be read.
    """

    def __init__(self, folder: str, length: int) -> None:
        from transformers import AutoModel, AutoTokenizer

        path = Path(folder).expanduser()
        if not (path / "config.json").is_file():
            raise XgapError(
                f"the folder {str(folder)!r} holds no language model: config.json, weights and tokenizer of "
                "transformers are looked for there; name it as language=/path/to/folder"
            )
        refuse_pointer(*path.glob("*.safetensors"), *path.glob("*.bin"))
        local = {"trust_remote_code": False, "local_files_only": True}
        try:
            # On the processor whatever device is the default: its numbers are read, not drawn.
            with torch.device("cpu"):
                self.model: Any = AutoModel.from_pretrained(path, dtype=torch.float32, **local)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(path, **local)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise XgapError(f"the language model in {path} cannot be read: {said}") from error
        self.model.eval().requires_grad_(False)
        self.length, self.width = length, int(self.model.get_input_embeddings().embedding_dim)

    def __deepcopy__(self, memo: Any) -> "Language":
        return self  # frozen, and large

    @property
    def digest(self) -> Tensor:
        """SHA-256 of its weights, 32 bytes."""
        made = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            made.update(name.encode())
            made.update(tensor.cpu().contiguous().numpy().tobytes())
        return torch.tensor(list(made.digest()), dtype=torch.uint8)

    def ids(self, captions: Sequence[str]) -> Tensor:
        """Token ids `[n, length]` of captions, cut and padded with -1."""
        made = torch.full((len(captions), self.length), ABSENT, dtype=torch.long)
        rows = self._tokenizer([caption or " " for caption in captions], add_special_tokens=True)["input_ids"]
        for row, own in zip(made, rows, strict=True):
            row[: len(own)] = torch.tensor(own[: self.length])
        return made

    def embedded(self, ids: Tensor) -> Tensor:
        """Embeddings `[n, L, D]` of ids `[n, L]`; zeros for padding."""
        table = self.on(ids.device).get_input_embeddings()
        made: Tensor = table(ids.clamp(min=0)) * (ids != ABSENT)[..., None]
        return made

    def phrase(self, text: str) -> Tensor:
        """Embeddings `[m, D]` of the tokens of a phrase, without special ones."""
        ids = torch.tensor(self._tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.long)
        with torch.device("cpu"), torch.no_grad():
            return self.embedded(ids[None])[0].clone()

    def states(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Last states `[n, L, D]` of input embeddings `[n, L, D]`, where the mask `[n, L]` says what is there."""
        with torch.autocast(inputs.device.type, enabled=False):
            made: Tensor = self.on(inputs.device)(inputs_embeds=inputs.float(), attention_mask=mask.long())[0]
        return made

    def on(self, device: torch.device) -> Any:
        """The model, on a device."""
        return self.model.to(device)


def mean_of(states: Tensor, mask: Tensor) -> Tensor:
    """The mean `[n, D]` of the states `[n, L, D]` that the mask `[n, L]` keeps."""
    kept = mask[..., None].to(states.dtype)
    return (states * kept).sum(1) / kept.sum(1).clamp(min=1)


def last_of(states: Tensor, mask: Tensor) -> Tensor:
    """The last state `[n, D]` that the mask `[n, L]` keeps."""
    places = torch.arange(mask.shape[1], device=mask.device)
    return states[torch.arange(len(states), device=mask.device), (mask * places).argmax(1)]


def together(*parts: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Sequences `[n, L_i, D]` with masks `[n, L_i]` one behind the other, what is absent at the end of all.

    So a causal model sees each item without gaps, and its positions count what is there.
    """
    vectors, mask = torch.cat([v for v, _ in parts], 1), torch.cat([m for _, m in parts], 1)
    order = mask.long().argsort(dim=1, descending=True, stable=True)
    return vectors.gather(1, order[..., None].expand_as(vectors)), mask.gather(1, order)


def repeated(rows: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Rows `[m, D]` for each of n items, with their mask."""
    return rows.expand(n, -1, -1), torch.ones(n, len(rows), dtype=torch.bool, device=rows.device)


class LowRank(nn.Module):
    """LoRA: what the attention of a language model reads is changed by matrices of low rank, which start at zero.

    Args:
        language: the model, which stays as it is.
        rank: r; a map from `a` to `b` dimensions gets `r (a + b)` parameters. 0 for none.

    Raises:
        XgapError: a model whose attention has other names.

    Source: Hu et al., LoRA: low-rank adaptation of large language models, ICLR 2022 (alpha = r).
    """

    def __init__(self, language: Language, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        self._names = {}
        if rank < 0:
            raise XgapError(f"the rank of LoRA is 0 (none) or more, not {rank}")
        for name, module in language.model.named_modules() if rank else ():
            if name.endswith(TUNED) and hasattr(module, "weight"):
                turned = type(module).__name__ == "Conv1D"  # of GPT-2, which keeps its matrices transposed
                a, b = module.weight.shape if turned else module.weight.shape[::-1]
                key = name.replace(".", "-")
                self._names[key] = name
                self.down[key] = nn.Parameter(torch.randn(rank, a) / a**0.5)
                self.up[key] = nn.Parameter(torch.zeros(b, rank))
        if rank and not self._names:
            raise XgapError(f"LoRA changes {', '.join(TUNED)}, and the language model has none of these; take rank=0")

    def states(self, language: Language, inputs: Tensor, mask: Tensor) -> Tensor:
        """See `Language.states`, with the change."""
        model = language.on(inputs.device)
        with lock_of(model):  # what `forward` is, is read within it too: another thread's would be changed twice
            parts = [(model.get_submodule(name), key) for key, name in self._names.items()]
            shadows = [(part, "forward", _Changed(part.forward, self.down[key], self.up[key])) for part, key in parts]
            with shadowed(shadows):
                return language.states(inputs, mask)


class _Changed:
    def __init__(self, plain: Any, down: Tensor, up: Tensor) -> None:
        self._plain, self._down, self._up = plain, down, up

    def __call__(self, x: Tensor) -> Tensor:
        made: Tensor = self._plain(x) + F.linear(F.linear(x, self._down), self._up)
        return made
