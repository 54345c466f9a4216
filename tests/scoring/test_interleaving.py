"""Two sequences in one: the published slots, both modalities recovered at every rate, and the mean by the rate."""

import numpy as np
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.mixed import shares_of
from xgap_analysis.datasets.embedded.clips import two_digits
from xgap_analysis.scoring.interleaving import interleave, second_slots

RATES = [0, 0.01, 0.1, 0.2, 0.25, 0.3, 1 / 3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.9, 0.99, 1]


def published(audio: int, frames: int) -> list[int]:
    """The slots that the published code writes sound to."""
    step = round(frames / (audio + 1))
    slots = list(range(0, audio + frames, step + 1))
    return slots[:audio]


def test_a_quarter_is_sound_and_three_frames_as_published() -> None:
    mask = second_slots()
    assert (mask.sum(), len(mask)) == (25, 100)
    assert mask.reshape(25, 4).tolist() == [[True, False, False, False]] * 25
    for rate in (0.2, 0.25, 0.5):
        audio = round(100 * rate)
        assert np.flatnonzero(second_slots(rate)).tolist() == published(audio, 100 - audio)


def test_at_other_rates_the_published_slots_are_uneven_and_these_are_not() -> None:
    assert (max(published(10, 90)), max(published(40, 60))) == (81, 78)
    assert len(published(60, 40)) == 50  # for 60 vectors
    for rate in RATES[1:]:
        slots = np.flatnonzero(second_slots(rate))
        gaps = np.diff([*slots, 100])
        assert gaps.max() - gaps.min() <= 1
        assert slots[0] == 0
    assert second_slots(0.45, 10).sum() == 5  # halves are rounded up, in decimals as written
    assert second_slots(0.29, 100).sum() == 29


def tokens(rng: np.random.Generator, lengths: list[int], space: str) -> xg.TokenFeatures:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = [f"clip {k}" for k in range(len(lengths))]
    return xg.TokenFeatures(rng.normal(size=(offsets[-1], 5)) + 1, offsets, ids, space, space)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("slots", [1, 7, 100])
def test_every_token_is_recovered_in_order_from_the_mask(rate: float, slots: int) -> None:
    rng = np.random.default_rng(0)
    mask = second_slots(rate, slots)
    sizes = int((~mask).sum()), int(mask.sum())
    frames, sound = (tokens(rng, [max(n, 1)] * 3, space) for n, space in zip(sizes, ("image", "audio"), strict=True))
    sound = sound.select([*reversed(sound.ids)])
    made = interleave(frames, sound, rate, slots=slots)
    assert made.lengths.tolist() == [slots] * 3
    for item in made.ids:
        if sizes[0]:
            torch.testing.assert_close(made.tokens_of(item)[~mask], frames.tokens_of(item), rtol=0, atol=0)
        if sizes[1]:
            torch.testing.assert_close(made.tokens_of(item)[mask], sound.tokens_of(item), rtol=0, atol=0)
    assert (made.space, made.origin) == ("image+audio", "image")
    assert shares_of(made)["audio"].tolist() == pytest.approx([mask.mean()] * 3)


def test_ragged_sequences_fill_their_slots_evenly() -> None:
    rng = np.random.default_rng(1)
    frames, sound = tokens(rng, [3, 12, 500], "image"), tokens(rng, [40, 1, 7], "audio")
    mask = second_slots(0.3, 20)
    made = interleave(frames, sound, 0.3, slots=20)
    for item in made.ids:
        for of, own in ((frames, made.tokens_of(item)[~mask]), (sound, made.tokens_of(item)[mask])):
            expected = [of.tokens_of(item)[j * len(of.tokens_of(item)) // len(own)] for j in range(len(own))]
            torch.testing.assert_close(own, torch.stack(expected), rtol=0, atol=0)
    norms = made.norms.view(3, 20)
    assert norms[1, mask].tolist() == [float(sound.norms[40])] * 6


def test_the_mean_weighs_the_modalities_by_the_rate() -> None:
    """Frames all v and sounds all a: the length and the direction of the mean, and its cosine with a text."""
    rng = np.random.default_rng(2)
    v, a, t = (x / np.linalg.norm(x) for x in rng.normal(size=(3, 6)))
    frames = xg.TokenFeatures(np.tile(v, (12, 1)), [0, 12], ["clip"], "image", "video")
    sound = xg.TokenFeatures(np.tile(a, (4, 1)), [0, 4], ["clip"], "audio", "audio")
    for rate in (0, 0.1, 0.25, 0.5, 0.8, 1):
        made = interleave(frames, sound, rate)
        length = np.sqrt((1 - rate) ** 2 + rate**2 + 2 * rate * (1 - rate) * (v @ a))
        assert float(made.vectors.double().mean(0).norm()) == pytest.approx(length, abs=1e-6)
        expected = ((1 - rate) * v + rate * a) @ t / length
        assert float(xg.score(xg.as_features(t[None]), made, "pooled(weights=uniform)")) == pytest.approx(
            expected, abs=1e-6
        )


def test_the_gap_to_texts_moves_with_the_rate_on_the_oracle() -> None:
    """One event a clip: the frames are one vector, and so is the name. The gap of N clips has a closed form."""
    g, own = 0.7, 0.3
    data = xg.load_dataset("emoji-sound-clips").split("test")
    one = [i for i in data.items_of("video").ids if data.labels["n_events"][i] == "1"][:24]
    model = xg.load_model(f"oracle(g={g}, artist=0.0)")
    event = {data.labels["clip"][i]: i for i in data.texts.ids}
    texts = xg.encode(model, data.texts.select([event[i] for i in one]), store=None, progress=False)
    frames = xg.tokens(model, data.items_of("video").select(one), "frames", store=None, progress=False)
    names = xg.tokens(
        model, data.items_of("audio").select([f"{i}/audio" for i in one]), "names", store=None, progress=False
    )
    sound = xg.TokenFeatures(names.vectors, names.offsets, one, "audio", "audio")
    n, b, c = len(one), (1 + g * g) ** -0.5, (1 + own * own + g * g) ** -0.5
    voices = [data.labels["voice"][f"{i}/audio"] for i in one]
    shares = np.unique(voices, return_counts=True)[1] / n
    for rate in (0.0, 0.25, 0.5, 1.0):
        made = interleave(frames, sound, rate)
        means = [made.tokens_of(i).double().mean(0) for i in one]
        gap = float((torch.stack(means).mean(0) - texts.vectors.double().mean(0)).norm())
        concept = ((1 - rate) * b + rate * c - b) ** 2 / n
        modalities = g * g * (((1 - rate) * b) ** 2 + (rate * c) ** 2 + b * b)
        voice = (rate * c * own) ** 2 * float((shares**2).sum())
        assert gap == pytest.approx(np.sqrt(concept + modalities + voice), abs=1e-5)


def test_a_time_is_two_digits_and_the_end_is_99() -> None:
    assert [two_digits(t, 60) for t in (0, 0.6, 30, 59.9, 60)] == ["00", "01", "50", "99", "99"]
    assert two_digits(12) == "99"


def test_mistakes_are_one_sentence() -> None:
    rng = np.random.default_rng(3)
    frames, sound = tokens(rng, [3, 3], "image"), tokens(rng, [2], "audio")
    with pytest.raises(XgapError, match="'clip 1'"):
        interleave(frames, sound)
    with pytest.raises(XgapError, match=r"the rate of the second modality lies in \[0, 1\], not 1\.5"):
        second_slots(1.5)
    with pytest.raises(XgapError, match="a whole number of slots of 1 or more, not 0"):
        second_slots(0.5, 0)
    other = xg.TokenFeatures(np.eye(2), [0, 1, 2], ["clip 0", "clip 1"], "audio", "audio")
    with pytest.raises(XgapError, match="tokens of 5 and of 2 dimensions cannot be interleaved"):
        interleave(frames, other)


def test_shares_of_two_modalities_of_one_origin_add_up_to_one() -> None:
    frames = xg.TokenFeatures(torch.eye(4)[:3], [0, 3], ["clip"], "image", "video")
    sound = xg.TokenFeatures(torch.eye(4)[3:], [0, 1], ["clip"], "audio", "video")
    assert {name: of.tolist() for name, of in shares_of(interleave(frames, sound, slots=4)).items()} == {"video": [1.0]}
