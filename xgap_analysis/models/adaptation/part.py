"""What an adapter puts inside a tower: a torch module, and which attributes of the base it stands for while it is in.

The base is never changed: for the length of a pass its modules show something else under some names, and nothing of it
is left behind. So a base and its adapted model share their weights, and a saved base holds nothing of the adapter.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from xgap_analysis.models.captions import counting
from xgap_analysis.models.shadows import Shadow

ENCODERS = ("encode_image", "encode_text")  # names of the base's whole passes


class Part(nn.Module):
    """What an adapter puts into one tower; its parameters are what is trained.

    `shadows` says where it enters. A text tower may also get other captions (`captions`), or another tokenizer.
    `replaces` says that it is a tower of its own, of which the base's tokens know nothing; `kept`, how the names of
    those of its parameters begin that are not trained.
    """

    replaces = False
    kept: tuple[str, ...] = ()

    def requires_grad_(self, requires_grad: bool = True) -> "Part":
        """Train what is to be trained of it, or nothing."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(requires_grad and not name.startswith(self.kept))
        return self

    def shadows(self, module: Any) -> list[Shadow]:
        """What the base shows while the part is in.

        Args:
            module: open_clip's model, as it is.
        """
        raise NotImplementedError

    def captions(self, captions: Sequence[str]) -> list[str]:
        """The captions that are read in place of these."""
        return list(captions)

    def tokenizer(self, tokenize: Callable[[list[str]], Tensor]) -> Callable[[list[str]], Tensor]:
        """The tokenizer in place of the base's."""
        return tokenize


class PartTokenizer:
    """Captions to token ids `[n, length]` as an adapted text tower reads them.

    Args:
        part: of the text tower.
        tokenize: the base's tokenizer.
    """

    def __init__(self, part: Part, tokenize: Callable[[list[str]], Tensor]) -> None:
        self._part, self._tokenize = part, part.tokenizer(tokenize)
        lengths, _ = counting(self._tokenize)
        if lengths is not None:
            self.lengths = lambda captions: lengths(part.captions(captions))

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Token ids `[n, length]`."""
        return self._tokenize(self._part.captions(captions))


class Passing:
    """A block of a transformer with something before or behind it; all else is the block's own.

    Args:
        block: of the base.
        before, behind: maps of tokens `[n, length, width]`; None for none.
    """

    def __init__(
        self,
        block: Any,
        before: Callable[[Tensor], Tensor] | None = None,
        behind: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._block, self._before, self._behind = block, before, behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._block, name)

    def __call__(self, x: Tensor, *more: Any, **how: Any) -> Tensor:
        """The block's output."""
        made: Tensor = self._block(x if self._before is None else self._before(x), *more, **how)
        return made if self._behind is None else self._behind(made)


def whole_pass(module: Any, modality: str, encode: Callable[[Tensor], Tensor]) -> Shadow:
    """The shadow of a tower's whole pass.

    Args:
        module: open_clip's model.
        modality: `"image"` or `"text"`.
        encode: a batch to features `[n, d]`.
    """
    return module, f"encode_{modality}", lambda batch, normalize=False: encode(batch)
