"""How published systems act on an embedded model: by which view, correction, scorer or training, and on which data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.core.stacked import stacked
from xgap_analysis.core.tokens import AnyFeatures, TokenFeatures
from xgap_analysis.corrections import correction
from xgap_analysis.datasets import Dataset, load_dataset
from xgap_analysis.datasets.items import Items
from xgap_analysis.experiments.comparison import AnyComparison, Comparison
from xgap_analysis.experiments.evaluation import AnyCorrection, AnyScorer, Evaluation
from xgap_analysis.experiments.study import Study
from xgap_analysis.models import Model, load_model, with_frames
from xgap_analysis.scoring import Scorer, scorer
from xgap_analysis.scoring.learned import fit_scorer
from xgap_analysis.store import Store
from xgap_analysis.training.frames import fit_frames
from xgap_analysis.views import View, encode, tokens

DIRECTIONS = ("I-I", "T-T", "I-T", "T-I")
MEAN = "pooled(weights=uniform)"  # ranks as the cosine of the means of two sets of tokens
OLD_MODEL = "tiny-seed1"  # stands for the older model of XBT: the same training from another seed
QUICK = {"limit": 6, "fit": 12, "steps": 5}  # labels, labels of the fit split, steps of the inversion


@dataclass(frozen=True)
class Way:
    """How items are compared: the comparison that stands for each direction, the correction and the scorer.

    Args:
        comparisons: direction (`"I-I"`, `"T-T"`, `"I-T"`, `"T-I"`) to a comparison; directions may lack.
        correction, scorer: of all of them.
        evaluation: where they are made; None is that of the world.
        setting: the name in tables; by default that of the correction or scorer.
    """

    comparisons: Mapping[str, AnyComparison]
    correction: AnyCorrection = "none"
    scorer: AnyScorer = "cosine"
    evaluation: Evaluation | None = None
    setting: str = ""

    @property
    def name(self) -> str:
        """The setting as a user writes it."""
        by, scoring = correction(self.correction), scorer(self.scorer)
        return self.setting or (str(scoring) if str(by) == "none" else str(by))


@dataclass(frozen=True)
class World:
    """A dataset that systems are compared on, and what they are compared with.

    Args:
        dataset: name.
        before: the comparisons and the scorer that systems are compared with.
        labels: that are evaluated; None is all.
        fit_split: what is fitted is fitted on it.
        by_concept: whether items are relevant that share a concept with the query, rather than its label.
    """

    dataset: str
    before: Way
    labels: int | None = None
    fit_split: str = "train"
    by_concept: bool = False


WORLDS = {
    "vectors": World("emoji", Way(dict(zip(DIRECTIONS, DIRECTIONS, strict=True))), labels=100),
    "parts": World(
        "emoji-scenes",
        Way(
            {
                "I-I": "regions-regions",
                "T-T": "captions-captions",
                "I-T": "regions-captions",
                "T-I": "captions-regions",
            },
            scorer=MEAN,
        ),
        labels=300,
        by_concept=True,
    ),
    "frames": World("emoji-clips", Way({"T-I": "text-frames"}, scorer=MEAN)),
    "composed": World("emoji-scenes:composed", Way({"T-I": "composed-image"}), fit_split="seen"),
}


@dataclass(frozen=True)
class Bench:
    """A model in a world; features and fits are kept for all systems that are compared there.

    Args:
        model: whose towers encode.
        world: of `WORLDS`.
        dataset: in place of the world's own; None is that.
        limit: labels that are evaluated, in place of the world's own.
        quick: whether only few labels are evaluated and what is fitted sees few items once.
        store: where features are kept.
    """

    model: Model
    world: World
    dataset: str | None = None
    limit: int | None = None
    quick: bool = False
    store: Store | None = None

    @cached_property
    def evaluation(self) -> Evaluation:
        """The model on the world's test split."""
        return self.of(self.model)

    @cached_property
    def splits(self) -> tuple[Dataset, Dataset | None]:
        """What is evaluated, and what is fitted on."""
        whole = load_dataset(self.dataset or self.world.dataset)
        data, labels = whole.split("test"), self.limit or self.world.labels
        fit = whole.split(self.world.fit_split) if self.world.fit_split in whole.splits else None
        if self.quick:
            data, fit = few(data, QUICK["limit"]), None if fit is None else few(fit, QUICK["fit"])
        elif labels is not None:
            data = data.limit(labels)
        return shared_concepts(data) if self.world.by_concept else data, fit

    def of(self, model: Model) -> Evaluation:
        """The same for another model."""
        data, fit = self.splits
        steps = QUICK["steps"] if self.quick else None
        study = Study([model], [data], ["I-T"], steps=steps, store=self.store, progress=False)
        return Evaluation(study, model, data, fit)

    @property
    def fit(self) -> Dataset:
        """The split that is fitted on.

        Raises:
            XgapError: a dataset without it.
        """
        if self.splits[1] is None:
            what = f"dataset {self.splits[0].name!r} has no split {self.world.fit_split!r}"
            raise XgapError(f"{what}, which this system is fitted on")
        return self.splits[1]

    @property
    def options(self) -> dict[str, Any]:
        """Of what is fitted in epochs: one, where all is quick."""
        return {"epochs": 1} if self.quick else {}

    def briefly(self, wanted: AnyScorer) -> Scorer:
        """A scorer, whose fit takes one epoch where all is quick."""
        made = scorer(wanted)
        return scorer(made, **self.options) if made.is_unfitted and not made.arguments else made


@dataclass(frozen=True)
class Acting:
    """What a published system does to features or scores, compared with the same without it.

    Args:
        system: its name in `systems.csv`.
        kind: how it acts: `"view"`, `"correction"` or `"scorer"`.
        world: a name of `WORLDS`.
        after: how items are compared with it: a change of the world's own way, or a function of the bench that makes
            it.
        before: what it is compared with; the world's own way by default, or a function of the bench.
    """

    system: str
    kind: str
    world: str
    after: Mapping[str, Any] | Callable[[Bench], Way] = field(default_factory=dict)
    before: Mapping[str, Any] | Callable[[Bench], Way] = field(default_factory=dict)

    def ways(self, bench: Bench) -> tuple[Way, Way]:
        """How items are compared without the system, and with it."""
        own = bench.world.before
        before, after = (w(bench) if callable(w) else replace(own, **w) for w in (self.before, self.after))
        return before, replace(after, scorer=bench.briefly(after.scorer))


def few(data: Dataset, labels: int) -> Dataset:
    """A small part of a dataset: few labels, or few queries and what is relevant to them."""
    grades = data.judgements.get(data.default_label_set)
    if grades is None or grades.qrels is None:
        return data.limit(labels)
    texts = data.texts.select([i for i in data.texts.ids if i in grades.qrels][:labels])
    relevant = {i for q in texts.ids for i in grades.qrels[q]}
    images = data.images.select(i for i in data.images.ids if i in relevant)
    return replace(data, items={**data.items, "image": images, "text": texts})


def shared_concepts(data: Dataset) -> Dataset:
    """The dataset with other relevance: items that show or name a concept of the query, its own scene left out.

    A caption describes its own scene alone, so that by labels no scene is relevant to another.
    """
    tables = [data.images.parts_of("regions").table(), data.texts.parts_of("captions").table()]
    concepts = {item: set(rows) for table in tables for item, rows in table.groupby("owner", sort=False)["concept"]}
    scene = data.labels_of()
    grades = {q: {i: len(own & of) for i, of in concepts.items() if own & of} for q, own in concepts.items()}
    same = {q: [i for i in of if scene[i] == scene[q]] for q, of in grades.items()}
    return replace(data, judgements={"shared concept": Relevance.from_qrels(grades, same)})


def _inverted(bench: Bench) -> Way:
    """Each query inverted into the space of the other modality."""
    comparisons = {"I-I": "oti-image", "T-T": "ovi-text", "I-T": "oti-text", "T-I": "ovi-image"}
    return Way(comparisons, setting="oti, ovi")


def _bridged(bench: Bench) -> Way:
    """Image queries through the pseudo-inverse of the text projection."""
    return Way({"I-I": "semobridge-image", "I-T": "semobridge-text"}, setting="semobridge")


def _backward_compatible(bench: Bench) -> Way:
    """Queries mapped into the space of an older model, whose features are the gallery."""
    old = load_model(OLD_MODEL)

    def native(model: Any, items: Any, *, store: Any = None) -> AnyFeatures:
        return encode(old, items, store=store, progress=False)

    gallery = {of: View(f"old-{of}", native, of, of) for of in ("image", "text")}
    short = {"I": "image", "T": "text"}
    comparisons = {d: Comparison(f"{d} of {OLD_MODEL}", short[d[0]], gallery[short[d[2]]]) for d in DIRECTIONS}
    texts = encode(old, bench.fit.texts, store=bench.store or Store(), progress=False)
    return Way(comparisons, correction("xbt", old=texts), setting=f"xbt(old={OLD_MODEL})")


def _composed(bench: Bench) -> Way:
    """A text with the words in it, and an image with the regions in it."""

    def whole_and_parts(model: Any, items: Any, *, part: str, store: Any = None) -> TokenFeatures:
        how: dict[str, Any] = {"store": store, "progress": False}
        return stacked(encode(model, items, **how), tokens(model, items, part, **how))

    made = {
        of: View(f"{of}+{part}", whole_and_parts, of, of, options={"part": part})
        for of, part in (("image", "regions"), ("text", "names"))
    }
    return Way({"T-I": (made["text"], made["image"]), "I-T": (made["image"], made["text"])}, scorer="comclip")


def _grounded(bench: Bench) -> Way:
    """Patches of images and captions of their regions, fitted to the regions' boxes."""
    images, texts = bench.fit.images, bench.fit.texts
    width, height = images[0].size
    regions, text_of = images.parts_of("regions"), {bench.fit.labels_of()[i]: i for i in texts.ids}
    boxes: dict[str, list[list[float]]] = {}
    for owner, box in zip(regions.owners, regions.columns["box"], strict=True):
        shares = [x / of for x, of in zip(box, (width, height) * 2, strict=True)]
        boxes.setdefault(text_of[bench.fit.labels_of()[owner]], []).append(shares)
    how: dict[str, Any] = {"store": bench.store or Store(), "progress": False}
    pairs = {text_of[bench.fit.labels_of()[i]]: i for i in images.ids}
    parts = tokens(bench.model, texts, "captions", **how), tokens(bench.model, images, **how)
    fitted = fit_scorer("grain", *parts, pairs=pairs, split=bench.fit.split_name, boxes=boxes, **bench.options)
    return Way({"T-I": "captions-patches"}, scorer=fitted, setting="grain")


def _clips(bench: Bench, tower: str) -> Way:
    """Clips as one vector by a tower of frames, fitted to texts; `mean` has nothing to fit."""
    if tower == "mean":
        model = with_frames(bench.model, tower)
    else:
        texts, videos, pairs = bench.fit.texts, bench.fit.items["video"], bench.fit.labels["clip"]
        assert isinstance(videos, Items)  # clips, and no vectors
        how: dict[str, Any] = {"pairs": pairs, "store": bench.store or Store(), **bench.options}
        model = fit_frames(bench.model, tower, texts, videos, **how).model
    return Way({"T-I": "text-video", "I-T": "video-text"}, evaluation=bench.of(model), setting=tower)


ONE_TEXT = {"comparisons": {"T-I": "text-regions"}}  # a text as one vector, an image as its regions
ONE_IMAGE = {"comparisons": {d: d for d in ("I-T", "T-I")}, "scorer": "cosine"}
DESCRIBED = {"comparisons": {"T-I": "captions-patches"}}

ACTING = (
    Acting("Cross the Gap", "view", "vectors", _inverted),
    Acting("SeMoBridge", "view", "vectors", _bridged),
    Acting("XBT", "correction", "vectors", _backward_compatible),
    Acting("xRAG", "correction", "vectors", {"correction": "bridge"}),
    Acting("MacCap", "correction", "vectors", {"correction": "noise"}),
    Acting("Balance Act (DBNorm)", "correction", "vectors", {"correction": "dual-inverted-softmax"}),
    Acting("ReAlign", "correction", "vectors", {"correction": "realign"}),
    Acting("Bug or feature", "correction", "vectors", {"correction": "orthogonal-shift"}),
    Acting("Shared noise", "correction", "vectors", {"correction": "shared-noise"}),
    Acting("Reevaluating", "correction", "vectors", {"correction": "pca-text"}),
    Acting("FILIP", "scorer", "parts", {"scorer": "late_interaction"}),
    Acting("DreamLIP", "scorer", "parts", {"scorer": "dreamlip"}),
    Acting("Re-ranking the Context", "scorer", "parts", {"scorer": f"rerank({MEAN}, late_interaction, depth=10)"}),
    Acting("ComCLIP", "scorer", "parts", _composed, ONE_IMAGE),
    Acting("GRAIN", "scorer", "parts", _grounded, DESCRIBED),
    Acting("FDP", "scorer", "parts", {**ONE_TEXT, "scorer": "fdp"}, ONE_TEXT),
    Acting("MAFT+", "scorer", "parts", {**ONE_TEXT, "scorer": "maft"}, ONE_TEXT),
    Acting("Ranking-aware adapter", "scorer", "parts", {**ONE_TEXT, "scorer": "ranking_aware"}, ONE_TEXT),
    Acting("X-Pool", "scorer", "frames", {"scorer": "x_pool"}),
    Acting("GLSCL", "scorer", "frames", {"scorer": "glscl"}),
    Acting("HowToCaption", "scorer", "frames", {"scorer": "howtocaption"}),
    Acting("MeVTR (Me-Retriever)", "scorer", "frames", {"scorer": "mevtr"}),
    Acting(
        "Prompt Switch", "scorer", "frames", partial(_clips, tower="prompt_switch"), partial(_clips, tower="mean")
    ),
    Acting(
        "Frozen in Time", "scorer", "frames", partial(_clips, tower="space_time"), partial(_clips, tower="mean")
    ),
    Acting(
        "SPRC", "scorer", "composed",
        {"comparisons": {"T-I": "composed(weight=None)-image"}, "scorer": "sprc"},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class TrainedRuns:
    """Runs of a table that the package holds (see `embedded_table`): which settings are published systems.

    Args:
        table: its name.
        kind: how its systems act: `"objective"` or `"adapter"`.
        control: the setting that others are compared with.
        systems: name of a setting to that of a system.
        dataset: what is evaluated.
        named: quantity of the atlas to that of the table, where it has another name there.
    """

    table: str
    kind: str
    control: str
    systems: Mapping[str, str]
    dataset: str = "emoji"
    named: Mapping[str, str] = field(default_factory=dict)


TRAINED = (
    TrainedRuns(
        "objectives",
        "objective",
        "CLIP",
        {
            "CLIP + FILIP": "FILIP",
            "DreamLIP": "DreamLIP",
            "SDM (IRRA)": "IRRA",
            "MCIP": "Optimizing CLIP (2SFT, MCIP)",
            "1-to-K": "1-to-K contrast, MRV",
            "Mod-X": "Mod-X",
            "DSE": "DSE",
            "Long-CLIP": "Long-CLIP",
        },
    ),
    TrainedRuns(
        "tiny-3",
        "objective",
        "pairwise",
        {"symile": "Symile"},
        dataset="emoji-spoken",
        named={"modality_gap": "modality_gap image-text", "I-T": "I-T ap, test", "T-I": "T-I ap, test"},
    ),
    TrainedRuns(
        "adapters",
        "adapter",
        "CLIP",
        {
            "MaPLe": "MaPLe",
            "PTUnifier": "PTUnifier",
            "CLIP-MoE": "CLIP-MoE",
            "Long-CLIP, own": "Long-CLIP",
            "VDR, own": "VDR",
            "LexVLA": "LexVLA",
            "grounded, own": "Grounded sentence encoder",
            "matching, own": "CNN + MLP matching",
        },
    ),
)

# Why a system that does not act on the embedded models has no row; systems of one kind share a reason.
LANGUAGE_MODEL = "it needs a language model, and none is embedded"
LEFT_OUT = {
    "Retrieval-augmented CoT": "it picks examples from rankings, and changes neither features nor scores",
    "LLM2CLIP": LANGUAGE_MODEL,
    "MM-Embed": LANGUAGE_MODEL,
    "VladVA": LANGUAGE_MODEL,
    "RS-CapRet": LANGUAGE_MODEL,
}
LEFT_OUT_KIND = {
    "diagnostic": "a way to look: it changes neither features nor scores",
    "modality": "of another modality than image and text",
    "objective": "no run of it is in the tables of trained models",
    "adapter": "no run of it is in the tables of trained models",
}
