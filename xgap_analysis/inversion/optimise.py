"""The optimisation behind modality inversion: pseudo-tokens whose feature comes close to a target on the other side.

Mistretta et al. (ICLR 2025), Algorithms 1 and 2: AdamW on `1 - cos(feature, target)`, everything else frozen. Here the
loss is summed over items and each item's start has a generator of its own, so an item is optimised as if alone.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xgap_analysis.errors import XgapError

BETAS, EPSILON = (0.9, 0.999), 1e-8  # AdamW's defaults, which the paper keeps
PLATEAU_STEPS, PLATEAU_GAIN = 25, 1e-3  # an item stops when its cosine has not gained this much in so many steps
LOOK_EVERY = 10  # steps between looks at whether every item has stopped (each look waits for the device)
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, eq=False)
class Optimised:
    """What the loop gives for one batch.

    Args:
        tokens: `[n, r, width]`, after the last step.
        features: `[n, d]`, unit rows, of these tokens.
        loss: `[steps, n]`; row s is `1 - cos` before update s, so that row 0 is the start's.
        snapshots: step to features `[n, d]` after so many updates (0: the start).
    """

    tokens: Tensor
    features: Tensor
    loss: Tensor
    snapshots: dict[int, Tensor]


class AdamW:
    """AdamW (Loshchilov and Hutter, 2019) on one tensor, equal to `torch.optim.AdamW`; rows can be frozen."""

    def __init__(self, tensor: Tensor, lr: float, weight_decay: float) -> None:
        self._tensor, self._lr, self._decay = tensor, lr, weight_decay
        self._mean, self._square = torch.zeros_like(tensor), torch.zeros_like(tensor)
        self._step = torch.zeros((), dtype=torch.float64, device=tensor.device)  # there, so that a graph can count

    @torch.no_grad()
    def step(self, gradient: Tensor, active: Tensor | None = None) -> None:
        """One update; rows where `active [n]` is false keep their values (they never start again)."""
        self._step += 1
        before = None if active is None else self._tensor.clone()
        self._tensor.mul_(1 - self._lr * self._decay)
        self._mean.lerp_(gradient, 1 - BETAS[0])
        self._square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        spread = self._square.sqrt().div_((1 - BETAS[1] ** self._step).sqrt()).add_(EPSILON)
        self._tensor.sub_(self._mean / spread * (self._lr / (1 - BETAS[0] ** self._step)))
        if active is not None and before is not None:
            self._tensor.copy_(torch.where(active[:, None, None], self._tensor, before))


class Stop:
    """Which items go on. Each is judged by its own losses alone.

    Args:
        rule: `"fixed"` (all steps), `"plateau"`, or the cosine at which an item stops.
        n: number of items.
    """

    def __init__(self, rule: str | float, n: int, device: torch.device) -> None:
        self._rule = rule
        self.active = torch.ones(n, dtype=torch.bool, device=device)
        self._best = torch.full((n,), torch.inf, device=device)
        self._since = torch.zeros(n, dtype=torch.long, device=device)

    def see(self, loss: Tensor) -> None:
        """Takes note of the losses `[n]` before an update, and freezes the items that are done."""
        if isinstance(self._rule, float):
            self.active = self.active & (1 - loss < self._rule)
            return
        better = loss < self._best - PLATEAU_GAIN
        self._best = torch.where(better, loss, self._best)
        self._since = torch.where(better, 0, self._since + 1)
        self.active = self.active & (self._since < PLATEAU_STEPS)


def check_stop(rule: str | float) -> str | float:
    """The rule, if it is one.

    Raises:
        XgapError: neither `"fixed"`, `"plateau"` nor a cosine between -1 and 1.
    """
    if rule in ("fixed", "plateau"):
        return rule
    if isinstance(rule, int | float) and not isinstance(rule, bool) and -1 < rule <= 1:
        return float(rule)
    raise XgapError(f'stop is "fixed", "plateau" or the cosine to reach, not {rule!r}')


def starts(ids: Sequence[str], count: int, width: int, *, seed: int, std: float) -> Tensor:
    """Starting tokens `[n, count, width]`: normal, each item's from a generator seeded by (seed, id)."""
    made = []
    for item in ids:
        key = hashlib.sha256(json.dumps([seed, item]).encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)
        made.append(torch.randn(count, width, generator=generator) * std)
    return torch.stack(made)


def optimise(
    forward: Callable[[Tensor], Tensor],
    start: Tensor,
    targets: Tensor,
    *,
    steps: int,
    lr: float,
    weight_decay: float,
    snapshots: Collection[int] = (),
    stop: str | float = "fixed",
    precision: str = "fp32",
    on_step: Callable[[int], Any] | None = None,
) -> Optimised:
    """Optimises one batch of pseudo-tokens.

    Args:
        forward: tokens `[n, r, width]` to features `[n, d]`, differentiable.
        start: `[n, r, width]`, on the device to compute on.
        targets: unit rows `[n, d]`.
        steps, lr, weight_decay: of AdamW.
        snapshots: numbers of updates after which features are kept.
        stop: see `Stop`.
        precision: autocast of the loop's passes (`"bf16"`, `"fp16"`); features are always computed without it.
        on_step: called after each step with the number of steps done.
    """
    keep, dtype = set(snapshots), DTYPES[precision]
    with torch.inference_mode(False), torch.enable_grad():
        tokens = start.clone().requires_grad_()
        targets = F.normalize(targets.to(tokens.device).clone(), dim=1)
        optimiser = AdamW(tokens.detach(), lr, weight_decay)  # shares memory with `tokens`
        judge = None if stop == "fixed" else Stop(stop, len(tokens), tokens.device)
        losses = torch.empty(steps, len(tokens), device=tokens.device)
        kept: dict[int, Tensor] = {}

        def descend() -> tuple[Tensor, Tensor]:
            cast = contextlib.nullcontext() if dtype is None else torch.autocast(tokens.device.type, dtype)
            with cast:
                features = forward(tokens)
            loss = 1 - F.cosine_similarity(features.float(), targets)
            return loss.detach(), torch.autograd.grad(loss.sum(), tokens)[0]

        replay = _captured(descend, optimiser, losses) if tokens.is_cuda and judge is None else None
        for step in range(steps):
            if step in keep:
                kept[step] = unit_features(forward, tokens)
            if replay is not None:
                replay()
            else:
                losses[step], gradient = descend()
                if judge is not None:
                    judge.see(losses[step])
                    if step % LOOK_EVERY == 0 and not bool(judge.active.any()):
                        losses[step + 1 :] = losses[step]
                        break
                optimiser.step(gradient, None if judge is None else judge.active)
            if on_step is not None:
                on_step(step + 1)
        features = unit_features(forward, tokens)
    kept |= {step: features for step in keep if step not in kept}  # the last step, and those after every item stopped
    if on_step is not None:
        on_step(steps)
    return Optimised(tokens.detach(), features, losses, {step: kept[step] for step in sorted(kept)})


def _captured(
    descend: Callable[[], tuple[Tensor, Tensor]], optimiser: AdamW, losses: Tensor
) -> Callable[[], None] | None:
    """The whole step (forward, backward, AdamW, the loss into its row) as one CUDA graph, to be replayed.

    None where a tower does something that cannot be captured, such as waiting for the device; nothing is changed then.
    """
    row = torch.zeros(1, dtype=torch.long, device=losses.device)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # libraries make their workspaces at the first passes, which a capture must not see
        for _ in range(2):
            descend()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            loss, gradient = descend()
            losses.index_copy_(0, row, loss[None])
            row.add_(1)
            optimiser.step(gradient)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return None
    return graph.replay


@torch.no_grad()
def unit_features(forward: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Features `[n, d]` of tokens, unit rows."""
    return F.normalize(forward(tokens).float(), dim=1)
