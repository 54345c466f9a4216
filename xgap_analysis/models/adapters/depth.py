"""The blocks of a transformer of open_clip or timm, and a pass that ends after some of them.

A pass is the library's own, with a shorter list of blocks: what follows the last block (the final norm, the pooling and
the projection) follows an earlier one. So features of every depth lie in the space of the model's own, as the logit
lens reads a language model (nostalgebraist, Interpreting GPT: the logit lens, 2020). No loss trained the earlier ones
to be read in this way.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from xgap_analysis.core.errors import XgapError

Module = Any  # a module of open_clip or timm


class Blocks:
    """The list of blocks of a tower, or none.

    Args:
        owner, attribute: where it stands; owner None for a tower without one.
    """

    def __init__(self, owner: Module, attribute: str = "") -> None:
        self._owner, self._attribute = owner, attribute

    def __len__(self) -> int:
        return 0 if self._owner is None else len(getattr(self._owner, self._attribute))

    @contextlib.contextmanager
    def first(self, count: int | None) -> Iterator[None]:
        """Within, there are the first `count` blocks only; all of them where it is None.

        Raises:
            XgapError: there are not so many.
        """
        if count is None:
            yield
            return
        if not 1 <= count <= len(self):
            raise XgapError(f"the layer of a tower with {len(self)} blocks is from 1 to {len(self)}, not {count}")
        blocks = getattr(self._owner, self._attribute)
        setattr(self._owner, self._attribute, blocks[:count])
        try:
            yield
        finally:
            setattr(self._owner, self._attribute, blocks)


def image_blocks(visual: Module) -> Blocks:
    """The blocks of the image part of an open_clip model: its own ViT, or one of timm."""
    trunk = getattr(visual, "trunk", None)
    if trunk is None:
        return _listed(visual.transformer, "resblocks") if hasattr(visual, "class_embedding") else Blocks(None)
    # Other networks of timm with blocks change their width on the way.
    return _listed(trunk, "blocks") if hasattr(trunk, "fc_norm") and hasattr(trunk, "patch_embed") else Blocks(None)


def text_blocks(text: Module) -> Blocks:
    """The blocks of the text part of an open_clip model; none where it is of transformers."""
    return _listed(text.transformer, "resblocks")


def _listed(owner: Module, attribute: str) -> Blocks:
    return Blocks(owner, attribute) if isinstance(getattr(owner, attribute, None), nn.Module) else Blocks(None)
