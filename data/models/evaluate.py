"""Evaluate the embedded models on held-out concepts and artists; writes the Parquet tables beside this script.

    python data/models/evaluate.py                          # everything: about an hour of a core
    python data/models/evaluate.py --models tiny            # one model; the rows of the others stay
    python data/models/evaluate.py --parts quality geometry # without inversion: some minutes
    python data/models/evaluate.py --models DIR/tiny-gap    # a model that is not shipped, under the name of its folder

`results.parquet`: how good each model is. `gaps.parquet`: its geometry. `study.parquet`: every comparison, with the
verdict on each claim. Inverting a text takes a thousand steps, so texts are evaluated on LIMIT concepts.
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
MODELS = ("tiny", "tiny-seed1", "tiny-seed2", "tiny-intra", "tiny-nogap", "tiny-image", "tiny-untrained")
INVERTED = ("tiny", "tiny-seed1", "tiny-seed2", "tiny-intra", "tiny-nogap")
WITH_TEXTS = ("tiny", "tiny-seed1", "tiny-seed2", "tiny-intra")  # whose held-out names are inverted, LIMIT concepts
LIMIT = 60
SEEN = 400  # training concepts, of 1,206
SEEDS = (42, 43)  # of the inversion of images
HELD_OUT_ARTISTS = ("emojione", "openmoji")
IMAGE_SIDE = ("I-I", "OTI-I", "OTI-OTI", "I-T", "T-I", "zero-shot", "OTI-T")
ON_SEEN = ("I-I", "OTI-I", "zero-shot", "OTI-T")
TEXT_SIDE = ("T-T", "OVI-T")
PARTS = ("quality", "geometry", "images", "texts")


def quality(model: Model, data: Dataset) -> Iterator[dict[str, Any]]:
    """How well a model knows the data: retrieval between and within modalities, and zero-shot classification."""
    images = xg.encode(model, data.images)
    concept, subgroup = data.labels["concept"], data.labels["subgroup"]
    held_out = [i for i in images.ids if i.split("/")[0] in HELD_OUT_ARTISTS]
    others = [i for i in images.ids if i not in set(held_out)]
    for artists, ids in {"training artists": others, "held-out artists": held_out}.items():
        if not ids:
            continue
        queries = images.select(ids)
        if "text" in model.towers:
            yield from with_texts(model, queries, data, artists)
        same = xg.retrieval(queries, images, data)
        yield row(f"same concept, {artists} as queries, mAP", same["ap"], concept, chance_ap(same, len(images)))
    sub = xg.retrieval(images, images, data.relevance("subgroup"))
    yield row("same subgroup, mAP", sub["ap"], subgroup, chance_ap(sub, len(images)))
    if "text" in model.towers:
        texts = xg.encode(model, data.texts)
        gallery = texts.select(data.gallery("text"))
        captions = xg.retrieval(texts.select(data.queries("text")), gallery, data)
        yield row("name to keywords, mAP", captions["ap"], concept, chance_ap(captions, len(gallery)))


def with_texts(model: Model, queries: xg.Features, data: Dataset, artists: str) -> Iterator[dict[str, Any]]:
    """Image to name, and classification by subgroup."""
    texts = xg.encode(model, data.texts)
    names = texts.select(i for i in texts.ids if i.endswith("/name"))
    concept, words = data.labels["concept"], data.class_names["subgroup"]
    scores = xg.retrieval(queries, names, data)
    for k in (1, 5):
        yield row(f"image to name, {artists}, R@{k}", scores[f"recall_at_{k}"], concept, k / len(names))
    prompts = xg.encode(model, xg.Texts(tuple(words), tuple(f"a photo of {w}" for w in words.values())))
    right = xg.zero_shot(queries, prompts, data.labels["subgroup"])
    yield row(f"zero-shot subgroup, {artists}, top-1", right["correct_at_1"], concept, 1 / len(words))


def chance_ap(scores: pd.DataFrame, n: int) -> float:
    """About the average precision of a random ranking: the share of relevant items."""
    return float(scores["n_relevant"].mean() / n)


def row(question: str, values: pd.Series, labels: Any, chance: float) -> dict[str, Any]:
    interval = bootstrap_interval(values, groups=[labels[i] for i in values.index])
    return {"question": question, "chance": chance, "value": interval.mean, "low": interval.low, "high": interval.high}


def qualities(models: tuple[str, ...]) -> pd.DataFrame:
    emoji = xg.load_dataset("emoji")
    rows = []
    for name in models:
        model = xg.load_model(name)
        for split in ("test", "val", "seen"):
            rows += [{"model": name, "split": split, **r} for r in quality(model, emoji.split(split))]
    return pd.DataFrame(rows)


def geometry(models: tuple[str, ...]) -> pd.DataFrame:
    """The gap metrics, and 1 / temperature."""
    both = [name for name in models if "text" in xg.load_model(name).towers]
    table = xg.Study(both, ["emoji"]).gaps()
    return table.assign(scale=[float(xg.load_model(name).logit_scale) for name in both])


def studies(models: tuple[str, ...], parts: tuple[str, ...], limit: int | None) -> pd.DataFrame:
    """Every comparison that is run of these models, as one table."""
    own = [name for name in models if name not in MODELS]
    images, texts = ([name for name in models if name in (*chosen, *own)] for chosen in (INVERTED, WITH_TEXTS))
    made = []
    if "images" in parts and images:
        made += [xg.Study(images, ["emoji"], IMAGE_SIDE, seeds=SEEDS)]
        made += [xg.Study(images, ["emoji"], ON_SEEN, split="seen", limit=SEEN)]
    if "texts" in parts and texts:
        made += [xg.Study(texts, ["emoji"], TEXT_SIDE, limit=limit)]
    return pd.concat([study.run() for study in made], ignore_index=True) if made else pd.DataFrame()


def update(path: Path, fresh: pd.DataFrame, keys: tuple[str, ...]) -> None:
    """Put fresh rows into a table, in the place of those with the same keys; a folder stands under its own name."""
    if fresh.empty:
        return
    fresh = fresh.assign(model=[Path(name).name for name in fresh["model"]])
    if path.exists():
        kept = pd.read_parquet(path)
        renewed = set(fresh[list(keys)].itertuples(index=False, name=None))
        same = [key in renewed for key in kept[list(keys)].itertuples(index=False, name=None)]
        kept = kept[[not one for one in same]]
        fresh = pd.concat([kept, fresh], ignore_index=True) if len(kept) else fresh
    order = {model: i for i, model in enumerate(MODELS)}
    fresh = fresh.sort_values("model", key=lambda names: names.map(order), kind="stable")
    xg.save_table(fresh.reset_index(drop=True), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS, help="names, or folders of trained models")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--limit", type=int, default=LIMIT, help="concepts whose names are inverted; 0 takes all")
    parser.add_argument("--to", type=Path, default=HERE, help="where the tables are written")
    args = parser.parse_args()
    models, parts = tuple(args.models), tuple(args.parts)
    if "quality" in parts:
        update(args.to / "results.parquet", qualities(models), ("model", "split"))
    if "geometry" in parts:
        update(args.to / "gaps.parquet", geometry(models), ("model",))
    update(args.to / "study.parquet", studies(models, parts, args.limit or None), ("model", "split", "comparison"))


if __name__ == "__main__":
    main()
