"""After-training that closes the gap and forgets little: shared random references, and a teacher's scores (CLIP-Refine)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import kl_div


def random_reference_loss(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], references: Float[Tensor, "n d"]
) -> Float[Tensor, ""]:
    """How far both modalities of a pair lie from one reference that was drawn for the pair.

    Formula: `1 / (n d) sum over i of ||image_i - r_i||^2 + ||text_i - r_i||^2`, as in the authors' code (the paper
    takes the mean over n of half of it). The references are drawn anew at each step, from the normal distribution; both
    modalities are pulled to the same one, and so to each other, and their distribution to that of the references.

    Args:
        images, texts: unit rows, pairs by index.
        references: a row for each pair.

    Source: Yamaguchi et al., Post-pre-training for modality alignment (CLIP-Refine), CVPR 2025.
    """
    return (images - references).square().mean() + (texts - references).square().mean()


def hybrid_distillation_loss(
    similarities: Float[Tensor, "n n"], taught: Float[Tensor, "n n"], alpha: float = 0.5
) -> Float[Tensor, ""]:
    """Distillation from a teacher whose distribution over the batch is mixed with the true pairs.

    Formula: the mean over both directions of `1/n sum_i KL(q_i || softmax similarities_i)`, with `q_i = alpha e_i + (1 -
    alpha) softmax taught_i`. With `alpha=0` and the teacher's own similarities it is 0.

    Args:
        similarities: of images (rows) with texts; in the authors' code cosines, without a temperature.
        taught: the same of the teacher.
        alpha: share of the true pair.

    Source: Yamaguchi et al., CLIP-Refine, CVPR 2025.
    """
    own = torch.eye(len(taught), dtype=taught.dtype, device=taught.device)

    def one_way(student: Tensor, teacher: Tensor) -> Tensor:
        target = alpha * own + (1 - alpha) * teacher.detach().softmax(dim=1)
        return kl_div(student.log_softmax(dim=1), target, reduction="batchmean")

    return (one_way(similarities, taught) + one_way(similarities.T, taught.T)) / 2
