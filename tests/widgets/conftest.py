"""A world of two kinds, small enough to invert in a blink, with captions that try to be markup."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from xgap_analysis.experiments.evaluation import Evaluation

HOSTILE = "<img src=x onerror=alert(1)> & </style>"
COLOURS = ("red", "green", "blue", "white", "black", "grey")


def dataset(start: int = 0, split_name: str = "test", hostile: bool = True) -> Any:
    """Twelve pictures and twelve captions of six labels; the train split holds the same kinds under other ids."""
    from xgap_analysis.datasets import Dataset, Images, Texts

    def opener(item: str) -> Image.Image:
        number = int(item[1:]) - start
        return Image.new("RGB", (20, 12), COLOURS[number % 6]).rotate(10 * number)

    ids = [f"i{start + k}" for k in range(12)]
    captions = [f"a {COLOURS[k % 6]} thing number {k}" for k in range(12)]
    if hostile:
        captions[0] = HOSTILE
    texts = Texts([f"t{start + k}" for k in range(12)], captions)
    label = {item: COLOURS[k % 6] for items in (ids, texts.ids) for k, item in enumerate(items)}
    splits = {"train": lambda: dataset(100, "train", hostile=False)} if split_name == "test" else {}
    return Dataset(
        name="small",
        split_name=split_name,
        images=Images(ids, opener, f"small-{start}"),
        texts=texts,
        labels={"kind": label},
        class_names={"kind": {colour: colour for colour in COLOURS}},
        splits=splits,
    )


@pytest.fixture
def evaluation(model: Any, xgap_home: Path, monkeypatch: pytest.MonkeyPatch) -> "Evaluation":
    """The random model on the small world, with five steps of inversion."""
    from xgap_analysis.experiments.study import Study

    monkeypatch.setenv("XGAP_RESULTS", str(xgap_home / "results"))
    (made,) = Study([model], [dataset()], ["I-I", "OTI-I"], steps=5, progress=False).evaluations()
    return made


@pytest.fixture(autouse=True)
def _no_figure_left() -> Iterator[None]:
    """Explorers close every figure: an open one would be shown again by the next cell."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    plt.close("all")
    yield
    left = plt.get_fignums()
    plt.close("all")
    assert left == []


@pytest.fixture
def hostile() -> str:
    """The first caption of the small world."""
    return HOSTILE


@pytest.fixture
def make_dataset() -> Any:
    """The maker of the small world."""
    return dataset


@pytest.fixture
def run_code() -> Any:
    """Executes code as a cell does; gives the value of its last expression, and closes its figures."""

    def run(code: str, **names: Any) -> Any:
        import matplotlib.pyplot as plt

        tree = ast.parse(code)
        last = tree.body.pop()
        assert isinstance(last, ast.Expr)
        exec(compile(tree, "cell", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        plt.close("all")
        return value

    return run
