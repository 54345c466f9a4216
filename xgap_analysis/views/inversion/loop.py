"""The optimisation behind modality inversion: pseudo-tokens whose feature approaches a target of the other modality.

Mistretta et al. (ICLR 2025), Algorithms 1 and 2: AdamW on `1 - cos(feature, target)`, everything else frozen. Here the
loss is summed over items and each item's start has a generator of its own, so an item is optimised as if alone.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.precision import held, home
from xgap_analysis.models.adapters.openclip import autocast
from xgap_analysis.views.inversion.quasi_newton import LBFGS

BETAS, EPSILON = (0.9, 0.999), 1e-8  # AdamW's defaults, which the paper keeps
PLATEAU_STEPS, PLATEAU_GAIN = 25, 1e-3  # an item stops when its cosine has not gained this much in so many steps
LOOK_EVERY = 10  # steps between looks at whether every item has stopped (each look waits for the device)


@dataclass(frozen=True, eq=False)
class Optimised:
    """What the loop gives for one batch.

    Args:
        tokens: `[n, r, width]`, after the last step.
        features: `[n, d]`, unit rows, of these tokens.
        loss: `[steps, n]`; row s is `1 - cos` before update s, so that row 0 is the start's. With L-BFGS it is that of
            the best point among the start and the s that were tried after it.
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
        # On the tensor's device, so that a graph can count.
        self._step = torch.zeros((), dtype=torch.float64, device=home(tensor.device))

    @property
    def tokens(self) -> Tensor:
        """The tensor."""
        return self._tensor

    def see(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """The losses as they are: no point is refused."""
        return loss

    def restart(self) -> None:
        """Forgets what was seen so far; the tensor may hold other values now."""
        for state in (self._mean, self._square, self._step):
            state.zero_()

    @torch.no_grad()
    def step(self, gradient: Tensor, active: Tensor | None = None) -> None:
        """One update; rows where `active [n]` is false keep their values (they never start again)."""
        self._step += 1
        before = None if active is None else self._tensor.clone()
        self._tensor.mul_(1 - self._lr * self._decay)
        self._mean.lerp_(gradient, 1 - BETAS[0])
        self._square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        spread = self._square.sqrt().div_(held((1 - BETAS[1] ** self._step).sqrt(), gradient.device)).add_(EPSILON)
        self._tensor.sub_(self._mean / spread * held(self._lr / (1 - BETAS[0] ** self._step), gradient.device))
        if active is not None and before is not None:
            self._tensor.copy_(torch.where(active[:, None, None], self._tensor, before))


class Stop:
    """Which items go on, each according to its own losses. All of it is on the device, so that a graph can update it.

    Args:
        rule: `"fixed"` (all steps), `"plateau"`, or the cosine at which an item stops.
        n: number of items.
        device: of the losses.
    """

    def __init__(self, rule: str | float, n: int, device: torch.device) -> None:
        self._rule = rule
        self.active = torch.ones(n, dtype=torch.bool, device=device)
        self._best = torch.full((n,), torch.inf, device=device)
        self._since = torch.zeros(n, dtype=torch.long, device=device)

    def restart(self) -> None:
        """All items go on, and nothing was seen so far."""
        self.active.fill_(True)
        self._best.fill_(torch.inf)
        self._since.zero_()

    def see(self, loss: Tensor) -> None:
        """Takes note of the losses `[n]` before an update, and freezes the items that are done."""
        if isinstance(self._rule, float):
            self.active.logical_and_(1 - loss < self._rule)
        elif self._rule == "plateau":
            better = loss < self._best - PLATEAU_GAIN
            self._best.copy_(torch.where(better, loss, self._best))
            self._since.add_(1).masked_fill_(better, 0)
            self.active.logical_and_(self._since < PLATEAU_STEPS)


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


class InversionLoop:
    """The optimisation of batches of one size; what one needs is allocated once, and on CUDA its step captured once.

    Args:
        forward: tokens `[n, r, width]` to features `[n, d]`, differentiable.
        shape: n, r and width.
        dim: d.
        device: where to compute.
        steps, lr, weight_decay: of AdamW.
        stop: see `Stop`.
        optimiser: `"adamw"`, or `"l-bfgs"`, which has no use for `lr` and `weight_decay` (see `LBFGS`).
        precision: autocast of the loop's passes (`"bf16"`, `"fp16"`); features are always computed without it.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        shape: tuple[int, int, int],
        dim: int,
        device: torch.device,
        *,
        steps: int,
        lr: float,
        weight_decay: float,
        stop: str | float = "fixed",
        optimiser: str = "adamw",
        precision: str = "fp32",
    ) -> None:
        self._forward, self._precision = forward, precision
        with torch.inference_mode(False):
            self._tokens = torch.zeros(shape, device=device, requires_grad=True)
            self._targets = torch.zeros(shape[0], dim, device=device)
            self._losses = torch.zeros(steps, shape[0], device=device)
            self._row = torch.zeros(1, dtype=torch.long, device=device)  # there, so that a graph can count
            shared = self._tokens.detach()  # the same memory
            self._optimiser = LBFGS(shared) if optimiser == "l-bfgs" else AdamW(shared, lr, weight_decay)
            self._stop = None if stop == "fixed" else Stop(stop, shape[0], device)
        self._replay: Callable[[], None] | None = None
        self._to_capture = device.type == "cuda"

    def run(
        self,
        start: Tensor,
        targets: Tensor,
        *,
        snapshots: Collection[int] = (),
        on_step: Callable[[int], Any] | None = None,
    ) -> Optimised:
        """Optimises one batch.

        Args:
            start: `[n, r, width]`.
            targets: rows `[n, d]`, of any length.
            snapshots: numbers of updates after which features are kept.
            on_step: called after each step with the number of steps done.
        """
        keep, steps, kept = set(snapshots), len(self._losses), dict[int, Tensor]()
        with torch.inference_mode(False), torch.enable_grad():
            self._load(start, targets)
            if self._to_capture:
                self._replay, self._to_capture = self._captured(), False
            take = self._replay or self._step
            for step in range(steps):
                if step in keep:
                    kept[step] = unit_features(self._forward, self._optimiser.tokens)
                take()
                if on_step is not None:
                    on_step(step + 1)
                if self._stop is not None and step % LOOK_EVERY == 0 and not bool(self._stop.active.any()):
                    self._losses[step + 1 :] = self._losses[step]
                    break
            features = unit_features(self._forward, self._optimiser.tokens)
        kept |= {step: features for step in keep if step not in kept}  # the last step, and those after all stopped
        if on_step is not None:
            on_step(steps)
        ordered = {step: kept[step] for step in sorted(kept)}
        return Optimised(self._optimiser.tokens.clone(), features, self._losses.clone(), ordered)

    def probe(self) -> None:
        """One plain step of whatever is loaded, to see what a batch takes of the device's memory."""
        with torch.inference_mode(False), torch.enable_grad():
            self._step()

    @torch.no_grad()
    def _load(self, start: Tensor, targets: Tensor) -> None:
        self._tokens.copy_(start)
        self._targets.copy_(F.normalize(targets.to(self._targets.device), dim=1))
        self._row.zero_()
        self._optimiser.restart()
        if self._stop is not None:
            self._stop.restart()

    def _descend(self) -> tuple[Tensor, Tensor]:
        """Losses `[n]` and the gradient of their sum."""
        with autocast(self._tokens.device, self._precision):
            features = self._forward(self._tokens)
        loss = 1 - F.cosine_similarity(features.float(), self._targets)
        return loss.detach(), torch.autograd.grad(loss.sum(), self._tokens)[0]

    def _step(self) -> None:
        """One step of all items, without a look from the host; those that have stopped keep their tokens."""
        loss, gradient = self._descend()
        loss = self._optimiser.see(loss, gradient)
        self._losses.index_copy_(0, self._row, loss[None])
        self._row.add_(1)
        if self._stop is not None:
            self._stop.see(loss)
        self._optimiser.step(gradient, None if self._stop is None else self._stop.active)

    def _captured(self) -> Callable[[], None] | None:
        """The whole step (forward, backward, who has stopped, AdamW, the loss into its row) as one CUDA graph.

        A step of a small tower is many short kernels, and launching them from Python takes longer than running them. A
        CUDA graph records them once and launches them with one call. It records addresses, not values: tokens, targets,
        losses, and the optimiser's and the stop's state are therefore buffers that `_load` overwrites in place, and the
        number of the step is a tensor on the device. Whether all items have stopped is looked at every few replays.

        None where a tower does something that cannot be captured, such as waiting for the device.
        """
        device = self._tokens.device  # which need not be the current one
        here, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        aside.wait_stream(here)
        with torch.cuda.stream(aside):  # libraries allocate workspaces in the first passes, which must not be captured
            for _ in range(2):
                self._descend()
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
                self._step()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return None
        return graph.replay


@torch.no_grad()
def unit_features(forward: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Features `[n, d]` of tokens, unit rows."""
    return F.normalize(forward(tokens).float(), dim=1)
