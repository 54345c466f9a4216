"""A dataset: queries and gallery, labels, splits, limits."""

from functools import partial

import numpy as np
import pytest
from PIL import Image

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.datasets.dataset import Dataset, in_splits
from xgap_analysis.datasets.items import NO_IMAGES, Images, Texts, Vectors


def blank(item: str) -> Image.Image:
    return Image.new("RGB", (4, 4))


def pets(**changed: object) -> Dataset:
    """Two images and one caption of each of three animals."""
    kinds = ("cat", "dog", "owl")
    images = [f"{kind}-{i}" for kind in kinds for i in range(2)]
    made: dict = {
        "name": "pets",
        "split_name": "all",
        "images": Images(images, blank, "d"),
        "texts": Texts([f"{kind}-text" for kind in kinds], kinds),
        "labels": {
            "kind": {i: i.split("-")[0] for i in (*images, *(f"{kind}-text" for kind in kinds))},
            "flies": {i: str(i.startswith("owl")) for i in images},
        },
        "class_names": {"kind": {kind: kind for kind in kinds}, "flies": {"True": "flying", "False": "walking"}},
    }
    return Dataset(**{**made, **changed})


def test_without_named_queries_every_item_asks_and_all_are_searched() -> None:
    data = pets()
    assert data.queries("image") == data.gallery("image") == tuple(data.images.ids)
    assert data.queries("text") == data.gallery("text") == ("cat-text", "dog-text", "owl-text")


def test_named_queries_are_not_in_the_gallery() -> None:
    data = pets(image_queries=("owl-0", "cat-0"))
    assert data.queries("image") == ("owl-0", "cat-0")
    assert data.gallery("image") == ("cat-1", "dog-0", "dog-1", "owl-1")
    with pytest.raises(XgapError, match="unknown modality of dataset pets: 'sound'; nearest names: image, text"):
        data.queries("sound")


def test_relevance_is_sharing_the_label_of_a_level() -> None:
    data = pets()
    bound = data.relevance().bind(["cat-0"], ["cat-0", "cat-1", "dog-0", "cat-text"])
    assert bound.grades(0, 1).tolist() == [[1, 1, 0, 1]]
    assert bound.ignored(0, 1).tolist() == [[True, False, False, False]]
    assert data.relevance("flies").bind(["cat-0"], ["dog-0", "owl-0"]).grades(0, 1).tolist() == [[1, 0]]
    with pytest.raises(XgapError, match="'pets' has no labels 'colour'; it has: kind, flies"):
        data.relevance("colour")


def test_a_dataset_without_labels_says_so() -> None:
    data = pets(labels={})
    with pytest.raises(XgapError, match="'pets' has no labels"):
        data.relevance()
    with pytest.raises(XgapError, match="'pets' has no labels"):
        data.limit(2)


def test_splits_are_made_by_name_and_an_empty_one_is_refused() -> None:
    none = Images((), blank)
    data = pets(
        splits={"test": lambda: pets(split_name="test"), "none": lambda: pets(images=none, texts=Texts((), ()))}
    )
    assert data.split("test").split_name == "test"
    with pytest.raises(XgapError, match="'pets' has no split 'val'; it has: test, none"):
        data.split("val")
    with pytest.raises(XgapError, match="split 'none' of dataset 'pets' is empty"):
        data.split("none")


@pytest.mark.parametrize("n", [1, 2])
def test_limit_keeps_whole_labels_and_everything_about_them(n: int) -> None:
    data = pets(image_queries=("cat-0", "dog-0", "owl-0"))
    small = data.limit(n)
    kept = {small.labels["kind"][i] for i in small.images.ids}
    assert len(kept) == n
    assert small.images.ids == tuple(i for i in data.images.ids if i.split("-")[0] in kept)
    assert small.texts.ids == tuple(i for i in data.texts.ids if i.split("-")[0] in kept)
    assert small.image_queries == tuple(i for i in data.image_queries if i.split("-")[0] in kept)
    assert set(small.class_names["kind"]) == kept
    assert small.class_names["flies"] == data.class_names["flies"]
    assert set(small.labels["kind"]) == {*small.images.ids, *small.texts.ids}
    assert small.split_name == f"all[{n}]"
    assert data.limit(n).images.ids == small.images.ids
    assert kept <= {data.limit(n + 1).labels["kind"][i] for i in data.limit(n + 1).images.ids}


def test_a_limit_of_everything_changes_nothing() -> None:
    data = pets()
    for n in (3, 30):
        whole = data.limit(n)
        assert (whole.split_name, whole.images.ids, whole.labels) == ("all", tuple(data.images.ids), data.labels)


@pytest.mark.parametrize("n", [0, -1])
def test_a_limit_below_one_is_refused(n: int) -> None:
    with pytest.raises(XgapError, match=f"a number of labels, is a whole number of 1 or more, not {n}"):
        pets().limit(n)


def judged(**changed: object) -> Dataset:
    """Three questions about the animals' captions and images, judged one by one."""
    grades = {"cat-0": {"cat-1": 2.0, "owl-1": 1.0}, "dog-0": {"dog-1": 1.0}, "owl-0": {"owl-1": 1.0}}
    loose, strict = Relevance.from_qrels(grades), Relevance.from_qrels({"cat-0": {"cat-1": 1.0}})
    asking = ("cat-0", "dog-0", "owl-0")
    return pets(**{"labels": {}, "judgements": {"loose": loose, "strict": strict}, "image_queries": asking, **changed})


def test_what_is_evaluated_item_by_item_comes_before_labels() -> None:
    data = judged(labels=pets().labels)
    assert data.default_label_set == "loose"
    assert data.relevance().bind(["cat-0"], ["cat-1", "dog-1", "owl-1"]).grades(0, 1).tolist() == [[2, 0, 1]]
    assert data.relevance("strict").bind(["cat-0"], ["cat-1", "owl-1"]).grades(0, 1).tolist() == [[1, 0]]
    assert data.relevance("kind").bind(["cat-0"], ["cat-1", "owl-1"]).grades(0, 1).tolist() == [[1, 0]]
    assert data.labels_of("loose") == {}
    with pytest.raises(XgapError, match="has no labels 'colour'; it has: loose, strict, kind, flies"):
        data.relevance("colour")


def test_a_limit_of_judged_queries_keeps_the_gallery_and_the_texts() -> None:
    data = judged()
    for n in (1, 2):
        small = data.limit(n)
        assert len(small.image_queries) == n
        assert small.gallery("image") == data.gallery("image")
        assert list(small.texts.ids) == data.texts.ids
        assert set(small.image_queries) <= set(data.limit(n + 1).image_queries)
        assert small.split_name == f"all[{n}]"
    assert data.limit(3).split_name == "all"
    with pytest.raises(XgapError, match="a number of labels, is a whole number of 1 or more, not 0"):
        data.limit(0)


def test_class_texts_are_the_names_in_the_prompt() -> None:
    assert pets().words_of() == {kind: f"a photo of {kind}" for kind in ("cat", "dog", "owl")}
    assert pets(prompt="{} {}!").words_of("flies") == {"True": "flying flying!", "False": "walking walking!"}
    braces = pets(class_names={"kind": {"cat": "{0.__class__}"}}, prompt="a {}")
    assert braces.words_of() == {"cat": "a {0.__class__}"}  # a name is data, never a format
    with pytest.raises(XgapError, match="names no classes of label set 'flies'"):
        pets(class_names={}).words_of("flies")


def test_splits_are_made_once_and_know_each_other() -> None:
    made: list[str] = []

    def make(name: str) -> Dataset:
        made.append(name)
        return pets(split_name=name)

    data = in_splits({name: partial(make, name) for name in ("test", "train")})
    assert (data.split_name, made) == ("test", ["test"])
    assert data.split("test") is data
    assert data.split("train").split("train") is data.split("train")
    assert data.split("train").split("test") is data
    assert made == ["test", "train"]


def test_items_without_a_label_are_relevant_to_nothing() -> None:
    texts = Texts(tuple("abcdef"), tuple("abcdef"))
    data = Dataset("d", "all", NO_IMAGES, texts, {"class": {"a": "x", "b": "x", "c": "y", "d": "y"}})
    grades = data.relevance().bind(texts.ids, texts.ids).grades(0, 6)
    assert grades[:4].tolist() == [[1, 1, 0, 0, 0, 0]] * 2 + [[0, 0, 1, 1, 0, 0]] * 2
    assert not grades[4:].any()


def test_an_id_that_is_no_utf8_can_be_chosen_from() -> None:
    texts = Texts(("a", "\ud83d"), ("a", "b"))
    data = Dataset("d", "all", NO_IMAGES, texts, {"class": {"a": "x", "\ud83d": "\ud83d"}})
    assert len(data.limit(1).texts) == 1


def test_a_limit_keeps_queries_that_nothing_names_as_such() -> None:
    """Texts with relevance for each, and images of which some are queries too, as in `emoji-scenes:composed`."""
    images = Images(["a", "b", "c", "d"], lambda i: None, "none")
    texts = Texts(["t1", "t2", "t3"], ["one", "two", "three"])
    relevance = Relevance.from_qrels({"t1": {"a": 1}, "t2": {"b": 1}, "t3": {"c": 1}, "d": {"a": 1}})
    data = Dataset("mine", "test", images, texts, judgements={"target": relevance})
    small = data.limit(2)
    assert (len(small.texts), len(small.images), small.split_name) == (2, 4, "test[2]")
    assert data.limit(3).split_name == "test"


def test_images_that_are_given_count_more_than_items() -> None:
    vectors = Vectors(Features(np.eye(3), ["a", "b", "c"], space="image", origin="image"))
    data = Dataset("d", "all", labels={"class": dict.fromkeys("abc", "x")}, items={"image": vectors})
    assert data.items_of("image") is vectors
    others = Images(["a"], blank, "d")
    assert Dataset("d", "all", others, items={"image": vectors}).items_of("image") is others
