"""Recipes of published systems by name."""

from collections.abc import Callable
from typing import Any

from xgap_analysis.core.calls import options_alone, parse
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.registry import Registry, check_options, check_values
from xgap_analysis.training.recipe import Recipe

RECIPES: Registry[Callable[..., Recipe]] = Registry("recipe", lambda function: function)


def register_recipe(name: str) -> Callable[[Callable[..., Recipe]], Callable[..., Recipe]]:
    """Make a recipe known by name to `recipe`, `xgap train --recipe NAME` and `xgap train --list`.

    The decorated function takes options as keywords with defaults, and gives a `Recipe`.

    Args:
        name: of the system.

    Raises:
        XgapError: the name is taken by other code, or something that is not a function.

    Example:
        >>> import xgap_analysis as xg
        >>> @xg.register_recipe("short-clip")
        ... def short_clip(*, steps=10):
        ...     return xg.Recipe({"clip": 1.0}, steps=steps)
        >>> xg.recipe("short-clip(steps=20)").steps
        20
        >>> RECIPES.remove("short-clip")
    """

    def add(function: Callable[..., Recipe]) -> Callable[..., Recipe]:
        RECIPES.add(name, function)
        return function

    return add


def recipe(wanted: str, **options: Any) -> Recipe:
    """The recipe of a system by name; `dataclasses.replace` changes the number of steps and all else of it.

    Args:
        wanted: the name, with options: `"mcip(threshold=0.3)"`.
        options: replace those in the notation.

    Raises:
        XgapError: an unknown name or option (the nearest are given), a value of another kind than the option's, or
            something else than a recipe.

    Example:
        >>> [stage["towers"] for stage in recipe("optimizing-clip").stages]
        ['image', 'text']
    """
    call = parse(wanted)
    given = {**options_alone(call, "a recipe"), **options}
    function = RECIPES[call.name]
    check_options("recipe", call.name, function, 0, given)
    check_values(call.name, function, 0, given)
    made = function(**given)
    if not isinstance(made, Recipe):
        raise XgapError(f"recipe {wanted!r} must give a Recipe, not a {type(made).__name__}")
    return made


@register_recipe("optimizing-clip")
def _optimizing_clip(*, scale: float = 30.0, margin: float = 0.1) -> Recipe:
    """2SFT: the image tower learns classes, then the text tower is aligned with it again (Optimizing CLIP)."""
    return Recipe(
        stages=(
            {"objective": {f"arc-margin(scale={scale}, margin={margin})": 1.0}, "towers": "image"},
            {"objective": {"clip": 1.0}, "towers": "text"},
        )
    )


@register_recipe("mcip")
def _mcip(*, top: int = 20, threshold: float = 0.27) -> Recipe:
    """The image tower learns classes, and to match the captions near each image, whose features are fixed (MCIP)."""
    return Recipe(
        objective={"arc-margin(scale=30.0, margin=0.1)": 0.75, "mc-arc-margin": 0.25},
        towers="image",
        captions=f"near(top={top}, threshold={threshold})",
        weight_decay=0.01,
    )


@register_recipe("one-to-k")
def _one_to_k(*, k: int = 4) -> Recipe:
    """An image contrasted with all of its captions (in several languages, say), weighted as published (1-to-K)."""
    return Recipe(objective={f"one-to-many(k={k}, weighting=published)": 1.0})


@register_recipe("symile")
def _symile(*, negatives: str = "shuffle") -> Recipe:
    """Contrast of images, texts and further modalities, train(..., further=...), by their product (Symile).

    A learned scale begins at the model's own and ends at 100, which is small for products of unit rows of many
    dimensions d: for three modalities a fixed `temperature` of about `0.07 / sqrt(d)` is what two have at 0.07.
    """
    return Recipe(objective={f"symile(negatives={negatives})": 1.0}, weight_decay=0.01)


@register_recipe("mod-x")
def _mod_x(*, weight: float = 20.0) -> Recipe:
    """Continued training that keeps the similarities within a batch close to their previous values (Mod-X)."""
    return Recipe(objective={"clip": 1.0, "off-diagonal": weight})


@register_recipe("dse")
def _dse(*, scorer: str = "late_interaction", alpha: float = 0.5) -> Recipe:
    """A dual encoder that copies the scores of a slower scorer (DSE)."""
    return Recipe(objective={"clip": 1 - alpha, f"pair-scores(scorer={scorer})": alpha})


@register_recipe("filip")
def _filip(*, share: float = 1.0) -> Recipe:
    """Contrast of patches and words, each scored by its most similar token of the other modality (FILIP)."""
    return Recipe(objective={f"token-max(smoothing=0.1, share={share})": 1.0})


@register_recipe("dreamlip")
def _dreamlip(*, k: int = 7) -> Recipe:
    """Contrast of an image with each of its captions, and of a caption with the patches that it groups (DreamLIP)."""
    return Recipe(objective={f"multi-positive(k={k})": 1.0, f"grouping(k={k})": 1.0})


@register_recipe("mevtr")
def _mevtr(*, k: int = 2) -> Recipe:
    """All texts of an item as its positives (MeVTR)."""
    return Recipe(objective={f"multi-event(k={k})": 1.0})


@register_recipe("sycoca")
def _sycoca(*, weight: float = 0.5) -> Recipe:
    """Words predicted from the patches that a caption describes, and these patches from the others (SyCoCa)."""
    return Recipe(objective={"clip": 1.0, "masked-words(patches=0.5)": 2.0, "masked-patches": weight})


@register_recipe("clip-reward")
def _clip_reward(*, references: bool = False) -> Recipe:
    """The text tower learns grammar, then to choose the captions with the highest reward (CLIP reward).

    The second stage draws a grammar head anew and trains it beside the policy; the authors keep that of the first.
    """
    k = 2 if references else 1
    return Recipe(
        stages=(
            {"objective": {"clip": 1.0, "grammar": 1.0}, "towers": "text"},
            {"objective": {f"caption-reward(k={k}, references={references})": 1.0}},
        )
    )


@register_recipe("clsr")
def _clsr(*, guidance: float = 1.0) -> Recipe:
    """Contrast with an adaptive temperature, separation within each modality, and reconstruction (after CLSR)."""
    objective = {f"adaptive-contrast(guidance={guidance})": 1.0, "separability": 1.0, "latent-reconstruction": 1.0}
    return Recipe(objective=objective)


@register_recipe("long-clip")
def _long_clip(*, rank: int = 32) -> Recipe:
    """Contrast of images with long captions, and of their leading directions with the first sentences (Long-CLIP)."""
    return Recipe(objective={f"long-and-short(rank={rank})": 1.0}, captions="first_sentence")


@register_recipe("vdr")
def _vdr(*, top: int = 768) -> Recipe:
    """Contrasts of codes over a vocabulary: the strongest words, and those that a caption has itself (VDR).

    It trains the adapter of that name. The mean is of three parts, and not of four: an image has no words itself.
    """
    return Recipe(objective={f"vdr(top={top})": 2 / 3, "own-words": 1 / 3}, adapter="vdr", learning_rate=2e-5)


@register_recipe("vladva")
def _vladva(*, language: str = "", k: int = 1) -> Recipe:
    """One language model for both modalities: contrast, and prediction of the longest of k captions (VladVA).

    `language` is the folder of the model, as the adapter of that name takes it. Both directions of the contrast are
    added, which is twice their mean.
    """
    objective = {"clip": 2.0, f"next-words(k={k})": 1.0}
    return Recipe(objective=objective, adapter=f"vladva(language={language!r})", learning_rate=1e-4)


@register_recipe("modgap")
def _modgap(*, alignment: float = 1.0, uniformity: float = 1.0, scheduled: bool = False) -> Recipe:
    """Pairs drawn together while their centroids are spread, at a constant temperature (ModGap).

    With `scheduled`, as its code trains: uniformity ends in a line from a fifth to 70 % of the steps, and alignment is
    doubled over the second half.
    """
    objective: dict[str, Any] = {"clip": 1.0, "alignment": alignment, "centroid-uniformity": uniformity}
    if scheduled:
        objective["alignment"] = [(0.5, alignment), (1.0, 2 * alignment)]
        objective["centroid-uniformity"] = [(0.2, uniformity), (0.7, 0.0)]
    return Recipe(objective=objective, temperature=0.1)


@register_recipe("clip-refine")
def _clip_refine(*, alpha: float = 0.5) -> Recipe:
    """Both modalities move towards shared random vectors, with distillation from the initial model (CLIP-Refine)."""
    objective = {"random-reference": 1.0, f"hybrid-distillation(alpha={alpha})": 1.0}
    return Recipe(objective=objective, learning_rate=1e-6)


@register_recipe("veclip")
def _veclip(*, p: float = 0.5) -> Recipe:
    """Each caption the original or a rewritten one (VeCLIP)."""
    return Recipe(objective={"clip": 1.0}, captions=f"mix(p={p})")


@register_recipe("irra")
def _irra(*, items: int = 2) -> Recipe:
    """Similarities shared over items of a label, words predicted from images, and one label classifier (IRRA)."""
    return Recipe(objective={"sdm": 1.0, "masked-words": 1.0, "identity": 1.0}, sampler=f"shared(items={items})")


@register_recipe("ucasr")
def _ucasr(*, mixed: bool = False, margin: float = 0.6, images: float = 0.5, texts: float = 0.6) -> Recipe:
    """Each modality learns to recognise its augmented items, then both are tied by a margin (audio-sheet retrieval).

    With `mixed`, the first stage has the rows of both modalities in one softmax, at the temperature of images. Captions
    stand for recordings; two views of one differ by `token_dropout`. A CCA layer is the correction `bridge(kind=cca)`.
    """
    apart = {f"image-image(temperature={images})": 1.0, f"text-text(temperature={texts})": 1.0}
    together = {f"mixed-views(temperature={images})": 1.0}
    return Recipe(
        augmentation="simclr",
        stages=(
            {"objective": together if mixed else apart, "token_dropout": 0.1},
            {"objective": {f"ranking-margin(margin={margin})": 1.0}},
        ),
    )


@register_recipe("viml")
def _viml(*, weight: float = 0.5, p: float = 0.5) -> Recipe:
    """Image and caption as one query of a further modality, train(..., further=...), with captions dropped (ViML)."""
    return Recipe(objective={f"fused-query(weight={weight})": 1.0}, dropout=f"text(p={p})")


@register_recipe("vse")
def _vse(*, negatives: str = "hardest", margin: float = 0.2) -> Recipe:
    """Each pair nearer than the hardest negatives of its batch by a margin (VSE++), or than negatives=all of them."""
    return Recipe(objective={f"ranking-margin(margin={margin}, negatives={negatives}, summed=True)": 1.0})
