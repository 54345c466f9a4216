"""A small audio tower beside a dual encoder's own towers: log-mel sheets to the dual encoder's sphere.

A directory holds the tower alone: its sizes (`audio_config.json`), its weights (`audio_model.safetensors`), and which
embedded model's sphere it was trained for, by name and by the digest of that model's weights.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.models.checkpoint import read_checkpoint, refuse_pointer, state_dict
from xgap_analysis.models.configuration import checked_audio
from xgap_analysis.models.precision import autocast
from xgap_analysis.models.tower import Model

CONFIG, WEIGHTS = "audio_config.json", "audio_model.safetensors"
STRIDE, KERNEL = 2, 5  # of each of the two convolutions: a token for every four frames


@dataclass(frozen=True)
class Sizes:
    """What an audio tower is made of.

    Args:
        bands: numbers of a frame, on the mel scale.
        frames: that are read; the rest of a longer sheet is cut off.
        width, layers, heads: of the transformer.
        dimensions: of a feature.
        floor: the value of silence, with which a shorter sheet is filled up.
        mean, std: of the values that it was trained with.
    """

    bands: int
    frames: int
    width: int
    layers: int
    heads: int
    dimensions: int
    floor: float
    mean: float
    std: float


class SheetEncoder(nn.Module):
    """Two strided convolutions over time, a transformer with a class token, and a linear head.

    Shapes: sheets `[n, frames, bands]` become `frames / 4` tokens `[n, frames / 4, width]` and features
    `[n, dimensions]`.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        # What the tower does to a sheet before it comes here, as settings: the digest of the architecture reads these.
        self.floor, self.mean, self.std = float(sizes.floor), float(sizes.mean), float(sizes.std)
        self.conv1 = nn.Conv1d(sizes.bands, width, KERNEL, STRIDE, KERNEL // 2)
        self.conv2 = nn.Conv1d(width, width, KERNEL, STRIDE, KERNEL // 2)
        self.class_token = nn.Parameter(torch.randn(width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1 + tokens_of(sizes.frames), width) * 0.02)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, sizes.heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(sizes.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, sizes.dimensions, bias=False)

    def forward(self, sheets: Tensor) -> Tensor:
        """Features `[n, 1 + frames / 4, dimensions]` of the class token and of every token after it."""
        made = F.gelu(self.conv2(F.gelu(self.conv1(sheets.transpose(1, 2))))).transpose(1, 2)
        made = torch.cat([self.class_token.expand(len(made), 1, -1), made], dim=1) + self.positions
        for block in self.blocks:
            made = block(made)
        return self.head(self.norm(made))


def tokens_of(frames: int) -> int:
    """The number of tokens of so many frames: each convolution halves it, rounding up."""
    for _ in range(2):
        frames = -(-frames // STRIDE)
    return frames


class AudioTower:
    """A tower of log-mel sheets `[frames, bands]`; see `Tower`.

    Args:
        encoder: the module, on its device.
        sizes: what it was made with.
        precision: `"fp32"`, `"bf16"` or `"fp16"` (autocast).

    Example:
        >>> sizes = Sizes(bands=4, frames=16, width=8, layers=1, heads=2, dimensions=6, floor=-8.0, mean=0.0, std=1.0)
        >>> tower = AudioTower(SheetEncoder(sizes), sizes)
        >>> tower.encode(tower.prepare([np.zeros((5, 4)), np.ones((20, 4))])).shape
        torch.Size([2, 6])
    """

    space = "audio"

    def __init__(self, encoder: SheetEncoder, sizes: Sizes, precision: str = "fp32") -> None:
        self.encoder, self.sizes, self._precision = encoder.eval().requires_grad_(False), sizes, precision
        still, rising = np.full((9, sizes.bands), sizes.floor), np.linspace(sizes.floor, 0, 20 * sizes.bands)
        self.probes = (rising.reshape(20, sizes.bands), np.concatenate([rising.reshape(20, -1)[::-1], still]))

    def preprocess(self, item: Any) -> Tensor:
        """A sheet `[frames, bands]` at the tower's number of frames: cut, or filled up with silence.

        Raises:
            XgapError: no frames, another number of bands, or values that are not finite.
        """
        sheet = torch.from_numpy(np.array(item, dtype=np.float32))
        bands, most = self.sizes.bands, self.sizes.frames
        if sheet.ndim != 2 or not len(sheet) or sheet.shape[1] != bands:
            raise XgapError(f"an audio item is a log-mel sheet [frames, {bands}], not {list(sheet.shape)}")
        if not bool(torch.isfinite(sheet).all()):
            raise XgapError("a log-mel sheet has values that are NaN or infinite")
        return F.pad(sheet[:most], (0, 0, 0, max(0, most - len(sheet))), value=self.sizes.floor)

    def prepare(self, items: Sequence[Any]) -> Tensor:
        """Sheets `[n, frames, bands]` of equal length."""
        return torch.stack([self.preprocess(item) for item in items])

    def encode(self, batch: Tensor) -> Tensor:
        """See `Tower.encode`."""
        return self._all(batch)[:, 0]

    def hidden(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the tokens in time `[n, frames / 4, d]`, and which of them cover sound `[n, frames / 4]`."""
        sounding = (batch > self.sizes.floor).any(2)
        last = (sounding * torch.arange(1, batch.shape[1] + 1, device=batch.device)).amax(1)
        length = tokens_of(self.sizes.frames)
        covered = torch.arange(length, device=batch.device) * STRIDE**2 < last.clamp(min=1)[:, None]
        return self._all(batch)[:, 1:], covered

    def _all(self, batch: Tensor) -> Tensor:
        device = self.encoder.positions.device
        scaled = (batch.to(device) - self.sizes.mean) / self.sizes.std
        with autocast(device, self._precision):
            return self.encoder(scaled).float()


def holds_audio(folder: Path) -> bool:
    """Whether a directory is that of an audio tower."""
    return (folder / CONFIG).is_file()


def load(folder: Path, name: str, base_model: Callable[[str], Model], known: Sequence[str], precision: str) -> Model:
    """The towers of the embedded model that an audio tower was trained for, and the audio tower beside them.

    Args:
        folder: of the audio tower.
        name: what tables call the model.
        base_model: gives an embedded model by name.
        known: names of the embedded models.
        precision: `"fp32"`, `"bf16"` or `"fp16"` (autocast).

    Raises:
        XgapError: a configuration that says what it may not, weights that do not fit, or another model than the one
            that it was trained for.
    """
    sizes, base = read_configuration(folder / CONFIG)
    if base["name"] not in known:
        raise unknown_name(f"embedded model that {folder / CONFIG} was trained for:", base["name"], known)
    model = base_model(base["name"])
    if model.weights_digest != base["weights"]:
        raise XgapError(
            f"{folder.name} was trained for another {base['name']} (weights {base['weights'][:12]}, here "
            f"{model.weights_digest[:12]}): restore both from one version, or train it again (data/spoken/train.py)"
        )
    tower = AudioTower(_filled(folder / WEIGHTS, sizes).to(model.device), sizes, precision)
    return Model(
        name,
        {**model.towers, "audio": tower},
        logit_scale=model.logit_scale,
        logit_bias=model.logit_bias,
        device=model.device,
        precision=precision,
        activation=model.activation,
        settings=model.settings,
    )


def read_configuration(file: Path) -> tuple[Sizes, dict[str, str]]:
    """Sizes of an audio tower, and name and weights (a digest) of the model that it was trained for.

    Raises:
        XgapError: no such configuration, or one that says what it may not.
    """
    refuse_pointer(file)
    try:
        said = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise XgapError(f"{file} is not the configuration of an audio tower ({error})") from error
    sizes, base = checked_audio(said, str(file))
    return Sizes(**sizes), base


def _filled(path: Path, sizes: Sizes) -> SheetEncoder:
    if not path.is_file():
        raise XgapError(f"{path} is missing: restore it from the repository, or train it again (data/spoken/train.py)")
    try:
        weights = state_dict(read_checkpoint(path), path)
        layers = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
        if layers != sizes.layers:
            raise ValueError(f"they have {layers} layers, not {sizes.layers}")
        with torch.device("meta"):  # shapes alone: memory is taken only where they are those of the weights
            SheetEncoder(sizes).load_state_dict(weights, assign=True)
        encoder = SheetEncoder(sizes)
        encoder.load_state_dict(weights)
    except XgapError:
        raise
    except Exception as error:
        what = " ".join(str(error).split())[:160]
        raise XgapError(f"{path} does not hold the weights that {CONFIG} describes ({what})") from error
    return encoder


def write(folder: Path, encoder: SheetEncoder, sizes: Sizes, base: Model, about: Mapping[str, Any]) -> None:
    """Write an audio tower in half precision, with its configuration.

    Args:
        folder: where to.
        encoder, sizes: the tower.
        base: the embedded model that it was trained for.
        about: entries beside: `description`.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().cpu().half().contiguous() for k, v in encoder.state_dict().items()}, folder / WEIGHTS)
    own = {**about, "base": {"name": base.name, "weights": base.weights_digest}, "audio_cfg": vars(sizes)}
    (folder / CONFIG).write_text(json.dumps(own, indent=2) + "\n", "utf-8")


__all__ = ["CONFIG", "WEIGHTS", "AudioTower", "SheetEncoder", "Sizes", "holds_audio", "load", "write"]
