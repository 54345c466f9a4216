"""The blocks of a transformer of open_clip, timm or transformers, and a pass that ends after some of them.

A pass is the library's own, in which later blocks hand their input on: what follows the last block (the final norm, the
pooling and the projection) follows an earlier one. So features of every depth lie in the space of the model's own, as
the logit lens reads a language model (nostalgebraist, Interpreting GPT: the logit lens, 2020). No loss trained the
earlier ones to be read in this way.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.shadows import Shadow, shadowed

Module = Any  # a module of open_clip, timm or transformers


class Blocks:
    """The list of blocks of a tower, or none.

    Args:
        owner, attribute: where it stands; owner None for a tower without one.
        cut: the list itself is shortened, as blocks of transformers return more than their tokens in some versions.
    """

    def __init__(self, owner: Module, attribute: str = "", *, cut: bool = False) -> None:
        self._owner, self._attribute, self._cut = owner, attribute, cut

    def __len__(self) -> int:
        return 0 if self._owner is None else len(getattr(self._owner, self._attribute))

    @contextlib.contextmanager
    def first(self, count: int | None) -> Iterator[None]:
        """Within, items go through the first `count` blocks only; through all of them where it is None.

        Raises:
            XgapError: there are not so many.
        """
        if count is None:
            yield
            return
        if not 1 <= count <= len(self):
            raise XgapError(f"the layer of a tower with {len(self)} blocks is from 1 to {len(self)}, not {count}")
        blocks = getattr(self._owner, self._attribute)
        if self._cut:
            shadows: list[Shadow] = [(self._owner, self._attribute, blocks[:count])]
        else:  # what an adapter has put before, into or behind other blocks stays in its place
            shadows = [(block, "forward", _handed_on) for block in list(blocks)[count:]]
        with shadowed(shadows):
            yield


def _handed_on(tokens: Tensor, *_: Any, **__: Any) -> Tensor:
    return tokens


def image_blocks(visual: Module) -> Blocks:
    """The blocks of the image part of an open_clip model: its own ViT, or one of timm."""
    trunk = getattr(visual, "trunk", None)
    if trunk is None:
        return _listed(visual.transformer, "resblocks") if hasattr(visual, "class_embedding") else Blocks(None)
    # Other networks of timm with blocks change their width on the way.
    return _listed(trunk, "blocks") if hasattr(trunk, "fc_norm") and hasattr(trunk, "patch_embed") else Blocks(None)


def text_blocks(text: Module) -> Blocks:
    """The blocks of the text part of an open_clip model: its own transformer, or an encoder of transformers."""
    if hasattr(text, "pooler") and hasattr(text, "config"):
        return _of_transformers(text)
    return _listed(text.transformer, "resblocks")


def _of_transformers(text: Module) -> Blocks:
    """The blocks of open_clip's `HFTextEncoder`, which knows under which name each kind of encoder has them."""
    from open_clip.hf_configs import arch_dict

    known = arch_dict.get(text.config.model_type, {}).get("config_names", {})
    owner = getattr(text.transformer, "encoder", text.transformer)
    return _listed(owner, known.get("layer_attr", "layer"), cut=True)


def _listed(owner: Module, attribute: str, *, cut: bool = False) -> Blocks:
    there = isinstance(getattr(owner, attribute, None), nn.Module)
    return Blocks(owner, attribute, cut=cut) if there else Blocks(None)
