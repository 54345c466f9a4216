"""MixBench's and MTEB's layouts of a mixed gallery, on made-up trees: what is read, and what is refused."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.mixed import kinds_of
from xgap_analysis.datasets.local.mixed import load_mixed
from xgap_analysis.datasets.local.own import load_own
from xgap_analysis.models import Model

KINDS = ("text", "image", "image+text")  # dealt in turn, as MixBench deals them


def shade(k: int) -> Image.Image:
    return Image.fromarray(np.full((8, 8, 3), 10 * k + 5, np.uint8))


def png(k: int) -> bytes:
    buffer = io.BytesIO()
    shade(k).save(buffer, "PNG")
    return buffer.getvalue()


def lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def mixbench(root: Path, images_in: str = "MSCOCO/images", asked_with: str = "") -> Path:
    """The release of 2025: three tables in JSON lines, images by path, relevance as TSV."""
    folder = root / "MSCOCO"
    prefix = images_in.removeprefix("MSCOCO/")
    (root / images_in).mkdir(parents=True)
    for k in range(9):
        shade(k).save(root / images_in / f"{k}.png")

    def row(key: str, i: str, k: int, kind: str) -> dict[str, Any]:
        text = f"a thing {k}" if "text" in kind else None
        return {key: i, "text": text, "image": f"{prefix}/{k}.png" if "image" in kind else ""}

    corpus = [row("corpus_id", str(k), k, KINDS[k % 3]) for k in range(9)]
    lines(folder / "mixed_corpus.jsonl", corpus)
    lines(folder / "corpus.jsonl", [row("corpus_id", str(k), k, "text") for k in range(9)])
    lines(folder / "queries.jsonl", [row("query_id", str(k), k, f"text{asked_with}") for k in range(4)])
    (folder / "qrels").mkdir()
    rows = [f"{k}\t{(3 * k + 1) % 9}\t{1 + k % 2}" for k in range(4)]
    (folder / "qrels" / "qrels.tsv").write_text("\n".join(["query_id\tcorpus_id\tscore", *rows, "0\t8\t1"]) + "\n")
    return folder


def mteb(root: Path) -> Path:
    """Three folders of Parquet files, with bytes of images."""
    folder = root / "Task"

    def row(i: str, k: int, kind: str) -> dict[str, Any]:
        image = {"bytes": png(k), "path": None} if "image" in kind else None
        text = f"a thing {k}" if "text" in kind else None
        return {"id": i, "modality": kind.replace("+", ","), "text": text, "image": image}

    corpus = [row(str(k), k, KINDS[k % 3]) for k in range(9)]
    for name, rows in (("corpus", corpus), ("queries", [row(str(k), k, "text") for k in range(4)])):
        (folder / name).mkdir(parents=True)
        for part in range(2):
            pd.DataFrame(rows[part::2]).to_parquet(folder / name / f"test-0000{part}-of-00002.parquet")
    qrels = [{"query-id": str(k), "corpus-id": str((3 * k + 1) % 9), "score": 1 + k % 2} for k in range(4)]
    (folder / "qrels").mkdir()
    pd.DataFrame([*qrels, {"query-id": "0", "corpus-id": "8", "score": 1}]).to_parquet(
        folder / "qrels" / "test.parquet"
    )
    return folder


def check(data: xg.Dataset) -> None:
    """The same dataset, whichever layout it is read from."""
    documents = data.items["document"]
    assert sorted(documents.ids) == [f"document/{k}" for k in range(9)]
    assert sorted(data.texts.ids) == [f"query/{k}" for k in range(4)]
    assert dict(zip(data.texts.ids, data.texts.captions, strict=True))["query/2"] == "a thing 2"
    texts, images = documents.parts["texts"], documents.parts["images"]
    assert sorted(texts.owners) == [f"document/{k}" for k in range(9) if "text" in KINDS[k % 3]]
    assert sorted(images.owners) == [f"document/{k}" for k in range(9) if "image" in KINDS[k % 3]]
    for owner, item in zip(images.owners, images.items.ids, strict=True):
        assert images.items.opener(item).getpixel((0, 0)) == shade(int(owner[-1])).getpixel((0, 0))  # type: ignore[union-attr]
        assert images.items.digest_of(item)  # type: ignore[union-attr]
    expected = {f"query/{k}": {f"document/{(3 * k + 1) % 9}": 1.0 + k % 2} for k in range(4)}
    expected["query/0"]["document/8"] = 1.0
    assert data.relevance().qrels == expected
    assert (data.default_label_set, data.split("test").name) == ("relevance", data.name)


def test_mixbench_and_mteb_are_one_dataset(tmp_path: Path) -> None:
    for folder in (mixbench(tmp_path / "a"), mixbench(tmp_path / "b", "images"), mteb(tmp_path)):
        check(load_own(str(folder)))
        check(load_own(f"mixed-jsonl:{folder}"))
        assert xg.load_dataset(str(folder)).name == folder.name


def test_the_release_of_2026_takes_the_qrels_of_the_one_before(tmp_path: Path) -> None:
    before = mixbench(tmp_path / "2025")
    folder = tmp_path / "2026" / "MSCOCO"
    folder.mkdir(parents=True)
    for name, key in (("queries", "query_id"), ("mixed_corpus", "corpus_id")):
        rows = [json.loads(line) for line in (before / f"{name}.jsonl").read_text().splitlines()]
        for row in rows:
            held = {"bytes": (before / row["image"]).read_bytes(), "path": row["image"]} if row["image"] else None
            row["id"], row["image"] = row.pop(key), held
        pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet")
    with pytest.raises(XgapError, match="has no table qrels"):
        xg.load_dataset(str(folder))
    check(xg.load_dataset(str(folder), qrels=before / "qrels" / "qrels.tsv"))


def test_queries_of_text_and_image_are_documents_too(tmp_path: Path, model: Model) -> None:
    data = xg.load_dataset(str(mixbench(tmp_path, asked_with="+image")))
    assert data.queries("document") == tuple(f"query/{k}" for k in range(4))
    assert data.gallery("document") == tuple(f"document/{k}" for k in range(9))
    table = xg.Study([model], [data], ["D-D"], progress=False).run()
    row = table[table["metric"] == "ndcg_at_10"].iloc[0]
    made = xg.view("document")(model, data.items["document"], progress=False)
    expected = xg.retrieval(made.select(data.queries("document")), made.select(data.gallery("document")), data)
    assert row["value"] == pytest.approx(expected["ndcg_at_10"].mean())
    assert (row["n_queries"], row["n_gallery"]) == (4, 9)


def test_a_study_of_fused_documents_raw_and_centred(tmp_path: Path, model: Model) -> None:
    data = xg.load_dataset(str(mixbench(tmp_path)))
    corrections = ["none", "center(roles=True)"]
    study = xg.Study(
        [model], [data], ["T-D", "text-document(weight=0.2)"], corrections, metrics=["modality-share(k=3)"],
        fit_split="test", progress=False,
    )  # fmt: skip
    table = study.run()
    assert set(table[table["correction"] != "none"]["transductive"]) == {True}
    values = table.set_index(["comparison", "correction", "metric"])["value"]
    parts = data.items["document"].parts
    sets = {name: xg.encode(model, own.items, progress=False) for name, own in parts.items()}
    query = xg.encode(model, data.texts, progress=False).vectors.double()
    rows = {name: dict(zip(own.owners, sets[name].vectors.double(), strict=True)) for name, own in parts.items()}
    for comparison, weight in (("T-D", 0.5), ("text-document(weight=0.2)", 0.2)):
        for correction in corrections:
            moved = {
                name: {i: v - sets[name].vectors.double().mean(0) * (correction != "none") for i, v in of.items()}
                for name, of in rows.items()
            }
            moved = {name: {i: v / v.norm() for i, v in of.items()} for name, of in moved.items()}
            moved_query = query - query.mean(0) * (correction != "none")
            made = []
            for item in data.items["document"].ids:
                said, shown = (moved[name].get(item) for name in ("texts", "images"))
                if said is None or shown is None:
                    made.append(said if shown is None else shown)
                else:
                    made.append(weight * said + (1 - weight) * shown)
            gallery = xg.Features(np.stack(made), data.items["document"].ids, "x", "document")
            found = xg.retrieval(xg.Features(moved_query, data.texts.ids, "text", "text"), gallery, data)
            assert values[comparison, correction, "ndcg_at_10"] == pytest.approx(found["ndcg_at_10"].mean(), abs=1e-6)
    gallery = xg.view("document")(model, data.items["document"], progress=False)
    assert sorted(kinds_of(gallery).values()) == sorted(["image", "image+text", "text"] * 3)
    shares = xg.modality_share(xg.encode(model, data.texts, progress=False), gallery, data, of=kinds_of(gallery), k=9)
    assert shares["share_at_9_image+text"].tolist() == pytest.approx([1 / 3] * 4)


def test_the_whole_corpus_instead_of_the_mixed_one(tmp_path: Path) -> None:
    data = load_mixed(mixbench(tmp_path), corpus="corpus")
    assert set(data.items["document"].parts) == {"texts"}


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = mixbench(tmp_path)
    with pytest.raises(XgapError, match=r"has no table queries .*; it holds the datasets MSCOCO: name one of them"):
        load_mixed(tmp_path)
    with pytest.raises(XgapError, match="unknown option of data read as mixed-jsonl: 'corpora'"):
        xg.load_dataset(str(folder), corpora="x")
    with pytest.raises(XgapError, match="there is no folder"):
        load_mixed(tmp_path / "nothing")
    qrels, corpus = folder / "qrels" / "qrels.tsv", folder / "mixed_corpus.jsonl"
    good, rows = qrels.read_text(), corpus.read_text()
    for text, said in (
        (good + "0\t77\t1\n", "names '77', which is not in .*corpus"),
        (good + "9\t1\t1\n", "names '9', which is not in .*queries"),
        (good + "0\t8\t2\n", "grades '8' for the query '0' twice, 1 and 2"),
        (good.replace("corpus_id", "item"), "needs the columns query_id and corpus_id; it has: query_id, item, score"),
    ):
        qrels.write_text(text)
        with pytest.raises(XgapError, match=said):
            load_mixed(folder)
    qrels.write_text(good)
    for row, said in (
        ({"corpus_id": "3", "text": "again"}, "gives the id '3' twice"),
        ({"corpus_id": "x", "text": " ", "image": None}, "row 'x' of .* has neither a text nor an image"),
        ({"text": "x"}, "row 10 of .* has no id"),
        ({"corpus_id": "x", "text": "x", "image": "images/1.png", "modality": "text"}, "is of modality 'text' and has"),
        ({"corpus_id": "x", "image": "../../secret.png"}, "outside the folder"),
        ({"corpus_id": "x", "text": 7}, "a text is expected, not 7"),
    ):
        corpus.write_text(rows + json.dumps(row) + "\n")
        with pytest.raises(XgapError, match=said):
            load_mixed(folder)
    corpus.write_text(json.dumps({"number": 1, "text": "x"}) + "\n")
    with pytest.raises(XgapError, match=r"needs an id .* and a text or an image; it has the columns number, text"):
        load_mixed(folder)
    corpus.write_text(rows)
    pd.DataFrame([{"id": 1, "text": "x"}]).to_parquet(folder / "mixed_corpus.parquet")
    with pytest.raises(XgapError, match=r"is there as \.jsonl and \.parquet; keep one"):
        load_mixed(folder)


def test_a_document_may_say_none(tmp_path: Path) -> None:
    folder = mixbench(tmp_path)
    corpus = folder / "mixed_corpus.jsonl"
    corpus.write_text(corpus.read_text() + json.dumps({"corpus_id": "x", "text": "None"}) + "\n")
    documents = load_mixed(folder).items["document"]
    assert (
        dict(zip(documents.parts["texts"].owners, documents.parts["texts"].items.captions, strict=True))[  # type: ignore[union-attr]
            "document/x"
        ]
        == "None"
    )
