"""Pairs with people's scores, in files of the layouts in which STS-B is published, and of one's own."""

import doctest
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets import pair_scores
from xgap_analysis.datasets.items import Vectors
from xgap_analysis.datasets.local import pair_scores as reader
from xgap_analysis.datasets.local.pair_scores import load_pair_scores
from xgap_analysis.datasets.pair_scores import PairScores

Pair = tuple[str, str, float]
TRAIN: list[Pair] = [
    ("A plane is taking off.", "An air plane is taking off.", 5.0),
    ('"A man" plays a flute.', "A man plays a large flute.", 3.8),
    ("A plane is taking off.", "A woman slices an onion.", 0.2),
]
DEV: list[Pair] = [
    ('"He said no."', 'He said "no".', 4.75),
    ("A man plays a large flute.", "A dog; a cat, a bird", 0.0),
]


def glue(pairs: Sequence[Pair], scored: bool = True) -> str:
    head = ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2"]
    rows = [[*head, "score"] if scored else head]
    for k, (one, two, score) in enumerate(pairs):
        row = [str(k), "main-captions", "MSRvid", "2012test", f"{k:04}", "none", "none", one, two]
        rows.append([*row, f"{score:.3f}"] if scored else row)
    return "".join("\t".join(row) + "\n" for row in rows)


def original(pairs: Sequence[Pair]) -> str:
    rows = [
        ["main-news", "MSRpar", "2012test", f"{k:04}", f"{score:.3f}", one, two]
        for k, (one, two, score) in enumerate(pairs)
    ]
    rows[0] += ["https://example.org/one", "https://example.org/two"]  # some rows name their sources
    return "".join("\t".join(row) + "\r\n" for row in rows)


def frame(pairs: Sequence[Pair], score: str = "score", **more: Any) -> pa.Table:
    one, two, scores = map(list, zip(*pairs, strict=True))
    return pa.table({"sentence1": one, "sentence2": two, score: scores, **more})


def read(pairs: PairScores) -> list[Pair]:
    text = dict(zip(pairs.items.ids, pairs.items.captions, strict=True))
    return [(text[a], text[b], float(s)) for a, b, s in zip(pairs.first, pairs.second, pairs.scores, strict=True)]


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


def test_glue_as_it_is_published_with_marks_as_characters_and_no_scores_of_the_test_split(tmp_path: Path) -> None:
    write(tmp_path, "train.tsv", glue(TRAIN))
    write(tmp_path, "dev.tsv", glue(DEV))
    write(tmp_path, "test.tsv", glue(DEV, scored=False))
    write(tmp_path, "readme.txt", "STS Benchmark")
    (tmp_path / "original").mkdir()
    write(tmp_path / "original", "sts-test.tsv", original(DEV))
    with pytest.warns(
        UserWarning, match=r"^(1 tables in folders within|.*test.tsv has no column|2 of 7 pairs)"
    ) as said:
        pairs = load_pair_scores(tmp_path)
    assert len(said) == 3
    assert "; they are left out; split test has no pair left" in str(said[-1].message)
    assert read(pairs.split("train")) == TRAIN
    assert read(pairs.split("val")) == DEV
    assert read(pairs) == DEV + TRAIN  # files by name
    assert (pairs.split_name, list(pairs.splits)) == ("all", ["val", "train"])
    assert pairs.split("val").split("train").split_name == "train"
    with pytest.raises(XgapError, match=r"unknown split of .* 'test'; nearest names: train, val"):
        pairs.split("test")


def test_the_original_file_has_no_header_and_may_name_sources(tmp_path: Path) -> None:
    write(tmp_path, "sts-train.csv", original(TRAIN))
    write(tmp_path, "sts-dev.csv", original(DEV))
    write(tmp_path, "LICENSE.txt", "free")
    pairs = load_pair_scores(tmp_path)
    assert read(pairs.split("train")) == TRAIN
    assert read(pairs.split("val")) == DEV
    alone = load_pair_scores(tmp_path / "sts-dev.csv")
    assert (alone.name, alone.split_name, read(alone)) == ("sts-dev", "val", DEV)


def test_parquet_of_the_hub_in_parts_with_minus_one_for_scores_that_are_not_published(tmp_path: Path) -> None:
    (tmp_path / "stsb").mkdir()
    pq.write_table(frame(TRAIN[:2], "label", idx=[0, 1]), tmp_path / "stsb/train-00000-of-00002.parquet")
    pq.write_table(frame(TRAIN[2:], "label", idx=[2]), tmp_path / "stsb/train-00001-of-00002.parquet")
    pq.write_table(frame(DEV, "label", idx=[0, 1]), tmp_path / "stsb/validation-00000-of-00001.parquet")
    hidden = [(one, two, -1.0) for one, two, _ in DEV]
    pq.write_table(frame(hidden, "label", idx=[0, 1]), tmp_path / "stsb/test-00000-of-00001.parquet")
    with pytest.warns(UserWarning, match=r"2 of 7 pairs .* \(2 of them -1, which is read as missing\)"):
        pairs = load_pair_scores(tmp_path / "stsb")
    assert read(pairs.split("train")) == TRAIN
    assert read(pairs.split("val")) == DEV
    with pytest.warns(UserWarning, match="2 of 7 pairs"):
        assert load_pair_scores(tmp_path).digest == pairs.digest


def test_the_same_pairs_in_every_form_with_a_column_of_splits(tmp_path: Path) -> None:
    splits = ["train", "train", "dev"]
    table = frame(TRAIN, "similarity_score", split=splits, genre=["a", "b", "c"])
    rows = table.to_pylist()
    quoted = [",".join(f'"{str(v).replace(chr(34), chr(34) * 2)}"' for v in row.values()) for row in rows]
    pq.write_table(table, tmp_path / "a.parquet")
    files = [
        tmp_path / "a.parquet",
        write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows))),
        write(tmp_path, "a.json", json.dumps(rows)),
        write(tmp_path, "a.csv", "\n".join([",".join(rows[0]), *quoted])),
        write(tmp_path, "a.tsv", "\n".join(["\t".join(rows[0]), *("\t".join(map(str, r.values())) for r in rows)])),
    ]
    found = [load_pair_scores(file) for file in files]
    assert all(read(pairs) == TRAIN for pairs in found)
    assert len({pairs.digest for pairs in found}) == 1
    assert [len(found[0].split(name)) for name in ("train", "val")] == [2, 1]
    with pytest.raises(XgapError, match="tables of several forms"):
        load_pair_scores(tmp_path)


def test_a_csv_without_a_header_holds_two_texts_and_a_score(tmp_path: Path) -> None:
    text = '"Planes, many",A plane.,4.5\n"Planes, many","He said ""no"".",0.500\n'
    pairs = load_pair_scores(write(tmp_path, "stsb-en-test.csv", text))
    assert read(pairs) == [("Planes, many", "A plane.", 4.5), ("Planes, many", 'He said "no".', 0.5)]
    write(tmp_path, "stsb-de-test.csv", text)
    with pytest.raises(
        XgapError, match=r"several tables of split 'test': stsb-de-test.csv, stsb-en-test.csv; name one"
    ):
        load_pair_scores(tmp_path)


def test_other_names_of_columns_are_given_and_those_of_sick_are_known(tmp_path: Path) -> None:
    sick = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\n1\ta b\ta c\t4.5\n2\ta b\td\t1\n"
    assert read(load_pair_scores(write(tmp_path, "SICK.txt", sick))) == [("a b", "a c", 4.5), ("a b", "d", 1.0)]
    own = write(tmp_path, "a.csv", "links,rechts,note\na,b,3\n")
    assert read(load_pair_scores(own, first="links", second="rechts", score="note")) == [("a", "b", 3.0)]
    with pytest.raises(XgapError, match=r"no two columns .* look like the items of pairs .*links, rechts, note"):
        load_pair_scores(own)
    with pytest.raises(XgapError, match=r"no column 'droite' \(second\); it has: links, rechts, note"):
        load_pair_scores(own, first="links", second="droite")
    both = write(tmp_path, "b.csv", "sentence1,sentence2,label,score\na,b,1,4.5\n")
    with pytest.warns(UserWarning, match=r"several columns that look like scores \(score, label\); 'score' is read"):
        assert load_pair_scores(both).scores.tolist() == [4.5]
    assert load_pair_scores(both, score="label").scores.tolist() == [1.0]


@pytest.mark.parametrize("empty", ["", "NaN", "null", "None"])
def test_missing_scores_and_texts_are_left_out_and_counted(tmp_path: Path, empty: str) -> None:
    rows = f"a,b,{empty}\n{empty},b,1\na,{empty},2\na,c,3\n{empty},{empty},{empty}\n"
    file = write(tmp_path, "a.csv", "sentence1,sentence2,score\n" + rows)
    with pytest.warns(
        UserWarning, match=r"2 of 5 pairs of .*a.csv have no score and 3 lack an item; they are left out$"
    ):
        assert read(load_pair_scores(file)) == [("a", "c", 3.0)]


def test_missing_scores_in_parquet_are_missing_too(tmp_path: Path) -> None:
    table = {"sentence1": ["a", "a", "a"], "sentence2": ["b", None, "c"], "score": [None, 1.0, math.nan]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(XgapError, match=r"no pair of two items and a score \(3 rows were read\)"):
        load_pair_scores(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([5, -1, 0], [5, 0]),  # of a scale that begins at 0
        ([1, -1, 0], [1, -1, 0]),  # an end of the scale
        ([5, -1, -5], [5, -1, -5]),
        ([0.5, -1, 0.2], [0.5, -1, 0.2]),
    ],
)
def test_minus_one_is_missing_only_where_the_scale_has_no_place_for_it(
    tmp_path: Path, scores: list[float], kept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f"a,b{k},{score}\n" for k, score in enumerate(scores))
    told: list[str] = []
    monkeypatch.setattr(reader, "notice", told.append)
    pairs = load_pair_scores(write(tmp_path, "a.csv", "sentence1,sentence2,score\n" + rows))
    assert pairs.scores.tolist() == kept
    assert len(told) == (len(kept) < len(scores))


def test_pairs_that_name_no_split_where_others_do_are_in_all_alone(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "sentence1,sentence2,score,split\na,b,1,\nc,d,2,train\ne,f,3,validation\n")
    with pytest.warns(UserWarning, match=r"1 of 3 pairs of .* name no split; they are in the split 'all' alone"):
        pairs = load_pair_scores(file)
    assert (len(pairs), {name: len(part) for name, part in pairs.splits.items()}) == (3, {"train": 1, "val": 1})


def test_equal_texts_are_one_item_wherever_they_stand(tmp_path: Path) -> None:
    rows = "a cat,a dog,1\n a cat ,a cat,5\na fox,a dog,2\nan owl,a bee,0\n"
    pairs = load_pair_scores(write(tmp_path, "a.csv", "sentence1,sentence2,score\n" + rows))
    assert pairs.items.captions == ("a cat", "a dog", "a fox", "an owl", "a bee")
    assert pairs.first[0] == pairs.first[1] == pairs.second[1]
    assert pairs.groups.tolist() == [0, 0, 0, 1]  # the third is linked to the first by its dog
    other = load_pair_scores(write(tmp_path, "b.csv", "sentence1,sentence2,score\nan owl,a cat,1\n"))
    assert set(other.items.ids) < set(pairs.items.ids)  # a text has one id, in whichever file


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "has no rows"),
        ("a.csv", "sentence1,sentence2,score\n", "has no rows"),
        ("a.csv", "sentence1,sentence2,score\na,b,high\n", "row 1 of .*: a score is a number, not 'high'"),
        ("a.csv", "sentence1,sentence2,score\na,b,inf\n", "row 1 of .*: a score is a finite number, not 'inf'"),
        ("a.csv", "sentence1,sentence2,score\na,b,1,2\n", "line 2 of .* has more cells than the header"),
        ("a.csv", 'sentence1,sentence2,score\n"[""a"", ""b""]",b,1\n', "row 1 of .* are 2 texts, and either end"),
        ("a.csv", 'a,b,1\n"c,d,2\n', "line 2 of .* cannot be read"),
        ("a.csv", "a,b,1\nc,d\n", r"line 2 of .* has 2 cells, and a row has 3"),
        (
            "a.json",
            '[{"sentence1": "a", "sentence2": "b", "score": true}]',
            "row 1 of .*: a score is a number, not 'True'",
        ),
        ("a.json", '[{"sentence1": "a", "sentence2": "b", "score": [1]}]', "row 1 of .*: a score is a number"),
        ("a.jsonl", "{\n", "line 1 of .* is not JSON"),
        ("a.tsv", glue(TRAIN).replace("\t5.000", ""), "line 2 of .* has 9 cells, and a row has 10"),
        ("a.tsv", glue(TRAIN).replace("5.000", "5.000\t1"), "line 2 of .* has 11 cells, and a row has 10"),
        ("a.csv", original(TRAIN).replace("\tA woman slices", ""), "line 3 of .* has 6 cells, and a row has 7"),
        ("a.parquet", "PAR1", "a.parquet cannot be read"),
    ],
)
def test_damage_is_reported_in_one_sentence(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(XgapError, match=message) as caught:
        load_pair_scores(write(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_what_is_not_there_or_not_text_is_reported(tmp_path: Path) -> None:
    with pytest.raises(XgapError, match="no file or folder"):
        load_pair_scores(tmp_path / "none.csv")
    with pytest.raises(XgapError, match="holds no table of pairs"):
        load_pair_scores(tmp_path)
    with pytest.raises(XgapError, match=r"a.jsonl.gz is none of the forms that are read: .csv, .*\(unpacked\)"):
        load_pair_scores(write(tmp_path, "a.jsonl.gz", "\x1f"))
    (tmp_path / "a.csv").write_bytes("sentence1,sentence2,score\ncafé,b,1\n".encode("latin-1"))
    with pytest.raises(XgapError, match="not UTF-8 text"):
        load_pair_scores(tmp_path / "a.csv")


def test_half_of_a_character_is_replaced_and_said(tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", '{"sentence1": "a \\ud83d", "sentence2": "b", "score": 1}')
    with pytest.warns(UserWarning, match="half of a character"):
        assert read(load_pair_scores(file)) == [("a \ufffd", "b", 1.0)]


def test_pairs_of_items_that_are_there_already(tmp_path: Path) -> None:
    items = Vectors(xg.Features(np.eye(3), ["7", "8", "9"], "audio", "audio"))
    file = write(tmp_path, "a.csv", "id1,id2,rating\n7,8.0,3\n9,7,1\n")
    with pytest.raises(XgapError, match=r"1 ids in the pairs stand for no item, the first is '8.0'"):
        load_pair_scores(file, items=items)
    rows = {"id1": [7, 9], "id2": [8.0, 7.0], "rating": [3, 1]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    pairs = load_pair_scores(tmp_path / "a.parquet", items=items)
    assert (pairs.first, pairs.second, pairs.modalities) == (("7", "9"), ("8", "7"), ("audio", "audio"))
    assert load_pair_scores(tmp_path / "a.parquet", items=Vectors(items.features.select(["9", "8", "7"]))).first == (
        "7",
        "9",
    )


def texts(*words: str) -> xg.Texts:
    return xg.Texts(words, tuple(f"a {word}" for word in words))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scores": [1]}, "2 first ids, 2 second ids and scores of shape (1,) do not make pairs"),
        ({"scores": [1, math.nan]}, "a score of 'pairs' is NaN or infinite"),
        ({"first": (), "second": (), "scores": []}, "'pairs' holds no pairs"),
        ({"first": ("a", "z")}, "1 ids in the pairs stand for no item, the first is 'z'"),
        ({"items": (texts("a", "b"), texts("b", "c"))}, "both ends of the pairs are text items; give them as one set"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(given: dict[str, Any], message: str) -> None:
    made = {"first": ("a", "a"), "second": ("b", "c"), "scores": [1, 2], "items": texts("a", "b", "c")}
    PairScores(**made)
    with pytest.raises(XgapError, match=re.escape(message)):
        PairScores(**{**made, **given})


def test_scores_are_kept_and_cannot_be_changed_and_all_parts_are_in_the_digest() -> None:
    scores = np.array([1, 2])
    pairs = PairScores(("a", "a"), ("b", "c"), scores, texts("a", "b", "c"))
    scores[0] = 9
    assert (pairs.scores.dtype, pairs.scores.tolist()) == (np.float64, [1, 2])
    with pytest.raises(ValueError, match="read-only"):
        pairs.scores[0] = 5
    others = [
        PairScores(("a", "a"), ("b", "c"), [1, 2.5], texts("a", "b", "c")),
        PairScores(("a", "a"), ("c", "b"), [1, 2], texts("a", "b", "c")),
        PairScores(("a", "a"), ("b", "c"), [1, 2], xg.Texts(("a", "b", "c"), ("a", "b", "c"))),
    ]
    assert len({pairs.digest, *(other.digest for other in others)}) == 4


def test_one_id_at_both_ends_is_two_items_where_the_ends_are_of_two_sets() -> None:
    sounds = Vectors(xg.Features(np.eye(3), ["a", "b", "c"], "audio", "audio"))
    both = PairScores(("a", "b"), ("b", "c"), [1, 2], (texts("a", "b", "c"), sounds))
    assert both.modalities == ("text", "audio")
    assert both.groups.tolist() == [0, 1]
    assert PairScores(("a", "b"), ("b", "c"), [1, 2], texts("a", "b", "c")).groups.tolist() == [0, 0]


@pytest.mark.parametrize("module", [pair_scores, reader])
def test_the_examples_run(module: Any) -> None:
    assert doctest.testmod(module).failed == 0
