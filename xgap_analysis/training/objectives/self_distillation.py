"""Views of one image that predict what a teacher says of other views (DINO, as in RS-M-CLIP)."""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.term import Needs, Sizes, register_objective

GLOBAL = 2  # views that the teacher sees


def self_distil(
    student: Float[Tensor, "v n k"],
    teacher: Float[Tensor, "g n k"],
    centre: Float[Tensor, "k"],
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Float[Tensor, ""]:
    """Cross-entropy of the student's view with the teacher's of another view of the same image.

    Formula: the mean over views i of the teacher and j != i of the student, and over images, of
    `-sum softmax((t_i - c) / teacher_temperature) log softmax(s_j / student_temperature)`. No gradient reaches the
    teacher. It is `log k` where all logits are 0.

    Args:
        student: logits of v views of n images.
        teacher: logits of the first g of these views.
        centre: of the teacher's logits, which keeps it from saying the same of all.
        student_temperature, teacher_temperature: of both softmaxes.

    Source: Caron et al., Emerging properties in self-supervised vision transformers (DINO), ICCV 2021, section 3.1.
    """
    targets = ((teacher.detach() - centre) / teacher_temperature).softmax(dim=-1)
    log_p = (student / student_temperature).log_softmax(dim=-1)
    costs = [
        -(targets[i] * log_p[j]).sum(dim=-1).mean() for i in range(len(targets)) for j in range(len(log_p)) if i != j
    ]
    return torch.stack(costs).mean()


class DistillationHeads(nn.Module):
    """The student's head, the teacher's, which follows it slowly, and the centre of what the teacher says.

    Args:
        dim: of a feature.
        out: k logits.
        hidden: of the two layers between.
    """

    def __init__(self, dim: int, out: int, hidden: int) -> None:
        super().__init__()
        layers = [nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 256)]
        self.student = nn.ModuleList([nn.Sequential(*layers), nn.utils.parametrizations.weight_norm(_last(out))])
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(out))

    def forward(self, features: Tensor, teacher: bool = False) -> Tensor:
        """Logits `[..., k]` of features `[..., d]`."""
        body, last = self.teacher if teacher else self.student
        made: Tensor = last(F.normalize(body(features), dim=-1))
        return made

    @torch.no_grad()
    def follow(self, logits: Tensor, momentum: float, centre_momentum: float) -> None:
        """Move the teacher's head towards the student's, and the centre towards the mean of the teacher's logits."""
        for own, other in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            own.lerp_(other, 1 - momentum)
        assert isinstance(self.centre, Tensor)
        self.centre.lerp_(logits.flatten(0, -2).mean(0), 1 - centre_momentum)


def _last(out: int) -> nn.Linear:
    return nn.Linear(256, out, bias=False)


def _heads(sizes: Sizes, *, out: int = 4096, hidden: int = 512) -> DistillationHeads:
    return DistillationHeads(sizes.dim, out, hidden)


def _needs(*, views: int = 2) -> Needs:
    return Needs(images=max(views, GLOBAL), captions=0, teacher=True)


@register_objective("self-distillation", needs=_needs, parameters=_heads)
def _self_distillation(
    batch: BatchFeatures,
    own: DistillationHeads,
    *,
    views: int = 2,
    momentum: float = 0.996,
    centre_momentum: float = 0.9,
) -> Tensor:
    """Augmentations of an image predict a teacher's output for other ones (DINO, as in RS-M-CLIP).

    Example:
        >>> import xgap_analysis as xg
        >>> needs = xg.objective("self-distillation(views=4)").needed
        >>> needs.images, needs.captions, needs.teacher
        (4, 0, True)
    """
    assert batch.teacher is not None and views >= GLOBAL
    logits = own(batch.teacher.images[:GLOBAL], teacher=True).detach()
    loss = self_distil(own(batch.images[:views]), logits, own.centre)  # type: ignore[arg-type]
    if torch.is_grad_enabled():
        own.follow(logits, momentum, centre_momentum)
    return loss
