"""Measure sound among the frames of clips, as AVicuna has it; writes interleaved.csv and its table in README.md.

    OMP_NUM_THREADS=1 python data/spoken/interleaved.py    # some minutes on one core

The first 200 clips of `emoji-sound-clips` in the splits seen and test, by `tiny-audio`. Sound has one vector for each
frame: the spoken name of the event that the frame shows. Sequences have 100 slots. Intervals are 95 % bootstraps over
clips; the gap, which is one number of all clips, has none.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import xgap_analysis as xg
from xgap_analysis.core.writing import fill_places
from xgap_analysis.metrics.boundaries import boundaries, spans, temporal_map
from xgap_analysis.scoring.interleaving import interleave

HERE = Path(__file__).parent
MODEL, SPLITS, CLIPS, FRAMES = "tiny-audio", ("seen", "test"), 200, 12
RATES = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0)
COLUMNS = ["model", "split", "measure", "by", "value", "low", "high", "n"]
Row = dict[str, Any]


def sound_by_frame(model: xg.Model, data: xg.Dataset, clips: list[str]) -> xg.TokenFeatures:
    """The vector of the name of the event that each frame shows, under the ids of clips."""
    audio = data.items_of("audio").select(f"{clip}/audio" for clip in clips)
    names = xg.tokens(model, audio, "names", progress=False)
    sets = []
    for item in audio.ids:
        columns = audio.parts_of("names").of([item]).columns
        lengths = torch.tensor([b - a for a, b in zip(columns["start"], columns["stop"], strict=True)])
        sets.append(names.tokens_of(item).repeat_interleave(lengths, dim=0))
    return xg.TokenFeatures.from_sets(sets, clips, names.space, names.origin)


def rows_of(model: xg.Model, split: str, clips: int = CLIPS) -> Iterator[Row]:
    """All rows of a split."""
    data = xg.load_dataset("emoji-sound-clips").split(split)
    video = data.items_of("video").select(data.items_of("video").ids[:clips])
    ids, clip = list(video.ids), data.labels["clip"]
    modalities = {
        "frames": xg.tokens(model, video, "frames", progress=False),
        "sound": sound_by_frame(model, data, ids),
    }
    chains = xg.encode(model, data.items_of("chain").select(f"{i}/chain" for i in ids), progress=False)
    events = xg.encode(model, data.texts.select(i for i in data.texts.ids if clip[i] in set(ids)), progress=False)
    for rate in RATES:
        pooled = interleave(modalities["frames"], modalities["sound"], rate).pooled()
        by = f"{round(100 * rate)} % sound"
        gap = (pooled.vectors.double().mean(0) - chains.vectors.double().mean(0)).norm()
        yield {"measure": "gap to the captions of clips", "by": by, "value": float(gap), "n": len(ids)}
        found = xg.retrieval(events, pooled, xg.Relevance.from_labels(clip, clip), ks=(5,))
        yield row("event to clip, R@5", by, found["hit_at_5"], [clip[str(i)] for i in found.index])
    yield from boundary_rows(modalities, video.parts_of("frames").table())


def boundary_rows(modalities: dict[str, xg.TokenFeatures], table: pd.DataFrame) -> Iterator[Row]:
    """Cuts that the largest drops of adjacent cosines find, and the mean AP of the spans between them."""
    cuts = {item: own["time"][own["cut"]].to_numpy() for item, own in table.groupby("owner")}
    times = table.groupby(["owner", "event"], sort=False)["time"].agg(["min", "max"]).reset_index()
    true = pd.DataFrame({"item": times["owner"], "start": times["min"], "stop": times["max"] + 1}).assign(label="event")
    number = {item: len(own) for item, own in cuts.items()}
    found: dict[str, Any] = {name: boundaries(tokens, number) for name, tokens in modalities.items()}
    found["even spans"] = {item: [FRAMES * (k + 1) // (n + 1) for k in range(n)] for item, n in number.items()}
    for name, own in found.items():
        hits = pd.Series({item: np.isin(of, own[item]).mean() for item, of in cuts.items() if len(of)})
        yield row("cuts found", name, hits, list(hits.index))
        precision = temporal_map(spans(own, FRAMES).assign(label="event", score=1.0), true)
        yield {"measure": "mAP at IoU .5 to .9", "by": name, "value": float(precision.mean(axis=None)), "n": len(cuts)}


def row(measure: str, by: str, values: Any, groups: list[str]) -> Row:
    """A mean with its interval."""
    found = xg.bootstrap_interval(values, groups=groups)
    return {"measure": measure, "by": by, "value": found.mean, "low": found.low, "high": found.high, "n": found.n}


def card_table(results: pd.DataFrame) -> str:
    """The table of the data card: a line per measure and way, a column per split."""
    lines = ["| measure | by | " + " | ".join(SPLITS) + " |", "|---|---|" + "---|" * len(SPLITS)]
    for (measure, by), own in results.groupby(["measure", "by"], sort=False):
        of = own.set_index("split")
        cells = [
            f"{one['value']:.3f}" + ("" if np.isnan(one["low"]) else f" ({one['low']:.3f}, {one['high']:.3f})")
            for one in (of.loc[split] for split in SPLITS)
        ]
        lines.append(f"| {measure} | {by} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    model = xg.load_model(MODEL)
    rows = [{"model": MODEL, "split": split, **one} for split in SPLITS for one in rows_of(model, split)]
    made = pd.DataFrame(rows).reindex(columns=COLUMNS).round(4)
    made = made.sort_values("measure", key=lambda s: s.map({m: k for k, m in enumerate(s.unique())}), kind="stable")
    made.to_csv(HERE / "interleaved.csv", index=False)
    fill_places(HERE / "README.md", {"INTERLEAVED": card_table(made).rstrip("\n")})


if __name__ == "__main__":
    main()
