"""Reductions: the named ways to make one number of the similarities of many tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.calls import Call, parse
from xgap_analysis.core.errors import XgapError, unknown_name

EXPLODED = 10.0  # weights by a ratio whose absolute values add up to more say nothing

# A function (values, mask, dim, number) that reads `values` where `mask` is true alone; None says that all is true.
_Reduce = Callable[[Tensor, Tensor | None, int, float], Tensor]


@dataclass(frozen=True)
class Reduction:
    """A reduction by name, with its number where it has one.

    Args:
        name: `max`, `mean`, `sum`, `top`, `softmax`, `lse` or `lme`.
        number: k of `top(k)`, tau of `softmax(tau)`, smooth of `lse(smooth)` and `lme(smooth)`.
    """

    name: str
    number: float = 0.0

    def __str__(self) -> str:
        return f"{self.name}({self.number:g})" if self.name in _NUMBERS else self.name

    @property
    def linear(self) -> bool:
        """Whether it may be applied to the vectors themselves, before the product."""
        return self.name in ("mean", "sum")

    @property
    def least(self) -> int:
        """The number of tokens that an item needs."""
        return int(self.number) if self.name == "top" else 1

    def __call__(
        self, values: Float[Tensor, "..."], mask: Tensor | None, dim: int, *, padding_repeats: bool = False
    ) -> Tensor:
        """Reduces one axis.

        Args:
            values: numbers of any shape.
            mask: where to read them, of a shape that fits; None where everywhere.
            dim: the axis.
            padding_repeats: whether padding holds numbers that the axis has elsewhere, which a maximum may read.
        """
        return _REDUCE[self.name](values, None if self.name == "max" and padding_repeats else mask, dim, self.number)

    def weights(self, values: Float[Tensor, "..."], dim: int) -> Tensor:
        """How much each value counts along an axis: the reduction is the sum of weights times values.

        Of equal values at the edge of a maximum or of the k largest, the first count.

        Raises:
            XgapError: a reduction that is no such sum.
        """
        if self.name in ("lse", "lme"):
            raise XgapError(f"{self} is no weighted sum of its values, so no value has a part of it; take softmax(tau)")
        if self.name == "softmax":
            return softmax(values, None, dim, self.number)
        if self.linear:
            return torch.full_like(values, 1.0 if self.name == "sum" else 1 / values.shape[dim])
        k = int(self.number) if self.name == "top" else 1
        return top(values, None, dim, k).to(values.dtype) / k


def reduction(wanted: str | Call | Reduction, option: str) -> Reduction:
    """A reduction from its notation: `"max"`, `"mean"`, `"sum"`, `"top(3)"`, `"softmax(0.1)"`, `"lse(6)"`, `"lme(6)"`.

    `lse(s)` is `log(sum exp(s x)) / s`, a smooth maximum as SCAN has it: of L equal values c it is `c + log(L) / s`, so
    an item with more tokens scores higher for their number alone. `lme(s)` has the mean in place of the sum, and is c.

    Args:
        wanted: the notation, or what `parse` makes of it.
        option: the name of the option, for error messages.

    Raises:
        XgapError: another name, or a number that is missing, out of range or too many.
    """
    if isinstance(wanted, Reduction):
        return wanted
    if isinstance(wanted, str):
        return _read(wanted, option)
    return _of(wanted, option)


@lru_cache  # a scorer reads the same few for every block
def _read(notation: str, option: str) -> Reduction:
    return _of(parse(notation), option)


def _of(call: Call, option: str) -> Reduction:
    if not isinstance(call, Call):
        raise XgapError(f"{option} is a name such as max, mean, sum, top(3) or softmax(0.1), not {call!r}")
    if call.name not in _REDUCE:
        raise unknown_name(option, call.name, _REDUCE)
    return Reduction(call.name, argument(call, option, _NUMBERS))


def argument(call: Call, option: str, numbers: dict[str, str], default: float | None = None) -> float:
    """The number of a call such as `top(3)` or `softmax(tau=0.1)`, checked; 0 where the name takes none.

    Args:
        call: the name and what stands in its brackets.
        option: the name of the option that it is given for, for error messages.
        numbers: for each name that takes a number, what the number is called.
        default: where none is given; None says that it must be.
    """
    name = numbers.get(call.name)
    given = [*call.arguments, *(call.options[key] for key in call.options if key == name)]
    if name is None or len(given) != len(call.arguments) + len(call.options) or len(given) > 1:
        form = f"{call.name}({name})" if name else f"{call.name}, without brackets"
        if name is None and not given and not call.options:
            return 0.0
        raise XgapError(f"{option}={call} is not understood; write {form}")
    if not given:
        if default is None:
            raise XgapError(f"{option}={call.name} needs its {name}: {call.name}({_EXAMPLES[name]})")
        given = [default]
    value = given[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise XgapError(f"{name} of {option}={call} must be a number, not {value!r}")
    if name == "k" and (value != int(value) or value < 1):
        raise XgapError(f"k of {option}={call} must be a whole number of 1 or more")
    if name in ("tau", "smooth") and not 0 < value < float("inf"):
        raise XgapError(f"{name} of {option}={call} must be greater than 0")
    if name == "delta" and not 0 <= value <= 1:
        raise XgapError(f"delta of {option}={call} must lie between 0 and 1")
    return float(value)


def softmax(values: Float[Tensor, "..."], mask: Tensor | None, dim: int, tau: float) -> Tensor:
    """Weights that add up to one over the places where `mask` is true, and are zero elsewhere."""
    return torch.softmax(_only(values, mask, -torch.inf) / tau, dim)


def top(values: Float[Tensor, "..."], mask: Tensor | None, dim: int, k: int) -> Tensor:
    """Marks of the k highest along an axis, with ones; of equal ones at the edge, the first."""
    values = _only(values, mask, -torch.inf)
    edge = values.topk(k, dim=dim).values.amin(dim, keepdim=True)
    reached = values >= edge
    if int(reached.sum()) * values.shape[dim] == k * values.numel():  # no equal ones at the edge, nearly always
        return reached
    above, level = values > edge, values == edge
    return above | (level & (level.cumsum(dim) <= k - above.sum(dim, keepdim=True)))


def ratio(values: Float[Tensor, "..."], mask: Tensor, dim: int) -> Tensor:
    """Values over their sum along an axis, as weights; zero where `mask` is not true.

    Where the values add up to nothing or less, or the absolute weights to more than 10, they say nothing: the weights
    are then equal.
    """
    values = values.masked_fill(~mask, 0)
    total, size = values.sum(dim, keepdim=True), values.abs().sum(dim, keepdim=True)
    good = (total > 0) & (total >= size / EXPLODED)
    equal = mask / mask.sum(dim, keepdim=True).clamp_min(1)
    return torch.where(good, values / torch.where(good, total, 1), equal.to(values.dtype))


def _only(values: Tensor, mask: Tensor | None, empty: float) -> Tensor:
    return values if mask is None else values.masked_fill(~mask, empty)


def _max(values: Tensor, mask: Tensor | None, dim: int, number: float) -> Tensor:
    return _only(values, mask, -torch.inf).amax(dim)


def _sum(values: Tensor, mask: Tensor | None, dim: int, number: float) -> Tensor:
    return _only(values, mask, 0.0).sum(dim)


def _mean(values: Tensor, mask: Tensor | None, dim: int, number: float) -> Tensor:
    count = values.shape[dim] if mask is None else mask.sum(dim)
    return _sum(values, mask, dim, number) / count


def _top(values: Tensor, mask: Tensor | None, dim: int, number: float) -> Tensor:
    return _only(values, mask, -torch.inf).topk(int(number), dim=dim).values.mean(dim)


def _softmax(values: Tensor, mask: Tensor | None, dim: int, number: float) -> Tensor:
    return (softmax(values, mask, dim, number) * values).sum(dim)


def _lse(values: Tensor, mask: Tensor | None, dim: int, number: float) -> Tensor:
    return _only(number * values, mask, -torch.inf).logsumexp(dim) / number


def _lme(values: Tensor, mask: Tensor | None, dim: int, number: float) -> Tensor:
    count = torch.tensor(values.shape[dim]) if mask is None else mask.sum(dim)
    return _lse(values, mask, dim, number) - count.log().to(values) / number


_REDUCE: dict[str, _Reduce] = {
    **{"max": _max, "mean": _mean, "sum": _sum, "top": _top, "softmax": _softmax},
    **{"lse": _lse, "lme": _lme},
}
_NUMBERS = {"top": "k", "softmax": "tau", "lse": "smooth", "lme": "smooth"}
_EXAMPLES = {"k": "3", "tau": "0.1", "delta": "0", "smooth": "6"}
