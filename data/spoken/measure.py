"""Measure the audio tower of `tiny-audio` on every split of `emoji-spoken`; writes the tables of the data card.

    python data/spoken/measure.py                               # about five minutes of one processor
    python data/spoken/measure.py --model local-dir:/a/folder   # another tower: printed, not written

Each value has a 95 % interval over concepts (a bootstrap of whole concepts; of pieces, over pieces).
The control is the same tower with its first, random weights.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import xgap_analysis as xg
from xgap_analysis.core.writing import fill_places
from xgap_analysis.datasets import Dataset
from xgap_analysis.metrics import bootstrap_interval, gap_report
from xgap_analysis.models.adapters.audio import AudioTower, SheetEncoder
from xgap_analysis.models.tower import Model

HERE = Path(__file__).parent
CARD, TABLE, GAPS = HERE / "README.md", HERE / "results.parquet", HERE / "gaps.parquet"
VOICES = {"train": ("gb-m3", "us-f2", "scot-m7", "slt"), "held out": ("carib-f4", "rms")}
IMAGES = "openmoji"  # one drawing of nearly every concept, by an artist that no model was trained on
GAP_METRICS = ("modality_gap", "rmg", "separability", "cross_cosine")


def untrained(model: Model) -> Model:
    """The same model with random weights in its audio tower."""
    torch.manual_seed(0)
    sizes = model.tower("audio").sizes
    return Model("untrained", {**model.towers, "audio": AudioTower(SheetEncoder(sizes), sizes)})


def row(split: str, voice: str, question: str, values: pd.Series, concept: Any, chance: float) -> dict[str, Any]:
    interval = bootstrap_interval(values, groups=[concept[i] for i in values.index])
    found = {"value": interval.mean, "low": interval.low, "high": interval.high}
    return {"split": split, "voice": voice, "question": question, "chance": chance, "n": len(values), **found}


def quality(model: Model, split: str, data: Dataset) -> Iterator[dict[str, Any]]:
    """How well spoken names retrieve written names, drawings and each other, voice by voice."""
    concept = data.labels["concept"]
    audio, texts = (xg.encode(model, data.items_of(m)) for m in ("audio", "text"))
    of = {v: [i for i in audio.ids if i.startswith(f"{v}/")] for v in dict.fromkeys(data.labels["voice"].values())}
    together = {f"{kind} voices": [i for v in own if v in of for i in of[v]] for kind, own in VOICES.items()}
    sets = {**of, **{kind: ids for kind, ids in together.items() if ids}}
    for voice, ids in sets.items():
        found = xg.retrieval(audio.select(ids), texts, data)
        yield row(split, voice, "audio to name, R@1", found["recall_at_1"], concept, 1 / len(texts))
        yield row(split, voice, "audio to name, R@5", found["recall_at_5"], concept, 5 / len(texts))
    drawn = [i for i in data.images.ids if i.startswith(f"{IMAGES}/")]
    if drawn:
        images, shown = xg.encode(model, data.images.select(drawn)), {concept[i] for i in drawn}
        for voice, ids in together.items():
            spoken = audio.select(i for i in ids if concept[i] in shown)
            if len(spoken):
                found = xg.retrieval(spoken, images, data)
                yield row(split, voice, f"audio to {IMAGES}, R@1", found["recall_at_1"], concept, 1 / len(images))
        found = xg.retrieval(images, texts, data)
        yield row(split, "none", f"{IMAGES} to name, R@1", found["recall_at_1"], concept, 1 / len(texts))
    first, second = list(of)[-2:]
    found = xg.retrieval(audio.select(of[first]), audio.select(of[second]), data)
    yield row(split, f"{first} to {second}", "same name, R@1", found["recall_at_1"], concept, 1 / len(texts))
    found = xg.retrieval(audio, audio, data.relevance("voice"))
    chance = float(found["n_relevant"].mean() / (len(audio) - 1))
    yield row(split, "all", "same voice, mAP", found["ap"], concept, chance)


def by_parts(model: Model, split: str) -> Iterator[dict[str, Any]]:
    """How well ten names retrieve the strip of their drawings: by the mean of their parts, and part by part."""
    data = xg.load_dataset("emoji-pieces").split(split)
    names = xg.tokens(model, data.items_of("audio"), "names")
    regions = xg.tokens(model, data.images, "regions")
    for question, scorer in {
        "mean of parts": "late_interaction(inner=mean)",
        "part by part": "late_interaction",
    }.items():
        found = xg.retrieval(names, regions, data, scorer=scorer)["recall_at_1"]
        yield row(
            split, "pieces", f"ten names to strip, {question}, R@1", found, {i: i for i in found.index}, 1 / len(names)
        )


def gaps(model: Model, data: Dataset) -> pd.DataFrame:
    """The three pairwise gaps: spoken names of one voice, written names, and drawings by one artist, by concept."""
    concept = data.labels["concept"]
    sets = {m: xg.encode(model, data.items_of(m)) for m in ("audio", "text", "image")}
    chosen = {"audio": "rms/", "text": "", "image": f"{IMAGES}/"}
    own = {m: {concept[i]: i for i in sets[m].ids if i.startswith(chosen[m])} for m in sets}
    common = [c for c in own["text"] if all(c in own[m] for m in sets)]
    by_concept = {m: xg.Features(sets[m].select(own[m][c] for c in common).vectors, common, m, m) for m in sets}
    rows = []
    for x, y in (("audio", "text"), ("audio", "image"), ("image", "text")):
        report = gap_report(by_concept[x], by_concept[y]).iloc[0]
        rows.append({"pair": f"{x}-{y}", "concepts": len(common), **{k: float(report[k]) for k in GAP_METRICS}})
    return pd.DataFrame(rows)


def results_table(results: pd.DataFrame, control: pd.DataFrame) -> str:
    """One line a split, voice and question: value with its interval, chance, and the untrained tower."""
    lines = [
        "| split | voice | question | n | chance | tiny-audio | untrained tower |",
        "|---|---|---|---|---|---|---|",
    ]
    key = ["split", "voice", "question"]
    beside = control.set_index(key)
    for r in results.to_dict("records"):
        other = beside.loc[tuple(r[k] for k in key)]
        lines.append(
            f"| {r['split']} | {r['voice']} | {r['question']} | {r['n']:,} | {r['chance']:.4f} "
            f"| {r['value']:.3f} ({r['low']:.3f}, {r['high']:.3f}) "
            f"| {other['value']:.3f} ({other['low']:.3f}, {other['high']:.3f}) |"
        )
    return "\n".join(lines)


def gaps_table(table: pd.DataFrame) -> str:
    """One line a pair of modalities."""
    lines = ["| test | concepts | " + " | ".join(GAP_METRICS) + " |", "|---|---|" + "---|" * len(GAP_METRICS)]
    lines += [
        f"| {r['pair']} | {r['concepts']} | " + " | ".join(f"{r[k]:.3f}" for k in GAP_METRICS) + " |"
        for r in table.to_dict("records")
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny-audio")
    name = parser.parse_args().model
    model, data = xg.load_model(name, device="cpu"), xg.load_dataset("emoji-spoken")
    measured = []
    for one in (model, untrained(model)):
        rows = [r for split in ("train", "seen", "test") for r in quality(one, split, data.split(split))]
        rows += [r for split in ("seen", "test") for r in by_parts(one, split)]
        measured.append(pd.DataFrame(rows))
    results, control = measured
    between = gaps(model, data.split("test"))
    tables = {"RESULTS": results_table(results, control), "GAPS": gaps_table(between)}
    for table in tables.values():
        print(table, end="\n\n")
    if name != "tiny-audio":
        return
    both = [results.assign(tower="trained"), control.assign(tower="untrained")]
    xg.save_table(pd.concat(both, ignore_index=True), TABLE)
    xg.save_table(between, GAPS)
    fill_places(CARD, tables)


if __name__ == "__main__":
    main()
