"""Draw the README's figures from the embedded default (`make figures`), into this folder or a given one."""

import io
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

import xgap_analysis as xg
from xgap_analysis import plots

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
STEPS = (0, 1, 2, 5, 10, 17, 25, 50, 75, 100, 150)
REMEDIES = ("none", "center", "gap-shift", "isoclip", "pca-text", "pca-image", "random-subspace", "text-signature")


def save(figure: Figure, name: str) -> None:
    """A PNG of at most 256 colours: a third of the size, and no eye tells it apart."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110)
    file = FOLDER / f"{name}.png"
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


def neighbours() -> None:
    (evaluation,) = xg.Study(["tiny"], ["emoji"], ["I-I", "OTI-I", "OTI-OTI"], limit=80).evaluations()
    native, inverted = (evaluation.scores(name)["ap"] for name in ("I-I", "OTI-I"))
    # By rule: among the queries that find something but not everything, the first by id.
    query = sorted(native.index[(native > 0.2) & (native < 0.6)])[0]
    rows = {name: evaluation.pair(name) for name in ("I-I", "OTI-I", "OTI-OTI")}
    save(plots.neighbours(query, rows, evaluation.data.images, evaluation.data, k=7), "neighbours")
    print(f"query {query}: average precision {native[query]:.2f} native, {inverted[query]:.2f} inverted")


def differences() -> None:
    study = xg.embedded_table("study")
    save(plots.differences(study[(study["model"] == "tiny") & (study["correction"] == "none")]).figure, "differences")


def gap() -> None:
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    evaluations = xg.Study(["tiny-untrained", "tiny", "tiny-nogap"], ["emoji"], ["I-I"]).evaluations()
    for ax, evaluation in zip(axes, evaluations, strict=True):
        x, y = evaluation.pairs()
        plots.gap_map(x, y, ax=ax).set_title(f"{evaluation.model.name}: gap {xg.metrics.modality_gap(x, y):.2f}")
    save(figure, "gap")


def drift() -> None:
    (evaluation,) = xg.Study(["tiny"], ["emoji"], ["I-I"], limit=60).evaluations()
    model, images = evaluation.model, evaluation.view("image", "all")
    runs = {f"R = {r}": xg.invert(model, images, tokens=r, snapshots=STEPS).snapshots for r in (1, 4)}
    groups = [evaluation.labels[i] for i in images.ids]
    save(plots.drift(runs, images, evaluation.data, native=images, groups=groups, log=True), "drift")


def variants() -> None:
    study = xg.main_rows(xg.embedded_table("study"))
    wanted = ["I-I", "OTI-I", "I-T", "T-I", "zero-shot", "OTI-T"]
    rows = study[(study["split"] == "test") & study["comparison"].isin(wanted)]
    save(plots.values(rows).figure, "variants")


def corrections() -> None:
    table = xg.Study(["tiny"], ["emoji"], ["I-I", "OTI-I", "T-T", "T-I", "zero-shot"], REMEDIES, limit=60).run()
    save(plots.grid(table).figure, "corrections")


def atlas() -> None:
    save(plots.atlas(xg.embedded_table("atlas")), "atlas")


if __name__ == "__main__":
    mpl.use("agg")
    for draw in (neighbours, differences, gap, drift, variants, corrections, atlas):
        draw()
