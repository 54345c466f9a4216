"""An audio tower beside a dual encoder: the law of a tower, what its directory may say, what the embedded one knows."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.paths import data_root
from xgap_analysis.metrics import bootstrap_interval, gap_report
from xgap_analysis.models.adapters.audio import CONFIG, WEIGHTS, AudioTower, SheetEncoder, Sizes, tokens_of, write

SIZES = Sizes(bands=6, frames=32, width=16, layers=2, heads=4, dimensions=10, floor=-8.0, mean=-3.0, std=4.0)


@pytest.fixture(scope="module")
def tower() -> AudioTower:
    torch.manual_seed(0)
    return AudioTower(SheetEncoder(SIZES), SIZES)


def sheet(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-2, 3, (frames, SIZES.bands)).clip(-8).astype(np.float32)


# The law of a tower


def test_it_passes_the_check_with_its_own_probes_and_with_items(tower: AudioTower) -> None:
    assert xg.check_tower(tower) == "tower AudioTower: audio, 10 dimensions; it encodes"
    assert xg.check_tower(tower, [sheet(5), sheet(32, 1), sheet(60, 2)]).endswith("it encodes")


def test_silence_after_a_name_changes_nothing_and_what_is_too_long_is_cut(tower: AudioTower) -> None:
    short, long = sheet(9), sheet(40, 1)
    silent = np.concatenate([short, np.full((7, SIZES.bands), SIZES.floor, np.float32)])
    made = tower.encode(tower.prepare([short, silent, long, long[:32]]))
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[2], made[3])
    assert not torch.allclose(made[0], made[2], atol=1e-3)


def test_features_of_tokens_and_which_of_them_cover_sound(tower: AudioTower) -> None:
    batch = tower.prepare([sheet(1), sheet(8, 1), sheet(9, 2), sheet(32, 3)])
    tokens, mask = tower.hidden(batch)
    assert tokens.shape == (4, tokens_of(32), 10) == (4, 8, 10)
    assert mask.sum(1).tolist() == [1, 2, 3, 8]
    assert mask[2].tolist() == [True] * 3 + [False] * 5
    alone, _ = tower.hidden(batch[1:2])
    torch.testing.assert_close(alone[0], tokens[1], rtol=1e-4, atol=1e-5)


def test_the_encoder_is_what_its_card_says_it_is() -> None:
    """An independent pass with the weights by name: convolutions as sums over windows, attention by its formula."""
    torch.manual_seed(1)
    encoder = SheetEncoder(SIZES).double().eval()
    weights = {name: value.numpy() for name, value in encoder.state_dict().items()}
    x = np.random.default_rng(3).normal(size=(SIZES.frames, SIZES.bands))
    expected = reference(weights, x, SIZES)
    with torch.no_grad():
        made = encoder(torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_allclose(made, expected, atol=1e-9)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + torch.erf(torch.from_numpy(x / 2**0.5)).numpy())


def normed(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def reference(weights: dict[str, np.ndarray], x: np.ndarray, sizes: Sizes) -> np.ndarray:
    for name in ("conv1", "conv2"):
        padded = np.pad(x, ((2, 2), (0, 0)))
        windows = [padded[start : start + 5] for start in range(0, len(x), 2)]
        x = gelu(
            np.stack([np.einsum("tc,oct->o", w, weights[f"{name}.weight"]) for w in windows]) + weights[f"{name}.bias"]
        )
    x = np.concatenate([weights["class_token"][None], x]) + weights["positions"]
    for layer in range(sizes.layers):
        own = {n.removeprefix(f"blocks.{layer}."): w for n, w in weights.items() if n.startswith(f"blocks.{layer}.")}
        z = normed(x, own, "norm1")
        q, k, v = np.split(z @ own["self_attn.in_proj_weight"].T + own["self_attn.in_proj_bias"], 3, axis=1)
        heads = []
        for one in np.split(np.arange(sizes.width), sizes.heads):
            logits = q[:, one] @ k[:, one].T / np.sqrt(len(one))
            shares = np.exp(logits - logits.max(1, keepdims=True))
            heads.append(shares / shares.sum(1, keepdims=True) @ v[:, one])
        x = x + np.concatenate(heads, 1) @ own["self_attn.out_proj.weight"].T + own["self_attn.out_proj.bias"]
        z = gelu(normed(x, own, "norm2") @ own["linear1.weight"].T + own["linear1.bias"])
        x = x + z @ own["linear2.weight"].T + own["linear2.bias"]
    return normed(x, weights, "norm") @ weights["head.weight"].T


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.zeros((5, 7)), r"a log-mel sheet \[frames, 6\], not \[5, 7\]"),
        (np.zeros((0, 6)), r"a log-mel sheet \[frames, 6\], not \[0, 6\]"),
        (np.zeros(6), r"a log-mel sheet \[frames, 6\], not \[6\]"),
        (np.full((5, 6), np.nan), "NaN or infinite"),
    ],
)
def test_what_is_no_sheet_is_refused(item: Any, message: str, tower: AudioTower) -> None:
    with pytest.raises(XgapError, match=message):
        tower.prepare([item])


# A directory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An untrained audio tower for today's `tiny`."""
    tiny = xg.load_model("tiny", device="cpu")
    sizes = Sizes(40, 128, 16, 1, 2, tiny.text.projection.shape[1], -8.0, -3.0, 4.0)
    torch.manual_seed(0)
    write(tmp_path / "mine", SheetEncoder(sizes), sizes, tiny, {"description": "untrained"})
    return tmp_path / "mine"


def test_a_directory_gives_the_models_own_towers_and_the_audio_tower(folder: Path) -> None:
    tiny, model = xg.load_model("tiny", device="cpu"), xg.load_model(folder, device="cpu")
    assert [*model.towers] == ["image", "text", "audio"]
    assert model.logit_scale == tiny.logit_scale
    names = xg.Texts(["a", "b"], ["a red kite", "a bear"])
    both = [xg.encode(one, names, store=None, progress=False).vectors for one in (tiny, model)]
    assert torch.equal(*both)
    assert model.fingerprint != tiny.fingerprint
    assert model.fingerprint == xg.load_model(f"local-dir:{folder}", device="cpu").fingerprint
    assert xg.check_tower(model.tower("audio")).startswith("tower AudioTower: audio")


@pytest.mark.parametrize("key", ["mean", "std", "floor"])
def test_the_fingerprint_tells_how_sheets_are_normalised(key: str, folder: Path) -> None:
    """By a difference that is too small for what the probes' features are told in."""
    before = xg.load_model(folder, device="cpu")
    edited(lambda c: c["audio_cfg"].update({key: c["audio_cfg"][key] + 1e-6}))(folder)
    after = xg.load_model(folder, device="cpu")
    assert after.weights_digest == before.weights_digest
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize("change", [{"layers": 2}, {"width": 4096, "heads": 2}, {"dimensions": 4096}])
def test_no_memory_is_taken_for_sizes_that_the_weights_do_not_have(
    change: dict[str, int], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(lambda c: c["audio_cfg"].update(change))(folder)
    taken: list[torch.device] = []
    real = SheetEncoder.__init__

    def noted(self: SheetEncoder, sizes: Sizes) -> None:
        real(self, sizes)
        taken.append(self.class_token.device)

    monkeypatch.setattr(SheetEncoder, "__init__", noted)
    with pytest.raises(XgapError, match=f"does not hold the weights that {CONFIG} describes"):
        xg.load_model(folder, device="cpu")
    assert torch.device("cpu") not in taken


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        said = json.loads((folder / CONFIG).read_text())
        change(said)
        (folder / CONFIG).write_text(json.dumps(said))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            edited(lambda c: c["base"].update(weights="0" * 64)),
            r"mine was trained for another tiny \(weights 000000000000",
        ),
        (edited(lambda c: c["base"].update(name="tinny")), "unknown embedded model that .* was trained for: 'tinny'"),
        (edited(lambda c: c["base"].update(name="hf-hub:some/one")), "unknown embedded model"),
        (edited(lambda c: c["base"].update(name="mine")), "unknown embedded model"),
        (edited(lambda c: c["base"].pop("weights")), "base has no 'weights'"),
        (edited(lambda c: c.pop("audio_cfg")), "audio_cfg has no 'bands'"),
        (edited(lambda c: c["audio_cfg"].update(module="os")), "audio_cfg says 'module', which is none of"),
        (edited(lambda c: c["audio_cfg"].update(width="16")), "width is '16', not a number"),
        (
            edited(lambda c: c["audio_cfg"].update(width=10**9)),
            "width is 1000000000, not a whole number from 1 to 4096",
        ),
        (edited(lambda c: c["audio_cfg"].update(heads=3)), "width must be a multiple of heads"),
        (edited(lambda c: c["audio_cfg"].update(std=0)), "std above 0"),
        (edited(lambda c: c["audio_cfg"].update(width=32)), f"does not hold the weights that {CONFIG} describes"),
        (edited(lambda c: c["audio_cfg"].update(dimensions=7)), f"does not hold the weights that {CONFIG} describes"),
        (edited(lambda c: c.update(auto_map="evil.py")), "says 'auto_map'"),
        (lambda folder: (folder / CONFIG).write_text("{"), "is not the configuration of an audio tower"),
        (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS} is missing: restore it"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"no"), f"does not hold the weights that {CONFIG} describes"),
    ],
)
def test_a_damaged_directory_is_named_in_one_sentence(
    damage: Callable[[Path], object], message: str, folder: Path
) -> None:
    damage(folder)
    with pytest.raises(XgapError, match=message) as said:
        xg.load_model(folder, device="cpu")
    assert "\n" not in str(said.value)


def test_another_tiny_than_it_was_trained_for_is_refused(tmp_path: Path) -> None:
    """The pair is told apart by the weights, whatever the directories are called."""
    copy = tmp_path / "tiny-audio"
    shutil.copytree(data_root() / "models" / "tiny-audio", copy)
    edited(lambda c: c["base"].update(name="tiny-untrained"))(copy)
    with pytest.raises(XgapError, match=r"tiny-audio was trained for another tiny-untrained .* restore both from one"):
        xg.load_model(copy, device="cpu")


# The embedded tower


@pytest.fixture(scope="module")
def model() -> xg.Model:
    return xg.load_model("tiny-audio", device="cpu")


@pytest.fixture(scope="module")
def encoded(model: xg.Model) -> dict[str, xg.Features]:
    """Held-out names in a held-out voice, written, and drawn by an artist that no model was trained on."""
    data = xg.load_dataset("emoji-spoken").split("test")
    chosen = {"audio": "rms/", "text": "", "image": "openmoji/"}
    return {
        m: xg.encode(
            model,
            data.items_of(m).select(i for i in data.items_of(m).ids if i.startswith(own)),
            store=None,
            progress=False,
        )
        for m, own in chosen.items()
    }


def test_it_is_small_and_listed(model: xg.Model) -> None:
    from xgap_analysis.models import embedded_models, inventory

    assert "tiny-audio" in embedded_models()
    parameters = sum(p.numel() for p in model.tower("audio").encoder.parameters())
    assert 0.5e6 < parameters < 0.6e6
    assert (data_root() / "models" / "tiny-audio" / WEIGHTS).stat().st_size < 1.2e6
    rows = {row["model"]: row for row in inventory.models()}
    assert rows["tiny-audio"]["available"]
    assert rows["tiny-audio"]["parameters"] == rows["tiny"]["parameters"] + parameters
    assert "spoken" in rows["tiny-audio"]["description"]


def test_it_keeps_the_law_of_a_tower_on_spoken_names(model: xg.Model) -> None:
    audio = xg.load_dataset("emoji-spoken").items_of("audio")
    assert xg.check_tower(model.tower("audio"), [audio[k] for k in (0, 1, 5000)]).endswith("it encodes")


def test_held_out_names_by_a_held_out_voice_are_retrieved_above_chance(encoded: dict[str, xg.Features]) -> None:
    data = xg.load_dataset("emoji-spoken").split("test")
    audio, texts = encoded["audio"], encoded["text"]
    found = xg.retrieval(audio, texts, data)["recall_at_5"]
    interval = bootstrap_interval(found, groups=[data.labels["concept"][i] for i in found.index])
    assert interval.low > 5 / len(texts)
    by_chance = xg.retrieval(audio, texts, data.shuffled(seed=1))["recall_at_5"]
    shuffled = bootstrap_interval(by_chance, groups=list(by_chance.index))
    assert shuffled.low < 5 / len(texts) < interval.low


def test_three_gaps_of_three_modalities(encoded: dict[str, xg.Features]) -> None:
    """They differ, and the gap vectors of three means close a triangle."""
    concept = xg.load_dataset("emoji-spoken").split("test").labels["concept"]
    by = {m: {concept[i]: i for i in f.ids} for m, f in encoded.items()}
    common = [c for c in by["text"] if all(c in own for own in by.values())]
    sets = {m: xg.Features(f.select(by[m][c] for c in common).vectors, common, m, m) for m, f in encoded.items()}
    pairs = [("audio", "text"), ("audio", "image"), ("image", "text")]
    gaps = [float(gap_report(sets[x], sets[y])["modality_gap"].iloc[0]) for x, y in pairs]
    means = {m: f.vectors.double().mean(0) for m, f in sets.items()}
    np.testing.assert_allclose(gaps, [float((means[x] - means[y]).norm()) for x, y in pairs], atol=1e-6)
    assert len({round(gap, 3) for gap in gaps}) == 3
    assert all(gap > 0.05 for gap in gaps)
