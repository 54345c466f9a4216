"""Measure the embedded models on `emoji-clips`; writes results.csv and the table of the data card (README.md).

    python data/clips/measure.py                  # about four minutes a model on one busy core
    python data/clips/measure.py --models tiny    # one model; the others' rows stay
    python data/clips/measure.py --card           # the card's table from results.csv, nothing is computed

One row per number: value, with a 95 % bootstrap interval over concepts (retrieval) or clips (the rest), and what chance
gives. `difference` rows are best frame minus mean of frames on the same queries, with the p-value of the paired test.
`R@k` is the share of queries with a relevant clip among the first k.
"""

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import xgap_analysis as xg
from xgap_analysis.core.tags import TaggedText

HERE = Path(__file__).parent
MODELS = ("tiny", "tiny-untrained")
SPLITS = ("train", "seen", "test")
SCORERS = {  # of event captions against clips of frames
    "mean of frames": "pooled(weights=uniform)",
    "best frame": "late_interaction(inner=max, outer=mean)",
    "softmax 0.02": "pooled(weights=softmax(0.02))",
}
KS = (1, 5)
COLUMNS = [
    "model",
    "split",
    "measure",
    "scorer",
    "n_events",
    "value",
    "low",
    "high",
    "p_value",
    "chance",
    "n",
    "groups",
]
NAMED = {"difference": "**best frame - mean**"}  # in the card
START, END = "<!-- measured by measure.py -->", "<!-- end -->"


def concept_only(texts: xg.Texts, names: Mapping[str, str], concept: Mapping[str, str]) -> xg.Texts:
    """The names of what is seen, without the motion: the control of captions that say more than a model knows."""
    seen = [concept[item] for item in texts.ids]
    return xg.Texts(texts.ids, [TaggedText(names[own], [("concept", own)]) for own in seen])


def shows(data: Any) -> xg.Relevance:
    """Every clip that shows what a caption names, whichever motion it has there."""
    table = data.items["video"].parts_of("frames").table()
    showing = table.groupby("concept")["owner"].unique()
    concept = data.labels["concept"]
    return xg.Relevance.from_qrels({i: dict.fromkeys(showing[concept[i]], 1) for i in data.texts.ids})


def retrieval_rows(model: Any, data: Any, frames: Any) -> Iterator[dict[str, Any]]:
    """Event to clip: recall at k by scorer and number of events, and the paired differences."""
    concept, count = data.labels["concept"], data.labels["n_events"]
    queries = {
        "event to clip": (data.texts, data.relevance("clip")),
        "event to clip, name alone": (concept_only(data.texts, data.class_names["concept"], concept), data.relevance()),
        "event to any clip that shows it": (data.texts, shows(data)),
        "shuffled control": (data.texts, data.shuffled().relevance()),
    }
    for measure, (texts, relevance) in queries.items():
        queries = xg.encode(model, texts, progress=False)
        of: dict[str, pd.DataFrame] = {}
        for scorer, call in SCORERS.items():
            of[scorer] = xg.retrieval(queries, frames, relevance, ks=KS, scorer=call)
            for events, k, own in _by_events(of[scorer], count):
                chance = float(np.mean([by_chance(int(n), k, len(frames)) for n in own["n_relevant"]]))
                groups = [concept[i] for i in own.index]
                yield _row(f"{measure}, R@{k}", scorer, events, own[f"hit_at_{k}"], groups, chance)
        for n, k, own in _by_events(of["best frame"], count):
            column = f"hit_at_{k}"
            test = xg.paired_test(
                of["mean of frames"].loc[own.index, column], own[column], groups=[concept[i] for i in own.index]
            )
            yield {
                **{"measure": f"{measure}, R@{k}", "scorer": "difference", "n_events": n, "chance": 0.0},
                **{"value": test.difference, "low": test.low, "high": test.high, "p_value": test.p_value},
                **{"n": test.n, "groups": test.n_groups},
            }


def by_chance(relevant: int, k: int, gallery: int) -> float:
    """The probability that some of the relevant items are among the first k of a random ranking."""
    return 1 - float(np.prod([(gallery - relevant - j) / (gallery - j) for j in range(k)]))


def _by_events(scores: pd.DataFrame, count: Mapping[str, str]) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """The rows of queries from clips of 1, 2, 3 events, and of all."""
    own = np.array([count[i] for i in scores.index])
    for k in KS:
        for n in (*sorted(set(own)), "all"):
            yield n, k, scores if n == "all" else scores[own == n]


def frame_rows(model: Any, data: Any, frames: Any) -> Iterator[dict[str, Any]]:
    """Inside a clip: how much its frames agree, where its cuts are, and which of its frames a caption is nearest to."""
    clips = data.items["video"]
    table = clips.parts_of("frames").table()
    texts = xg.encode(model, data.texts, progress=False)
    row = {item: i for i, item in enumerate(texts.ids)}
    found: dict[str, dict[str, list[tuple[str, float, float]]]] = {m: {} for m in ("mean", "cuts", "event")}
    for item in clips.ids:
        vectors = frames.tokens_of(item).double()
        own = table[table["owner"] == item]
        n = data.labels["n_events"][item]
        found["mean"].setdefault(n, []).append((item, float(vectors.mean(dim=0).norm()), np.nan))
        cuts = own["cut"].to_numpy()[1:]
        if cuts.any():
            adjacent = (vectors[1:] * vectors[:-1]).sum(dim=1)
            lowest = adjacent.argsort()[: int(cuts.sum())].numpy()
            found["cuts"].setdefault(n, []).append((item, float(cuts[lowest].mean()), cuts.sum() / len(cuts)))
        for event in dict.fromkeys(own["event"]):
            best = int((vectors @ texts.vectors[row[event]].double()).argmax())
            inside = (own["event"] == event).to_numpy()
            found["event"].setdefault(n, []).append((item, float(inside[best]), inside.mean()))
    measures = {"mean": "length of the mean frame", "cuts": "cuts found", "event": "best frame is of the event"}
    for name, measure in measures.items():
        for n, values in sorted(found[name].items()):
            items, numbers, chances = zip(*values, strict=True)
            yield _row(measure, "", n, pd.Series(numbers), items, float(np.mean(chances)))


def _row(measure: str, scorer: str, n: str, values: pd.Series, groups: Any, chance: float) -> dict[str, Any]:
    interval = xg.bootstrap_interval(values, groups=list(groups))
    return {
        **{"measure": measure, "scorer": scorer, "n_events": n, "chance": chance, "p_value": np.nan},
        **{"value": interval.mean, "low": interval.low, "high": interval.high},
        **{"n": interval.n, "groups": interval.n_groups},
    }


def measured(name: str, splits: tuple[str, ...] = SPLITS) -> pd.DataFrame:
    """All rows of one model."""
    model, whole, rows = xg.load_model(name), xg.load_dataset("emoji-clips"), []
    for split in splits:
        data = whole.split(split)
        frames = xg.tokens(model, data.items["video"], "frames")
        made = [*retrieval_rows(model, data, frames), *frame_rows(model, data, frames)]
        rows += [{"model": name, "split": split, **row} for row in made]
    return pd.DataFrame(rows)[COLUMNS]


def read_results() -> pd.DataFrame:
    """The table beside this script."""
    missing = {"p_value": "", "chance": ""}
    return pd.read_csv(HERE / "results.csv", dtype={"n_events": str}, keep_default_na=False, na_values=missing)


def card_table(results: pd.DataFrame) -> str:
    """The table of the data card: a line per model, split and measure, a column per number of events."""
    counts = {"1": "1 event", "2": "2 events", "3": "3 events", "all": "all"}
    lines = [f"| model | split | measure | {' | '.join(counts.values())} |", "|---|---|---|" + "---|" * len(counts)]
    for key, rows in results.groupby(["model", "split", "measure", "scorer"], sort=False):
        model, split, measure, scorer = key
        if _is_shown(model, split, measure, scorer):
            by_count = {row["n_events"]: row for row in rows.to_dict("records")}
            cells = " | ".join(_cell(by_count[n]) if n in by_count else "" for n in counts)
            what = f"{measure}: {NAMED.get(scorer, scorer)}" if scorer else measure
            lines.append(f"| `{model}` | {split} | {what} | {cells} |")
    return "\n".join(lines)


def _is_shown(model: str, split: str, measure: str, scorer: str) -> bool:
    """The card has R@5, and R@1 of the main measure; results.csv has all."""
    if model == "tiny-untrained":
        return split != "train" and (not scorer or (measure, scorer) == ("event to clip, R@5", "best frame"))
    if measure.startswith("shuffled"):
        return measure.endswith("R@5") and scorer == "best frame"
    return scorer != "softmax 0.02" and (not measure.endswith("R@1") or measure == "event to clip, R@1")


def _cell(row: Mapping[str, Any]) -> str:
    chance = "" if row["scorer"] == "difference" or np.isnan(row["chance"]) else f"; {row['chance']:.3f}"
    sign = "+" if row["scorer"] == "difference" else ""
    return f"{row['value']:{sign}.3f} ({row['low']:{sign}.3f}, {row['high']:{sign}.3f}{chance})"


def write_card(results: pd.DataFrame) -> None:
    """Replace the measured table in the data card."""
    card = HERE / "README.md"
    text = card.read_text(encoding="utf-8")
    table = f"{START}\n{card_table(results)}\n{END}"
    card.write_text(re.sub(f"{START}.*?{END}", lambda _: table, text, flags=re.DOTALL), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--card", action="store_true", help="write the card's table from results.csv, and nothing else")
    args = parser.parse_args()
    path = HERE / "results.csv"
    if not args.card:
        torch.manual_seed(0)
        made = pd.concat([measured(name) for name in args.models], ignore_index=True)
        if path.exists():
            before = read_results()
            made = pd.concat([before[~before["model"].isin(args.models)], made], ignore_index=True)
        order = {name: i for i, name in enumerate(MODELS)}
        made = made.sort_values("model", key=lambda s: s.map(order).fillna(len(order)), kind="stable")
        made.round(4).to_csv(path, index=False)
    write_card(
        pd.read_csv(path, dtype={"n_events": str}, keep_default_na=False, na_values={"p_value": "", "chance": ""})
    )


if __name__ == "__main__":
    main()
