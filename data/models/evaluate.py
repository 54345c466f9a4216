"""Judge the embedded models on held-out concepts and artists; writes the Parquet tables beside this script.

    python data/models/judge.py                # everything: about twenty minutes on two cores
    python data/models/judge.py --models tiny  # one model; the others' rows stay

`results.parquet`: how good each model is. `gaps.parquet`: its geometry. `study.parquet`: every comparison, with the
verdict on each claim. The text side is judged on LIMIT concepts, because OVI takes a thousand steps a text.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

import xgap_analysis as xg
from xgap_analysis.datasets import Dataset
from xgap_analysis.metrics import bootstrap_interval
from xgap_analysis.models.tower import Model

HERE = Path(__file__).parent
MODELS = ("tiny", "tiny-intra", "tiny-nogap", "tiny-untrained")
LIMIT = 60  # concepts of the text side
SEEN = 400  # training concepts, of 1,206
SEEDS = (42, 43)
IMAGE_SIDE = ("I-I", "OTI-I", "OTI-OTI", "I-T", "T-I", "zero-shot", "OTI-T")
TEXT_SIDE = ("T-T", "OVI-T", "OVI-OVI", "zero-shot", "I-OVI")


def quality(model: Model, data: Dataset) -> Iterator[dict[str, Any]]:
    """How well a model knows the data: retrieval between and within modalities, and zero-shot classification."""
    images, texts = xg.encode(model, data.images), xg.encode(model, data.texts)
    concept, subgroup = data.labels["concept"], data.labels["subgroup"]
    names = texts.select(i for i in texts.ids if i.endswith("/name"))
    held_out = [i for i in images.ids if i.split("/")[0] in ("emojione", "openmoji")]
    others = [i for i in images.ids if i not in set(held_out)]
    asked = {"held-out artists": held_out, "training artists": others}
    for artists, ids in asked.items():
        if not ids:
            continue
        scores = xg.retrieval(images.select(ids), names, data)
        for k in (1, 5):
            yield row(f"image to name, {artists}, R@{k}", scores[f"recall_at_{k}"], concept, k / len(names))
        classes = {level: data.class_names[level] for level in ("subgroup",)}
        for level, words in classes.items():
            prompts = xg.encode(model, xg.Texts(tuple(words), tuple(f"a photo of {w}" for w in words.values())))
            right = xg.zero_shot(images.select(ids), prompts, data.labels[level])
            yield row(f"zero-shot {level}, {artists}, top-1", right["correct_at_1"], concept, 1 / len(words))
        same = xg.retrieval(images.select(ids), images, data)
        yield row(f"same concept, {artists} ask, mAP", same["ap"], concept, chance_ap(same, len(images)))
    sub = xg.retrieval(images, images, data.relevance("subgroup"))
    yield row("same subgroup, mAP", sub["ap"], subgroup, chance_ap(sub, len(images)))
    gallery = texts.select(data.gallery("text"))
    captions = xg.retrieval(texts.select(data.queries("text")), gallery, data)
    yield row("name to keywords, mAP", captions["ap"], concept, chance_ap(captions, len(gallery)))


def chance_ap(scores: pd.DataFrame, n: int) -> float:
    """About the average precision of a random ranking: the share of relevant items."""
    return float(scores["n_relevant"].mean() / n)


def row(question: str, values: pd.Series, labels: Any, chance: float) -> dict[str, Any]:
    interval = bootstrap_interval(values, groups=[labels[i] for i in values.index])
    return {"question": question, "chance": chance, "value": interval.mean, "low": interval.low, "high": interval.high}


def update(name: str, fresh: pd.DataFrame, models: tuple[str, ...]) -> None:
    """Replace the rows of these models in a table."""
    path = HERE / name
    if path.exists():
        kept = pd.read_parquet(path)
        fresh = pd.concat([kept[~kept["model"].isin(models)], fresh], ignore_index=True)
    order = {m: i for i, m in enumerate(MODELS)}
    xg.save_table(fresh.sort_values("model", key=lambda s: s.map(order), kind="stable").reset_index(drop=True), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--limit", type=int, default=LIMIT, help="concepts of the text side")
    parser.add_argument("--image-side-only", action="store_true", help="leave out the text side, which is the slow one")
    parser.add_argument("--quality-only", action="store_true", help="results.parquet and gaps.parquet only")
    args = parser.parse_args()
    models, emoji = tuple(args.models), xg.load_dataset("emoji")
    rows = []
    for name in models:
        model = xg.load_model(name)
        for split in ("test", "seen"):
            rows += [{"model": name, "split": split, **r} for r in quality(model, emoji.split(split))]
    update("results.parquet", pd.DataFrame(rows), models)
    update("gaps.parquet", xg.Study(models, ["emoji"]).gaps(), models)
    if args.quality_only:
        return
    studies = [
        xg.Study(models, ["emoji"], IMAGE_SIDE, seeds=SEEDS),
        xg.Study(models, ["emoji"], ("I-I", "OTI-I", "zero-shot", "OTI-T"), split="seen", limit=SEEN),
    ]
    if not args.image_side_only:
        studies.append(xg.Study(models, ["emoji"], TEXT_SIDE, limit=args.limit))
    update("study.parquet", pd.concat([study.run() for study in studies], ignore_index=True), models)


if __name__ == "__main__":
    main()
