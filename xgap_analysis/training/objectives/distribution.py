"""Terms that match distributions of similarities: to shared labels, and to what the model gave before training."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.matching import match
from xgap_analysis.training.objectives.term import Needs, Sizes, register_objective


def sdm_loss(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], labels: Int[Tensor, " n"], scale: float = 50.0
) -> Float[Tensor, ""]:
    """SDM: the softmax of the similarities of an image to texts should be spread over those of its label.

    Formula: `KL(p, q)` of each row, p the softmax of `scale * images_i . texts_j`, q equal shares for the texts of the
    row's label; its mean over rows, plus the same of texts to images. Mass on an item of another label costs about 18
    (`-log 1e-8`) a unit, so it pushes rather than pulls. With `sampler="shared"` several are right at once.

    Args:
        images, texts: unit rows; row i of both is of label i.
        labels: class numbers.
        scale: of the logits, fixed.

    Source: Jiang and Ye, 2023 (IRRA), section 3.3 (similarity distribution matching).

    Example:
        >>> same = torch.eye(2)[[0, 0]]
        >>> round(float(sdm_loss(same, same, torch.tensor([4, 4]))), 4)
        0.0
    """
    logits = scale * images @ texts.T
    shared = (labels[:, None] == labels[None]).to(logits.dtype)
    target = shared / shared.sum(dim=1, keepdim=True)  # of rows and of columns: labels are shared both ways
    return match(logits, target, kind="reverse") + match(logits.T, target, kind="reverse")


def keep_rows(teacher: Float[Tensor, "n n"], student: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """The teacher's rows whose largest entry is on the diagonal; elsewhere the student's, as a constant."""
    right = teacher.argmax(dim=1) == torch.arange(len(teacher), device=teacher.device)
    return torch.where(right[:, None], teacher, student.detach())


def off_diagonal_loss(
    images: Float[Tensor, "n d"],
    texts: Float[Tensor, "n d"],
    old_images: Float[Tensor, "n d"],
    old_texts: Float[Tensor, "n d"],
) -> Float[Tensor, ""]:
    """Mod-X: the similarity of each image to each text should be distributed as it was before.

    Formula: `KL(softmax T_i, softmax S_i)` summed over rows, of the cosines S and the old ones T (no temperature), and
    the mean of that and of the same of columns. A row that the old model gets wrong counts nothing. It is a sum: its
    weight depends on the size of the batch.

    Args:
        images, texts: unit rows, pairs by index.
        old_images, old_texts: the same items through the model as it was.

    Source: Ni et al., 2023 (Mod-X, Continual vision-language representation learning with off-diagonal information),
    and its published code (weight 20).

    Example:
        >>> x = torch.nn.functional.normalize(torch.rand(3, 4), dim=1)
        >>> round(abs(float(off_diagonal_loss(x, x, x, x))), 6)
        0.0
    """
    now, before = images @ texts.T, old_images @ old_texts.T
    ways = ((now, before), (now.T, before.T))
    each = [match(s, keep_rows(t, s).softmax(dim=1), kind="forward", total="sum") for s, t in ways]
    return (each[0] + each[1]) / 2


class Classifier(nn.Module):
    """A linear classifier of the labels, its weights normal with standard deviation 0.001 at the start."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.linear = nn.Linear(sizes.dim, sizes.labels)
        nn.init.normal_(self.linear.weight, std=0.001)
        nn.init.zeros_(self.linear.bias)


@register_objective("sdm")
def _sdm(batch: BatchFeatures, *, scale: float = 50.0) -> Tensor:
    """Divergence of the softmax of similarities from equal shares for items of the label (SDM of IRRA).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> round(abs(float(xg.objective("sdm").loss(batch))), 3)  # similar to the caption of its label alone
        0.0
    """
    return batch.mean_over_pairs(lambda images, texts: sdm_loss(images, texts, batch.labels, scale))


@register_objective("identity", parameters=Classifier)
def _identity(batch: BatchFeatures, own: Classifier) -> Tensor:
    """Classification of an image and of its caption by one linear classifier (IRRA).

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> from xgap_analysis.training.objectives import Sizes
        >>> term = xg.objective("identity")
        >>> classifier = term.made(Sizes(dim=2, labels=2))
        >>> round(term(batch, classifier).item(), 1)  # log 2: the classifier has not learned yet
        0.7
    """
    return batch.mean_over_pairs(
        lambda images, texts: (match(own.linear(images), batch.labels) + match(own.linear(texts), batch.labels)) / 2
    )


@register_objective("off-diagonal", needs=Needs(teacher=True))
def _off_diagonal(batch: BatchFeatures) -> Tensor:
    """Divergence of the similarities of all pairs from those before training (Mod-X).

    Example:
        >>> import dataclasses
        >>> import torch
        >>> import xgap_analysis as xg
        >>> unit = torch.eye(2)
        >>> batch = xg.BatchFeatures(unit[None], unit[:, None], torch.tensor(10.0), torch.tensor(0.0), torch.arange(2))
        >>> batch = dataclasses.replace(batch, teacher=batch)
        >>> round(float(xg.objective("off-diagonal").loss(batch)), 3)  # nothing has changed since
        0.0
    """
    both = zip(batch.pairs(), batch.needed("teacher").pairs(), strict=True)
    return torch.stack([off_diagonal_loss(*now, *before) for now, before in both]).mean()
