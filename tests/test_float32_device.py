"""On a device that refuses float64, as Apple's `mps` does: the same numbers, computed where double precision is.

The device is pretended, since few machines have one: tensors on it lie on the processor, say that they are on `mps`,
and refuse float64, NumPy, and tensors of the processor beside them, in the words of torch.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

import xgap_analysis as xg
from xgap_analysis import metrics
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.precision import exact, held, widest
from xgap_analysis.experiments import insertions, swept
from xgap_analysis.metrics.first_rank import TIES
from xgap_analysis.models.precision import check_precision
from xgap_analysis.views.inversion.closed_form import ClosedForm
from xgap_analysis.views.inversion.loop import AdamW

MPS = torch.device("mps")
MOVES = {"to", "cpu", "copy_"}
ROOT = Path(xg.__file__).parent


class OnMps(Tensor):
    """A tensor that says it is on `mps`."""

    __torch_function__ = torch._C._disabled_torch_function_impl


class Refusing(TorchFunctionMode):
    """While it is in force, `mps` is there, and refuses what the real one refuses."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        first = args[0] if args else None
        if func is torch.device:
            return func(*args, **kwargs)
        if func == Tensor.device.__get__:
            return MPS if isinstance(first, OnMps) else torch.device("cpu")
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        here = any(isinstance(t, OnMps) for t in tensors)
        if here and name in ("numpy", "__array__", "__dlpack__"):
            raise TypeError("can't convert mps:0 device type tensor to numpy. Use Tensor.cpu() first.")
        if here and name not in MOVES:
            self._refuse_two_devices(name, first, args, tensors)
        target = self._target(name, args, kwargs, here)
        made = func(*_on_processor(args), **_on_processor(kwargs))
        if made is first and target == isinstance(first, OnMps):  # in place
            return first
        if name in ("to", "cpu") and target != isinstance(first, OnMps):
            made = made.as_subclass(Tensor).clone()  # a move copies
        return tree_map(lambda t: _on_device(t) if isinstance(t, Tensor) else t, made) if target else made

    @staticmethod
    def _refuse_two_devices(name: str, first: Any, args: Any, tensors: list[Tensor]) -> None:
        if name == "__getitem__" and isinstance(first, OnMps):
            return  # indices may lie on the processor
        if name == "__setitem__":  # a slice takes a copy; what is put at indices must lie there
            tensors = [args[2]] if isinstance(args[1], Tensor) and isinstance(args[2], Tensor) else []
        if any(not isinstance(t, OnMps) and t.dim() for t in tensors):
            raise RuntimeError("Expected all tensors to be on the same device, but found mps:0 and cpu!")

    @staticmethod
    def _target(name: str, args: Any, kwargs: Any, here: bool) -> bool:
        """Whether the result lies on the device."""
        named = [kwargs.get("device"), *(args[1:] if name == "to" else ())]
        for one in named:
            if isinstance(one, str | torch.device):
                return torch.device(one).type == "mps"
            if isinstance(one, Tensor):
                return isinstance(one, OnMps)
        return here and name != "cpu"


def _on_processor(arguments: Any) -> Any:
    return tree_map(lambda a: torch.device("cpu") if a in ("mps", MPS) else a, arguments, is_leaf=_is_value)


def _is_value(argument: Any) -> bool:
    return isinstance(argument, Tensor | str | torch.device | np.ndarray)


def _on_device(tensor: Tensor) -> Tensor:
    if tensor.dtype in (torch.float64, torch.complex128):
        raise TypeError(
            "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
            "Please use float32 instead."
        )
    return tensor if isinstance(tensor, OnMps) else tensor.as_subclass(OnMps)


@pytest.fixture
def mps() -> Iterator[None]:
    with Refusing():
        yield


def some(n: int, d: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def two(device: str) -> tuple[Features, Features]:
    ids = [f"i{i}" for i in range(12)]
    x = Features(some(12) + 0.5, ids, "image", "image")
    y = Features(some(12, seed=1) - 0.5, ids, "text", "text")
    return x.to(device), y.to(device)


def test_the_pretended_device_refuses_what_the_real_one_does(mps: None) -> None:
    there = some(3).to("mps")
    assert there.device == MPS
    for made in (lambda: there.double(), lambda: torch.zeros(2, dtype=torch.float64, device=MPS), there.double):
        with pytest.raises(TypeError, match="doesn't support float64"):
            made()
    with pytest.raises(TypeError, match="Cannot convert a MPS Tensor to float64"):
        some(3).double().to("mps")
    with pytest.raises(RuntimeError, match="same device"):
        there + some(3)
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    assert (there * 2).device == MPS
    assert there.cpu().device.type == "cpu"


def test_doubles_are_computed_on_the_processor(mps: None) -> None:
    there = some(3).to("mps")
    assert exact(there).device.type == "cpu"
    assert exact(there).dtype == torch.float64
    assert (widest(MPS), widest(torch.device("cpu"))) == (torch.float32, torch.float64)
    assert held(exact(there), MPS).device == MPS
    assert exact(some(3)).dtype == torch.float64


def test_features_are_made_and_read_there(mps: None) -> None:
    made = Features((some(4) * 3).to("mps"), list("abcd"), "image", "image")
    assert made.vectors.device == MPS
    assert torch.equal(made.vectors.cpu(), Features(some(4) * 3, list("abcd"), "image", "image").vectors)
    assert np.array_equal(np.asarray(made), made.vectors.cpu().numpy())
    assert made.select("db").vectors.device == MPS
    assert xg.as_features(some(4).to("mps")).items == xg.as_features(some(4)).items


LABELS = [i % 3 for i in range(12)]
THREE = {str(i): i for i in range(3)}


def parity(features: Features) -> dict[str, str]:
    return {item: str(k % 2) for k, item in enumerate(features.ids)}


MEASURES: dict[str, Callable[[Features, Features], Any]] = {
    "retrieval": lambda x, y: xg.retrieval(x, y, (LABELS, LABELS)),
    "by another scorer": lambda x, y: xg.retrieval(x, y, (LABELS, LABELS), scorer=lambda q, g: -torch.cdist(q, g)),
    "zero-shot": lambda x, y: xg.zero_shot(x, y.select(y.ids[:3]), [f"i{i}" for i in LABELS]),
    "misalignment": lambda x, y: xg.misalignment(x, x, LABELS),
    "pooled": lambda x, y: metrics.pooled_misalignment(x, x, LABELS),
    "histograms": lambda x, y: xg.similarity_histograms(x, y, (LABELS, LABELS), bins=7),
    "overlap": lambda x, y: metrics.similarity_overlap(x, y, (LABELS, LABELS), bins=7),
    "hubness": lambda x, y: xg.hubness(x, y, 3),
    "nearest": lambda x, y: metrics.nearest_items(x, y, "i3", (LABELS, LABELS)),
    "gap report": xg.gap_report,
    "gap vector": lambda x, y: metrics.gap_vector(x, y).tolist(),
    "variance": metrics.variance_along_gap,
    "structure": lambda x, y: metrics.structure_table({"x": x, "y": y}, k=3),
    "calibrated": lambda x, y: metrics.calibrated_table({"x": x, "y": y}, ["debiased_cka", "spearman"], permutations=9),
    "debiased": metrics.debiased_cka,
    "angles": lambda x, y: metrics.principal_angles_table(x, y, rank=3),
    "cutoffs": lambda x, y: metrics.cutoffs(x, y, (LABELS, LABELS), ks=[3], gain="exponential"),
    "several labels": lambda x, y: metrics.several_labels(x, y.select(["i0", "i1"]), [["i0", "i1"]] * 12),
    "several captions": lambda x, y: metrics.relative_modality_gap(x, y, {"i0": ["i1", "i2"], "i3": ["i3"]}),
    "rotation": lambda x, y: metrics.rotation(x, y),
    "deviation": lambda x, y: metrics.deviation(x, y, y, x),
    "score": lambda x, y: xg.score(x, y).tolist(),
    "fused": lambda x, y: np.asarray(xg.fuse(x, y)).tolist(),
    "fused modalities": lambda x, y: np.asarray(
        xg.fuse_modalities({"x": x, "y": y}, {"x": 1, "y": 2}, labels={i: i for i in x.ids})
    ).tolist(),
    "first ranks": lambda x, y: [metrics.reciprocal_rank(x, y, (LABELS, LABELS), ties=rule).tolist() for rule in TIES],
    "caption protocol": lambda x, y: metrics.caption_protocol(x, y, {i: i for i in x.ids}, captions=1, fold=5),
    "perturbation": lambda x, y: metrics.perturbation(x, y, y, {i: i for i in x.ids}, fold=5, resamples=50),
    "votes": lambda x, y: metrics.identified(xg.grouped(x, LABELS), xg.grouped(y, LABELS), THREE, scorer="votes(k=2)"),
    "exchanged": lambda x, y: (  # the order alone: tokens are compared in the widest type of their device
        xg.score(xg.grouped(x, LABELS), xg.grouped(y, LABELS), "exchanged(pooled(weights=scan))").argsort(1).tolist()
    ),
    "clusters": lambda x, y: metrics.clusters([x, y], LABELS, seeds=(0,)),
    "flips": lambda x, y: metrics.flips(x, y, draws=2).tolist(),
    "modality share": lambda x, y: metrics.modality_share(x, y, (LABELS, LABELS), k=3, of=parity(y)),
    "rank among": lambda x, y: metrics.rank_among(x, y, (LABELS, LABELS), of=parity(y)),
    "swept": lambda x, y: swept({"x": x, "y": y}, y, {i: i for i in x.ids}, steps=2).table(),
    "cut": lambda x, y: metrics.cut(x, y, (LABELS, LABELS), k=3, threshold=0.1),
    "relevancy": lambda x, y: metrics.relevancy(x, xg.fuse(x, y), list(range(12)), exclude_self=False),
    "stratified": lambda x, y: metrics.stratified({"x-x": (x, x), "x-y": (x, y)}, 2).picks,
    "a metric by name": lambda x, y: metrics.scores("misalignment", xg.QueryGallery(x, x), LABELS),
}


@pytest.mark.parametrize("name", MEASURES)
def test_every_metric_gives_the_numbers_of_the_processor(name: str, mps: None) -> None:
    expected, found = (MEASURES[name](*two(device)) for device in ("cpu", "mps"))
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    else:
        assert found == expected


def test_cosines_of_tensors_there_are_exact_and_lie_there(mps: None) -> None:
    x, y = two("mps")
    found = xg.scorer("cosine")(x.vectors, y.vectors)
    assert found.device == MPS
    x, y = two("cpu")
    assert torch.equal(found.cpu(), xg.scorer("cosine")(x.vectors, y.vectors))


@pytest.mark.parametrize(
    "name",
    [
        "none",
        "center",
        "gap-shift",
        "whiten",
        "pca-image(rank=3)",
        "random-subspace(rank=3)",
        "pca-text(rank=3, words=captions)",
        "text-signature(words=captions)",
        "text-signature(words=captions, compare=kl)",
        "inverted-softmax",
        "dual-dynamic-inverted-softmax",
        "sinkhorn",
        "inverse-graph-convolution",
        "inverse-graph-convolution(share=None)",
        "standardise",
        "noise",
        "bridge(steps=0)",
        "bridge(kind=procrustes)",
        "bridge(kind=ridge)",
        "bridge(kind=cca)",
    ],
)
def test_every_correction_gives_the_numbers_of_the_processor(name: str, mps: None) -> None:
    tables = []
    for device in ("cpu", "mps"):
        x, y = two(device)
        pairs = dict(zip((*x.ids, *y.ids), 2 * [str(i) for i in range(len(x))], strict=True))
        fitted = xg.correction(name).fit(xg.Calibration({"image": x, "text": y}, "train", labels=pairs))
        if fitted.changes_features:
            assert fitted(x).vectors.device.type == device
        pair = fitted.apply(x, y)
        tables.append(xg.retrieval(pair.query, pair.gallery, (LABELS, LABELS), normalise=pair.normalise))
    pd.testing.assert_frame_equal(*tables)


def test_steps_of_an_inversion_and_its_computed_start(mps: None) -> None:
    weight, targets = some(5, 8), torch.nn.functional.normalize(some(3, 8, seed=2), dim=1)

    def ends(device: str) -> Tensor:
        here = weight.to(device)
        start = ClosedForm(lambda tokens: tokens[:, 0] @ here + here[0], 1, 5, torch.device(device))
        tokens = start.starts(targets.to(device))
        optimiser = AdamW(tokens, 0.02, 0.01)
        for _ in range(3):
            optimiser.step(tokens * 0.5, torch.tensor([True, False, True]).to(device))
        return tokens

    expected, found = ends("cpu"), ends("mps")
    assert found.device == MPS
    assert float((found.cpu() - expected).abs().max()) < 1e-6


def test_half_precision_is_refused_there_in_one_sentence() -> None:
    check_precision("fp32", MPS)
    check_precision("fp16", torch.device("cpu"))
    with pytest.raises(XgapError, match='on mps models compute in float32: use precision="fp32"'):
        check_precision("fp16", MPS)
    with pytest.raises(XgapError, match="precision is one of fp32"):
        check_precision("fp8", MPS)


def test_a_device_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(XgapError, match="cannot be moved to the device 'no-such'"):
        two("cpu")[0].to("no-such")
    if not torch.backends.mps.is_available():
        with pytest.raises(XgapError, match="cannot be moved to the device 'mps'"):
            two("cpu")[0].to("mps")


def test_cosines_of_images_and_tried_texts_are_exact(mps: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for device in ("cpu", "mps"):
        x, y = two(device)
        texts = y.select(y.ids[:3])  # of ids that are the tried texts
        sets = iter((x, texts))
        monkeypatch.setattr(insertions, "encode", lambda *_, sets=sets, **__: next(sets))
        found.append(insertions.image_cosines(None, None)(x.ids[2:5], texts.ids).tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("room", ["core", "scoring", "metrics", "corrections", "views", "experiments"])
def test_double_precision_on_a_device_goes_through_one_module(room: str) -> None:
    """`tensor.double()` stands in `core/precision.py`, or directly behind `.cpu()`; float64 of tensors likewise."""
    wrong = []
    for source in sorted((ROOT / room).rglob("*.py")):
        if source == ROOT / "core" / "precision.py":
            continue
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, ast.Attribute) or node.attr != "double":
                continue
            before = node.value
            if not (isinstance(before, ast.Call) and ast.unparse(before.func).endswith(".cpu")):
                wrong.append(f"{source.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []
