"""Sections ranked in two stages: against a loop, and where the two stages are one."""

import numpy as np
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics.documents import each_section, two_stage

HITS = ["ap", "hit_at_1", "ndcg_at_10"]


def made(seed: int, n: int = 8) -> tuple[xg.TokenFeatures, xg.Features]:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 5, size=n))])
    documents = xg.TokenFeatures(
        rng.normal(size=(offsets[-1], 5)) + 0.4, offsets, [f"d{k}" for k in range(n)], "image+text", "document"
    )
    return documents, xg.Features(rng.normal(size=(11, 5)), [f"q{k}" for k in range(11)], "text", "text")


@pytest.mark.parametrize("depth", [1, 3, 8, 20])
def test_the_order_of_sections_is_that_of_a_loop(depth: int) -> None:
    documents, query = made(1)
    sections, document_of = each_section(documents)
    scores = xg.score(query, sections).double()
    ranked = two_stage(sections, document_of, depth=depth)(scores.float())
    merged = documents.pooled()
    for row in range(len(query)):
        whole = (merged.vectors.double() @ query.vectors[row].double()).tolist()
        best = {merged.ids[i] for i in sorted(range(len(merged)), key=lambda i: -whole[i])[:depth]}
        expected = sorted(
            range(len(sections)), key=lambda i: (document_of[sections.ids[i]] not in best, -float(scores[row, i]))
        )
        assert ranked[row].argsort(descending=True).tolist() == expected
        kept = [i for i in expected if document_of[sections.ids[i]] in best]
        assert ranked[row, kept].tolist() == scores[row, kept].float().tolist()


def test_one_section_a_document_or_all_documents_is_plain_retrieval() -> None:
    documents, query = made(2)
    sections, document_of = each_section(documents)
    relevance = xg.Relevance.from_qrels({q: {sections.ids[3 * k % len(sections)]: 1} for k, q in enumerate(query.ids)})
    plain = xg.retrieval(query, sections, relevance)[HITS]
    all_of_them = two_stage(sections, document_of, depth=len(documents))
    assert xg.retrieval(query, sections, relevance, normalise=all_of_them)[HITS].equals(plain)
    alone = two_stage(sections, sections.ids, depth=1)
    assert xg.retrieval(query, sections, relevance, normalise=alone)[HITS].equals(plain)
    first = xg.retrieval(query, sections, relevance, normalise=two_stage(sections, document_of, depth=1))
    assert not first[HITS].equals(plain)


def test_two_stages_of_documents_on_the_oracle() -> None:
    """Without a modality's code every query finds its document first, and its section in it."""
    data = xg.load_dataset("emoji-scenes:documents-50").split("seen")
    model = xg.load_model("oracle(g=0.0, artist=0.0)")
    documents = xg.view("sections")(model, data.items["document"], store=None, progress=False)
    sections, document_of = each_section(documents)
    assert set(sections.ids) == {i for own in data.items["document"].parts.values() for i in own.items.ids}
    query = xg.encode(model, data.texts, store=None, progress=False)
    relevance = data.relevance("section")
    found = xg.retrieval(query, sections, relevance, normalise=two_stage(sections, document_of, depth=1))
    assert found["hit_at_1"].mean() == 1


def test_sections_are_items_of_their_own() -> None:
    documents, _ = made(3)
    sections, document_of = each_section(documents)
    assert torch.equal(sections.vectors, documents.vectors)
    assert [document_of[i] for i in sections.ids] == [i.split("/")[0] for i in sections.ids]
    assert sections.origin == "section"


def test_mistakes_are_one_sentence() -> None:
    documents, query = made(4)
    sections, document_of = each_section(documents)
    with pytest.raises(XgapError, match="depth of two_stage is a whole number of documents of 1 or more, not 0"):
        two_stage(sections, document_of, depth=0)
    with pytest.raises(XgapError, match="needs the document of each of the"):
        two_stage(sections, ["a"])
    with pytest.raises(XgapError, match="1 sections have no document, the first is 'd0/section-0'"):
        two_stage(sections, {k: v for k, v in document_of.items() if k != "d0/section-0"})
    with pytest.raises(XgapError, match="sections of document 'a' cancel out"):
        two_stage(np.array([[1.0, 0], [-1, 0]]), ["a", "a"])
    relevance = xg.Relevance.from_qrels({"q0": {"d0/section-0": 1}}, {"q0": ["d1/section-0"]})
    with pytest.raises(XgapError, match="sections are left out here"):
        xg.retrieval(query, sections, relevance, normalise=two_stage(sections, document_of))
