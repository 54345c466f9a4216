"""Images and words of an evaluation's items, ready for a page. Captions and names are data, never markup."""

import base64
import io
import re
from collections.abc import Sequence
from functools import cached_property, lru_cache

from PIL import Image, ImageOps

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.images import UNREADABLE
from xgap_analysis.experiments import Evaluation, Study
from xgap_analysis.widgets.style import SHOWN

KEPT = 4096  # thumbnails in memory, a few kilobytes each
KINDS = (r"(?<!\w){}(?!\w)", r"(?<!\w){}")  # a whole word, the beginning of one
CAPTIONS = 3  # captions that an image is described with
NOTHING = "data:image/gif;base64,R0lGODlhAQABAIAAAMzMzAAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="  # one grey pixel


class Items:
    """What an evaluation's items look like and are called.

    Args:
        evaluation: the model on its dataset.

    Raises:
        XgapError: a study instead of one of its evaluations.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        if isinstance(evaluation, Study):
            raise XgapError(
                "an explorer shows one model on one dataset: (evaluation,) = study.evaluations(), then pass evaluation"
            )
        self._data = evaluation.data
        self._class_words = {label: words for of in evaluation.data.class_names.values() for label, words in of.items()}
        self.thumbnail = lru_cache(KEPT)(self._thumbnail)

    @cached_property
    def _label(self) -> dict[str, str]:
        """Label by item id, of the first label set; empty where the dataset has none."""
        return dict(next(iter(self._data.labels.values()), {}))

    @cached_property
    def _caption(self) -> dict[str, str]:
        return dict(zip(self._data.texts.ids, self._data.texts.captions, strict=True))

    @cached_property
    def _captions_of_label(self) -> dict[str, list[str]]:
        of: dict[str, list[str]] = {}
        for item, caption in self._caption.items():
            if item in self._label:
                of.setdefault(self._label[item], []).append(caption)
        return of

    @cached_property
    def _image_ids(self) -> frozenset[str]:
        return frozenset(self._data.images.ids)

    def words(self, item: str, space: str) -> str:
        """What is known of an item (of space `"image"`, `"text"`, or a `"class"`), in one line of plain text."""
        if space == "class":
            return self._class_words.get(item, item)
        if space == "text":
            return self._caption.get(item, item)
        captions = self._captions_of_label.get(self._label.get(item, ""), [])[:CAPTIONS]
        return " · ".join([item, *captions])

    def has_image(self, item: str, space: str) -> bool:
        """Whether an item is an image that can be shown, and not features alone."""
        return space == "image" and item in self._image_ids

    def _thumbnail(self, item: str) -> str:
        """An image as a data URI; one that cannot be read is grey."""
        if item not in self._image_ids:
            return NOTHING
        try:
            image = self._data.images.opener(item)
        except UNREADABLE:
            return NOTHING
        square = ImageOps.pad(ImageOps.contain(image, (SHOWN, SHOWN)), (SHOWN, SHOWN), color="white")
        return data_uri(square)

    def search(self, words: str, among: Sequence[str], space: str) -> list[str]:
        """The items whose words contain each of the given ones; all of them where nothing is given.

        Items with the given words as whole words come first, then those where words begin so, then those that contain
        them anywhere ("cat", "catalogue", "complicated"); equals keep their order.
        """
        wanted = words.lower().split()
        if not wanted:
            return list(among)
        texts = {item: self.words(item, space).lower() for item in among}
        found = [item for item, text in texts.items() if all(word in text for word in wanted)]
        kinds = [[re.compile(pattern.format(re.escape(word))) for pattern in KINDS] for word in wanted]

        def rank(item: str) -> int:
            """How badly the words fit: each 0 as a whole word, 1 as the beginning of one, 2 inside."""
            return sum(next((k for k, kind in enumerate(of) if kind.search(texts[item])), len(KINDS)) for of in kinds)

        return sorted(found, key=rank)


def named(evaluation: Evaluation) -> str:
    """The model, the dataset and the split of an evaluation, for titles and messages."""
    return f"{evaluation.model.name} on {evaluation.data.name} ({evaluation.data.split_name})"


def queries_of(evaluation: Evaluation, modality: str) -> tuple[str, ...]:
    """The ids of the queries of a modality.

    Raises:
        XgapError: a dataset without any.
    """
    ids = evaluation.data.queries(modality)
    if not ids:
        where = f"{evaluation.data.name!r} ({evaluation.data.split_name})"
        raise XgapError(f"dataset {where} has no {modality}s that can be queries")
    return ids


def data_uri(image: Image.Image) -> str:
    """An image as a PNG in a `data:` address."""
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def shortened(words: str, length: int) -> str:
    """Words cut to a length, with an ellipsis."""
    return words if len(words) <= length else f"{words[: length - 1]}…"
