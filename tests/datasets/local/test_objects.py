"""torchvision's datasets, and any object with a length and items."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset
from torchvision.datasets import FakeData, ImageFolder

import xgap_analysis as xg
from xgap_analysis.datasets import as_dataset

Plain = Callable[[int], Image.Image]
Shade = Callable[[Image.Image], int]


def test_an_image_folder_of_torchvision_is_the_folder(animals: Path, shade: Shade) -> None:
    shutil.rmtree(animals / ".hidden")
    (animals / "owl" / "._a.png").unlink()
    source = ImageFolder(str(animals))
    files = [Path(file).relative_to(animals).as_posix() for file, _ in source.samples]
    data, folder = as_dataset(source, "animals", ids=files), xg.load_dataset(str(animals))
    assert set(data.images.ids) == set(folder.images.ids)
    assert data.labels_of() == folder.labels_of()
    assert data.class_names == folder.class_names
    for k, item in enumerate(data.images.ids):
        assert shade(data.images[k]) == shade(folder.images.select([item])[0])


def test_labels_without_targets_are_read_from_the_items() -> None:
    source = FakeData(size=6, image_size=(3, 8, 8), num_classes=3)
    data = as_dataset(source, class_names=["x", "y", "z"])
    assert data.name == "FakeData"
    assert [data.labels_of()[str(k)] for k in range(6)] == ["xyz"[int(source[k][1])] for k in range(6)]
    assert data.images[2].tobytes() == source[2][0].tobytes()


class Captions:
    """As CocoCaptions and Flickr30k are: a picture and its captions."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_captions_and_mappings_and_arrays(plain: Plain, shade: Shade) -> None:
    data = as_dataset(Captions([(plain(50), ["a", "b"]), (plain(90), ["c", "d"])]))
    assert data.texts.captions == ("a", "b", "c", "d")
    assert data.queries("text") == ("0#0", "1#0")
    array = np.full((4, 4, 3), 70, dtype=np.uint8)
    data = as_dataset(Captions([{"image": array, "caption": "a", "label": torch.tensor(3)}]), ids=["p"])
    assert (data.images.ids, data.texts.captions, data.labels_of()["p"]) == (("p",), ("a",), "3")
    assert shade(data.images[0]) == 70


def test_what_does_not_fit_is_reported(plain: Plain) -> None:
    source = Captions([(plain(50), 1), (plain(90), 0)])
    with pytest.raises(xg.XgapError, match="3 ids were given for 2 items"):
        as_dataset(source, ids="abc")
    with pytest.raises(xg.XgapError, match="1 labels were given for 2 items"):
        as_dataset(source, labels=[1])
    with pytest.raises(xg.XgapError, match="item '0' is a int, not"):
        as_dataset(Captions([1]))
    with pytest.raises(xg.XgapError, match="holds a Tensor, not an image; leave the transform out"):
        as_dataset(Captions([(torch.zeros(3, 4, 4), 1)])).images[0]


def test_features_are_kept_only_where_the_content_is_known(plain: Plain, model: Any) -> None:
    source = Captions([(plain(50), 1), (plain(90), 0)])
    features = xg.encode(model, as_dataset(source).images, progress=False)
    assert xg.Store().entries() == []
    kept = xg.encode(model, as_dataset(source, digest="version 1").images, progress=False)
    assert torch.equal(kept.vectors, features.vectors)
    assert len(xg.Store().entries()) == 1


class Named(Captions):
    """As torchvision's folders of classes are: names, and targets that need no picture."""

    classes = ("cat", "dog")

    def __init__(self, items: list[Any]) -> None:
        super().__init__(items)
        self.targets = [label for _, label in items]


def test_class_names_of_what_a_subset_or_a_join_holds(plain: Plain) -> None:
    source = Named([(plain(50), 0), (plain(90), 1), (plain(70), 0)])
    opened = Captions([(plain(50), np.int64(1))])
    opened.classes = ["cat", "dog"]  # type: ignore[attr-defined]
    for made, labels in (
        (Subset(source, [1, 2]), ["dog", "cat"]),
        (Subset(Subset(source, [2, 1]), [1]), ["dog"]),
        (Subset(opened, [0]), ["dog"]),
        (ConcatDataset([source, Subset(opened, [0])]), ["cat", "dog", "cat", "dog"]),
    ):
        data = as_dataset(made)
        assert [data.labels_of()[i] for i in data.images.ids] == labels
        assert set(data.texts) == {f"a photo of {label}" for label in labels}
    other = Named(source.items)
    other.classes = ("owl", "elk")
    with pytest.raises(xg.XgapError, match="parts of ConcatDataset name their classes differently; pass class_names"):
        as_dataset(ConcatDataset([source, other]))


def test_class_names_of_another_wrapper_and_of_hugging_face(plain: Plain) -> None:
    class Wrapped(Captions):
        pass

    made = Wrapped([(plain(50), 1)])
    made.dataset = Named(made.items)  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="class names are those of what Wrapped wraps"):
        assert as_dataset(made).labels_of()["0"] == "dog"
    rows = Captions([{"img": plain(50), "fine_label": 1}])
    rows.features = {"fine_label": SimpleNamespace(names=["cat", "dog"])}  # type: ignore[attr-defined]
    assert as_dataset(rows).labels_of()["0"] == "dog"


def test_missing_labels_and_captions_are_counted(plain: Plain) -> None:
    source = Captions([(plain(50), label) for label in (0, -1, None, math.nan)])
    for labels in (None, [np.int64(0), np.float64("nan"), None, -1]):
        with pytest.warns(UserWarning, match="3 of 4 items of Captions have no label"):
            data = as_dataset(source, labels=labels, class_names=["cat", "dog"])
        assert data.labels_of() == {"0": "cat", "class/cat": "cat"}
    items = [{"image": plain(50), "caption": None}, {"image": plain(90), "captions": ["b", None]}]
    with pytest.warns(UserWarning, match="1 of 2 items of Captions have no caption"):
        assert as_dataset(Captions(items)).texts.captions == ("b",)
    pairs = Captions([(plain(50), ["a", None]), (plain(90), "half \ud83d")])
    with pytest.warns(UserWarning, match="1 of 2 captions of Captions hold half of a character"):
        assert as_dataset(pairs).texts.captions == ("a", "half \ufffd")


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (torch.tensor([0, 1]), r"item '0': \[0, 1\] are several labels"),
        ([0, 1], r"item '0': \[0, 1\] are several labels"),
        ({"annotation": 1}, "item '0': a label is a word or a number, not the object"),
    ],
)
def test_several_labels_of_an_item_are_refused(plain: Plain, label: Any, said: str) -> None:
    with pytest.raises(xg.XgapError, match=said):
        as_dataset(Captions([(plain(50), label)]))
