"""The public names that others build on: there, with their signatures, and working together."""

import ast
import inspect
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import xgap_analysis as xg

EMPTY = inspect.Parameter.empty


def parameters(function: Any) -> dict[str, Any]:
    """Name to default, in order."""
    found = inspect.signature(function).parameters
    return {name: p.default for name, p in found.items() if p.kind is not inspect.Parameter.VAR_KEYWORD}


@pytest.mark.parametrize(
    ("function", "first", "keywords"),
    [
        (xg.load_model, ["name_or_path"], {}),
        (xg.load_dataset, ["name"], {}),
        (xg.as_dataset, ["source", "name"], {}),
        (xg.encode, ["model", "items"], {}),
        (xg.invert, ["model", "features"], {"steps": None, "tokens": None, "snapshots": ()}),
        (xg.encode_pseudo_tokens, ["model", "tokens", "space", "template"], {}),
        (xg.Features, ["vectors", "ids", "space", "origin"], {}),
        (xg.Relevance.from_labels, ["query_labels", "gallery_labels"], {}),
        (xg.Relevance.from_qrels, ["qrels"], {}),
        (xg.retrieval, ["query", "gallery", "relevance"], {}),
        (xg.gap_report, ["x", "y"], {}),
        (xg.Study, ["models", "datasets", "comparisons", "corrections"], {}),
        (xg.Study.run, ["self"], {}),
    ],
)
def test_the_signatures_are_the_promised_ones(function: Any, first: list[str], keywords: dict[str, Any]) -> None:
    found = parameters(function)
    assert list(found)[: len(first)] == first
    assert keywords.items() <= found.items()
    needed = [name for name, default in found.items() if default is EMPTY and name not in first]
    assert needed == []


def test_the_table_of_names_is_that_of_the_imports_for_editors() -> None:
    tree = ast.parse(Path(xg.__file__).read_text())
    lines = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "typing"]
    imported = {
        (alias.asname, node.module.removeprefix("xgap_analysis."), alias.name)
        for node in lines
        for alias in node.names
        if alias.asname is not None
    }
    table = {(name, *(home if ":" in home else f"{home}:{name}").split(":")) for name, home in xg._HOME.items()}
    assert table == imported
    assert all(getattr(xg, name) is not None for name in dir(xg))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = xg.no_such_name


def test_the_defaults_of_pseudo_token_features_are_the_papers() -> None:
    found = parameters(xg.encode_pseudo_tokens)
    assert (found["space"], found["template"]) == ("text", "a photo of {}")


@pytest.fixture(scope="module")
def model() -> Any:
    return xg.load_model("tiny-untrained", device="cpu")


@pytest.fixture(scope="module")
def data() -> Any:
    return xg.load_dataset("emoji").split("test").limit(8)


def test_from_a_name_to_the_numbers(model: Any, data: Any) -> None:
    images = xg.encode(model, data.images, progress=False)
    texts = xg.encode(model, data.texts, progress=False)
    assert images.vectors.shape == (len(data.images), texts.dim)
    oti = xg.invert(model, images, steps=4, tokens=2, snapshots=(0, 2, 4), progress=False)
    assert oti.pseudo_tokens.shape == (len(images), 2, model.text.width)
    assert oti.loss.shape == (4, len(images))
    assert list(oti.snapshots) == [0, 2, 4]
    assert (oti.features.space, oti.features.origin, oti.features.ids) == ("text", "image", images.ids)
    cosine = (oti.features.vectors * images.vectors).sum(1)
    assert (cosine > 1 - oti.loss[0]).all()  # nearer to its image than the start was
    again = xg.encode_pseudo_tokens(model, oti.pseudo_tokens, space="text", template="a photo of {}")
    assert (again - oti.features.vectors).abs().max() < 1e-5
    ovi = xg.invert(model, texts, steps=2, tokens=1, progress=False)
    patches = xg.encode_pseudo_tokens(model, ovi.pseudo_tokens, space="image")
    assert (patches - ovi.features.vectors).abs().max() < 1e-5
    for query in (images, oti.features):
        table = xg.retrieval(query, images, data)
        assert {"ap", "ap_at_r", "r_precision", "hit_at_1"} <= set(table.columns)
        assert tuple(table.index) == images.ids
        assert table["ap"].dropna().between(0, 1).all()
    paired = xg.Features(texts.vectors, images.ids[: len(texts)], "text", "text")
    report = xg.gap_report(images.select(paired.ids), paired)
    assert len(report) == 1
    assert {"modality_gap", "rmg", "alignment"} <= set(report.columns)
    assert report["modality_gap"].iloc[0] == pytest.approx(
        float((images.vectors[: len(texts)].double().mean(0) - texts.vectors.double().mean(0)).norm()), abs=1e-6
    )


def test_vectors_of_ones_own_need_no_model() -> None:
    sounds = xg.Features(vectors=torch.eye(4), ids=["a", "b", "c", "d"], space="audio", origin="audio")
    relevance = xg.Relevance.from_labels(["x", "x", "y", "y"], ["x", "x", "y", "y"])
    assert xg.retrieval(sounds, sounds, relevance)["ap"].tolist() == pytest.approx([1, 1, 1 / 3, 1 / 3])
    graded = xg.Relevance.from_qrels({"a": {"d": 2}, "b": {"a": 1}, "c": {"d": 1}, "d": {"a": 1}})
    assert xg.retrieval(sounds, sounds, graded)["ap"].tolist() == pytest.approx([1 / 3, 1, 1 / 3, 1])


def test_a_study_from_names(xgap_home: Path) -> None:
    study = xg.Study(
        models=["tiny-untrained"],
        datasets=["emoji"],
        comparisons=["I-I", "OTI-I", "zero-shot"],
        corrections=["none"],
        steps=2,
        limit=6,
        progress=False,
    )
    table = study.run()
    assert isinstance(table, pd.DataFrame)
    main = xg.main_rows(table)
    assert list(main["comparison"]) == ["I-I", "OTI-I", "zero-shot"]
    assert set(main["model"]) == {"tiny-untrained"}
    assert set(main["split"]) == {"test[6]"}
    assert main["value"].between(0, 1).all()
    assert len(xg.Store().entries()) == 3  # the images, their inversions and the class names
    assert all(xgap_home in xg.Store().folder(entry.key).parents for entry in xg.Store().entries())


def test_mistakes_are_one_sentence_of_one_kind() -> None:
    with pytest.raises(xg.XgapError, match="unknown model 'tiny-untraned'; nearest names: tiny-untrained"):
        xg.load_model("tiny-untraned")
    with pytest.raises(xg.XgapError, match="unknown dataset 'emojis'; nearest names: emoji"):
        xg.load_dataset("emojis")
    sounds = xg.Features(torch.eye(4), list("abcd"), "audio", "audio")
    with pytest.raises(xg.XgapError, match="dimensions"):
        xg.retrieval(
            sounds, xg.Features(torch.eye(3), list("abc"), "audio", "audio"), xg.Relevance.from_labels("abcd", "abc")
        )
