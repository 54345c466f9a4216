"""The grid: models x data sets x comparisons x corrections -> one tidy table, each cell with its interval.

A comparison says how the query is represented, how the gallery is represented, and what is asked. Nothing else in the
package knows about experiments.
"""

import itertools
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from xgap_analysis.core.errors import XgapError, unknown_name
from xgap_analysis.core.features import Features
from xgap_analysis.core.paths import data_root
from xgap_analysis.core.progress import tell
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.corrections import Calibration, Correction, FittedCorrection, QueryGallery, correction, fuse
from xgap_analysis.corrections.protocol import Fit
from xgap_analysis.datasets import load_dataset
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.items import Images, Texts
from xgap_analysis.metrics import (
    bootstrap_interval,
    filtered_ids,
    gap_report,
    hubness,
    misalignment,
    nearest_items,
    paired_test,
    pooled_misalignment,
    retrieval,
    with_verdicts,
    zero_shot,
)
from xgap_analysis.metrics.retrieval import counted_elsewhere
from xgap_analysis.metrics.verdicts import UNTESTED
from xgap_analysis.models import load_model
from xgap_analysis.models.tower import DualEncoder
from xgap_analysis.store import Store
from xgap_analysis.views.encode import encode, provenance_of
from xgap_analysis.views.inversion.invert import Inversion, invert

NOT_SCORES = ("n_relevant", "rank")  # columns of a comparison's scores that are counts
INVERTED = {"oti", "ovi", "image+oti", "text+ovi"}
MODALITY = {  # view -> the items it is made from
    **{"image": "image", "oti": "image", "image+oti": "image"},
    **{"text": "text", "ovi": "text", "text+ovi": "text"},
}
OFFICIAL = "ap_trapezoid"  # the main measure in place of "ap", where it is given; see `revisited`
FILTERS = ("zero-shot-correct",)
MODEL = "the model"  # what a correction that reads no items is fitted on


@dataclass(frozen=True)
class Comparison:
    """How a question is put to the model.

    Args:
        name: as in tables, for example `"OTI-I"`.
        query, gallery: views: `"image"`, `"text"`, `"oti"` (an inverted image), `"ovi"` (an inverted text), or
            `"image+oti"`, `"text+ovi"`, whose similarities are the mean of both (see `fuse`).
        task: `"retrieval"`, or `"zero-shot"` (the gallery is the class names).
        baseline: the comparison that its paired difference is taken from; its own name where it is the baseline.
        claim: the sign of that difference by "Cross the Gap" (ICLR 2025): 1 better, -1 worse, 0 none made.
        weight: the share of the inverted side in a fused view.

    Raises:
        XgapError: an unknown view or task.
    """

    name: str
    query: str
    gallery: str
    task: str
    baseline: str
    claim: int = 0
    weight: float = 0.5

    def __post_init__(self) -> None:
        for view in (self.query, self.gallery):
            if view not in MODALITY:
                raise unknown_name("view", view, MODALITY)
        if self.task not in ("retrieval", "zero-shot"):
            raise XgapError(f'the task of a comparison is "retrieval" or "zero-shot", not {self.task!r}')

    @property
    def metric(self) -> str:
        """The main measure of the task: mean average precision, or top-1 accuracy."""
        return "ap" if self.task == "retrieval" else "correct_at_1"


COMPARISONS = {
    c.name: c
    for c in (
        Comparison("I-I", "image", "image", "retrieval", "I-I"),
        Comparison("OTI-I", "oti", "image", "retrieval", "I-I", claim=1),
        Comparison("OTI-OTI", "oti", "oti", "retrieval", "I-I"),
        Comparison("I+OTI-I", "image+oti", "image", "retrieval", "I-I"),
        Comparison("T-T", "text", "text", "retrieval", "T-T"),
        Comparison("OVI-T", "ovi", "text", "retrieval", "T-T", claim=1),
        Comparison("OVI-OVI", "ovi", "ovi", "retrieval", "T-T"),
        Comparison("T+OVI-T", "text+ovi", "text", "retrieval", "T-T"),
        Comparison("I-T", "image", "text", "retrieval", "I-T"),
        Comparison("T-I", "text", "image", "retrieval", "T-I"),
        Comparison("zero-shot", "image", "text", "zero-shot", "zero-shot"),
        Comparison("OTI-T", "oti", "text", "zero-shot", "zero-shot", claim=-1),
        Comparison("I-OVI", "image", "ovi", "zero-shot", "zero-shot", claim=-1),
    )
}


@dataclass(frozen=True)
class Study:
    """A grid of models, data sets, comparisons and corrections.

    Args:
        models: names or loaded models.
        datasets: names, or `Dataset` splits as they are. A name is judged on its split `split`.
        comparisons: names from `COMPARISONS`, or `Comparison` objects of your own.
        corrections: names of registered corrections, with options or without (`"pca-text(rank=64)"`), or `Correction`
            objects; fitted on the split `fit_split` of the same data set.
        level: the labels that define relevance; the data set's first by default.
        split, fit_split: the split that is judged (of a published data set, "test" is the paper's protocol), and the
            one that corrections are fitted on.
        seeds: one inversion is run for each; tables average over them and report their spread.
        steps, tokens: of the inversion; None takes the paper's (150 / 1000 steps, and the model's token counts).
        limit: judge this many labels only (a smaller, fair task); None judges all.
        only: `"zero-shot-correct"` keeps the images that zero-shot classification gets right (the filtered test).
        on_error: `"raise"` on an unreadable image, or `"skip"` it.
        control: whether all of it is a control, so that no row carries a verdict. Shuffled labels
            (`Dataset.shuffled`), models with their first weights and the corrections that are registered as controls
            are known as such without it.
        device, precision: of models given by name; see `load_model`.
        store: where features are kept; None is the user's store.

    Raises:
        XgapError: nothing to run, or an unknown comparison, baseline or correction.
    """

    models: Sequence[str | DualEncoder]
    datasets: Sequence[str | Dataset]
    comparisons: Sequence[str | Comparison] = tuple(COMPARISONS)
    corrections: Sequence[str | Correction] = ("none",)
    level: str | None = None
    split: str = "test"
    fit_split: str = "train"
    seeds: Sequence[int] = (42,)
    steps: int | None = None
    tokens: int | None = None
    limit: int | None = None
    only: str | None = None
    on_error: str = "raise"
    control: bool = False
    device: str | None = None
    precision: str = "fp32"
    store: Store | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        for part in ("models", "datasets", "comparisons", "corrections", "seeds"):
            given = getattr(self, part)
            if isinstance(given, str):
                raise XgapError(f"{part} of a study is a list; write [{given!r}]")
            if not len(given):
                raise XgapError(f"a study needs at least one of its {part}")
        if self.only is not None and self.only not in FILTERS:
            raise unknown_name("filter", self.only, FILTERS)
        for name in self.corrections:
            correction(name)
        for comparison in self.comparisons:
            asked = self.comparison(comparison) if isinstance(comparison, str) else comparison
            self.comparison(asked.baseline)

    def comparison(self, name: str) -> Comparison:
        """A comparison of this study, or a known one, by name.

        Raises:
            XgapError: an unknown name (the nearest are told).
        """
        known = COMPARISONS | {c.name: c for c in self.comparisons if isinstance(c, Comparison)}
        if name not in known:
            raise unknown_name("comparison", name, known)
        return known[name]

    def run(self) -> pd.DataFrame:
        """The tidy table: one row for each model, data set, comparison, correction and metric.

        Columns: model, dataset, split, level, comparison, correction, fitted_on, transductive, metric, value, low, high
        (95 % paired bootstrap over groups of queries that share a label), baseline, difference, difference_low,
        difference_high, p_value (sign-flip test), p_adjusted (Holm's, over the main measures of one model on one data
        set), family and family_size (the id and the number of the tests that p_adjusted is over, fixed here), claim,
        control, verdict and reason (see `metrics.verdict`), seed_spread (standard deviation of the value over inversion
        seeds), n_queries, n_unanswerable, n_gallery, n_groups, note, and where the features came from (`of_...`). All
        scores are in [0, 1]. The baseline is the comparison's own, uncorrected; its rows have no difference. A cell
        that cannot be computed (a tower without a linear projection, say) has a `note` instead of a value, and
        one that could only come out as 1 (one class, say) has a `note` beside it.

        Features are kept in the store, so a killed run resumes where it stopped.
        """
        tables = [evaluation.table() for evaluation in self.evaluations()]
        return pd.concat(tables, ignore_index=True)

    def gaps(self) -> pd.DataFrame:
        """The gap metrics of each model on each data set: one row each (see `gap_report`), with intra-modal
        misalignment (1 - AUC) of images and of texts, and hubness of image retrieval.
        """
        return pd.concat([evaluation.gaps() for evaluation in self.evaluations()], ignore_index=True)

    def evaluations(self) -> Iterator["Evaluation"]:
        """One evaluation for each model and data set."""
        named = {name: load_dataset(name) for name in self.datasets if isinstance(name, str)}  # read once
        for model in self.models:
            loaded = (
                load_model(model, device=self.device, precision=self.precision) if isinstance(model, str) else model
            )
            for dataset in self.datasets:
                whole = named[dataset] if isinstance(dataset, str) else dataset
                judged = whole.split(self.split) if isinstance(dataset, str) else whole
                fitted = whole.split(self.fit_split) if self.fit_split in whole.splits else None
                evaluation = Evaluation(
                    self, loaded, judged if self.limit is None else judged.limit(self.limit), fitted
                )
                yield evaluation if self.only is None else evaluation.filtered()


@dataclass
class Evaluation:
    """One model on one data set: the views, made when they are first needed, and the scores of each comparison."""

    study: Study
    model: DualEncoder
    data: Dataset
    fit_data: Dataset | None
    # Not arguments, so that a copy with another study, model or data (`replace`) begins with nothing kept. A correction
    # is kept under its maker too: under one name there may be another tomorrow.
    _views: dict[tuple[str, str, int], Features] = field(default_factory=dict, init=False, repr=False)
    _fitted: dict[tuple[str, Fit], FittedCorrection] = field(default_factory=dict, init=False, repr=False)
    _frames: dict[tuple[Comparison, str, Fit], list[pd.DataFrame]] = field(default_factory=dict, init=False, repr=False)

    def with_cells(
        self, comparisons: Sequence[str | Comparison], corrections: Sequence[str | Correction]
    ) -> "Evaluation":
        """The same evaluation for other comparisons and corrections of its study; what it has computed is kept."""
        made = replace(self, study=replace(self.study, comparisons=comparisons, corrections=corrections))
        made._views, made._fitted, made._frames = self._views, self._fitted, self._frames  # their keys name the cell
        return made

    @property
    def level(self) -> str:
        """The labels that define relevance and classes."""
        return self.study.level or self.data.default_level

    @property
    def labels(self) -> Mapping[str, str]:
        """Label by item id, of that level."""
        return self.data.labels_of(self.level)

    @cached_property
    def store(self) -> Store:
        """Where features are kept."""
        return self.study.store or Store()

    @property
    def encoder(self) -> DualEncoder | None:
        """The model that corrections may read; None where features were brought along."""
        return self.model

    def view(self, name: str, part: str, seed: int | None = None) -> Features:
        """Features of a view: of the `"queries"`, the `"gallery"`, `"all"` items, or the `"classes"` (names; texts).

        The seed is of the inversion, here and below; None takes the study's first.
        """
        seed = self._seed(seed)
        if part != "classes" and not self.data.has_queries(MODALITY[name]):
            part = "all"  # every item asks and is searched
        key = (name, part, seed if name in INVERTED else 0)
        if key not in self._views:
            native = self._native(MODALITY[name], part)
            self._views[key] = self.inversion(native, seed).features if name in INVERTED else native
        return self._views[key]

    def _seed(self, given: int | None) -> int:
        return self.study.seeds[0] if given is None else given

    def _native(self, space: str, part: str) -> Features:
        if part == "classes":
            return self._encode(self.classes)
        items = self.data.images if space == "image" else self.data.texts
        if not len(items):
            raise XgapError(f"data set {self.data.name!r} ({self.data.split_name}) has no {space}s")
        wanted = self.data.queries(space) if part == "queries" else self.data.gallery(space)
        if part == "queries" and isinstance(items, Images) and not self._searched(space):
            return self._encode(items.select(wanted))  # a large gallery that no comparison searches is not encoded
        features = self._encode(items)
        present = set(features.ids)  # an unreadable image may have been skipped
        return features if part == "all" else features.select(i for i in wanted if i in present)

    def _searched(self, space: str) -> bool:
        named = (self.study.comparison(c) if isinstance(c, str) else c for c in self.study.comparisons)
        every = [c for asked in named for c in (asked, self.study.comparison(asked.baseline))]
        return any(MODALITY[c.gallery] == space and c.task == "retrieval" for c in every)

    def _encode(self, items: Images | Texts) -> Features:
        return encode(self.model, items, on_error=self.study.on_error, store=self.store, progress=self.study.progress)

    def inversion(self, native: Features, seed: int | None = None, snapshots: Sequence[int] = ()) -> Inversion:
        """The inversion of native features with the study's parameters."""
        return invert(
            self.model,
            native,
            steps=self.study.steps,
            tokens=self.study.tokens,
            seed=self._seed(seed),
            snapshots=snapshots,
            store=self.store,
            progress=self.study.progress,
        )

    @property
    def classes(self) -> Texts:
        """The class names of the level, in the data set's prompt; ids are the labels."""
        words = self.data.words_of(self.level)
        return Texts(tuple(words), tuple(words.values()))

    def filtered(self) -> "Evaluation":
        """The same evaluation on the images alone that zero-shot classification gets right."""
        images, classes = self.view("image", "all"), self.view("text", "classes")
        named = set(classes.ids)
        labelled = images.select(i for i in images.ids if self.labels.get(i) in named)
        right = filtered_ids(labelled, classes, self.labels)
        kept = {*right, *self.data.texts.ids}
        data = replace(
            self.data,
            split_name=f"{self.data.split_name}, zero-shot-correct",
            images=self.data.images.select(right),
            image_queries=tuple(i for i in self.data.image_queries if i in kept),
        )
        return Evaluation(self.study, self.model, data, self.fit_data)

    def fitted(self, by: str | Correction) -> FittedCorrection:
        """A correction, fitted on the calibration split.

        Raises:
            XgapError: a data set without that split, or what the correction itself refuses.
        """
        wanted = correction(by)
        key = (str(wanted), wanted.maker)
        if key not in self._fitted:
            alone = wanted.from_model and self.encoder is not None
            self._fitted[key] = wanted.fit(self._of_model() if alone else self._of_split(str(wanted)))
        return self._fitted[key]

    def _of_model(self) -> Calibration:
        """No items, but the model and the dimension of its features."""
        dim = encode(self.model, "a photo", store=None, progress=False).dim
        images, texts = (Features(torch.empty(0, dim), (), space, space) for space in ("image", "text"))
        return Calibration(images, texts, MODEL, self.encoder)

    def _of_split(self, name: str) -> Calibration:
        if self.fit_data is None:
            what = f"correction {name!r} is fitted on the split {self.study.fit_split!r}"
            raise XgapError(f"{what}, which data set {self.data.name!r} does not have")
        words = tuple(self.fit_data.class_names.get(self.level, {}).values())
        images, texts = self._calibrating("image"), self._calibrating("text")
        return Calibration(images, texts, self.fit_data.split_name, self.encoder, words)

    def _calibrating(self, space: str) -> Features:
        assert self.fit_data is not None
        items = self.fit_data.images if space == "image" else self.fit_data.texts
        if not len(items):
            what = "corrections are fitted on images and texts"
            raise XgapError(f"{what}, and split {self.study.fit_split!r} of {self.data.name!r} has no {space}s")
        return self._encode(items)

    def sides(self, comparison: Comparison, by: str | Correction = "none", seed: int | None = None) -> QueryGallery:
        """Query and gallery of a comparison, corrected, and what is done to their similarities.

        Raises:
            XgapError: a data set that has not the items or the labels that the comparison asks for.
        """
        asking, searched = MODALITY[comparison.query], MODALITY[comparison.gallery]
        seed = self._seed(seed)
        queries = [self.view(name, "queries", seed) for name in comparison.query.split("+")]
        if comparison.task == "zero-shot":
            part = "classes"
            named = set(self.classes.ids)
            queries = [query.select(i for i in query.ids if self.labels.get(i) in named) for query in queries]
        else:
            part = "gallery" if asking == searched else "all"
        galleries = [self.view(name, part, seed) for name in comparison.gallery.split("+")]
        if not len(queries[0]):
            what = f"data set {self.data.name!r} ({self.data.split_name})"
            raise XgapError(f"{what} has no {asking} that {comparison.name} can ask with at level {self.level!r}")

        def joined(parts: list[Features]) -> Features:
            return parts[0] if len(parts) == 1 else fuse(parts[0], parts[1], comparison.weight)

        if str(correction(by)) == "none":
            return QueryGallery(joined(queries), joined(galleries))
        fitted = self.fitted(by)
        if fitted.changes_features:  # a native and an inverted view lie on two sides: each is corrected on its own
            return QueryGallery(joined([fitted(x) for x in queries]), joined([fitted(x) for x in galleries]))
        return fitted.apply(joined(queries), joined(galleries))

    def ranking(
        self, query_id: str, comparison: Comparison, by: str | Correction = "none", k: int = 8, seed: int | None = None
    ) -> pd.DataFrame:
        """The k nearest gallery items of one query: columns `item`, `rank` (from 1), `score` and `hit`.

        Raises:
            XgapError: as `sides`, or an id that does not ask in this comparison.
        """
        sides = self.pair(comparison, by, seed)
        return nearest_items(sides.query, sides.gallery, query_id, self._answers(comparison), k, sides.normalise)

    def _answers(self, comparison: Comparison) -> Relevance:
        if comparison.task == "zero-shot":  # a class answers the images that bear its label; its id is the label
            return Relevance.from_labels(self.labels, {label: label for label in self.classes.ids})
        return self.data.relevance(self.level)

    def scores(self, comparison: Comparison, by: str | Correction = "none", seed: int | None = None) -> pd.DataFrame:
        """One row per query of a comparison: the columns of `retrieval` or of `zero_shot`."""
        sides = self.pair(comparison, by, seed)
        if comparison.task == "zero-shot":
            return zero_shot(sides.query, sides.gallery, self.labels, normalise=sides.normalise)
        relevance = self.data.relevance(self.level)
        return retrieval(sides.query, sides.gallery, relevance, normalise=sides.normalise)

    def table(self) -> pd.DataFrame:
        """The rows of this model and data set.

        Raises:
            XgapError: not one cell can be computed.
        """
        rows: list[dict[str, Any]] = []
        refused: list[XgapError] = []
        cells = list(itertools.product(map(correction, self.study.corrections), self.study.comparisons))
        for number, (by, given) in enumerate(cells):
            comparison = self.study.comparison(given) if isinstance(given, str) else given
            tell(f"{comparison.name} · {by} · {self.model.name} on {self.data.name}", number, len(cells))
            try:
                rows += self._rows(comparison, by)
            except XgapError as error:
                refused.append(error)
                rows.append({**self._about(comparison, by), "metric": comparison.metric, "main": True, **_empty(error)})
        if len(refused) == len(cells):
            raise refused[0]
        return with_verdicts(pd.DataFrame(rows))

    def _by_seed(self, comparison: Comparison, by: Correction) -> list[pd.DataFrame]:
        """The scores of a comparison for each seed, or once where nothing in it is inverted."""
        key = (comparison, str(by), by.maker)
        if key not in self._frames:
            inverted = {comparison.query, comparison.gallery} & INVERTED
            seeds = self.study.seeds if inverted else self.study.seeds[:1]
            with counted_elsewhere():  # queries without a relevant item: the table counts them
                self._frames[key] = [self.scores(comparison, by, seed) for seed in seeds]
        return self._frames[key]

    def _about(self, comparison: Comparison, by: Correction) -> dict[str, Any]:
        native = str(by) == "none"
        return {
            "model": self.model.name,
            "dataset": self.data.name,
            "split": self.data.split_name,
            "level": self.level,
            "comparison": comparison.name,
            "correction": str(by),
            "fitted_on": "" if native else self._fitted_on(by),
            "transductive": not native and self.is_transductive(by, comparison),
            "task": comparison.task,
            "baseline": comparison.baseline,
            "claim": comparison.claim if native else by.claims.get(comparison.name, 0),
            "control": self.is_control or by.control,
            "note": "",
        }

    @property
    def is_control(self) -> bool:
        """Whether nothing is claimed of this model on this data set: by the study, its labels or its weights."""
        return self.study.control or self.data.control or untrained(self.model.name)

    def _fitted_on(self, by: Correction) -> str:
        if by.from_model and self.encoder is not None:
            return MODEL
        return "" if self.fit_data is None else self.fit_data.split_name

    def _rows(self, comparison: Comparison, by: Correction) -> list[dict[str, Any]]:
        frames = self._by_seed(comparison, by)
        baseline = self.study.comparison(comparison.baseline)
        is_baseline = comparison.name == baseline.name and str(by) == "none"
        base = None if is_baseline else _mean_of(self._by_seed(baseline, correction("none")))
        values = _mean_of(frames)
        groups = [self.labels.get(i, i) for i in values.index]  # without labels each query is its own group
        asking = self.view(MODALITY[comparison.query], "queries")
        about = self._about(comparison, by) | {"note": frames[0].attrs.get("degenerate", "")}
        where = {f"of_{key}": value for key, value in provenance_of(asking).items()}
        n_gallery = len(self.pair(comparison, "none", self.study.seeds[0]).gallery)
        # Landmarks are judged by their authors' average precision, which `retrieval` gives where there is junk.
        main = OFFICIAL if comparison.metric == "ap" and OFFICIAL in values else comparison.metric
        rows = []
        for metric in values.columns:
            if metric in NOT_SCORES:
                continue
            interval = bootstrap_interval(values[metric], groups=groups)
            over_seeds = pd.Series([frame[metric].mean() for frame in frames])
            row: dict[str, Any] = {
                **about,
                "metric": metric,
                "main": metric == main,
                "value": interval.mean,
                "low": interval.low,
                "high": interval.high,
                **dict.fromkeys(("difference", "difference_low", "difference_high", "p_value"), math.nan),
                **UNTESTED,
                "seeds": len(frames),
                "seed_spread": float(over_seeds.std()) if len(frames) > 1 else math.nan,
                "n_queries": int(values[metric].notna().sum()),
                "n_unanswerable": int(values[metric].isna().sum()),
                "n_gallery": n_gallery,
                "n_groups": interval.n_groups,
            }
            if base is not None and metric in base:
                test = paired_test(base[metric], values[metric], groups=groups)
                row |= {
                    "difference": test.difference,
                    "difference_low": test.low,
                    "difference_high": test.high,
                    "p_value": test.p_value,
                    "n_groups": test.n_groups,
                }
            rows.append(row | where)
        return rows

    def is_transductive(self, by: str | Correction, comparison: Comparison) -> bool:
        """Whether a correction sees what is judged: by its own nature, or because it is fitted on the same items."""
        wanted = correction(by)
        if wanted.transductive or wanted.from_model or self.fit_data is None:
            return wanted.transductive
        judged = set(self.data.queries(MODALITY[comparison.query]))
        if comparison.task == "zero-shot":
            judged |= set(self.data.class_names.get(self.level, {}))  # the ids of class texts are the labels
        elif MODALITY[comparison.query] == MODALITY[comparison.gallery]:
            judged |= set(self.data.gallery(MODALITY[comparison.gallery]))
        else:
            judged |= {*self.data.images.ids, *self.data.texts.ids}
        return not judged.isdisjoint((*self.fit_data.images.ids, *self.fit_data.texts.ids))

    def pairs(self, images: Features | None = None, texts: Features | None = None) -> tuple[Features, Features]:
        """Images and their captions, pairs by id: each image with the first text of its label, under its own id.

        Args:
            images, texts: of this evaluation, such as after a correction; the native ones by default.

        Raises:
            XgapError: no image that shares a label with a text.
        """
        images, texts = images or self.view("image", "all"), texts or self.view("text", "all")
        labels = self.data.labels.get("pair", self.labels)  # items of one class are no pairs, where pairs are known
        first: dict[str, str] = {}
        for i in texts.ids:
            if i in labels:
                first.setdefault(labels[i], i)
        paired = [i for i in images.ids if labels.get(i) in first]
        if not paired:
            raise XgapError(
                f"no image of data set {self.data.name!r} shares a label of level {self.level!r} with a text"
            )
        row_of = {i: k for k, i in enumerate(texts.ids)}  # a caption may stand beside several images
        y = replace(texts, vectors=texts.vectors[[row_of[first[labels[i]]] for i in paired]], ids=paired)
        return images.select(paired), y

    def gaps(self) -> pd.DataFrame:
        """One row of gap metrics: image-caption pairs, one caption (the first) per image.

        What lies between the modalities is over the pairs; what is measured within one counts a text that stands
        beside several images once (see `gap_report`).
        """
        images, texts, labels = self.view("image", "all"), self.view("text", "all"), self.labels
        x, y = self.pairs()
        row = gap_report(x, y)
        relevance = self.data.relevance(self.level)
        for side, features in (("image", images), ("text", texts)):
            row[f"misalignment_{side}"], row[f"misalignment_{side}_pooled"] = within(features, labels, relevance)
        hubs = hubness(images, images, min(10, len(images) - 1)).add_prefix("hubness_")  # of small sets, all neighbours
        about = pd.DataFrame(
            [{"model": self.model.name, "dataset": self.data.name, "split": self.data.split_name, "level": self.level}]
        )
        return pd.concat([about, row.reset_index(drop=True), hubs.reset_index(drop=True)], axis=1)


def within(side: Features, labels: Mapping[str, str], relevance: Relevance) -> tuple[float, float]:
    """Misalignment within a side, per anchor and pooled; NaN where no two of it share a label (one prompt a class)."""
    sizes = Counter(labels[i] for i in side.ids if i in labels)
    anchors = side.select(i for i in side.ids if i in labels and sizes[labels[i]] > 1)  # the others have no pair
    if not len(anchors):
        return math.nan, math.nan
    per_anchor = misalignment(anchors, side, relevance)["misalignment"].mean()
    return float(per_anchor), pooled_misalignment(side, side, relevance)


def _mean_of(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The mean of tables of the same queries and columns, cell by cell."""
    return sum(frames[1:], frames[0]) / len(frames)


def _empty(error: XgapError) -> dict[str, Any]:
    """The numbers of a cell that could not be computed, and why."""
    values = ("value", "low", "high", "difference", "difference_low", "difference_high", "p_value")
    counts = ("seeds", "n_queries", "n_unanswerable", "n_gallery", "n_groups")
    return {
        **dict.fromkeys(values, math.nan),
        **dict.fromkeys(counts, 0),
        **UNTESTED,
        "seed_spread": math.nan,
        "note": " ".join(str(error).split()),
    }


def untrained(model: str) -> bool:
    """Whether a model of this name has its first weights, as `tiny-untrained` and `ViT-B-32/random` have: a control."""
    return model == "tiny-untrained" or model.endswith("/random")


def save_table(table: pd.DataFrame, path: Path | str) -> Path:
    """Write a table as Parquet, whole or not at all.

    Args:
        table: from `Study.run()` or `Study.gaps()`.
        path: where; a bare file name goes to the results folder (the environment variable XGAP_RESULTS, or `results`).
    """
    path = Path(path)
    if path.name == str(path):
        path = Path(os.environ.get("XGAP_RESULTS", "results")) / path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    table.to_parquet(temporary)
    temporary.replace(path)
    return path


def embedded_study() -> pd.DataFrame:
    """The table of the embedded models on all held-out concepts, as `data/models/judge.py` wrote it (columns of `run`).

    Raises:
        XgapError: an installation without it.
    """
    path = data_root() / "models" / "study.parquet"
    if not path.exists():
        raise XgapError(f"{path} is missing; restore it from the repository, or run data/models/judge.py")
    return pd.read_parquet(path)


def main_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each comparison's main measure only."""
    return table[table["main"]].reset_index(drop=True)
