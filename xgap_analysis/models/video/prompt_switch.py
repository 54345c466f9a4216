"""Prompt Switch: prompts that frames exchange inside the image tower, then the mean of the frames."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.tower import Model
from xgap_analysis.models.video.plain import copied_vit, embedded, fed, headed
from xgap_analysis.models.video.tower import register_frames


def switched(prompts: Float[Tensor, "n p width"]) -> Float[Tensor, "n p width"]:
    """The prompts of each chunk of p frames with frame and place exchanged: frame f gets the f-th of each of them."""
    p = prompts.shape[1]
    return prompts.unflatten(0, (-1, p)).transpose(1, 2).flatten(0, 1)


class PromptSwitch(nn.Module):
    """See `prompt_switch`."""

    def __init__(self, visual: Any, prompts: int) -> None:
        super().__init__()
        self.visual = visual
        width = visual.class_embedding.shape[0]
        self.cube = nn.Parameter(torch.randn(prompts, prompts, width) * 0.02)
        self.head = nn.MultiheadAttention(width, visual.transformer.resblocks[0].attn.num_heads, batch_first=True)
        nn.init.zeros_(self.head.out_proj.weight)

    def frames(self, pixels: Float[Tensor, "n f 3 h w"]) -> Float[Tensor, "n f d"]:
        """The feature of each frame, not normalised.

        Raises:
            XgapError: a number of frames that is no multiple of the prompts.
        """
        n, f = pixels.shape[:2]
        p = len(self.cube)
        if f % p:
            raise XgapError(f"prompt_switch takes a multiple of its {p} prompts as frames, not {f}")
        x = embedded(self.visual, pixels.flatten(0, 1))
        t = x.shape[1]
        x = torch.cat([x, self.cube.repeat(n * f // p, 1, 1)], dim=1)
        for block in self.visual.transformer.resblocks:
            read = block.ln_1(x)
            read = torch.cat([read[:, :t], switched(read[:, t:])], dim=1)  # the residual stream is not switched
            x = fed(block, x + block.ls_1(block.attention(read)))
        x = self.visual.ln_post(x)
        own, prompts = x[:, 0].unflatten(0, (n, f)), x[:, t:].reshape(n, f * p, -1)
        return headed(self.visual, own + self.head(own, prompts, prompts, need_weights=False)[0])

    def forward(self, pixels: Float[Tensor, "n f 3 h w"]) -> Float[Tensor, "n d"]:
        """The mean of the unit features of the frames."""
        return normalize(self.frames(pixels), dim=-1).mean(dim=1)


@register_frames("prompt_switch", frames=12)
def prompt_switch(model: Model, *, prompts: int = 6) -> PromptSwitch:
    """Prompts that frames exchange inside the image tower, then the mean of the frames, whatever the text.

    Each frame of a chunk of P frames has P prompts, which stand behind its patches: a cube `[P, P, width]`, one for all
    chunks. Before the attention of every block, frame and place are exchanged, so that frame f reads the f-th prompt of
    each frame of its chunk, and writes what it reads to the others; the residual stream is not. At the end `v_f = CLS_f
    + MHA(CLS_f; all prompts of all frames)`, whose last projection begins at zero, then the tower's own head, and
    `mean_f u(v_f)`. The weights of the tower are kept as they are; prompts and the attention of the end are trained.

    With one prompt a frame reads its own alone, and the clip is the mean of its frames.

    Left out: the captioning loss, which needs a decoder of texts, and tuning of the tower at a lower rate.

    Args:
        model: with a ViT of open_clip.
        prompts: P; the number of frames is a multiple of it. 6 prompts and 12 frames are the authors'.

    Raises:
        XgapError: fewer prompts than one, or an image tower of another kind.

    Source: Deng et al., Prompt Switch: efficient CLIP adaptation for text-video retrieval, ICCV 2023.
    """
    if not isinstance(prompts, int) or prompts < 1:
        raise XgapError(f"prompt_switch has one prompt or more, not {prompts!r}")
    return PromptSwitch(copied_vit(model), prompts)
