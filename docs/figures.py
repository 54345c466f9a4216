"""Draw the README's pictures from the embedded default: `make figures`."""

from pathlib import Path

import matplotlib as mpl
import pandas as pd

import xgap_analysis as xg
from xgap_analysis import plots
from xgap_analysis.embedded import data_root

HERE = Path(__file__).parent


def main() -> None:
    mpl.use("agg")
    model, data = xg.load_model("tiny"), xg.load_dataset("emoji").split("test").limit(80)
    images = xg.encode(model, data.images)
    oti = xg.invert(model, images, snapshots=[1, 2, 5, 10, 17, 25, 50, 75, 100, 150])
    native, crossed = (xg.retrieval(q, images, data)["ap"] for q in (images, oti.features))
    # By rule: among the queries that find something but not everything, the first by id.
    query = sorted(native.index[(native > 0.2) & (native < 0.6)])[0]
    rows = {"I-I": (images, images), "OTI-I": (oti.features, images), "OTI-OTI": (oti.features, oti.features)}
    figure = plots.neighbours(query, rows, data.images, data)
    figure.savefig(HERE / "neighbours.png", dpi=110)
    study = pd.read_parquet(data_root() / "models" / "study.parquet")
    axes = plots.differences(study[(study["model"] == "tiny") & (study["correction"] == "none")])
    axes.figure.savefig(HERE / "differences.png", dpi=110)
    print(f"query {query}: average precision {native[query]:.2f} native, {crossed[query]:.2f} inverted")


if __name__ == "__main__":
    main()
