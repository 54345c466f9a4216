"""The augmentation of the embedded models' training images: moved, recoloured, on a background."""

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(images: Tensor, coloured: Tensor, rng: torch.Generator) -> Tensor:
    """RGBA uint8 `[n, 64, 64, 4]` to RGB in [-1, 1] `[n, 3, 64, 64]`, with the generator's draws.

    A drawing without colours of its own gets a random ink, black half of the time; backgrounds are white half of the
    time. The draws are the CPU's, so that they are the same on every device.
    """
    n, device = len(images), images.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(n, *shape, generator=rng)).to(device)

    def sometimes(share: float, value: float | Tensor, otherwise: Tensor) -> Tensor:
        drawn = (torch.rand(n, generator=rng) < share).to(device).view(-1, *[1] * (otherwise.ndim - 1))
        return torch.where(drawn, torch.as_tensor(value, dtype=otherwise.dtype, device=device), otherwise)

    x = images.permute(0, 3, 1, 2).float() / 255
    alpha = x[:, 3:]
    ink = sometimes(0.5, 0.0, uniform(0, 1, 3))[:, :, None, None]
    colours = torch.where(coloured[:, None, None, None], x[:, :3], ink)
    x = torch.cat([colours * alpha, alpha], dim=1)  # premultiplied, so that edges stay clean
    angle, zoom, aspect = uniform(-0.25, 0.25), uniform(0.8, 1.35), uniform(0.87, 1.15)
    mirror = sometimes(0.3, -1.0, torch.ones(n, device=device))
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    rows = [
        torch.stack([cos * aspect * mirror, -sin, uniform(-0.15, 0.15)], dim=1),
        torch.stack([sin * mirror, cos / aspect, uniform(-0.15, 0.15)], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, align_corners=False)
    rgb, alpha = x[:, :3], x[:, 3:]
    grey = rgb.mean(dim=1, keepdim=True)
    saturation = sometimes(0.15, 0.0, uniform(0.5, 1.5))[:, None, None, None]
    rgb = ((grey + (rgb - grey) * saturation) * uniform(0.8, 1.2, 3)[:, :, None, None]).clamp(0, 1)
    plain = sometimes(0.5, 1.0, uniform(0, 1, 3))[:, :, None, None]
    return ((rgb + (1 - alpha) * plain).clamp(0, 1) - 0.5) / 0.5
