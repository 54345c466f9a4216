"""The last map of a tower of open_clip's: read, or taken away around a pass."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError

Module = Any  # a module of open_clip or timm


class Head:
    """The last map of a tower: read, or taken away for the length of a `with` block.

    Args:
        owner, attribute: where it stands; owner None where the tower ends in something else than one linear map.
        absent: what the library accepts in its place.
        end: how the tower ends, where that is no linear map.
    """

    def __init__(
        self,
        owner: Module,
        attribute: str = "",
        absent: nn.Module | None = None,
        *,
        end: str = "without",
    ) -> None:
        self._owner, self._attribute, self._absent, self._end = owner, attribute, absent, end

    def weight(self) -> Tensor:
        """The matrix `[p, d]`.

        Raises:
            XgapError: it is not one linear map without bias.
        """
        head = getattr(self._owner, self._attribute, None)
        if isinstance(head, Tensor):
            return head
        if not isinstance(head, nn.Linear):
            raise XgapError(f"this tower ends {self._end} a linear projection, so there are no features before it")
        bias = dict(head.named_parameters()).get("bias")
        if bias is not None and bias.any():  # timm gives PE's head one, which its weights set to zero
            raise XgapError("this tower's projection has a bias, so it is not a linear map that can be split off")
        return head.weight.T

    @contextlib.contextmanager
    def removed(self) -> Iterator[None]:
        """Within, the tower ends before it."""
        self.weight()
        head = getattr(self._owner, self._attribute)
        setattr(self._owner, self._attribute, self._absent)
        try:
            yield
        finally:
            setattr(self._owner, self._attribute, head)


def image_head(visual: Module) -> Head:
    """The last map of the image part of an open_clip model."""
    if hasattr(visual, "class_embedding"):
        return Head(visual, "proj")
    if not hasattr(visual, "trunk"):  # a ResNet, whose projection is inside its attention pool
        return Head(None)
    if len(visual.head):
        return Head(visual.head, "proj", nn.Identity()) if hasattr(visual.head, "proj") else Head(None)
    classifier = visual.trunk.get_classifier()
    pooled = getattr(visual.trunk, "attn_pool", None) is not None
    end = "in an attention pool, whose last map adds an MLP to its input, and not in" if pooled else "without"
    for name, module in visual.trunk.named_modules():
        if module is classifier and name:
            parent, _, attribute = name.rpartition(".")
            return Head(visual.trunk.get_submodule(parent), attribute, nn.Identity(), end=end)
    return Head(None, end=end)


def text_head(text: Module) -> Head:
    """The last map of the text part of an open_clip model."""
    if hasattr(text, "text_projection"):
        return Head(text, "text_projection")
    return Head(text, "proj", nn.Identity())
