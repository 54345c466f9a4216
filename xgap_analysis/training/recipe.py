"""How a model is trained: everything that two runs may differ in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from xgap_analysis.core.calls import options_alone, parse
from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.registry import own_code
from xgap_analysis.core.seeds import check_seed
from xgap_analysis.models.adaptation import Adapter, adapter
from xgap_analysis.training.captions import captions_of
from xgap_analysis.training.dropout import NONE, dropout_of
from xgap_analysis.training.objectives import Term, active
from xgap_analysis.training.objectives.weights import Weight, as_plain

AUGMENTATIONS = ("none", "crop", "simclr")
TOWERS = ("both", "image", "text")
PRECISIONS = ("fp32", "bf16", "fp16")
OF_A_RUN = ("stages", "scratch", "adapter", "seed")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Args:
        objective: terms and their weights: a term by name with its options (`xgap objectives` lists them), or a
            function of a batch (see `register_objective`); a weight of 0 changes nothing, to the bit. A weight may
            change over the steps: `{"alignment": [(0.5, 1.0), (1.0, 2.0)]}` is 1 until half of them, and then goes in a
            line to 2 (see `weights.weight_of`).
        steps: updates.
        batch: items a step.
        sampler: `"labels"`, each item of a batch of another label, so that no two of them are relevant to each other;
            or `"shared(items=2)"`, so many items of each label, for objectives that let several be right at once.
        micro_batch: items that go through the towers at once; the gradient is that of the whole batch all the same
            (features first, then their gradients part by part). None takes the batch at once.
        image_views, caption_views: augmentations and captions of an item in a step, where the objective does not need
            more. Runs that are to be compared take the same numbers: then they see the same data.
        captions: which captions of an item a step looks at: `"one"` (as many as terms look at, drawn from its label's),
            `"mix(p=0.5)"`, `"all"`, `"first_sentence"` or `"near(top=20, threshold=0.27)"` (see `captions.Captions`).
        augmentation: `"none"`, `"crop"` (random crops, as open_clip trains), or `"simclr"` (also colours and flips).
        templates: one is drawn for each caption.
        learning_rate, weight_decay, warmup: of AdamW; a rise over `warmup` steps, then half a cosine to zero.
        clip_gradient: the gradient's norm is cut to this.
        temperature: `"learned"`, a fixed number, or two numbers: the way from the first to the second.
        towers: which are trained: `"both"`, `"image"` or `"text"` (re-alignment of one tower to the other).
        token_dropout: share of a token embedding's dimensions that are zeroed, so that the same caption twice gives two
            views (Gao et al., 2021, SimCSE, section 3).
        scratch: start from fresh weights.
        adapter: trained in place of the model, `"head(width=64)"` (`xgap adapters` lists them); the model's own weights
            and its temperature stay as they are, to the bit, but for what the adapter says it trains.
        precision: `"fp32"`, or autocast with `"bf16"` / `"fp16"`.
        seed: of the fresh weights, the batches, the augmentations and the dropout.
        dropout: `"none"`, or a modality of which an item is left out with a probability, `"text(p=0.5)"`: its features
            are zero in that step, where terms can do without it (`Needs.dropped`), so that the others learn to do
            without it too (see `dropout.Dropout`).
        stages: runs one after another, each a change of this recipe: `[{"objective": {"arc-margin": 1}, "towers":
            "image"}, {"objective": {"clip": 1}, "towers": "text"}]`. Each takes `steps` updates unless it says
            otherwise, has a learning rate that rises and falls, draws the parameters of its terms anew, and its teacher
            is the model as the stage begins.

    Raises:
        XgapError: a value out of range.

    Example:
        >>> import xgap_analysis as xg
        >>> recipe = xg.Recipe(objective={"clip": 1.0, "image-image": 0.5}, steps=100, batch=32)
        >>> recipe.temperature, recipe.learning_rate
        ('learned', 0.0005)
    """

    objective: Mapping[Any, Any] = field(default_factory=lambda: {"clip": 1.0})
    steps: int = 1000
    batch: int = 128
    micro_batch: int | None = None
    image_views: int = 1
    caption_views: int = 1
    augmentation: str = "crop"
    templates: Sequence[str] = ("{}",)
    learning_rate: float = 5e-4
    weight_decay: float = 0.1
    warmup: int = 50
    clip_gradient: float = 1.0
    temperature: str | float | tuple[float, float] = "learned"
    towers: str = "both"
    token_dropout: float = 0.0
    scratch: bool = False
    precision: str = "fp32"
    seed: int = 0
    adapter: str | Adapter | None = None
    sampler: str = "labels"
    captions: str = "one"
    dropout: str = NONE
    stages: Sequence[Any] = ()

    def __post_init__(self) -> None:
        for stage in self.stages:
            self._check_stage(stage)
        if self.stages:  # each is checked as a recipe of its own
            _ = self.in_turn
            return
        _check_kinds(self)
        if self.adapter is not None:
            adapter(self.adapter)
        self._check_captions()
        self._check_dropout()
        if self.scratch and any(term.needed.teacher for term, _ in self.terms):
            raise XgapError("a term needs the model as it was before training, which scratch=True replaces")
        counts = {name: getattr(self, name) for name in ("steps", "image_views", "caption_views")}
        for name, value in counts.items():
            if value < 1:
                raise XgapError(f"{name} is at least 1, not {value}")
        if self.batch < 2 or (self.micro_batch is not None and self.micro_batch < 1):
            what = f"batch={self.batch} and micro_batch={self.micro_batch}"
            raise XgapError(f"{what}: a batch has at least 2 items, and a part of it at least 1")
        for name, known in (("augmentation", AUGMENTATIONS), ("towers", TOWERS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise XgapError(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.batch % self.items_of_a_label or self.batch == self.items_of_a_label:
            what = f"a batch of {self.batch} items cannot be of {self.items_of_a_label} items of each label"
            raise XgapError(f"{what}: take a batch that is a multiple of it, twice at least")
        if self.micro_batch is not None:
            at_once = [str(term) for term, _ in self.terms if term.needed.towers]
            if at_once:
                what = f"objective {at_once[0]!r} encodes something of its own"
                raise XgapError(f"{what}, which goes with a whole batch at once: leave micro_batch out")
        if isinstance(self.temperature, str):
            if self.temperature != "learned":
                raise XgapError(f'temperature is "learned", a number or two, not {self.temperature!r}')
        elif not all(t > 0 for t in self.way):
            raise XgapError(f"a temperature is above 0, not {self.temperature}")
        if not all("{}" in template for template in self.templates) or not self.templates:
            raise XgapError("each template has {} where the caption goes")
        if not 0 <= self.token_dropout < 1:
            raise XgapError(f"token_dropout is from 0 to below 1, not {self.token_dropout}")
        if self.towers != "image" and not self.n_captions:
            raise XgapError('this objective looks at no caption; train with towers="image"')
        if self.towers != "text" and not self.n_views:
            raise XgapError('this objective looks at no image; train with towers="text"')

    def _check_stage(self, stage: Any) -> None:
        if not isinstance(stage, Mapping):
            raise XgapError(
                f'a stage is a change of the recipe, {{"towers": "image", "steps": 100}}, not {stage!r:.60}'
            )
        known = [f.name for f in fields(self) if f.name not in OF_A_RUN]
        for name in stage:
            if name in OF_A_RUN:
                raise XgapError(f"{name} is of a whole run: give it to the recipe, and not to a stage")
            if name not in known:
                raise unknown_name("option of a stage", name, known)

    def _check_captions(self) -> None:
        policy = captions_of(self.captions)
        looking = [term for term, _ in self.terms if term.needed.captions]
        if policy.of_images and not self.n_views:
            raise XgapError(f"captions={self.captions!r} chooses captions by images, and this objective looks at none")
        unable = [str(term) for term in looking if not term.needed.is_caption]
        if policy.of_images and unable:
            what = f"captions={self.captions!r} gives an image as many captions as are near, or none"
            raise XgapError(f"{what}, and objective {unable[0]!r} needs some for each: it goes with mc-arc-margin")

    def _check_dropout(self) -> None:
        name = dropout_of(self.dropout).modality
        unable = [str(term) for term, _ in self.terms if name and name not in term.needed.dropped]
        if unable:
            what = f"dropout={self.dropout!r} leaves {name!r} out, and objective {unable[0]!r} needs it"
            fix = f"it goes with fused-query (image or text), and terms of needs=Needs(dropped=({name!r},))"
            raise XgapError(f"{what}: {fix}")

    @property
    def in_turn(self) -> "list[Recipe]":
        """The recipe of each stage; itself where it has none."""
        if not self.stages:
            return [self]
        first = [self.scratch, *[False] * (len(self.stages) - 1)]  # later ones go on with the weights that are there
        return [
            replace(self, **{"stages": (), "scratch": scratch, **change})
            for scratch, change in zip(first, self.stages, strict=True)
        ]

    @property
    def all_steps(self) -> int:
        """Updates of all stages."""
        return sum(own.steps for own in self.in_turn)

    @property
    def items_of_a_label(self) -> int:
        """Items of each label in a batch.

        Raises:
            XgapError: an unknown sampler.
        """
        call = parse(self.sampler)
        if call.name == "labels" and not call.arguments and not call.options:
            return 1
        items = options_alone(call, "a sampler").get("items", 2)
        if call.name != "shared" or set(call.options) - {"items"} or not isinstance(items, int) or items < 2:
            raise XgapError(f'a sampler is "labels" or "shared(items=2)", not {self.sampler!r}')
        return items

    @property
    def way(self) -> tuple[float, float]:
        """First and last temperature, where it is not learned."""
        assert not isinstance(self.temperature, str)
        return self.temperature if isinstance(self.temperature, tuple) else (self.temperature, self.temperature)

    @property
    def terms(self) -> list[tuple[Term, Weight]]:
        """The active terms with their weights."""
        return active(self.objective)

    def plain(self) -> dict[str, Any]:
        """Everything that two runs may differ in, as plain values by name.

        An adapter, a dropout, and a digest of the code of what is not this package's own, only where there is one.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["stages"] = [own.plain() for own in self.in_turn] if self.stages else []
        values["objective"] = {str(term): as_plain(weight) for term, weight in self.terms}
        if values["dropout"] == NONE:
            del values["dropout"]
        own = values.pop("adapter")
        functions: list[Any] = [f for term, _ in self.terms for f in (term.loss, term.parameters) if f]
        if own is not None:
            values["adapter"] = adapter(own).in_full
            functions.append(adapter(own).build)
        code = own_code(*functions)
        return {**values, "code": code} if code else values

    @property
    def n_views(self) -> int:
        """Augmentations of an image that a step looks at; 0 where no term looks at images."""
        needed = max(term.needed.images for term, _ in self.terms)
        return max(needed, self.image_views) if needed else 0

    @property
    def n_captions(self) -> int:
        """Captions of an item that a step looks at; 0 where no term looks at texts."""
        needed = max(term.needed.captions for term, _ in self.terms)
        return max(needed, self.caption_views) if needed else 0


def _check_kinds(recipe: Recipe) -> None:
    """Refuses fields that do not have the type that a recipe declares."""
    wanted: tuple[tuple[str, Any, str], ...] = (
        ("objective", Mapping, 'terms and their weights, {"clip": 1.0}'),
        ("steps batch image_views caption_views warmup seed", int, "a whole number"),
        ("micro_batch", int | None, "a whole number or None"),
        ("learning_rate weight_decay clip_gradient token_dropout", int | float, "a number"),
        ("captions dropout sampler augmentation towers precision", str, "a text"),
    )
    for names, kind, words in wanted:
        for name in names.split():
            value = getattr(recipe, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise XgapError(f"{name} of a recipe is {words}, not {value!r}")
    check_seed(recipe.seed)
    way = recipe.temperature if isinstance(recipe.temperature, tuple) else (recipe.temperature,) * 2
    numbers = all(isinstance(t, int | float) and not isinstance(t, bool) for t in way)
    if not isinstance(recipe.temperature, str) and (len(way) != 2 or not numbers):
        raise XgapError(f'temperature is "learned", a number or two as a tuple, not {recipe.temperature!r}')
