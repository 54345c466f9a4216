"""Runs of other tools: the prediction files of MTEB, measured as rankings of ours."""

import json
from pathlib import Path

import numpy as np
import pytest

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics import run_scores

RANDOM = np.random.default_rng(0)
QUERIES, ITEMS = RANDOM.normal(size=(9, 6)), RANDOM.normal(size=(30, 6))
GRADES = {f"q{k}": {f"d{i}": int(RANDOM.integers(1, 4)) for i in RANDOM.choice(30, 3, replace=False)} for k in range(9)}


def run(depth: int) -> dict[str, dict[str, float]]:
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (QUERIES, ITEMS)]
    scores = unit[0] @ unit[1].T
    return {f"q{k}": {f"d{i}": float(scores[k, i]) for i in np.argsort(-scores[k])[:depth].tolist()} for k in range(9)}


def saved(folder: Path, held: object) -> Path:
    path = folder / "Task_predictions.json"
    path.write_text(held if isinstance(held, str) else json.dumps(held))
    return path


def layout(**subsets: object) -> dict[str, object]:
    return {"mteb_model_meta": {"model_name": "a/model", "revision": "1"}, **subsets}


def test_a_whole_run_scores_as_retrieval_does(tmp_path: Path) -> None:
    path = saved(tmp_path, layout(default={"test": run(30)}))
    found = run_scores(xg.load_predictions(path), GRADES)
    query = xg.Features(QUERIES, [f"q{k}" for k in range(9)], "text", "text")
    gallery = xg.Features(ITEMS, [f"d{i}" for i in range(30)], "text", "text")
    expected = xg.retrieval(query, gallery, GRADES)
    np.testing.assert_allclose(found[expected.columns].to_numpy(), expected.to_numpy(), atol=1e-9)
    assert found.index.tolist() == list(query.ids)


def test_a_run_of_the_nearest_agrees_at_its_cut_offs_and_counts_the_rest_as_never_found() -> None:
    whole, cut = run_scores(run(30), GRADES), run_scores(run(10), GRADES)
    for column in ("hit_at_1", "recall_at_5", "recall_at_10", "ndcg_at_10"):
        np.testing.assert_allclose(cut[column], whole[column], atol=1e-9)
    naive = []
    for query, items in GRADES.items():
        order = list(run(10)[query])
        ranks = sorted(order.index(i) + 1 for i in items if i in order)
        naive.append(sum((n + 1) / rank for n, rank in enumerate(ranks)) / len(items))
    np.testing.assert_allclose(cut["ap"], naive, atol=1e-9)
    missing = run_scores({q: of for q, of in run(10).items() if q != "q3"}, GRADES)
    assert missing.loc["q3", "ap"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("held", "options", "sentence"),
    [
        ('{"mteb_model_meta": {', {}, "is not a complete JSON file"),
        ({"default": {}}, {}, "is no prediction file of MTEB"),
        (layout(), {}, "has no subset with predictions"),
        (layout(en={"test": {}}, de={"test": {}}), {}, "has several subsets; pass subset= one of en, de"),
        (layout(en={"test": {}}), {"subset": "fr"}, "has no subset 'fr', but: en"),
        (layout(default={"dev": {}, "test": {}}), {}, "has several splits; pass split= one of dev, test"),
        (layout(default={"test": [0.1, 0.2]}), {}, "another task than retrieval"),
        (layout(default={"test": {"q": {"d": "high"}}}), {}, "a score of query 'q' that is no number"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, held: object, options: dict[str, str], sentence: str) -> None:
    with pytest.raises(XgapError, match=sentence) as raised:
        xg.load_predictions(saved(tmp_path, held), **options)
    assert "\n" not in str(raised.value)


def test_other_queries_and_no_file_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(XgapError, match="of the same task"):
        run_scores(run(3), {"other": {"d1": 1}})
    with pytest.raises(XgapError, match="no query has a relevant item"):
        run_scores(run(3), {"q1": {"d1": 0}})
    with pytest.raises(XgapError, match="cannot be read"):
        xg.load_predictions(tmp_path / "nothing.json")


@pytest.mark.parametrize(("score", "sentence"), [("1" + "0" * 400, "is no number"), ("[" * 100_000, "complete JSON")])
def test_no_score_is_a_traceback(tmp_path: Path, score: str, sentence: str) -> None:
    held = f'{{"mteb_model_meta": {{}}, "default": {{"test": {{"q": {{"a": {score}}}}}}}}}'
    with pytest.raises(XgapError, match=sentence):
        xg.load_predictions(saved(tmp_path, held))
