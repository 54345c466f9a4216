"""Modality share and ranks within and across modalities: against loops, on hand-made lists, and on the oracle."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.mixed import shares_of, with_shares

DIAL = 0.98894  # the root of x^3 + 1.09 x^2 - x - 1, x = g^2, at which the oracle's own image falls behind all texts


def gallery(rng: np.random.Generator, n: int = 23, d: int = 4) -> xg.Features:
    """Images, texts and documents of both, with many equal scores."""
    vectors = rng.integers(-1, 2, size=(n, d)) + 0.01
    ids = [f"item {i}" for i in range(n)]
    shares = {"image": {}, "text": {}}  # type: dict[str, dict[str, float]]
    for item in ids:
        share = float(rng.choice([0, 0, 1, 1, 0.25]))
        shares["image"][item], shares["text"][item] = share, 1 - share
    return with_shares(xg.Features(vectors, ids, "image+text", "image+text"), shares)


def test_shares_and_ranks_equal_a_loop() -> None:
    rng = np.random.default_rng(3)
    items = gallery(rng)
    query = items.select(items.ids[::2])
    grades = {q: {i: 1.0 for i in items.ids if rng.random() < 0.2} for q in query.ids[:-1]} | {query.ids[-1]: {}}
    relevance = xg.Relevance.from_qrels(grades, {query.ids[0]: [items.ids[1]]})
    k, share = 4, shares_of(items)
    kinds = {i: "+".join(m for m in share if share[m][row] > 0) for row, i in enumerate(items.ids)}
    found = xg.modality_share(query, items, relevance, k=k, block=3)
    ranks = xg.rank_among(query, items, relevance, block=5)
    scores = xg.score(query, items).double()
    for row, q in enumerate(query.ids):
        ranked = [j for j, i in enumerate(items.ids) if i != q and i not in relevance.junk.get(q, ())]
        ranked.sort(key=lambda j: (-float(scores[row, j]), j))
        relevant = [j for j in ranked if grades[q].get(items.ids[j])]
        for m in share:
            for name, some in ((f"at_{k}", ranked[:k]), ("relevant", relevant), ("gallery", ranked)):
                expected = float(np.mean([share[m][j] for j in some])) if some else math.nan
                assert found.loc[q, f"share_{name}_{m}"] == pytest.approx(expected, nan_ok=True)
        for kind in set(kinds.values()):
            best = next((j for j in relevant if kinds[items.ids[j]] == kind), None)
            of_kind = [j for j in ranked if kinds[items.ids[j]] == kind]
            expected = (math.nan,) * 2 if best is None else (1 + of_kind.index(best), 1 + ranked.index(best))
            values = ranks.loc[q, [f"rank_{kind}", f"rank_{kind}_in_all"]]
            assert tuple(values) == pytest.approx(expected, nan_ok=True)


def test_a_gallery_of_one_modality_has_the_share_one_or_zero() -> None:
    images = xg.Features(np.eye(4), list("abcd"), "image", "image")
    labels = {"a": "x", "b": "x", "c": "y", "d": "y"}
    found = xg.modality_share(images, images, labels)
    assert found.to_numpy().tolist() == [[1, 1, 1]] * 4
    given = xg.modality_share(images, images, labels, of=dict.fromkeys("abcd", "text"))
    assert list(given.columns) == ["share_at_10_text", "share_relevant_text", "share_gallery_text"]
    none = xg.modality_share(images, with_shares(images, {"image": dict.fromkeys("abcd", 1.0), "text": {}}), labels)
    assert none.filter(like="image").to_numpy().tolist() == [[1, 1, 1]] * 4
    assert none.filter(like="text").to_numpy().tolist() == [[0, 0, 0]] * 4


def test_the_ideal_of_ndcg_is_of_all_relevant_items() -> None:
    """One of three relevant items at rank 1, the others far behind: .469; an ideal of what was found would give 1."""
    vectors = np.concatenate([[[1, 0]], np.repeat([[0.9, 0.1]], 12, axis=0), [[0, 1]] * 2])
    items = xg.Features(vectors, [f"i{k}" for k in range(15)], "image+text", "image+text")
    query = xg.Features(np.array([[1.0, 0.0]]), ["q"], "text", "text")
    found = xg.retrieval(query, items, {"q": {"i0": 1, "i13": 1, "i14": 1}})
    assert found["ndcg_at_10"].iloc[0] == pytest.approx(1 / (1 + 1 / math.log2(3) + 1 / 2))
    assert found["ndcg_at_10"].iloc[0] == pytest.approx(0.469, abs=5e-4)


def of_one_artist(split: str, n: int) -> xg.Dataset:
    """Names and the images of one artist, one of each concept."""
    data = xg.load_dataset("emoji").split(split).limit(n)
    images = data.images.select(i for i in data.images.ids if i.startswith("noto/"))
    drawn = {data.labels["concept"][i] for i in images.ids}
    names = [i for i in data.texts.ids if i.endswith("/name") and data.labels["concept"][i] in drawn]
    labels = {"concept": {i: data.labels["concept"][i] for i in (*images.ids, *names)}}
    texts = data.texts.select(names)
    train = xg.Dataset("one artist", "train", images, texts, labels)
    return xg.Dataset("one artist", split, images, texts, labels, splits={"train": lambda: train})


@pytest.mark.parametrize(("g", "first"), [(0.2, True), (0.7, True), (DIAL - 1e-3, True), (DIAL + 1e-3, False)])
def test_on_the_oracle_the_own_image_falls_from_the_first_rank_to_the_last(g: float, first: bool) -> None:
    """Worlds, section 0: N images, and the N - 1 other names."""
    data = of_one_artist("test", 60)
    n = len(data.images)
    study = xg.Study([f"oracle(g={g})"], [data], ["T-IT"], store=xg.Store(), progress=False)
    evaluation = next(study.evaluations())
    evaluation.fit_data = data
    for correction in ("none", "center"):
        pair = evaluation.pair("T-IT", correction)
        found = xg.rank_among(pair.query, pair.gallery, data)
        assert len(pair.gallery) == 2 * n
        assert (found["rank_image"] == 1).all()
        expected = 1 if first or correction == "center" else n
        assert (found["rank_image_in_all"] == expected).all(), correction
        assert found["rank_text"].isna().all()  # the query itself is its only text


def test_i_it_and_t_it_in_a_study() -> None:
    train = xg.load_dataset("emoji").split("seen").limit(15)
    data = replace(xg.load_dataset("emoji").split("val").limit(12), splits={"train": lambda: train})
    metrics = ["modality-share(k=5)", "rank-among"]
    study = xg.Study(
        ["oracle"], [data], ["I-IT", "T-IT", "OTI-IT"], ["none", "center"], metrics=metrics, progress=False
    )
    assert str(study.comparison("OTI-IT").gallery) == "mixed(image, text)"
    study = xg.Study(["oracle"], [data], ["I-IT", "T-IT"], ["none", "center"], metrics=metrics, progress=False)
    table = study.run()
    values = table.set_index(["comparison", "correction", "metric"])["value"]
    evaluation = next(study.evaluations())
    images, texts = (xg.encode(evaluation.model, of, progress=False) for of in (data.images, data.texts))
    queries = texts.select(data.queries("text"))
    expected = xg.modality_share(queries, xg.mixed(images, texts.select(data.gallery("text"))), data, k=5)
    for name in expected:
        assert values["T-IT", "none", name] == pytest.approx(expected[name].mean())
    ranks = xg.rank_among(images, xg.mixed(images, texts), data)
    assert values["I-IT", "none", "reciprocal_rank_text_in_all"] == pytest.approx(
        (1 / ranks["rank_text_in_all"]).mean()
    )
    sizes = table.drop_duplicates("comparison").set_index("comparison")["n_gallery"]
    assert sizes["I-IT"] == len(images) + len(texts)
    assert sizes["T-IT"] == len(images) + len(data.gallery("text"))
    fitted = (xg.encode(evaluation.model, of, progress=False) for of in train.items.values())
    means = {of.space: of.vectors.double().mean(0) for of in fitted}
    moved = [xg.Features(f.vectors.double() - means[f.space], f.ids, f.space, f.origin) for f in (images, texts)]
    centred = xg.mixed(moved[0], moved[1].select(data.gallery("text")))
    expected_mean = xg.retrieval(moved[1].select(queries.ids), centred, data)["ndcg_at_10"].mean()
    assert values["T-IT", "center", "ndcg_at_10"] == pytest.approx(expected_mean, abs=1e-6)


def test_mistakes_are_one_sentence() -> None:
    images = xg.Features(np.eye(2), ["a", "b"], "image", "image")
    with pytest.raises(XgapError, match="k of modality_share is a whole number of 1 or more, not 0"):
        xg.modality_share(images, images, {"a": "x", "b": "x"}, k=0)
    with pytest.raises(XgapError, match="1 gallery items have no modality in `of`, the first is 'b'"):
        xg.rank_among(images, images, {"a": "x", "b": "x"}, of={"a": "image"})
    shared = xg.Dataset("shared", "test", xg.Images(["a"], lambda i: None), xg.Texts(["a"], ["a"]))  # type: ignore[arg-type,return-value]
    with pytest.raises(XgapError, match="has the id 'a' for an item of image and for one of text"):
        shared.items_of("image+text")
    with pytest.raises(XgapError, match="dataset 'alone' has no images to be mixed"):
        xg.Dataset("alone", "test", texts=xg.Texts(["a"], ["a"])).items_of("image+text")
    with pytest.raises(XgapError, match="mixed takes a view for each of several modalities"):
        xg.view("mixed(image, oti)")(None, None)


def test_features_of_a_mixed_gallery_keep_a_correction_from_being_guessed() -> None:
    images = xg.Features(torch.eye(3)[:2], ["a", "b"], "image", "image")
    texts = xg.Features(torch.eye(3)[2:], ["c"], "text", "text")
    fitted = xg.correction("center").fit(xg.Calibration({"image": images, "text": texts}, "train"))
    with pytest.raises(XgapError, match=r"no calibration features of space 'image\+text'"):
        fitted(xg.mixed(images, texts))
