"""Known answers of `emoji-clips`: what pooling, the best frame, medoids, cuts and windows give on the oracle.

An event that fills the share p of a clip has the cosine `p / sqrt((sum p^2 + .09 + g^2)(1 + g^2))` with the mean of the
clip's frames, whose length is `sqrt((sum p^2 + .09 + g^2) / (1.09 + g^2))`; with a frame of its own it has
`1 / sqrt((1.09 + g^2)(1 + g^2))`.
"""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.datasets import load_dataset

G = 0.7
OWN = 1 / np.sqrt((1.09 + G**2) * (1 + G**2))
DATA = load_dataset("emoji-clips").split("test")
TABLE = DATA.items["video"].parts_of("frames").table()
COUNT = {item: int(DATA.labels["n_events"][item]) for item in DATA.items["video"].ids}
FLOAT32 = 5e-6  # a closed form against a sum of float32 products, on any processor
BEST = "late_interaction(inner=max, outer=mean)"


def encoded(model: Any) -> tuple[xg.TokenFeatures, xg.Features]:
    frames = xg.tokens(model, DATA.items["video"], "frames", store=None, progress=False)
    return frames, xg.encode(model, DATA.texts, store=None, progress=False)


@pytest.fixture(scope="module")
def oracle() -> Any:
    return xg.load_model("oracle")


@pytest.fixture(scope="module")
def features(oracle: Any) -> tuple[xg.TokenFeatures, xg.Features]:
    return encoded(oracle)


def shares() -> pd.DataFrame:
    """Share of each event of its clip, and the sum of squares over the events of that clip."""
    own = TABLE.groupby(["owner", "event"]).size().rename("share").div(12).reset_index()
    own["squares"] = own.groupby("owner")["share"].transform(lambda p: (p**2).sum())
    return own.set_index("event").loc[list(DATA.texts.ids)]


def own_scores(features: tuple[xg.TokenFeatures, xg.Features], scorer: str) -> np.ndarray:
    """The score of each event with its own clip."""
    frames, texts = features
    scores = xg.score(texts, frames, scorer).numpy()
    column = {item: i for i, item in enumerate(frames.ids)}
    return np.array([scores[i, column[DATA.labels["clip"][event]]] for i, event in enumerate(texts.ids)])


def cosine_of_mean(share: Any, squares: Any, g: float = G) -> Any:
    return share / np.sqrt((squares + 0.09 + g**2) * (1 + g**2))


def test_the_mean_of_frames_has_the_cosine_of_its_shares(
    oracle: Any, features: tuple[xg.TokenFeatures, xg.Features]
) -> None:
    own = shares()
    expected = cosine_of_mean(own["share"], own["squares"])
    assert own_scores(features, "pooled(weights=uniform)") == pytest.approx(expected.to_numpy(), abs=FLOAT32)
    frames, texts = features
    pooled = frames.pooled()
    row = {item: i for i, item in enumerate(pooled.ids)}
    own_clip = pooled.vectors[[row[DATA.labels["clip"][i]] for i in texts.ids]]
    assert (texts.vectors * own_clip).sum(dim=1).numpy() == pytest.approx(expected.to_numpy(), abs=FLOAT32)
    clips = xg.encode(oracle, DATA.items["video"], store=None, progress=False)
    assert np.asarray(clips) == pytest.approx(np.asarray(pooled), abs=FLOAT32)


def test_the_length_of_the_mean_falls_with_the_number_of_events(
    features: tuple[xg.TokenFeatures, xg.Features],
) -> None:
    frames, _ = features
    squares = shares().drop_duplicates("owner").set_index("owner")["squares"]
    lengths = pd.Series({item: float(frames.tokens_of(item).double().mean(dim=0).norm()) for item in frames.ids})
    expected = np.sqrt((squares + 0.09 + G**2) / (1.09 + G**2))
    assert lengths.to_numpy() == pytest.approx(expected[lengths.index].to_numpy(), abs=FLOAT32)
    by_count = lengths.groupby(COUNT).mean()
    assert by_count[1] == pytest.approx(1, abs=FLOAT32)
    assert by_count[1] > by_count[2] > by_count[3]


@pytest.mark.parametrize(
    ("k", "cosine", "length"), [(1, 0.6517, 1), (2, 0.3942, 0.8268), (3, 0.2857, 0.7603), (4, 0.2248, 0.7248)]
)
def test_equal_shares_of_one_artist(
    k: int, cosine: float, length: float, features: tuple[xg.TokenFeatures, xg.Features]
) -> None:
    frames, texts = features
    first = TABLE[TABLE["owner"].map(DATA.labels["artist"]) == "noto"].drop_duplicates("concept").iloc[:k]
    place = {item: i for i, item in enumerate(TABLE.index)}
    vectors = frames.vectors[[place[item] for item in first.index]].repeat_interleave(12 // k, dim=0)
    clip = xg.TokenFeatures(vectors, [0, 12], ["clip"], "image", "video")
    asked = texts.select(first["event"])
    for scorer in ("pooled(weights=uniform)", "cosine"):
        gallery = clip.pooled() if scorer == "cosine" else clip
        made = xg.score(asked, gallery, scorer)[:, 0].numpy()
        assert made == pytest.approx(np.full(k, cosine_of_mean(1 / k, 1 / k)), abs=FLOAT32)
        assert made == pytest.approx(np.full(k, cosine), abs=1e-4)
    assert float(vectors.double().mean(dim=0).norm()) == pytest.approx(length, abs=1e-4)
    once = xg.TokenFeatures(vectors[:: 12 // k], [0, k], ["clip"], "image", "video")  # a repeated frame is as one
    for scorer in ("pooled(weights=uniform)", BEST, "pooled(weights=softmax(0.05))"):
        assert xg.score(asked, once, scorer).numpy() == pytest.approx(
            xg.score(asked, clip, scorer).numpy(), abs=FLOAT32
        )


def test_the_best_frame_is_as_near_as_a_single_drawing_whatever_else_the_clip_shows(
    features: tuple[xg.TokenFeatures, xg.Features],
) -> None:
    assert own_scores(features, BEST) == pytest.approx(np.full(len(DATA.texts), OWN), abs=FLOAT32)
    sharp = own_scores(features, "pooled(weights=softmax(0.001))")
    assert sharp == pytest.approx(np.full(len(DATA.texts), OWN), abs=FLOAT32)
    flat = own_scores(features, "pooled(weights=softmax(1000000.0))")
    assert flat == pytest.approx(own_scores(features, "pooled(weights=uniform)"), abs=1e-5)
    two = pd.Series(own_scores(features, "pooled(weights=softmax(0.05))") - flat).groupby(
        [COUNT[DATA.labels["clip"][i]] for i in DATA.texts.ids]
    )
    assert two.mean()[1] == pytest.approx(0, abs=FLOAT32)  # of one event, every pooling is the same
    assert (two.min()[[2, 3]] > 0.05).all()


@pytest.mark.parametrize("g", [0.3, 1.2])
def test_the_best_frame_retrieves_every_event_and_the_mean_does_not_whatever_the_gap(g: float) -> None:
    """With the motion read, a caption is true of one clip; a share of a clip loses to others that have it in part."""
    frames, texts = encoded(xg.load_model(f"oracle(g={g}, motion=1)"))
    best = xg.retrieval(texts, frames, DATA, ks=(1,), scorer=BEST)["hit_at_1"]
    mean = xg.retrieval(texts, frames, DATA, ks=(1,), scorer="pooled(weights=uniform)")["hit_at_1"]
    assert best.mean() == 1
    count = [COUNT[DATA.labels["clip"][i]] for i in mean.index]
    by_count = mean.groupby(count).mean()
    assert by_count[1] == 1
    assert by_count[1] > by_count[2] > by_count[3]


def test_without_the_motion_the_first_clip_shows_the_concept(features: tuple[xg.TokenFeatures, xg.Features]) -> None:
    frames, texts = features
    showing = TABLE.groupby("concept")["owner"].unique()
    qrels = {i: dict.fromkeys(showing[DATA.labels["concept"][i]], 1) for i in texts.ids}
    found = xg.retrieval(texts, frames, xg.Relevance.from_qrels(qrels), ks=(1,), scorer=BEST)
    assert found["ap"].to_numpy() == pytest.approx(np.ones(len(texts)))


def medoids(x: np.ndarray, k: int, rounds: int = 100) -> np.ndarray:
    """Places of k medoids by Euclidean distance: the longest vector first, then the farthest, then exchanged."""
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    chosen = [int(np.linalg.norm(x, axis=1).argmax())]
    while len(chosen) < k:
        chosen.append(int(distance[:, chosen].min(axis=1).argmax()))
    for _ in range(rounds):
        nearest = distance[:, chosen].argmin(axis=1)
        members = [np.flatnonzero(nearest == j) for j in range(k)]
        new = [int(own[distance[np.ix_(own, own)].sum(axis=1).argmin()]) for own in members]
        if new == chosen:
            break
        chosen = new
    return np.sort(chosen)


def test_as_many_medoids_as_events_are_of_one_event_each(features: tuple[xg.TokenFeatures, xg.Features]) -> None:
    frames, _ = features
    for item in frames.ids:
        own = TABLE.loc[TABLE["owner"] == item, "event"].to_numpy()
        found = medoids(frames.tokens_of(item).double().numpy(), COUNT[item])
        assert sorted(own[found]) == sorted(set(own)), item


def test_the_lowest_similarities_of_adjacent_frames_are_the_cuts(
    features: tuple[xg.TokenFeatures, xg.Features],
) -> None:
    frames, _ = features
    apart = (0.09 + G**2) / (1.09 + G**2)  # artist and modality alone are common
    for item in frames.ids:
        vectors = frames.tokens_of(item).double().numpy()
        adjacent = (vectors[1:] * vectors[:-1]).sum(axis=1)
        cut = TABLE.loc[TABLE["owner"] == item, "cut"].to_numpy()[1:]
        assert adjacent == pytest.approx(np.where(cut, apart, 1), abs=FLOAT32)


def test_the_recorded_offset_of_a_noisy_time_is_recovered(features: tuple[xg.TokenFeatures, xg.Features]) -> None:
    """The frames that are nearest to a caption have their middle where the event is: the noise is seen and undone."""
    frames, texts = features
    links = DATA.items["chain"].parts_of("captions").table()
    for place, link in enumerate(links.to_dict("records")):
        scores = (frames.tokens_of(DATA.labels["clip"][link["event"]]) @ texts.vectors[place]).numpy()
        best = np.flatnonzero(scores > scores.max() - 1e-5)
        assert link["noisy"] - best.mean() == link["offset"]


def test_a_study_compares_captions_with_frames_and_chains_with_clips() -> None:
    data = load_dataset("emoji-clips").split("val").limit(20)
    scorers = ["late_interaction", "pooled(weights=uniform)"]
    study = xg.Study(["oracle(motion=1)"], [data], ["text-frames", "chain-video"], scorers=scorers, progress=False)
    table = study.run()
    value = table[table["metric"] == "hit_at_1"].set_index(["comparison", "scorer"])["value"]
    assert value["text-frames", "late_interaction"] == 1
    assert value["text-frames", "pooled(weights=uniform)"] < 1
    assert value["chain-video", "late_interaction"] == 1  # one vector each: the chain says all that the clip shows
