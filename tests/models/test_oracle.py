"""The oracle: its scores, gap and ranks are those of the closed forms, through the package's own public functions."""

import math
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.tags import TaggedText, tagged, tags_of
from xgap_analysis.models.oracle import DIM, LENGTH, ROOMS, codes, oracle
from xgap_analysis.models.trainable import load_trainable

EXACT = {"abs": 1e-6}
BEAR, KITE, OTHERS = "1f43b", "1fa81", ("1f600", "1f9ca", "1f697")
G_OF_EQUAL_RANKS = 0.98894  # where a text is as near to other texts as to its own image
DATA = xg.load_dataset("emoji")


def a_of(g: float) -> float:
    return 1 / math.sqrt(1.09 + g * g)


def b_of(g: float) -> float:
    return 1 / math.sqrt(1 + g * g)


def image_of(*concepts: str, artist: str = "noto") -> Image.Image:
    return tagged(Image.new("RGB", (4, 4)), [*(("concept", c) for c in concepts), ("artist", artist)])


def text_of(*concepts: str) -> TaggedText:
    return TaggedText("words", [("concept", c) for c in concepts])


def vectors(model: xg.Model, items: Sequence[object]) -> np.ndarray:
    return np.asarray(xg.encode(model, items, store=None, progress=False), dtype=np.float64)  # type: ignore[arg-type]


def both_of(model: xg.Model, split: str, artist: str = "noto") -> tuple[xg.Features, xg.Features]:
    """One image and one name of each concept of a split that the artist drew; a pair has the concept as its id."""
    data = DATA.split(split)
    ids = [i for i in data.images.ids if i.startswith(f"{artist}/")]
    images = xg.encode(model, data.images.select(ids), store=None, progress=False)
    texts = xg.encode(model, data.texts.select(f"{i.split('/')[1]}/name" for i in ids), store=None, progress=False)
    concepts = [i.split("/")[1] for i in ids]
    return (
        xg.Features(images.vectors, concepts, "image", "image"),
        xg.Features(texts.vectors, concepts, "text", "text"),
    )


# Codes


def test_codes_are_rows_of_the_sylvester_hadamard_matrix_and_exactly_orthogonal() -> None:
    made = codes().numpy()
    i, j = np.meshgrid(np.arange(0, DIM, 97), np.arange(DIM), indexing="ij")
    signs = np.vectorize(lambda n: (-1) ** n.bit_count())((i & j).astype(object)).astype(float)
    assert made[::97] * math.sqrt(DIM) == pytest.approx(signs, abs=1e-12)
    whole = np.sign(made)
    assert np.array_equal(whole @ whole.T, DIM * np.eye(DIM))


def test_every_tag_of_emoji_has_a_row_of_its_own_in_the_room_of_its_kind() -> None:
    rows = oracle().image.rows
    tags = {tag for i in DATA.images.ids for tag in (("concept", i.split("/")[1]), ("artist", i.split("/")[0]))}
    assert len(tags) == 1644 + 8
    assert tags <= set(rows)
    assert len(set(rows.values())) == len(rows)
    ends = sorted([*ROOMS.values(), DIM])
    for (kind, _), row in rows.items():
        assert ROOMS[kind] <= row < ends[ends.index(ROOMS[kind]) + 1]


def test_the_order_of_use_changes_no_feature() -> None:
    there, back = oracle(), oracle()
    first = vectors(there, [image_of(BEAR), image_of(KITE, artist="openmoji")])
    second = vectors(back, [image_of(KITE, artist="openmoji"), image_of(BEAR)])
    assert np.array_equal(first, second[::-1])


# Closed forms


@pytest.mark.parametrize("g", [0.0, 0.3, 0.7, 1.5])
def test_own_cosine_and_all_others(g: float) -> None:
    model = xg.load_model(f"oracle(g={g})")
    images = vectors(model, [image_of(c) for c in (BEAR, KITE, *OTHERS)])
    texts = vectors(model, [text_of(c) for c in (BEAR, KITE, *OTHERS)])
    assert texts @ images.T == pytest.approx(a_of(g) * b_of(g) * np.eye(5), **EXACT)
    between = texts @ texts.T
    assert between == pytest.approx((g * b_of(g)) ** 2 + (1 - (g * b_of(g)) ** 2) * np.eye(5), **EXACT)
    one_artist = images @ images.T
    assert one_artist[0, 1] == pytest.approx((0.09 + g * g) * a_of(g) ** 2, **EXACT)
    two_artists = vectors(model, [image_of(BEAR), image_of(BEAR, artist="twemoji")])
    assert two_artists[0] @ two_artists[1] == pytest.approx((1 + g * g) * a_of(g) ** 2, **EXACT)


def test_own_cosine_of_the_default() -> None:
    model = xg.load_model("oracle")
    own = vectors(model, [image_of(BEAR)]) @ vectors(model, [text_of(BEAR)]).T
    assert own.item() == pytest.approx(0.651746, **EXACT)


def test_speech_has_a_code_of_its_own_and_the_voice_as_its_artist() -> None:
    model = oracle()
    spoken = [TaggedText("sheet", [("concept", c), ("voice", v)]) for c, v in ((BEAR, "slt"), (KITE, "slt"))]
    sounds = xg.Items(["a", "b"], dict(zip("ab", spoken, strict=True)).__getitem__, "1", "audio")
    sounding = vectors(model, sounds)  # type: ignore[arg-type]
    assert sounding @ vectors(model, [text_of(BEAR), text_of(KITE)]).T == pytest.approx(
        a_of(0.7) * b_of(0.7) * np.eye(2), **EXACT
    )
    assert sounding @ vectors(model, [image_of(BEAR), image_of(KITE)]).T == pytest.approx(
        a_of(0.7) ** 2 * np.eye(2), **EXACT
    )


@pytest.mark.parametrize(("g", "expected"), [(0.0, None), (0.7, 0.834235), (1.2, None)])
def test_gap_of_the_training_concepts(g: float, expected: float | None) -> None:
    images, texts = both_of(oracle(g=g), "train")
    assert len(images) == 1206
    a, b = a_of(g), b_of(g)
    formula = math.sqrt((a - b) ** 2 / 1206 + 0.09 * a * a + g * g * (a * a + b * b))
    assert expected is None or formula == pytest.approx(expected, abs=5e-7)
    assert xg.metrics.modality_gap(images, texts) == pytest.approx(formula, **EXACT)
    if expected is not None:
        report = xg.gap_report(images, texts).iloc[0]
        assert report["modality_gap"] == pytest.approx(formula, **EXACT)
        assert report["cross_cosine"] == pytest.approx(a * b, **EXACT)
        assert report["cone_y"] == pytest.approx(g * g * b * b, **EXACT)


@pytest.mark.parametrize(
    ("k", "cosine", "length"), [(1, 0.6517, 1), (2, 0.3942, 0.8268), (3, 0.2857, 0.7603), (4, 0.2248, 0.7248)]
)
def test_an_item_of_several_concepts_is_their_unit_mean(k: int, cosine: float, length: float) -> None:
    model, g = oracle(), 0.7
    concepts = (BEAR, KITE, *OTHERS)[:k]
    whole = vectors(model, [image_of(*concepts)])[0]
    parts = vectors(model, [image_of(c) for c in concepts])
    names = vectors(model, [text_of(c) for c in (BEAR, KITE, *OTHERS)])
    norm = math.sqrt(1 / k + 0.09 + g * g)
    assert whole @ names.T == pytest.approx([(1 / k) / (norm * math.sqrt(1 + g * g))] * k + [0] * (5 - k), **EXACT)
    assert whole @ names[0] == pytest.approx(cosine, abs=5e-5)
    assert np.linalg.norm(parts.mean(axis=0)) == pytest.approx(norm * a_of(g), **EXACT)
    assert np.linalg.norm(parts.mean(axis=0)) == pytest.approx(length, abs=5e-5)
    assert whole == pytest.approx(parts.mean(axis=0) / (norm * a_of(g)), **EXACT)


def test_a_clip_is_the_mean_of_its_frames_with_their_shares() -> None:
    shares = np.array([6, 4, 2]) / 12
    frames = [image_of(c) for c, n in ((BEAR, 6), (KITE, 4), (OTHERS[0], 2)) for _ in range(n)]
    clips = xg.Items(["clip"], lambda _: frames, "1", "video")
    model = oracle()
    found = xg.encode(model, clips, store=None, progress=False)
    assert (found.origin, found.space) == ("video", "image")
    expected = shares / math.sqrt((np.square(shares).sum() + 0.09 + 0.49) * 1.49)
    names = vectors(model, [text_of(c) for c in (BEAR, KITE, OTHERS[0])])
    assert (np.asarray(found, np.float64) @ names.T)[0] == pytest.approx(expected, **EXACT)


def test_hidden_tokens_are_the_features_of_single_concepts() -> None:
    model = oracle()
    batch = model.image.prepare([image_of(BEAR, KITE), image_of(OTHERS[0])])
    tokens, mask = model.image.hidden(batch)
    assert mask.tolist() == [[True, True], [True, False]]
    expected = vectors(model, [image_of(BEAR), image_of(KITE), image_of(OTHERS[0])])
    assert tokens[mask].numpy() == pytest.approx(expected, **EXACT)


# The mixed gallery


def mixed(images: xg.Features, texts: xg.Features) -> tuple[xg.Features, xg.Features, xg.Relevance]:
    """Names as queries, and images with all names as the gallery; a name's own image is relevant to it."""
    queries = xg.Features(texts.vectors, [f"{c}/name" for c in texts.ids], "text", "text")
    ids = [*(f"image/{c}" for c in images.ids), *queries.ids]
    gallery = xg.Features(torch.cat([images.vectors, texts.vectors]), ids, "text", "text")
    return queries, gallery, xg.Relevance.from_qrels({f"{c}/name": {f"image/{c}": 1} for c in texts.ids})


def own_ranks(images: xg.Features, texts: xg.Features) -> np.ndarray:
    query, gallery, relevance = mixed(images, texts)
    return (1 / xg.retrieval(query, gallery, relevance)["ap"]).to_numpy()


def test_the_threshold_of_the_mixed_gallery_is_a_root() -> None:
    x = max(root.real for root in np.roots([1, 1.09, -1, -1]) if abs(root.imag) < 1e-12)
    assert math.sqrt(x) == pytest.approx(G_OF_EQUAL_RANKS, abs=5e-6)
    own, other = a_of(math.sqrt(x)) * b_of(math.sqrt(x)), x / (1 + x)
    assert own == pytest.approx(other, **EXACT)


@pytest.mark.parametrize("g", [0.0, 0.7, 0.988, 0.99, 2.0])
def test_a_text_retrieves_its_image_first_below_the_threshold_and_last_above_it(g: float) -> None:
    images, texts = both_of(oracle(g=g), "val")
    assert own_ranks(images, texts) == pytest.approx(1 if g < G_OF_EQUAL_RANKS else len(images))


@pytest.mark.parametrize("g", [0.0, 0.7, 0.99, 2.0, 10.0])
@pytest.mark.parametrize("calibration", ["val", "test"])
def test_centred_features_retrieve_the_own_image_first_for_every_g(g: float, calibration: str) -> None:
    model = oracle(g=g)
    images, texts = both_of(model, "val")
    of = dict(zip(("image", "text"), both_of(model, calibration), strict=True))
    fitted = xg.correction("center").fit(xg.Calibration(of, calibration))
    assert own_ranks(fitted(images), fitted(texts)) == pytest.approx(1)
    if calibration == "val":  # the same concepts: what is left of both modalities is the concept
        assert xg.metrics.cross_cosine(fitted(images), fitted(texts)) == pytest.approx(1, abs=1e-5)


# Options and mistakes


def test_options_are_weights_and_make_another_model() -> None:
    style = oracle(artist=0.0)
    assert vectors(style, [image_of(BEAR)]) == pytest.approx(vectors(style, [image_of(BEAR, artist="twemoji")]))
    moving = oracle(motion=0.5)
    rising, falling = (TaggedText("x", [("concept", BEAR), ("motion", m)]) for m in ("rises", "falls"))
    assert (vectors(moving, [rising]) @ vectors(moving, [falling]).T).item() == pytest.approx(1.49 / 1.74, **EXACT)
    assert (vectors(oracle(), [rising]) @ vectors(oracle(), [falling]).T).item() == pytest.approx(1, **EXACT)
    names = ["oracle", "oracle(g=0.9)", "oracle(artist=0)", "oracle(motion=0.5)"]
    assert len({xg.load_model(name).fingerprint for name in names}) == 4
    assert [xg.load_model(name).name for name in names] == names
    assert xg.load_model("oracle( g = 0.7 )").fingerprint == oracle().fingerprint
    assert [oracle().name, oracle(g=0.9, artist=0.0).name] == ["oracle", "oracle(g=0.9, artist=0.0)"]


def test_features_are_kept_by_what_is_read_and_not_by_words_or_pixels(tmp_path: Path) -> None:
    model, store = oracle(), xg.Store(tmp_path)
    for make in (text_of, image_of):
        first, second = (xg.encode(model, [make(c)], store=store, progress=False) for c in (BEAR, KITE))
        assert float(first.vectors @ second.vectors.T) < 0.5
    assert store.entries()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("oracle(motions=1)", "motions.*motion"),
        ("oracle(g=high)", "g of the oracle is a number, not 'high'"),
        ("oracle(0.5)", "takes options by name"),
        ("oracle(g=0.5", "brackets"),
        ("oracel", "unknown model 'oracel'.*oracle"),
    ],
)
def test_a_mistaken_name_is_explained(name: str, message: str) -> None:
    with pytest.raises(XgapError, match=message):
        xg.load_model(name)


def test_an_item_that_it_cannot_read_is_refused() -> None:
    model = oracle()
    with pytest.raises(XgapError, match="1 of 1 text items carry no tag that the oracle reads"):
        xg.encode(model, ["a kite"], store=None, progress=False)
    with pytest.raises(XgapError, match="unknown artist of the oracle 'notto'; nearest names: noto"):
        xg.encode(model, [image_of(BEAR, artist="notto")], store=None, progress=False)
    with pytest.raises(XgapError, match=f"reads {LENGTH} at most"):
        xg.encode(model, [text_of(*[BEAR] * (LENGTH + 1))], store=None, progress=False)


def test_it_keeps_the_law_of_towers() -> None:
    for tower in oracle().towers.values():
        assert "2048 dimensions" in xg.check_tower(tower)


# Tags


def test_tags_stay_with_an_item() -> None:
    image, text = image_of(BEAR), text_of(KITE)
    assert tags_of(image.copy().crop((0, 0, 2, 2)).resize((8, 8)).convert("RGB")) == tags_of(image)
    assert tags_of(pickle.loads(pickle.dumps(text))) == (("concept", KITE),)
    assert tags_of([image, text]) == (*tags_of(image), *tags_of(text))
    assert tags_of("plain") == tags_of(Image.new("L", (1, 1))) == tags_of(None) == ()
    assert tags_of(DATA.images[0]) == (("concept", DATA.images.ids[0].split("/")[1]), ("artist", "noto"))
    assert tags_of(DATA.texts[0]) == (("concept", DATA.texts.ids[0].split("/")[0]),)


def test_a_tagged_text_is_the_same_text_to_every_other_model() -> None:
    model = xg.load_model("tiny", device="cpu")
    plain = vectors(model, ["a bear", "a kite"])
    assert np.array_equal(plain, vectors(model, [TaggedText("a bear", [("concept", BEAR)]), "a kite"]))


def test_what_load_model_gives_is_no_option_of_its_notation() -> None:
    with pytest.raises(XgapError, match=r"device is no option of model 'oracle' but of what loads it: load_model\('o"):
        xg.load_model("oracle(device=cpu)")
    assert xg.load_model("oracle", device="cpu").device.type == "cpu"


def test_an_activation_is_checked_and_not_ignored() -> None:
    with pytest.raises(XgapError, match="model 'oracle' does not say its activation; gelu would change its features"):
        xg.load_model("oracle", activation="gelu")


@pytest.mark.parametrize("name", ["oracle", "oracle(g=0.9)", "tiny-audio"])
def test_it_is_not_trained(name: str) -> None:
    with pytest.raises(XgapError, match="is not an open_clip model, and only those can be trained") as said:
        load_trainable(name)
    assert "nearest" not in str(said.value)
