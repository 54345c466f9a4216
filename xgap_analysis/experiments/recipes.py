"""The ablations by name: what the settings of each change in a common recipe, and what is measured of each run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.seeds import check_seeds
from xgap_analysis.training import Recipe
from xgap_analysis.training.recipes import recipe

TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "a drawing of {}")
# Two augmentations of each image in every run, so that the image-image term costs and sees nothing more.
RECIPE = Recipe(
    steps=60, batch=96, image_views=2, augmentation="simclr", templates=TEMPLATES, learning_rate=5e-4, warmup=10
)


@dataclass(frozen=True)
class Ablation:
    """Settings of one recipe, and how their runs are evaluated.

    Args:
        settings: name of a setting to the parts of the recipe that it changes.
        control: the setting that the others are compared with.
        recipe: what all runs have in common.
        seeds: of the batches and augmentations, and of the fresh weights if the recipe starts from such.
        checkpoints: numbers of updates after which a run is evaluated; 0 is the start.
        comparisons: made of every checkpoint.
        last_comparisons: those whose inversion is slow; made after the last update only, where they are not made at
            every checkpoint.
        limit: labels that are evaluated; None evaluates all.
        last_limit: labels of the last comparisons. 0 leaves them out.
        inversion_steps: of the comparisons; None takes the paper's.

    Raises:
        XgapError: no setting, seed or checkpoint, or a control that is no setting.
    """

    settings: Mapping[str, Mapping[str, Any]]
    control: str
    recipe: Recipe = RECIPE
    seeds: Sequence[int] = (0, 1, 2)
    checkpoints: Sequence[int] = (0, 30, 60)
    comparisons: Sequence[str] = ("I-I", "OTI-I", "I-T", "T-I", "zero-shot", "OTI-T")
    last_comparisons: Sequence[str] = ("T-T", "OVI-T")
    limit: int | None = None
    last_limit: int = 20
    inversion_steps: int | None = None

    def __post_init__(self) -> None:
        if not self.settings or not len(self.seeds) or not len(self.checkpoints):
            raise XgapError("an ablation needs a setting, a seed and a checkpoint at least")
        check_seeds(self.seeds)
        if self.control not in self.settings:
            raise unknown_name("setting", self.control, self.settings)


# Recipes that give a dual encoder, one a line. Of published recipes (`training.recipes`) the objective alone is taken,
# so that all runs see the same batches; other terms that were added to CLIP's loss have weight 1.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "CLIP": {"objective": {"clip": 1.0}},
    "SigLIP": {"objective": {"siglip": 1.0}},
    "SLIP": {"objective": {"clip": 1.0, "image-image": 1.0}},
    "CLIP + text-text": {"objective": {"clip": 1.0, "text-text": 1.0}},
    "CyCLIP": {"objective": {"clip": 1.0, "in-modal": 0.25, "cross-modal": 0.25}},
    "1-to-K": {"objective": recipe("one-to-k", k=2).objective},
    "MCIP": {"objective": recipe("mcip").objective},
    "CLIP + uniformity": {"objective": {"clip": 1.0, "uniformity": 1.0}},
    "ModGap": {"objective": recipe("modgap").objective},
    "CLIP-Refine": {"objective": recipe("clip-refine").objective},
    "Mod-X": {"objective": recipe("mod-x").objective},
    "SDM (IRRA)": {"objective": {"sdm": 1.0}},
    "DSE": {"objective": recipe("dse").objective},
    "DreamLIP": {"objective": recipe("dreamlip", k=2).objective},
    "Long-CLIP": {"objective": recipe("long-clip").objective},
    "CLIP + FILIP": {"objective": {"clip": 1.0, "token-max": 1.0}},
}

# Adapters that give vectors, one a line, with options that fit the embedded model and defaults elsewhere; then again
# with the objective that their authors train them with, where that is another one than CLIP's, of known weights. Left
# out are those that read a language model, which the package has none of.
LONG_CLIP, GROUNDED = "long-clip(keep=4)", "grounded(units=128, length=64)"
ADAPTERS: dict[str, dict[str, Any]] = {
    "CLIP": {},
    "base": {"learning_rate": 0.0},
    "head": {"adapter": "head"},
    "image prompts": {"adapter": "image-prompts"},
    "MaPLe": {"adapter": "maple(depth=4)"},
    "PTUnifier": {"adapter": "ptunifier(pool=256, image_tokens=8, text_tokens=8)"},
    "CLIP-MoE": {"adapter": "clip-moe"},
    "Long-CLIP": {"adapter": LONG_CLIP},
    "VDR": {"adapter": "vdr"},
    "LexVLA": {"adapter": "lexvla"},
    "grounded": {"adapter": GROUNDED},
    "matching": {"adapter": "matching"},
    "Long-CLIP, own": {"adapter": LONG_CLIP, "objective": recipe("long-clip").objective},
    "VDR, own": {"adapter": "vdr", "objective": recipe("vdr").objective},
    "grounded, own": {"adapter": GROUNDED, "objective": {"ranking-margin": 1.0}},
    "matching, own": {"adapter": "matching", "objective": {"ranking-margin": 1.0}},
}

ABLATIONS: dict[str, Ablation] = {
    "intra": Ablation(
        {f"{w:g}": {"objective": {"clip": 1.0, "image-image": w}} for w in (0, 0.25, 0.5, 1, 2)}, control="0"
    ),
    "temperature": Ablation(
        {
            **{f"{t:g}": {"temperature": t} for t in (0.01, 0.03, 0.07, 0.2, 1.0)},
            "learned": {"temperature": "learned"},
        },
        control="learned",
    ),
    # Two augmentations and two captions of each item in every run: no recipe sees more than another.
    "objectives": Ablation(
        OBJECTIVES,
        control="CLIP",
        recipe=replace(RECIPE, caption_views=2),
        checkpoints=(0, 20, 40, 60),
        comparisons=("I-I", "OTI-I", "T-T", "I-T", "T-I", "zero-shot"),
        limit=100,
        last_limit=0,
    ),
    # Two captions and one image of each item in every run; evaluated before training too, as an adapter may change
    # features by being there.
    "adapters": Ablation(
        ADAPTERS,
        control="CLIP",
        recipe=replace(RECIPE, steps=40, batch=32, image_views=1, caption_views=2, augmentation="crop"),
        checkpoints=(0, 40),
        comparisons=("I-I", "T-T", "I-T", "T-I", "zero-shot"),
        last_comparisons=("I-I", "OTI-I"),
        limit=40,
        last_limit=15,
    ),
}


def ablation(wanted: str | Ablation | Mapping[str, Mapping[str, Any]], **changes: Any) -> Ablation:
    """An ablation by name, or one of the settings that are given, whose first is the control.

    Args:
        wanted: one of `ABLATIONS` by name, an `Ablation`, or settings.
        changes: fields of `Ablation` in place of its own.

    Raises:
        XgapError: an unknown name (the nearest are given), or what `Ablation` refuses.
    """
    if isinstance(wanted, str):
        if wanted not in ABLATIONS:
            raise unknown_name("ablation", wanted, ABLATIONS)
        wanted = ABLATIONS[wanted]
    elif not isinstance(wanted, Ablation):
        wanted = Ablation(wanted, next(iter(wanted), ""))
    return replace(wanted, **changes)


def quick(chosen: Ablation) -> Ablation:
    """The same settings in seconds: two updates, one seed, six labels. It shows that all of it runs, no more."""
    recipe = replace(chosen.recipe, steps=2, batch=8, warmup=1)
    return replace(
        chosen, recipe=recipe, seeds=(0,), checkpoints=(0, 2), limit=6, last_limit=min(chosen.last_limit, 3),
        inversion_steps=5,
    )  # fmt: skip
