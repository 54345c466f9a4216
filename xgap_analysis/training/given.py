"""What training may be given beside a dataset: further modalities, and scores of pairs."""

import copy
import hashlib
from collections.abc import Sequence

from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError


class Further:
    """A modality beside images and texts.

    Args:
        ids: of the items; the dataset's labels say to which images and texts they belong.
        inputs: `[N, ...]`, what its tower takes, a row for each id: features `[N, d]` that are frozen, or sheets of
            sound for a tower that is trained.
        tower: a module from rows of inputs to features `[n, d]`, trained with the model where its parameters require
            gradients. None takes the inputs as they are.

    Raises:
        XgapError: other numbers of ids and rows, or an id twice.

    Example:
        >>> import torch
        >>> Further(["a", "b"], torch.eye(2)).inputs_of(["b"])
        tensor([[0., 1.]])
    """

    def __init__(self, ids: Sequence[str], inputs: Tensor, tower: nn.Module | None = None) -> None:
        self.ids, self.inputs = tuple(ids), inputs.detach()
        self.tower = nn.Identity() if tower is None else tower
        self._row = {item: row for row, item in enumerate(self.ids)}
        if len(self._row) != len(inputs) or len(self.ids) != len(inputs):
            raise XgapError(f"a further modality has one row for each id, not {len(inputs)} for {len(self._row)} ids")

    def copied(self) -> "Further":
        """A copy with a copied tower."""
        return Further(self.ids, self.inputs, copy.deepcopy(self.tower))

    @property
    def digest(self) -> str:
        """A digest of the ids, the inputs and the weights of the tower."""
        weights = {name: tensor.cpu() for name, tensor in self.tower.state_dict().items()}
        return _digest(self.ids, self.inputs, *(weights[name] for name in sorted(weights)))

    def inputs_of(self, ids: Sequence[str]) -> Tensor:
        """Rows `[n, ...]` of these items."""
        return self.inputs[[self._row[item] for item in ids]]


class GivenScores:
    """Scores of images with texts, from people or from a scorer that is too slow to be searched with.

    Args:
        images, texts: ids of N images and M texts.
        scores: `[N, M]`, as `xg.score(images, texts, scorer)` gives them.

    Raises:
        XgapError: scores of another shape.

    Example:
        >>> import torch
        >>> GivenScores(["a", "b"], ["c"], torch.tensor([[1.0], [2.0]])).of(["b"], ["c"])
        tensor([[2.]])
    """

    def __init__(self, images: Sequence[str], texts: Sequence[str], scores: Tensor) -> None:
        self._row = {item: row for row, item in enumerate(images)}
        self._column = {item: column for column, item in enumerate(texts)}
        self.scores = scores.detach().float()
        if tuple(scores.shape) != (len(images), len(texts)):
            raise XgapError(f"scores of {len(images)} images and {len(texts)} texts are not {list(scores.shape)}")

    @property
    def digest(self) -> str:
        """A digest of the ids and the scores."""
        return _digest((*self._row, "", *self._column), self.scores)

    def of(self, images: Sequence[str], texts: Sequence[str]) -> Tensor:
        """The scores `[n, m]` of these items.

        Raises:
            XgapError: an item without scores.
        """
        for item in images:
            if item not in self._row:
                raise XgapError(f"image {item!r} has no pair scores; give scores of all images that are trained with")
        for item in texts:
            if item not in self._column:
                raise XgapError(f"text {item!r} has no pair scores; give scores of all texts that are trained with")
        rows, columns = [self._row[i] for i in images], [self._column[i] for i in texts]
        return self.scores[rows][:, columns]


def _digest(ids: Sequence[str], *tensors: Tensor) -> str:
    made = hashlib.sha256("\n".join(ids).encode("utf-8", "surrogatepass"))
    for tensor in tensors:
        made.update(tensor.cpu().contiguous().numpy().tobytes())
    return made.hexdigest()
