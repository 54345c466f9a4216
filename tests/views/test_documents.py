"""Documents of sections: their vectors against a loop, and what is known of them in advance."""

import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.mixed import shares_of
from xgap_analysis.datasets.items import Items, Vectors
from xgap_analysis.datasets.parts import Parts

UNIFORM = "pooled(weights=uniform)"
BEST = "late_interaction(inner=max, outer=mean)"
Row = tuple[str, int, str]  # document, section, modality


def documents(rows: Sequence[Row], vectors: np.ndarray, order: Sequence[str]) -> Items:
    """Documents whose texts, images and tables are known by their features."""
    parts = {}
    for kind, modality in (("images", "image"), ("texts", "text"), ("tables", "text")):
        own = [i for doc in order for i, row in enumerate(rows) if row[2] == kind and row[0] == doc]
        if own:
            features = xg.Features(vectors[own], [f"{kind} {i}" for i in own], modality, modality)
            parts[kind] = Parts(Vectors(features), [rows[i][0] for i in own], {"section": [rows[i][1] for i in own]})
    return Items(tuple(order), lambda item: item, "", "document", parts)


def ragged(rng: np.random.Generator, n: int = 9, d: int = 6) -> tuple[list[Row], np.ndarray, list[str]]:
    """Documents of one to four sections, each of one to three texts, images and tables."""
    kinds = ("images", "texts", "tables")
    rows = [
        (f"document {k}", section, str(rng.choice(kinds)))
        for k in range(n)
        for section in rng.permutation(6)[: rng.integers(1, 5)].tolist()
        for _ in range(rng.integers(1, 4))
    ]
    return rows, rng.normal(size=(len(rows), d)) + 0.5, [f"document {k}" for k in rng.permutation(n)]


def unit(x: np.ndarray) -> np.ndarray:
    made: np.ndarray = x / np.linalg.norm(x)
    return made


def by_loop(rows: Sequence[Row], vectors: np.ndarray, weight: float) -> dict[str, list[np.ndarray]]:
    """The sections of each document, in the order of their numbers."""
    made: dict[str, list[np.ndarray]] = {}
    for item, section in sorted({(row[0], row[1]) for row in rows}):
        own = [(unit(vectors[i]), row[2]) for i, row in enumerate(rows) if row[:2] == (item, section)]
        said, shown = ([v for v, kind in own if (kind != "images") is text] for text in (True, False))
        if said and shown:
            vector = weight * np.mean(said, axis=0) + (1 - weight) * np.mean(shown, axis=0)
        else:
            vector = np.mean(said or shown, axis=0)
        made.setdefault(item, []).append(unit(vector))
    return made


@pytest.mark.parametrize("weight", [0.5, 0.0, 0.3, 1.0])
def test_sections_and_documents_equal_a_loop(weight: float) -> None:
    rows, vectors, order = ragged(np.random.default_rng(4))
    items = documents(rows, vectors, order)
    sections = xg.view("sections", weight=weight)(None, items)
    merged = xg.view("document", weight=weight)(None, items)
    expected = by_loop(rows, vectors, weight)
    assert sections.ids == merged.ids == tuple(order)
    assert (sections.space, sections.origin) == ("image+text", "document")
    for item in order:
        np.testing.assert_allclose(sections.tokens_of(item), expected[item], atol=1e-6)
        np.testing.assert_allclose(merged.select([item]).vectors[0], unit(np.mean(expected[item], axis=0)), atol=1e-6)
    some = items.select(order[2:5])
    np.testing.assert_array_equal(xg.view("document", weight=weight)(None, some), merged.select(order[2:5]))


def test_shares_count_sections_alike_and_the_rows_of_a_section_too() -> None:
    rows = [("a", 0, "texts"), ("a", 0, "images"), ("a", 1, "texts"), ("b", 0, "images"), ("b", 7, "tables")]
    rows += [("b", 3, "images"), ("c", 0, "texts")]
    made = xg.view("document")(None, documents(rows, np.eye(7), ["b", "a", "c"]))
    assert shares_of(made)["text"].tolist() == pytest.approx([1 / 3, 3 / 4, 1])
    assert shares_of(made)["image"].tolist() == pytest.approx([2 / 3, 1 / 4, 0])


def test_the_order_of_sections_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    rows, vectors, order = ragged(rng)
    merged = xg.view("document")(None, documents(rows, vectors, order))
    turned = [(item, 10 - section, kind) for item, section, kind in rows]
    again = xg.view("document")(None, documents(turned, vectors, order))
    np.testing.assert_allclose(again, merged, atol=1e-6)


def test_one_section_is_section_retrieval() -> None:
    rng = np.random.default_rng(6)
    rows: list[Row] = [(f"document {k}", 0, ("images", "texts")[k % 2]) for k in range(12)]
    vectors = rng.normal(size=(12, 5))
    items = documents(rows, vectors, [row[0] for row in rows])
    merged = xg.view("document")(None, items)
    np.testing.assert_allclose(merged, [unit(v) for v in vectors], atol=1e-6)
    np.testing.assert_array_equal(xg.view("sections")(None, items).vectors, merged.vectors)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("angle", [90, 60, 10])
def test_the_length_of_the_mean_and_the_cosine_with_it(p: float, angle: float) -> None:
    """All texts equal t, all images equal v, at an angle; the cosine with a document is the mean cosine over it."""
    g = math.radians(angle)
    t, v = np.array([1.0, 0, 0]), np.array([math.cos(g), math.sin(g), 0])
    query = unit(np.array([0.2, 0.5, 0.8]))
    rows: list[Row] = [("a", k, "texts" if k < 4 * p else "images") for k in range(4)]
    items = documents(rows, np.stack([t if row[2] == "texts" else v for row in rows]), ["a"])
    sections = xg.view("sections")(None, items)
    length = float(sections.vectors.double().mean(0).norm())
    assert length**2 == pytest.approx(p**2 + (1 - p) ** 2 + 2 * p * (1 - p) * math.cos(g), abs=1e-6)
    if (p, angle) == (0.5, 90):
        assert length == pytest.approx(0.7071, abs=1e-4)
    found = xg.score(xg.as_features(query[None]), xg.view("document")(None, items))[0, 0]
    assert float(found) == pytest.approx(float((p * query @ t + (1 - p) * query @ v) / length), abs=1e-6)
    tokens = xg.TokenFeatures(torch.from_numpy(query[None]), [0, 1], ["q"], "text", "text")
    assert float(xg.score(tokens, sections, UNIFORM)[0, 0]) == pytest.approx(float(found), abs=1e-6)


def test_reranking_all_by_the_best_section_is_late_interaction() -> None:
    rows, vectors, order = ragged(np.random.default_rng(7))
    sections = xg.view("sections")(None, documents(rows, vectors, order))
    query = xg.Features(np.random.default_rng(8).normal(size=(5, 6)), list("vwxyz"), "text", "text")
    best = xg.score(query, sections, BEST)
    reranked = xg.score(query, sections, f"rerank(first={UNIFORM}, second={BEST}, depth={len(order)})")
    np.testing.assert_array_equal(reranked, best)
    top = xg.score(query, sections, f"rerank(first={UNIFORM}, second={BEST}, depth=3)")
    for row, first in zip(top, xg.score(query, sections, UNIFORM), strict=True):
        assert set(row.topk(3).indices.tolist()) == set(first.topk(3).indices.tolist())


@cache
def scenes(share: int, split: str = "seen") -> xg.Dataset:
    return xg.load_dataset(f"emoji-scenes:documents-{share}").split(split)


def test_documents_of_texts_alone_are_text_retrieval() -> None:
    data, model = scenes(100), xg.load_model("oracle")
    items = data.items["document"]
    merged = xg.view("document")(model, items, store=None, progress=False)
    assert (merged.space, set(shares_of(merged))) == ("text", {"text"})
    texts = xg.encode(model, items.parts["texts"].items, store=None, progress=False)
    for item in items.ids[:20]:
        own = [f"{item}/section-{k}" for k in range(4) if f"{item}/section-{k}" in texts.ids]
        np.testing.assert_allclose(
            merged.select([item]).vectors[0], unit(texts.select(own).vectors.double().mean(0).numpy()), atol=1e-6
        )


def shares_at(model: str, share: int, correction: str) -> Mapping[str, float]:
    data = scenes(share)
    study = xg.Study(
        [model], [data], ["T-D"], [correction], metrics=["modality-share(k=5)"], fit_split="train", progress=False
    )
    evaluation = next(study.evaluations())
    evaluation.fit_data = data.split("train").limit(60)
    pair = evaluation.pair("T-D", correction)
    found: Mapping[str, float] = xg.modality_share(pair.query, pair.gallery, data, k=5).mean().to_dict()
    return found


def test_text_queries_prefer_documents_of_texts_until_both_modalities_are_centred() -> None:
    raw, centred = (shares_at("oracle", 50, correction) for correction in ("none", "center"))
    whole = raw["share_gallery_text"]
    assert whole == pytest.approx(0.5, abs=0.04)
    assert raw["share_at_5_text"] > whole + 0.15
    assert abs(centred["share_at_5_text"] - whole) < (raw["share_at_5_text"] - whole) / 2
    assert centred["share_relevant_text"] == raw["share_relevant_text"]


def test_a_study_of_documents_fits_corrections_on_scenes_or_on_sections() -> None:
    data = scenes(25)
    assert set(data.split("train").items) == {"image", "text"}
    assert set(data.splits) == {"train", "seen", "test"}
    table = xg.Study(["oracle"], [data], ["T-D"], ["center(roles=True)"], fit_split="seen", progress=False).run()
    row = xg.main_rows(table).iloc[0]
    assert (row["fitted_on"], bool(row["transductive"])) == ("seen", True)
    model = xg.load_model("oracle")
    query = xg.encode(model, data.texts, progress=False)
    means, sets = {"query": query.vectors.double().mean(0)}, {}
    for name, own in data.items["document"].parts.items():
        sets[name] = xg.encode(model, own.items, progress=False)
        means[name] = sets[name].vectors.double().mean(0)

    def moved(features: xg.Features) -> xg.Features:
        name = "images" if features.space == "image" else "texts"
        return xg.Features(features.vectors.double() - means[name], features.ids, features.space, features.origin)

    gallery = xg.view("document")(model, data.items["document"], transform=moved, progress=False)
    query = xg.Features(query.vectors.double() - means["query"], query.ids, "text", "text")
    assert row["value"] == pytest.approx(xg.retrieval(query, gallery, data)["ap"].mean(), abs=1e-6)


def test_mistakes_are_one_sentence() -> None:
    rows: list[Row] = [("a", 0, "texts")]
    with pytest.raises(XgapError, match="document 'b' has no section; leave it out"):
        xg.view("document")(None, documents(rows, np.eye(1), ["a", "b"]))
    with pytest.raises(XgapError, match="the share of the text, lies in \\[0, 1\\], not 2"):
        xg.view("sections", weight=2)(None, documents(rows, np.eye(1), ["a"]))
    plain = Items(("a",), lambda item: item, "", "document")
    with pytest.raises(XgapError, match="these document items have no sections"):
        xg.view("sections")(None, plain)
    with pytest.raises(XgapError, match="sections of documents have whole numbers, in their order, not 'intro'"):
        xg.view("sections")(None, documents([("a", "intro", "texts")], np.eye(1), ["a"]))  # type: ignore[list-item]
    opposite = documents([("a", 0, "texts"), ("a", 1, "images")], np.array([[1.0, 0], [-1, 0]]), ["a"])
    with pytest.raises(XgapError, match="'a'"):
        xg.view("document")(None, opposite)
