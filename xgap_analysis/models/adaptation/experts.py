"""Several MLPs in each block, of which a gate chooses a few for each token (CLIP-MoE)."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.models.adaptation.adapter import register_adapter
from xgap_analysis.models.adaptation.backbone import Backbone, blocks_of, mlp_of, width_of
from xgap_analysis.models.adaptation.part import Part
from xgap_analysis.models.shadows import Shadow


def balance(probabilities: Tensor, k: int) -> Tensor:
    """How evenly the experts are used: `E sum over experts of (share of tokens that choose it) (mean probability)`.

    It is k where all experts are used alike, and more where few are.

    Args:
        probabilities: `[n, E]` of the gate for each token.
        k: experts that a token chooses.

    Source: Zhang et al., CLIP-MoE: towards building mixture of experts for CLIP with diversified multiplet upcycling,
    EMNLP 2025.
    """
    chosen = torch.zeros_like(probabilities).scatter(1, probabilities.topk(k, dim=1).indices, 1.0)
    return probabilities.shape[1] * (chosen.mean(0) * probabilities.mean(0)).sum()


class Routed:
    """The MLP of a block as several: `sum over the chosen experts e of g_e MLP_e(x)`, the weights g of which sum to 1.

    Args:
        experts: the base's own MLP first.
        gate: `[E, d]`.
        k: experts of a token.
    """

    def __init__(self, experts: list[nn.Module], gate: Tensor, k: int) -> None:
        self._experts, self._gate, self._k = experts, gate, k

    def __getattr__(self, name: str) -> Any:
        return getattr(self._experts[0], name)

    def __call__(self, x: Tensor) -> Tensor:
        """Of tokens `[..., d]`."""
        flat = x.flatten(0, -2)
        weights, chosen = (flat @ self._gate.T).softmax(-1).topk(self._k, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        made = torch.zeros_like(flat)
        for number, expert in enumerate(self._experts):
            row, place = (chosen == number).nonzero(as_tuple=True)
            if len(row):
                made = made.index_add(0, row, (weights[row, place][:, None] * expert(flat[row])).to(made.dtype))
        return made.reshape(x.shape)


class Experts(Part):
    """The further MLPs and the gates of the last blocks of a tower.

    Args:
        modality: of the tower.
        mlps: the base's MLP of each of these blocks; every expert starts as a copy of it.
        width: d of a token.
        experts: E, the base's own among them.
        k: experts of a token.
        train: `"all"`, or `"gates"` alone.
    """

    def __init__(self, modality: str, mlps: list[nn.Module], width: int, experts: int, k: int, train: str) -> None:
        super().__init__()
        self.modality, self.k = modality, k
        self.experts = nn.ModuleList([nn.ModuleList([copy.deepcopy(m) for _ in range(experts - 1)]) for m in mlps])
        self.gates = nn.ParameterList([nn.Parameter(0.02 * torch.randn(experts, width)) for _ in mlps])
        self.kept = ("experts.",) if train == "gates" else ()

    def shadows(self, module: Any) -> list[Shadow]:
        """See `Part.shadows`."""
        blocks = blocks_of(module, self.modality)[2][-len(self.gates) :]
        return [
            (block, "mlp", Routed([mlp_of(block), *own], gate, self.k))  # type: ignore[misc]
            for block, own, gate in zip(blocks, self.experts, self.gates, strict=True)
        ]


@register_adapter("clip-moe", place="mlp")
def clip_moe(
    base: Backbone,
    *,
    experts: int = 4,
    k: int = 2,
    image_blocks: int | None = None,
    text_blocks: int | None = None,
    train: str = "all",
) -> Mapping[str, nn.Module]:
    """Several MLPs instead of one in blocks of both towers; a gate chooses some for each token (CLIP-MoE).

    Experts start as copies of the base's MLP, which stays the first of them, so the features start as the base's
    whatever the gate says.

    Args:
        base: a model with transformers of open_clip's or timm's.
        experts: E, the base's own among them; a block has `(E - 1) (8 d^2 + 5 d) + E d` parameters.
        k: experts that a token goes through.
        image_blocks, text_blocks: the last blocks that get them; None for all, 0 for none.
        train: `"all"`, or `"gates"` as in the last stage of the published training.

    Raises:
        XgapError: numbers that do not fit the model.

    Source: Zhang et al., CLIP-MoE: towards building mixture of experts for CLIP with diversified multiplet upcycling,
    EMNLP 2025.
    """
    whole = isinstance(experts, int) and isinstance(k, int)
    if not (whole and 2 <= experts <= 64 and 1 <= k <= experts) or train not in ("all", "gates"):
        raise XgapError(
            f"clip-moe has 2 to 64 experts, of which 1 to all are chosen, and trains all or gates, not "
            f"experts={experts}, k={k}, train={train!r}"
        )
    made: dict[str, nn.Module] = {}
    for modality, wanted in (("image", image_blocks), ("text", text_blocks)):
        if wanted == 0 or not base.has(modality):
            continue
        blocks = blocks_of(base.module, modality)[2]
        if wanted is not None and not 1 <= wanted <= len(blocks):
            raise XgapError(f"the {modality} tower has {len(blocks)} blocks, and experts are wanted in {wanted}")
        mlps = [mlp_of(block) for block in (blocks if wanted is None else blocks[-wanted:])]
        made[modality] = Experts(modality, mlps, width_of(base.module, modality), experts, k, train)
    return made
