"""NanoBEIR, 20 Newsgroups, IMDB and summaries: text alone, with relevance item by item or by class."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.datasets import Dataset, load_dataset
from xgap_analysis.datasets.published.posts import GROUPS
from xgap_analysis.datasets.published.protocols import PROTOCOLS
from xgap_analysis.models import Model

from .conftest import nano

NANO = {name: p for name, p in PROTOCOLS.items() if p.family == "documents"}


def random_features(data: Dataset, seed: int) -> tuple[Features, Features]:
    rng = np.random.default_rng(seed)
    query, gallery = data.queries("text"), data.gallery("text")
    return tuple(Features(rng.normal(size=(len(ids), 8)), ids, "text", "text") for ids in (query, gallery))  # type: ignore[return-value]


# NanoBEIR


@pytest.mark.parametrize("name", NANO)
def test_queries_ask_for_documents_whose_ids_may_be_the_same(name: str, tmp_path: Path) -> None:
    qrels = nano(tmp_path, NANO[name].folders[0])
    data = load_dataset(name, tmp_path)
    assert (data.name, data.split_name, tuple(data.splits)) == (name, "test, truncated", ("test",))
    assert data.queries("text") == tuple(f"query/{i}" for i in range(5))
    assert data.gallery("text") == tuple(f"document/{i}" for i in range(14))
    judged = data.relevance().bind(data.queries("text"), data.gallery("text"))
    assert [[f"{int(g)}" for g in row] for row in judged.grades(0, 5)] == [
        [str(qrels[str(q)].get(str(d), 0)) for d in range(14)] for q in range(5)
    ]
    assert not judged.ignored(0, 5).any()  # document 3 is not query 3


@pytest.mark.parametrize("scored", [False, True])
def test_numbers_equal_ranx(scored: bool, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranx = pytest.importorskip("ranx")
    qrels = nano(tmp_path, scored=scored)
    data = load_dataset("nano-scifact", tmp_path)
    for seed in range(4):
        query, gallery = random_features(data, seed)
        ours = xg.retrieval(query, gallery, data)
        scores = (query.vectors @ gallery.vectors.T).tolist()
        run = {q: dict(zip(gallery.ids, row, strict=True)) for q, row in zip(query.ids, scores, strict=True)}
        judged = {f"query/{q}": {f"document/{d}": grade for d, grade in of.items()} for q, of in qrels.items()}
        names = {"ndcg@10": "ndcg_at_10", "map": "ap"}
        theirs = ranx.evaluate(ranx.Qrels(judged), ranx.Run(run), list(names), return_mean=False)
        for their, our in names.items():
            np.testing.assert_allclose(ours[our], theirs[their], atol=1e-9)


def test_a_title_stands_before_the_text_and_long_texts_are_summarised_by_a_file(tmp_path: Path) -> None:
    nano(tmp_path)
    file = tmp_path / "NanoSciFact" / "corpus" / "train-00000-of-00001.parquet"
    frame = pd.read_parquet(file)
    frame.assign(title=["On cells", *[""] * 13]).to_parquet(file)
    data = load_dataset("nano-scifact", tmp_path)
    assert data.texts.select(["document/0"]).captions[0].startswith("On cells. abstract 0 on cells")
    assert data.texts.select(["document/1"]).captions[0].startswith("abstract 1")
    rows = [{"_id": str(i), "summary": f"in short {i}"} for i in range(14)]
    before = data.texts.digest
    for name, written in (
        ("summaries.jsonl", "\n".join(json.dumps(row) for row in rows)),
        ("summaries.csv", pd.DataFrame(rows).to_csv(index=False)),
        ("summaries.parquet", None),
    ):
        path = tmp_path / "NanoSciFact" / name
        if written is None:
            pd.DataFrame(rows).rename(columns={"_id": "id"}).to_parquet(path)
        else:
            path.write_text(written)
        data = load_dataset("nano-scifact", tmp_path)
        assert data.split_name == "test, summarised"
        assert data.texts.select(["document/7", "query/2"]).captions == ("in short 7", "proteins claim 2")
        assert data.texts.digest != before
        path.unlink()


@pytest.mark.parametrize(
    ("name", "written", "said"),
    [
        ("summaries.jsonl", '{"id": "0", "summary": "x"}\n', "has no summary for 13 of 14 texts, the first is '1'"),
        ("summaries.jsonl", '{"id": "0"', "is damaged: it cannot be read as JSONL"),
        ("summaries.jsonl", '{"id": "0", "short": "x"}', "needs the columns id and summary; it has: id, short"),
        ("summaries.csv", "id,summary\n0,a\n0,b\n", "has two summaries for '0'"),
        ("summaries.csv", "", "is damaged: it cannot be read as CSV"),
        ("summaries.parquet", "PAR1", "is damaged: it cannot be read as PARQUET"),
    ],
)
def test_a_damaged_file_of_summaries(name: str, written: str, said: str, tmp_path: Path) -> None:
    nano(tmp_path)
    (tmp_path / "NanoSciFact" / name).write_text(written)
    with pytest.raises(XgapError, match=said):
        load_dataset("nano-scifact", tmp_path)


def test_damaged_documents(tmp_path: Path) -> None:
    nano(tmp_path)
    folder = tmp_path / "NanoSciFact"
    file = folder / "qrels" / "train-00000-of-00001.parquet"
    good = pd.read_parquet(file)

    def refused(frame: pd.DataFrame, said: str) -> None:
        frame.to_parquet(file)
        with pytest.raises(XgapError, match=said):
            load_dataset("nano-scifact", tmp_path)

    refused(good.assign(**{"corpus-id": "77"}), "qrels names '77', which is not in .*corpus")
    refused(good.assign(**{"query-id": "77"}), "qrels names '77', which is not in .*queries")
    refused(good[:0], "qrels has no rows")
    refused(good.rename(columns={"corpus-id": "document"}), "has no column 'corpus-id'; it has: query-id, document")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(XgapError, match="is not a valid Parquet file"):
        load_dataset("nano-scifact", tmp_path)
    file.unlink()
    with pytest.raises(XgapError, match=r"expected .*qrels/\*\.parquet, and there is none"):
        load_dataset("nano-scifact", tmp_path)
    file.parent.rmdir()
    with pytest.raises(XgapError, match=r"not all there; .*NanoSciFact/qrels \(the folder qrels of the published"):
        load_dataset("nano-scifact", tmp_path)


def test_a_missing_title_is_no_word_and_numbers_are_ids(tmp_path: Path) -> None:
    qrels = nano(tmp_path)
    folder = tmp_path / "NanoSciFact"
    for part in ("corpus", "queries", "qrels"):
        file = folder / part / "train-00000-of-00001.parquet"
        frame = pd.read_parquet(file)
        for column in {"_id", "query-id", "corpus-id"} & set(frame):
            frame[column] = frame[column].astype(float if part == "corpus" else int)
        if part == "corpus":
            frame = frame.assign(title=[None, "nan", "On cells", *[""] * 11])
        frame.to_parquet(file)
    data = load_dataset("nano-scifact", tmp_path)
    shown = data.texts.select([f"document/{k}" for k in range(3)]).captions
    assert [text.split(" ")[0] for text in shown] == ["abstract", "abstract", "On"]
    judged = {q: {i for i, grade in of.items() if grade} for q, of in data.judgements["relevance"].qrels.items()}  # type: ignore[union-attr]
    assert judged == {f"query/{q}": {f"document/{d}" for d, grade in of.items() if grade} for q, of in qrels.items()}


def test_a_judgement_given_twice_or_without_a_score_is_said(tmp_path: Path) -> None:
    nano(tmp_path)
    file = tmp_path / "NanoSciFact" / "qrels" / "train-00000-of-00001.parquet"
    good = pd.read_parquet(file).drop(columns="score", errors="ignore")
    first = (f"query/{good['query-id'][0]}", f"document/{good['corpus-id'][0]}")
    good.assign(score=[None, *[2.0] * (len(good) - 1)]).to_parquet(file)
    with pytest.warns(UserWarning, match=rf"1 of {len(good)} rows .* have no score; they are read as grade 1"):
        qrels = load_dataset("nano-scifact", tmp_path).judgements["relevance"].qrels
    assert qrels is not None
    assert qrels[first[0]][first[1]] == 1
    twice = pd.concat([good, good[:1]], ignore_index=True)
    twice.to_parquet(file)
    with pytest.warns(UserWarning, match=rf"1 of {len(twice)} rows .* repeat an earlier one, with the same grade"):
        load_dataset("nano-scifact", tmp_path)
    twice.assign(score=[*[1] * len(good), 0]).to_parquet(file)
    with pytest.raises(XgapError, match=r"grades '.*' for the query '.*' twice, 1 and 0; keep one"):
        load_dataset("nano-scifact", tmp_path)


def test_a_missing_summary_is_no_word(tmp_path: Path) -> None:
    nano(tmp_path)
    rows = [{"_id": i, "summary": f"in short {i}" if i else None} for i in range(14)]
    (tmp_path / "NanoSciFact" / "summaries.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(XgapError, match="has no summary for 1 of 14 texts, the first is '0'"):
        load_dataset("nano-scifact", tmp_path)


# 20 Newsgroups and IMDB


def newsgroups(root: Path) -> None:
    for split in ("test", "train"):
        for group in GROUPS:
            for i in range(2):
                path = root / "20news-bydate" / f"20news-bydate-{split}" / group / f"{5000 + i}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(f"Subject: {group}\n\n{split} post \xe9 {i}\n".encode("latin-1"))


def test_twenty_sentences_ask_for_the_posts_of_their_group(tmp_path: Path) -> None:
    newsgroups(tmp_path)
    data = load_dataset("20-newsgroups", tmp_path)
    assert data.split_name == "test, truncated"
    assert len(data.queries("text")) == 20
    assert len(data.gallery("text")) == 40
    assert data.texts.select(["sci.space/5001"]).captions == ("Subject: sci.space\n\ntest post \xe9 1",)
    grades = data.relevance().bind(["query/sci.space"], data.gallery("text")).grades(0, 1)[0]
    answers = [i for i, g in zip(data.gallery("text"), grades, strict=True) if g]
    assert answers == ["sci.space/5000", "sci.space/5001"]
    assert len(set(data.texts.select(data.queries("text")).captions)) == 20
    assert data.split("train").texts.select(["sci.space/5000"]).captions[0].endswith("train post \xe9 0")
    (tmp_path / "20news-bydate" / "20news-bydate-test" / "sci.space").rename(tmp_path / "gone")
    with pytest.raises(XgapError, match=r"expected the 20 groups as folders in .*-test; 'sci\.space' is missing"):
        load_dataset("20-newsgroups", tmp_path)


def test_a_positive_and_a_negative_sentence_ask_for_all_reviews(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for sentiment in ("pos", "neg"):
            for i in range(2):
                path = tmp_path / "aclImdb" / part / sentiment / f"{i}_{7 + i}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{part} {sentiment} {i} ")
    data = load_dataset("imdb", tmp_path)
    assert data.queries("text") == ("query/pos", "query/neg")
    assert len(data.gallery("text")) == 8
    grades = data.relevance().bind(["query/neg"], data.gallery("text")).grades(0, 1)[0]
    answers = [i for i, g in zip(data.gallery("text"), grades, strict=True) if g]
    assert answers == [f"{part}/neg/{i}_{7 + i}" for part in ("train", "test") for i in range(2)]
    with pytest.raises(XgapError, match="'imdb' has no split 'train'"):
        data.split("train")
    for file in (tmp_path / "aclImdb" / "train" / "neg").iterdir():
        file.unlink()
    (tmp_path / "aclImdb" / "train" / "neg").rmdir()
    with pytest.raises(XgapError, match=r"expected reviews in .*train/neg"):
        load_dataset("imdb", tmp_path)


def test_reviews_in_one_table(tmp_path: Path) -> None:
    file = tmp_path / "IMDB_Reviews" / "IMDB_Dataset.csv"
    file.parent.mkdir()
    reviews = {"review": ["good, <br />really", "bad", "good"], "sentiment": ["positive", "negative", "positive"]}
    pd.DataFrame(reviews).to_csv(file, index=False)
    data = load_dataset("imdb", tmp_path)
    assert data.gallery("text") == ("0", "1", "2")
    assert data.labels_of()["2"] == "pos"
    assert data.texts.select(["0"]).captions == ("good, <br />really",)
    file.write_text("review,sentiment\nx,3\n")
    with pytest.raises(XgapError, match="has the sentiment '3', which is neither 'positive' nor 'negative'"):
        load_dataset("imdb", tmp_path)
    file.write_text("text,label\nx,1\n")
    with pytest.raises(XgapError, match="needs the columns review and sentiment; it has: text, label"):
        load_dataset("imdb", tmp_path)


def test_a_study_says_what_became_of_long_texts_and_groups_by_query(tmp_path: Path, model: Model) -> None:
    nano(tmp_path, scored=True)
    data = load_dataset("nano-scifact", tmp_path)
    table = xg.Study([model], [data], ["T-T"], progress=False).run()
    assert set(table["split"]) == {"test, truncated"}
    row = table[table["metric"] == "ndcg_at_10"].iloc[0]
    texts = xg.encode(model, data.texts, progress=False)
    expected = xg.retrieval(texts.select(data.queries("text")), texts.select(data.gallery("text")), data)
    assert row["value"] == pytest.approx(expected["ndcg_at_10"].mean())
    assert (row["n_queries"], row["n_groups"], row["n_gallery"]) == (5, 5, 14)
