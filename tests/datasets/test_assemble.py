"""The one function in which every reader ends."""

import ast
from pathlib import Path

import pytest
from PIL import Image

import xgap_analysis
from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.assemble import assemble
from xgap_analysis.datasets.items import Images

READERS = Path(xgap_analysis.__file__).parent / "datasets"
PAIR = Images(("a", "b"), lambda item: Image.new("RGB", (2, 2)))


def test_no_reader_makes_a_dataset_or_opens_a_file_of_an_image_in_a_way_of_its_own() -> None:
    """The embedded worlds are no readers: their items are drawn from recipes, and have parts and further modalities."""
    allowed = {"Dataset": {"assemble.py"}, "open_image": {"stored.py"}}
    called = {
        (node.func.id, source.name)
        for source in READERS.rglob("*.py")
        if source.parent.name != "embedded"
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in allowed
    }
    assert called == {(name, file) for name, files in allowed.items() for file in files}


def test_without_texts_the_prompts_of_the_classes_are_the_texts() -> None:
    labels = {"kind": {"a": "cat", "b": "dog", "elsewhere": "owl"}, "made": {"a": "x"}}
    data = assemble("d", "test", PAIR, labels=labels, classes={"kind": {"cat": "cats", "owl": "owls"}}, prompt="my {}")
    assert dict(zip(data.texts.ids, data.texts.captions, strict=True)) == {"cat": "my cats", "owl": "my owls"}
    assert data.labels == {"kind": {"a": "cat", "b": "dog", "cat": "cat", "owl": "owl"}, "made": {"a": "x"}}


def test_captions_have_the_labels_of_their_image_and_the_first_of_several_is_the_query() -> None:
    data = assemble("d", "test", PAIR, captions={"a": ["1", "2"], "b": ["3"]}, labels={"kind": {"a": "cat"}, "no": {}})
    assert data.texts.ids == ("a#0", "a#1", "b#0")
    assert data.labels == {"kind": {"a": "cat", "a#0": "cat", "a#1": "cat"}}
    assert (data.queries("text"), data.gallery("text")) == (("a#0", "b#0"), ("a#1",))
    alone = assemble("d", "test", PAIR, captions={"a": ["1"], "b": ["3"]}, labels={"kind": {"a": "cat"}})
    assert alone.queries("text") == alone.gallery("text") == ("a#0", "b#0")


def test_an_image_and_a_text_of_one_id_are_refused() -> None:
    with pytest.raises(XgapError, match="an image with the id of a text, 'a'"):
        assemble("d", "test", PAIR, texts={"a": "an a"})
