"""After-training that closes the gap: random references for both modalities, and a teacher's scores (CLIP-Refine)."""

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.matching import match
from xgap_analysis.training.objectives.term import Needs, register_objective


def random_reference_loss(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], references: Float[Tensor, "n d"]
) -> Float[Tensor, ""]:
    """How far both modalities of a pair lie from one reference that was drawn for the pair.

    Formula: `1 / (n d) sum over i of ||image_i - r_i||^2 + ||text_i - r_i||^2`, as in the authors' code (the paper
    takes the mean over n of half of it). The references are drawn anew at each step, from the normal distribution; both
    modalities are pulled to the same one, and so to each other, and their distribution to that of the references. The
    authors' features do not have unit length in training; of unit rows the direction alone is pulled.

    Args:
        images, texts: unit rows, pairs by index.
        references: a row for each pair.

    Source: Yamaguchi et al., Post-pre-training for modality alignment (CLIP-Refine), CVPR 2025.

    Example:
        >>> random_reference_loss(torch.eye(2), torch.eye(2), torch.zeros(2, 2)).item()
        1.0
    """
    return (images - references).square().mean() + (texts - references).square().mean()


def hybrid_distillation_loss(
    similarities: Float[Tensor, "n n"], taught: Float[Tensor, "n n"], alpha: float = 0.5
) -> Float[Tensor, ""]:
    """Distillation from a teacher whose distribution over the batch is mixed with the true pairs.

    Formula: the mean over both directions of `1/n sum_i KL(q_i || softmax similarities_i)`, where `q_i = alpha e_i +
    (1 - alpha) softmax taught_i`. With `alpha=0` and the teacher's own similarities it is 0.

    Args:
        similarities: of images (rows) with texts; in the authors' code inner products of features that do not have unit
            length, without a temperature. Cosines are to be multiplied by a scale.
        taught: the same of the teacher.
        alpha: share of the true pair.

    Source: Yamaguchi et al., CLIP-Refine, CVPR 2025.

    Example:
        >>> cosines = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
        >>> abs(round(hybrid_distillation_loss(cosines, cosines, alpha=0.0).item(), 6))
        0.0
    """
    own = torch.eye(len(taught), dtype=taught.dtype, device=taught.device)

    def one_way(student: Tensor, teacher: Tensor) -> Tensor:
        target = alpha * own + (1 - alpha) * teacher.detach().softmax(dim=1)
        return match(student, target, kind="forward")

    return (one_way(similarities, taught) + one_way(similarities.T, taught.T)) / 2


@register_objective("random-reference")
def _random_reference(batch: BatchFeatures) -> Tensor:
    """Squared distance of an image and its caption from a random vector drawn for both (CLIP-Refine).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> float(xg.objective("random-reference").loss(batch)) > 0
        True
    """
    images = batch.images[0]
    drawn = torch.randn(images.shape, generator=batch.generator("random-reference")).to(images)
    return random_reference_loss(images, batch.texts[:, 0], drawn)


@register_objective("hybrid-distillation", needs=Needs(teacher=True))
def _hybrid_distillation(batch: BatchFeatures, *, alpha: float = 0.5, scale: float | None = None) -> Tensor:
    """Distillation from the initial model, whose distribution is mixed with the true pairs (CLIP-Refine).

    Cosines of both are multiplied by `scale`, or by the 1 / temperature of the initial model.

    Example:
        >>> import dataclasses
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> batch = dataclasses.replace(batch, teacher=batch)
        >>> round(abs(float(xg.objective("hybrid-distillation(alpha=0.0)")(batch))), 3)  # nothing has changed since
        0.0
    """
    teacher = batch.needed("teacher")
    factor = teacher.scale if scale is None else scale
    similarities = [factor * each.images[0] @ each.texts[:, 0].T for each in (batch, teacher)]
    return hybrid_distillation_loss(similarities[0], similarities[1], alpha)
