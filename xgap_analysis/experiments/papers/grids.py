"""Grids by name: the tables of the debate, ready to run on any model and dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xgap_analysis.core.errors import XgapError, unknown_name

PAPER = "paper"  # among the models or datasets of a named table: those that its paper used


@dataclass(frozen=True)
class Average:
    """A mean over datasets that a paper prints; made only where every one of them is there.

    Args:
        name: what tables call it.
        datasets: of the mean.
        comparisons: which of the table's comparisons are averaged over these sets.
    """

    name: str
    datasets: tuple[str, ...]
    comparisons: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """What a named table compares.

    Args:
        comparisons, corrections: as in `Study`.
        models, datasets, limit: what it is run on where nothing is said; the limit is of these datasets only.
        paper_models, paper_datasets: what its paper ran it on; `"paper"` among the names stands for them.
        averages: rows of means.
        papers: whose published figures stand beside ours, the first that has one (keys of `published.csv`).
        axes: as in `Study`.
    """

    comparisons: tuple[str, ...]
    corrections: tuple[str, ...] = ("none",)
    models: tuple[str, ...] = ("tiny",)
    datasets: tuple[str, ...] = ("emoji",)
    limit: int | None = None
    paper_models: tuple[str, ...] = ()
    paper_datasets: tuple[str, ...] = ()
    averages: tuple[Average, ...] = ()
    papers: tuple[str, ...] = ()
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


LANDMARKS = ("roxford5k", "rparis6k")
COOP = (
    *("caltech101", "dtd", "eurosat", "fgvc-aircraft", "flowers102", "food101", "oxford-pets", "stanford-cars"),
    *("sun397", "ucf101"),
)
CAPTIONS = ("coco", "flickr30k", "nocaps")
# The two papers after the first leave out different sets, so that their means over 13 do not compare.
IMAGES_15 = Average(
    "average of 15 image sets", ("cub-200-2011", "sop", *LANDMARKS, *COOP, "imagenet"), ("I-I", "OTI-I", "OTI-OTI")
)
WITH_CUB = Average("average of 13 image sets (with CUB)", ("cub-200-2011", *LANDMARKS, *COOP), ("I-I", "OTI-I"))
WITH_IMAGENET = Average("average of 13 image sets (with ImageNet)", (*LANDMARKS, *COOP, "imagenet"), ("I-I", "OTI-I"))
CAPTIONS_3 = Average("average of 3 caption sets", CAPTIONS, ("T-T", "OVI-T", "OVI-OVI"))
CLASSES_11 = Average("average of 11 image sets", (*COOP, "imagenet"), ("zero-shot", "OTI-T", "I-OVI"))

OPENAI = ("ViT-B-32/openai", "ViT-L-14/openai")
DATACOMP = tuple(f"{size}/datacomp_xl_s13b_b90k" for size in ("ViT-B-32", "ViT-L-14"))
FIVE = (*OPENAI, *DATACOMP, "ViT-B-16-SigLIP/webli")
DINO = ("timm:vit_base_patch14_dinov2.lvd142m", "timm:vit_large_patch16_dinov3.lvd1689m")
# As in the paper's experiments: prompts without words around the name, and their length left as it is.
PCA = "pca-text(words=imagenet, template='{}', normalised=False)"

GRIDS = {
    # 60 labels, and no captions inverted but the queries': five minutes on two cores of a laptop.
    "corrections": Grid(
        comparisons=("I-I", "OTI-I", "I+OTI-I", "T-T", "OVI-T", "T+OVI-T", "I-T", "T-I", "zero-shot", "OTI-T"),
        corrections=(
            "none",
            "center",
            "gap-shift",
            "isoclip",
            "pca-text",
            "pca-image",
            "random-subspace",
            "whiten",
            "text-signature",
            "text-signature(compare=kl)",
            "inverted-softmax",
            "dynamic-inverted-softmax",
            "dual-inverted-softmax",
            "dual-dynamic-inverted-softmax",
        ),
        models=("tiny", "tiny-intra"),
        limit=60,
    ),
    "image-retrieval": Grid(
        comparisons=("I-I", "OTI-I"),
        paper_models=FIVE,
        paper_datasets=IMAGES_15.datasets,
        averages=(IMAGES_15,),
        papers=("cross-the-gap", "reevaluating"),
    ),
    "text-retrieval": Grid(
        comparisons=("T-T", "OVI-T"),
        limit=20,
        paper_models=FIVE,
        paper_datasets=CAPTIONS,
        averages=(CAPTIONS_3,),
        papers=("cross-the-gap",),
    ),
    "zero-shot": Grid(
        comparisons=("zero-shot", "OTI-T"),
        paper_models=FIVE,
        paper_datasets=CLASSES_11.datasets,
        averages=(CLASSES_11,),
        papers=("cross-the-gap",),
    ),
    "slip": Grid(
        comparisons=("I-I", "OTI-I"),
        models=("tiny-intra",),
        paper_models=("SLIP-ViT-B-16/yfcc15m", "SLIP-ViT-L-16/yfcc15m"),
        paper_datasets=IMAGES_15.datasets,
        averages=(IMAGES_15,),
        papers=("cross-the-gap", "reevaluating"),
    ),
    "drift": Grid(
        comparisons=("I-I", "OTI-I"),
        limit=20,
        paper_models=("ViT-B-32/openai",),
        paper_datasets=("stanford-cars",),
        papers=("cross-the-gap",),
        axes={
            "oti.tokens": (1, 2, 4, 8, 16),
            "oti.steps": (1, 5, 10, 13, 15, 17, 25, 50, 100, 150, 250, 500, 1000),
        },
    ),
    "isoclip": Grid(
        comparisons=("I-I", "OTI-I", "T-T", "OVI-T"),
        corrections=("none", "isoclip"),
        limit=20,
        paper_models=(
            *(*OPENAI, "ViT-B-16/openai", "ViT-B-32/datacomp_xl_s13b_b90k", "ViT-B-16/datacomp_xl_s13b_b90k"),
            *("PE-Core-B-16/meta", "ViT-B-16-SigLIP2/webli"),
        ),
        paper_datasets=(*WITH_CUB.datasets, *CAPTIONS),
        averages=(WITH_CUB, CAPTIONS_3),
        papers=("isoclip",),
    ),
    "pca": Grid(
        comparisons=("I-I", "OTI-I"),
        corrections=("none", PCA, "pca-image", "random-subspace"),
        paper_models=(*OPENAI, "ViT-B-16-SigLIP/webli", "ViT-B-16-SigLIP2/webli", "SLIP-ViT-B-16/yfcc15m", DINO[1]),
        paper_datasets=WITH_IMAGENET.datasets,
        averages=(WITH_IMAGENET,),
        papers=("reevaluating",),
    ),
    "dogs-vs-cats": Grid(
        comparisons=("T-I", "I-I", "OTI-I", "zero-shot"),
        corrections=("none", PCA),
        paper_models=("ViT-B-16/openai", *DINO),
        paper_datasets=("dogs-vs-cats",),
        papers=("reevaluating",),
    ),
}


def grid(name: str) -> Grid:
    """A grid by name.

    Raises:
        XgapError: an unknown name (the nearest are given).
    """
    if name not in GRIDS:
        raise unknown_name("table", name, GRIDS)
    return GRIDS[name]


def expanded(names: Sequence[Any], own: Sequence[str]) -> tuple[Any, ...]:
    """Models or datasets, with those of the paper (`own`) where a name is `"paper"`.

    Raises:
        XgapError: `"paper"`, of a table that no paper has printed.
    """
    wanted = any(isinstance(name, str) and name == PAPER for name in names)
    if wanted and not own:
        raise XgapError('this table is of no paper, so that nothing is meant by "paper"; give names')
    return tuple(x for name in names for x in (own if isinstance(name, str) and name == PAPER else (name,)))
