"""Small trees of the published formats, written file by file."""

import json
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

# Two images of each breed in each split of a CoOp set.
BREEDS = ("abyssinian", "basset_hound", "english_setter")
LANDMARKS = [f"all_souls_{i:06}" for i in range(12)]
SUBJECTS = ("cells", "genes", "proteins", "mice")
ASKED = ["radcliffe_000001", "ashmolean_000002", "christ_church_000003"]


def drawing(path: Path, size: tuple[int, int] = (24, 20), mode: str = "RGB") -> None:
    """A picture of noise that depends on its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)


def zhou(folder: Path, split_file: str, images: str, names: Sequence[str] = BREEDS) -> None:
    """A set in CoOp's layout."""
    content: dict[str, list[list[Any]]] = {}
    for split in ("train", "val", "test"):
        content[split] = []
        for label, name in enumerate(names):
            for i in range(2):
                path = f"{name}/{split}_{i}.jpg"
                drawing(folder / images / path)
                content[split].append([path, label, name])
    (folder / split_file).write_text(json.dumps(content))


def landmarks(root: Path, name: str = "roxford5k", protocol: int = 2, arrays: bool = False) -> dict[str, Any]:
    """A landmark set with a made-up ground truth; the truth is returned too."""
    rng = np.random.default_rng(5)
    entries = []
    for k, _ in enumerate(ASKED):
        order = rng.permutation(len(LANDMARKS)).tolist()
        easy, hard, junk = order[: 2 + k], order[5:7], order[7:9]
        wrapped = [np.array(x) if arrays else x for x in (easy, hard, junk)]
        box = [2.5, 3.0, 13.2 + k, 16.0]
        entries.append({"bbx": box, **dict(zip(("easy", "hard", "junk"), wrapped, strict=True))})
    truth = {"gnd": entries, "imlist": list(LANDMARKS), "qimlist": list(ASKED)}
    folder = root / name
    for image in (*LANDMARKS, *ASKED):
        drawing(folder / "jpg" / f"{image}.jpg")
    (folder / f"gnd_{name}.pkl").write_bytes(pickle.dumps(truth, protocol=protocol))
    return truth


def karpathy(root: Path, n_images: int = 2) -> None:
    """COCO and Flickr30k with five captions an image, two images a split (or more)."""
    for name, file, splits in (
        ("coco", "dataset_coco.json", ("train", "restval", "val", "test")),
        ("flickr30k", "dataset_flickr30k.json", ("train", "val", "test")),
    ):
        images, sentence = [], 0
        for n, split in enumerate([s for s in splits for _ in range(n_images)]):
            image = f"COCO_val2014_{n:012}.jpg" if name == "coco" else f"{1000 + n}.jpg"
            captions = []
            for k in range(5):
                text = f" caption {k} of a {split} picture number {n} . \n" if k else f"first words on {split} {n}"
                captions.append({"tokens": text.split(), "raw": text, "imgid": n, "sentid": sentence})
                sentence += 1
            row = {"filename": image, "imgid": n, "split": split, "sentences": captions}
            row["sentids"] = [c["sentid"] for c in captions]
            if name == "coco":
                row |= {"filepath": "val2014", "cocoid": n}
            images.append(row)
            drawing(root / name / ("val2014" if name == "coco" else "flickr30k-images") / image)
        (root / name / file).write_text(json.dumps({"dataset": name, "images": images}))


def nano(root: Path, name: str = "NanoSciFact", scored: bool = False) -> dict[str, dict[str, int]]:
    """A NanoBEIR set whose query and document ids overlap; its judgements are returned too."""
    rng = np.random.default_rng(2)
    documents = {str(i): f"abstract {i} on {SUBJECTS[i % 4]} " * 3 for i in range(14)}
    queries = {str(i): f"{SUBJECTS[i % 4]} claim {i}" for i in range(5)}
    qrels = {
        q: {str(d): int(rng.integers(1, 4)) if scored else 1 for d in rng.choice(14, size=3, replace=False)}
        for q in queries
    }
    judged = [(q, d, grade) for q, of in qrels.items() for d, grade in of.items()]
    tables = {
        "corpus": pd.DataFrame({"_id": list(documents), "text": list(documents.values())}),
        "queries": pd.DataFrame({"_id": list(queries), "text": list(queries.values())}),
        "qrels": pd.DataFrame(judged, columns=["query-id", "corpus-id", "score"]),
    }
    if not scored:
        tables["qrels"] = tables["qrels"].drop(columns="score")
    for part, table in tables.items():
        (root / name / part).mkdir(parents=True)
        table.to_parquet(root / name / part / "train-00000-of-00001.parquet")
    return qrels


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A root with Oxford-IIIT Pets in CoOp's layout."""
    zhou(tmp_path / "oxford_pets", "split_zhou_OxfordPets.json", "images")
    return tmp_path
