"""Classes without labels: descriptions as classifier, an image-only labeller, and a student of both (NoLA)."""

import hashlib
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from xgap_analysis.core.errors import XgapError
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.matching import match
from xgap_analysis.training.objectives.term import Needs, Sizes, Term


def description_classifier(texts: Float[Tensor, "m d"], labels: Int[Tensor, " m"]) -> Float[Tensor, "c d"]:
    """A unit row for each class: the direction of the mean of its descriptions.

    Args:
        texts: unit rows, of descriptions and of templates with class names.
        labels: the class of each, every one from 0 to c - 1 at least once.

    Raises:
        XgapError: a class without a description.

    Source: Imam et al., CLIP meets DINO (NoLA), 2024.

    Example:
        >>> texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> description_classifier(texts, torch.tensor([0, 1, 1])).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    count = int(labels.max()) + 1
    sums = torch.zeros(count, texts.shape[1], dtype=texts.dtype, device=texts.device).index_add(0, labels, texts)
    empty = (labels.bincount(minlength=count) == 0).nonzero()
    if len(empty):
        raise XgapError(f"class {int(empty[0])} has no description; give every class from 0 to {count - 1} one")
    return normalize(sums, dim=1)


def pseudo_labels(
    scores: Float[Tensor, "n c"], share: float = 0.2, least: int = 16
) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
    """The surest images of each class, and their classes: what a labeller is fitted to.

    Of the images whose most probable class is c, the `max(least, floor(share n / number of classes))` of the highest
    probability are taken. A class that is no image's first guess takes images by their second guess, then by their
    third; then it stays without any. An image may be taken for two classes so.

    Args:
        scores: scaled cosines of images with classes.
        share: of the images of a class, were all alike in number.
        least: images of a class, where there are so many.

    Returns:
        Positions of images, and the class of each, by class.

    Source: Imam et al., CLIP meets DINO (NoLA), 2024.

    Example:
        >>> items, classes = pseudo_labels(torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), least=1)
        >>> items.tolist(), classes.tolist()
        ([0, 2], [0, 1])
    """
    n, c = scores.shape
    most = max(least, math.floor(share * n / c))
    chances = scores.softmax(dim=1)
    guesses = chances.argsort(dim=1, descending=True, stable=True)[:, :3]
    items, classes = [], []
    for label in range(c):
        place = next((g for g in range(guesses.shape[1]) if bool((guesses[:, g] == label).any())), None)
        if place is None:
            continue
        of_class = (guesses[:, place] == label).nonzero().flatten()
        order = chances[of_class, label].argsort(descending=True, stable=True)[:most]
        items.append(of_class[order])
        classes.append(torch.full_like(items[-1], label))
    return torch.cat(items), torch.cat(classes)


def fit_labeller(
    features: Float[Tensor, "n e"],
    labels: Int[Tensor, " n"],
    classes: int,
    *,
    width: int = 256,
    epochs: int = 50,
    batch: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> nn.Module:
    """A small network from the features of an image-only model to classes, fitted by cross-entropy and frozen.

    Args:
        features: of the images that `pseudo_labels` takes, by a model that has seen no text (`tiny-image`, DINO).
        labels: their classes.
        classes: number of classes.
        width: of the inner layer.
        epochs, batch, learning_rate, seed: of the fit (Adam).

    Source: Imam et al., CLIP meets DINO (NoLA), 2024 (DINO ViT-B/16, a layer of 256, 50 epochs).
    """
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(features.shape[1], width), nn.ReLU(), nn.Linear(width, classes))
        module.to(features.device)
        optimiser = torch.optim.Adam(module.parameters(), lr=learning_rate)
        for _ in range(epochs):
            for part in torch.randperm(len(features)).split(batch):
                optimiser.zero_grad(set_to_none=True)
                cross_entropy(module(features[part]), labels[part]).backward()
                optimiser.step()
    return module.eval().requires_grad_(False)


class Classes(nn.Module):
    """A trained vector for each class, begun at given ones."""

    def __init__(self, start: Float[Tensor, "c d"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.detach().clone())


def student_of(classifier: Float[Tensor, "c d"], labeller: nn.Module, smoothing: float = 0.1) -> Term:
    """A term: the classes that a labeller sees in one augmentation of an image, learned from another.

    Formula: cross-entropy with smoothed targets of `scale * u . W` of the second augmentation, target `argmax` of the
    labeller on the first, without gradient and without a threshold. W is trained and begins at the classifier, so that
    the first predictions are those of zero-shot classification. Labels of the data are not read.

    Both augmentations are drawn alike here (the authors' are a weak and a strong one), and features have unit length
    (theirs are not normalised, and not scaled).

    Args:
        classifier: unit rows of `description_classifier`.
        labeller: pixels `[n, 3, h, w]`, as the trained model takes them, to logits `[n, c]`: an image-only tower and a
            head of `fit_labeller` behind it. It is not trained, and is left in evaluation mode.
        smoothing: share of the target that is spread over all classes.

    Source: Imam et al., CLIP meets DINO (NoLA), 2024.

    Example:
        >>> colour = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> student_of(torch.eye(2), colour).needed.images
        2
    """
    digest = hashlib.sha256(f"{smoothing}".encode())
    for tensor in (classifier, *labeller.eval().state_dict().values()):
        digest.update(tensor.detach().cpu().numpy().tobytes())

    def begun(sizes: Sizes) -> Classes:
        if sizes.dim != classifier.shape[1]:
            raise XgapError(
                f"the classifier has {classifier.shape[1]} dimensions, and the model's features {sizes.dim}"
            )
        return Classes(classifier)

    def loss(batch: BatchFeatures, own: Classes) -> Tensor:
        with torch.no_grad():
            pixels = batch.needed("pixels")
            target = labeller.to(pixels.device)(pixels).argmax(dim=1)
        logits = batch.scale * batch.images[1] @ own.weight.T
        return match(logits, target, smooth=smoothing)

    needs = Needs(images=2, captions=0, scaled=True, pixels=True)
    return Term(f"nola-{digest.hexdigest()[:8]}", loss, needs, begun)
