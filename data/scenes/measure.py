"""Measure the embedded models on `emoji-scenes`; writes results.csv and the tables of the data card (README.md).

    python data/scenes/measure.py                  # some minutes a model on two cores
    python data/scenes/measure.py --models tiny    # one model; the others' rows stay
    python data/scenes/measure.py --card           # the card's tables from results.csv, nothing is computed

One row a number: value, with a 95 % bootstrap interval over scenes (over pairs and references, where there are such),
and what chance gives.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import xgap_analysis as xg
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.corrections import FittedCorrection
from xgap_analysis.metrics.documents import each_section, two_stage
from xgap_analysis.models.captions import long_captions

HERE = Path(__file__).parent
MODELS = ("tiny", "tiny-untrained")
SPLITS, EVALUATED = ("train", "seen", "test"), ("seen", "test")
SCENES = 400  # of each split, so that chance is the same
MAX, MEAN = "late_interaction(inner=max, outer=mean)", "late_interaction(inner=mean, outer=mean)"
KINDS = {"twins": "twin", "swaps": "size swap", "objects": "replaced thing", "attributes": "replaced size"}
SHARES = (0, 25, 50, 75, 100)
KS = (1, 5)
COLUMNS = ["model", "table", "split", "measure", "by", "value", "low", "high", "chance", "n"]
START, END = "<!-- {}: measured by measure.py -->", "<!-- end of {} -->"
Row = dict[str, Any]


def row(measure: str, by: str, values: Any, chance: float = np.nan, groups: Sequence[str] | None = None) -> Row:
    """A mean with its interval."""
    found = xg.bootstrap_interval(values, groups=groups)
    return {
        **{"measure": measure, "by": by, "value": found.mean, "low": found.low, "high": found.high},
        **{"chance": chance, "n": found.n},
    }


def hits(measure: str, by: str, scores: pd.DataFrame, n: int, groups: Sequence[str] | None = None) -> Iterator[Row]:
    """Recall at k of queries with one relevant item or several, of which one is enough."""
    for k in KS:
        relevant = float(scores["n_relevant"].mean())
        missed = np.prod([(n - relevant - j) / (n - j) for j in range(k)])
        yield row(f"{measure}, R@{k}", by, scores[f"hit_at_{k}"], 1 - float(missed), groups)


# Captions and scenes


def retrieval_rows(model: xg.Model, data: xg.Dataset) -> Iterator[Row]:
    """A caption to its scene, by what stands for either."""
    whole, listed = xg.encode(model, data.images, progress=False), xg.encode(model, data.texts, progress=False)
    regions = xg.tokens(model, data.images, "regions", progress=False)
    said = {name: xg.tokens(model, data.texts, name, progress=False) for name in ("captions", "names", "sentences")}
    with_whole = together(xg.TokenFeatures.from_features(whole), regions)
    by: dict[str, tuple[AnyFeatures, AnyFeatures, str]] = {
        "whole image, list caption": (listed, whole, "cosine"),
        "whole and weighted regions, list caption": (listed, with_whole, "pooled(weights=ratio, base=first)"),
        "regions, mean of cosines": (said["captions"], regions, MEAN),
        "mean of parts, both modalities": (said["captions"].pooled(), regions.pooled(), "cosine"),
        "regions, maximum per sub-caption": (said["captions"], regions, MAX),
        "regions, maximum per name": (said["names"], regions, MAX),
        "whole image, maximum per sentence": (said["sentences"], whole, MAX),
    }
    if hasattr(model.image, "hidden"):
        patches = xg.tokens(model, data.images, progress=False)
        by["patches, maximum per sub-caption"] = (said["captions"], patches, MAX)
    for name, (query, gallery, scorer) in by.items():
        found = xg.retrieval(query, gallery, data, ks=KS, scorer=scorer)
        yield from hits("caption to scene", name, found, len(gallery))
        if name == "regions, maximum per sub-caption":
            found = xg.retrieval(query, gallery, data.shuffled(), ks=KS, scorer=scorer)
            yield from hits("caption to scene, shuffled control", name, found, len(gallery))
    pooled, artists = regions.pooled(), [data.labels["artist"][i] for i in regions.ids]
    nearest = xg.retrieval(pooled, pooled, data.relevance("artist"), ks=(1,))
    chance = float(np.mean([(artists.count(x) - 1) / (len(artists) - 1) for x in artists]))
    yield row("scene to a scene of its artist, R@1", "mean of regions", nearest["hit_at_1"], chance)


def region_rows(model: xg.Model, data: xg.Dataset) -> Iterator[Row]:
    """A sub-caption to a region of its concept, and which of the attributes that it names the region has."""
    captions, regions = data.texts.parts_of("captions"), data.images.parts_of("regions")
    query = xg.encode(model, captions.items, progress=False)
    gallery = xg.encode(model, regions.items, progress=False)
    owners = dict(zip(captions.items.ids, captions.owners, strict=True))
    found = xg.retrieval(query, gallery, data.relevance("concept"), ks=KS)
    groups = [owners[str(i)] for i in found.index]
    yield from hits("sub-caption to a region of its concept", "region", found, len(gallery), groups)


def single_rows(model: xg.Model, data: xg.Dataset) -> Iterator[Row]:
    """Scenes of one thing: what is lost by the size alone."""
    text = xg.encode(model, data.texts, progress=False)
    regions = xg.tokens(model, data.images, "regions", progress=False).features()
    for by, gallery in (("whole image", xg.encode(model, data.images, progress=False)), ("region", regions)):
        yield from hits("caption to scene of one thing", by, xg.retrieval(text, gallery, data, ks=KS), len(gallery))
        size = dict(
            zip(data.images.parts_of("regions").owners, data.images.parts_of("regions").columns["size"], strict=True)
        )
        scores = xg.retrieval(text, gallery, data, ks=KS)
        for wanted in ("large", "small"):
            own = scores[[size[data.labels["scene"][str(i)]] == wanted for i in scores.index]]
            yield from hits(f"caption to scene of one {wanted} thing", by, own, len(gallery))


def together(*parts: xg.TokenFeatures) -> xg.TokenFeatures:
    """The vectors of several sets per item as one set, in the order of the arguments."""
    ids = parts[0].ids
    sets = [torch.cat([part.tokens_of(item) for part in parts]) for item in ids]
    return xg.TokenFeatures.from_sets(sets, ids, parts[0].space, parts[0].origin)


# Hard negatives


def pair_rows(model: xg.Model, data: xg.Dataset, kind: str) -> Iterator[Row]:
    """Text, image and group score of pairs, and how often a scene scores above what was made of it."""
    matched = [i for i in data.texts.ids if i in data.labels["scene"]]
    texts = data.texts.select(matched)
    whole, listed = xg.encode(model, data.images, progress=False), xg.encode(model, texts, progress=False)
    by = {
        "whole image": xg.score(listed, whole),
        "regions, maximum per sub-caption": xg.score(
            xg.tokens(model, texts, "captions", progress=False),
            xg.tokens(model, data.images, "regions", progress=False),
            MAX,
        ),
    }
    pair, of = data.labels["contrast"], data.labels["kind"]
    image = {i: k for k, i in enumerate(data.images.ids)}
    rows: dict[str, list[str]] = {}
    for item in matched:
        rows.setdefault(pair[item], []).append(item)
    places = {
        p: ([matched.index(i) for i in own], [image[data.labels["scene"][i]] for i in own]) for p, own in rows.items()
    }
    for name, scores in by.items():
        blocks = {p: scores[r][:, c].double().numpy() for p, (r, c) in places.items()}
        for part in sorted({of[i] for i in matched}):
            own = np.stack([block for p, block in blocks.items() if of[rows[p][0]] == part])
            shares = xg.metrics.winoground(own)
            said = KINDS[kind] if len({of[i] for i in matched}) == 1 else f"{KINDS[kind]}, {part}"
            for column, chance in (("text", 1 / 4), ("image", 1 / 4), ("group", 1 / 6)):
                yield row(f"{said}: {column} score", name, shares[column].astype(float), chance)
            wins = (own[:, 0, 0] > own[:, 0, 1]) + 0.5 * (own[:, 0, 0] == own[:, 0, 1])
            yield row(f"{said}: own scene above the other", name, wins, 0.5)
    if kind == "attributes":
        yield from colour_rows(model, data)


def colour_rows(model: xg.Model, data: xg.Dataset) -> Iterator[Row]:
    """How often a scene's caption scores above one that names another colour."""
    firsts = [i for i in data.images.ids if i.endswith("/image-0")]
    pairs = [i.removesuffix("/image-0") for i in firsts]
    images = xg.encode(model, data.images.select(firsts), progress=False)
    regions = xg.tokens(model, data.images.select(firsts), "regions", progress=False)
    for name, gallery, encoded in (
        ("whole image", images, lambda ids: xg.encode(model, data.texts.select(ids), progress=False)),
        (
            "regions, maximum per sub-caption",
            regions,
            lambda ids: xg.tokens(model, data.texts.select(ids), "captions", progress=False),
        ),
    ):
        scorer = "cosine" if name == "whole image" else MAX
        own, wrong = (xg.score(encoded([f"{p}/text-{k}" for p in pairs]), gallery, scorer).diagonal() for k in (0, 2))
        wins = ((own > wrong).double() + 0.5 * (own == wrong).double()).numpy()
        yield row("replaced colour: own caption above the other", name, wins, 0.5)


# Composed queries


def composed_rows(model: xg.Model, data: xg.Dataset) -> Iterator[Row]:
    """A scene and "a kite instead of a bear" to scenes that show the result; the reference is never ranked."""
    references = [data.labels["reference"][i] for i in data.texts.ids]
    whole = xg.encode(model, data.images, progress=False)
    regions = xg.tokens(model, data.images, "regions", progress=False)
    edit = named(xg.encode(model, data.texts, progress=False), references)
    words = xg.tokens(model, data.texts, "names", progress=False)
    new, old = (
        named(
            xg.Features(torch.stack([words.tokens_of(i)[k] for i in words.ids]), references, "text", "image"),
            references,
        )
        for k in (0, 1)
    )
    image = whole.select(references)
    edited = edited_sets(data, regions, words)
    by: dict[str, tuple[AnyFeatures, AnyFeatures, str]] = {
        "reference alone": (image, whole, "cosine"),
        "text alone": (edit, whole, "cosine"),
        "new name alone": (new, whole, "cosine"),
        "reference + text": (combined(image, (image, 1), (edit, 1)), whole, "cosine"),
        "reference + new - old": (combined(image, (image, 1), (new, 1), (old, -1)), whole, "cosine"),
        "mean of regions alone": (regions.select(references).pooled(), regions.pooled(), "cosine"),
        "mean of regions + new - old": (
            combined(image, (regions.select(references).pooled(), 1), (new, 1), (old, -1)),
            regions.pooled(),
            "cosine",
        ),
        "part replaced, mean of parts": (edited.pooled(), regions.pooled(), "cosine"),
        "part replaced, maximum per part": (edited, regions, MAX),
    }
    for name, (query, gallery, scorer) in by.items():
        found = xg.retrieval(query, gallery, data, ks=KS, scorer=scorer)
        yield from hits("composed", name, found, len(gallery) - 1)
        yield row("composed, AP", name, found["ap"])


def named(features: xg.Features, ids: Sequence[str]) -> xg.Features:
    """The features under the ids of the references, which are images."""
    return replace(features, ids=tuple(ids), origin="image")


def combined(like: xg.Features, *parts: tuple[xg.Features, float]) -> xg.Features:
    """The direction of a weighted sum."""
    total = sum(weight * part.vectors.double() for part, weight in parts)
    return xg.Features(total, like.ids, like.space, like.origin)


def edited_sets(data: xg.Dataset, regions: xg.TokenFeatures, words: xg.TokenFeatures) -> xg.TokenFeatures:
    """The regions of each reference, with the one of the old thing replaced by the name of the new one."""
    removed = data.labels["removed"]
    table = data.images.parts_of("regions").table()
    sets, references = [], []
    for item in words.ids:
        reference = data.labels["reference"][item]
        own = table[table["owner"] == reference]
        kept = torch.tensor((own["concept"] != removed[item]).to_numpy())
        sets.append(torch.cat([regions.tokens_of(reference)[kept], words.tokens_of(item)[:1]]))
        references.append(reference)
    return xg.TokenFeatures.from_sets(sets, references, "image", "image")


# Documents


def document_rows(model: xg.Model, name: str, split: str, shares: Sequence[int] = SHARES) -> Iterator[Row]:
    """The list caption of a section to its document, the mean of its sections, by the share of these that are texts;
    to the section, in one stage and in two; and the share of texts in the first ten, raw and centred.
    """
    centred = centring(model, xg.load_dataset(f"{name}:documents").split("train").limit(SCENES))
    for share in shares:
        data = xg.load_dataset(f"{name}:documents-{share}").split(split)
        texts, items = xg.encode(model, data.texts, progress=False), data.items["document"]
        for by, how in ((f"{share} % texts", {}), (f"{share} % texts, centred", {"transform": centred})):
            query = centred(texts) if how else texts
            made = xg.view("sections")(model, items, progress=False, **how)
            assert isinstance(made, xg.TokenFeatures)
            documents = made.pooled()
            found = xg.retrieval(query, documents, data, ks=KS)
            yield from hits("caption to document", by, found, len(documents))
            if not how:
                lengths = [float(made.tokens_of(i).double().mean(dim=0).norm()) for i in made.ids]
                yield row("length of the mean of sections", by, pd.Series(lengths))
            if 0 < share < 100:
                first = xg.modality_share(query, documents, data)
                whole = float(first["share_gallery_text"].mean())
                yield row("texts in the first 10 documents", by, first["share_at_10_text"], whole)
            sections, document_of = each_section(made)
            for stage, stages in (
                ("", None),
                (" of the first 10 documents", two_stage(sections, document_of, depth=10)),
            ):
                found = xg.retrieval(query, sections, data.relevance("section"), ks=(1,), normalise=stages)
                yield row(f"caption to section{stage}, R@1", by, found["hit_at_1"], 1 / len(sections))


def centring(model: xg.Model, data: xg.Dataset) -> FittedCorrection:
    """`center`, fitted on scenes and long captions."""
    features = {m: xg.encode(model, items, progress=False) for m, items in data.items.items()}
    return xg.correction("center").fit(xg.Calibration(features, data.split_name))


# Results and the card


def cut_rows(model: xg.Model, data: xg.Dataset) -> Iterator[Row]:
    """The share of captions that the model's text tower cuts."""
    tokenize = getattr(model.tokenize, "silent", model.tokenize)
    captions = [str(caption) for caption in data.texts.captions]
    ids = tokenize(captions)
    cut = long_captions(tokenize, captions, ids)
    yield row("list caption is cut", f"{ids.shape[1]} tokens", [float(i in cut) for i in range(len(captions))])


def measured(name: str) -> pd.DataFrame:
    """All rows of one model."""
    model, own = xg.load_model(name), "emoji-scenes"
    rows: list[Row] = []
    for split in SPLITS:
        data = xg.load_dataset(own).split(split).limit(SCENES)
        made = [*retrieval_rows(model, data), *region_rows(model, data), *cut_rows(model, data)]
        rows += [{"table": "scenes", "split": split, **one} for one in made]
    for split in EVALUATED:
        single = single_rows(model, xg.load_dataset(f"{own}:single").split(split))
        rows += [{"table": "scenes", "split": split, **one} for one in single]
        for kind in KINDS:
            made = [*pair_rows(model, xg.load_dataset(f"{own}:{kind}").split(split), kind)]
            rows += [{"table": "pairs", "split": split, **one} for one in made]
        made = [*composed_rows(model, xg.load_dataset(f"{own}:composed").split(split))]
        rows += [{"table": "composed", "split": split, **one} for one in made]
        made = [*document_rows(model, own, split)]
        rows += [{"table": "documents", "split": split, **one} for one in made]
    return pd.DataFrame([{"model": name, **one} for one in rows])[COLUMNS]


def card_table(results: pd.DataFrame, table: str) -> str:
    """A table of the data card: a line per model, measure and way, a column per split."""
    own = results[results["table"] == table]
    splits = [split for split in SPLITS if split in set(own["split"])]
    lines = ["| model | measure | by | " + " | ".join(splits) + " |", "|---|---|---|" + "---|" * len(splits)]
    for (model, measure, by), rows in own.groupby(["model", "measure", "by"], sort=False):
        if model == MODELS[0] or measure.endswith(("R@5", "group score")):  # results.csv has all
            of = {one["split"]: cell(one) for one in rows.to_dict("records")}
            lines.append(
                f"| `{model}` | {measure} | {by} | " + " | ".join(of.get(split, "") for split in splits) + " |"
            )
    return "\n".join(lines)


def cell(one: Mapping[Any, Any]) -> str:
    """Value, interval, and what chance gives."""
    chance = "" if np.isnan(one["chance"]) else f"; {one['chance']:.3g}"
    return f"{one['value']:.3f} ({one['low']:.3f}, {one['high']:.3f}{chance})"


def write_card(results: pd.DataFrame) -> None:
    """Replace the measured tables in the data card."""
    card = HERE / "README.md"
    text = card.read_text(encoding="utf-8")
    for table in dict.fromkeys(results["table"]):
        start, end = START.format(table), END.format(table)
        made = f"{start}\n{card_table(results, table)}\n{end}"
        text = re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _, made=made: made, text, flags=re.DOTALL)
    card.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument(
        "--card", action="store_true", help="write the card's tables from results.csv, and nothing else"
    )
    args = parser.parse_args()
    path = HERE / "results.csv"
    if not args.card:
        made = pd.concat([measured(name) for name in args.models], ignore_index=True)
        if path.exists():
            before = pd.read_csv(path)
            made = pd.concat([before[~before["model"].isin(args.models)], made], ignore_index=True)
        order = {name: i for i, name in enumerate(MODELS)}
        made = made.sort_values("model", key=lambda s: s.map(order).fillna(len(order)), kind="stable")
        made.round(4).to_csv(path, index=False)
    write_card(pd.read_csv(path))


if __name__ == "__main__":
    main()
