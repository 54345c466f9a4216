"""The grid: models x datasets x comparisons x corrections x scorers x any option -> one tidy table."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import pandas as pd

from xgap_analysis.core.counts import check_count
from xgap_analysis.core.errors import XgapError, notice, unknown_name
from xgap_analysis.core.seeds import check_seeds
from xgap_analysis.corrections import Correction, correction
from xgap_analysis.corrections.protocol import Fit
from xgap_analysis.datasets import Dataset, load_dataset, modalities_of
from xgap_analysis.experiments.axes import cells_of, check_axes, settings_of
from xgap_analysis.experiments.comparison import COMPARISONS, AnyComparison, Comparison
from xgap_analysis.experiments.comparison import comparison as named_comparison
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.experiments.filters import FILTERS
from xgap_analysis.experiments.hints import hints
from xgap_analysis.experiments.shared_work import Work, gap_work, shared, table_work
from xgap_analysis.metrics import Metric, MetricFunction, metric
from xgap_analysis.models import Model, load_model
from xgap_analysis.scoring import ScoreFunction, Scorer, scorer
from xgap_analysis.store import Engine, Store, engine
from xgap_analysis.views import VIEWS, Precomputed
from xgap_analysis.views.pace import Pace, paced

LISTS = ("models", "datasets", "comparisons", "corrections", "scorers", "seeds")


@dataclass(frozen=True)
class Study:
    """A grid of models, datasets, comparisons, corrections and scorers, and of any of their options.

    Args:
        models: names or loaded models.
        datasets: names, or `Dataset` splits as they are. A name is evaluated on its split `split`.
        comparisons: names from `COMPARISONS`, names of two views (`"oti(steps=25)-image"`), pairs of views
            (`(my_view, "image")`), or `Comparison` objects.
        corrections: names of registered corrections, with options or without (`"pca-text(rank=64)"`), `Correction`
            objects, or functions that fit one; fitted on the split `fit_split` of the same dataset.
        scorers: names of registered scorers, with options or without, or functions of one block. A learned one
            (`"x_pool(epochs=3)"`) is fitted on the split `fit_split`, for each comparison and correction.
        axes: name of an option to its values: `{"oti.steps": [10, 50, 150], "isoclip.k_top": [0, 8], "limit": [20]}`.
            Each is a column of the table; a cell that an axis does not change stands there once. Axes over settings:
            checkpoint (a name or path, in the place of the one model), split, fit_split, label_set, limit, only, steps,
            tokens, precision.
        metrics: besides those of the task: names of registered metrics, with options or without, or functions.
        main: the measure that verdicts are about: a metric of one value, or a column; by default the task's.
        label_set: the label set that defines relevance; the dataset's first by default.
        split, fit_split: the split that is evaluated (of a published dataset, "test" is the paper's protocol), and the
            one that corrections and learned scorers are fitted on.
        seeds: one inversion is run for each; tables average over them and report their spread.
        steps, tokens: of the inversion; None takes the paper's (150 / 1000 steps, and the model's token counts).
        limit: evaluate this many labels only (a smaller, fair task); None evaluates all.
        only: `"zero-shot-correct"` keeps the images that zero-shot classifies correctly (the filtered test).
        on_error: `"raise"` on an unreadable image, or `"skip"` it.
        control: whether all of it is a control, so that no row carries a verdict. Shuffled labels
            (`Dataset.shuffled`), models with their first weights and the corrections that are registered as controls
            are known as such without it.
        device, precision: of models given by name; see `load_model`. It is the precision of the inversion, too.
        batch_size: items that go through a model at once, of encoding and of inversion; None for what suits the device.
            As `num_workers`, it changes numbers by rounding only.
        num_workers: processes that read images, 0 for threads; None for what suits their number (see `encode`).
        store: where features are kept; None is the user's store.
        engine: who computes the features (see `store.engines`): `"local"`, this process; `"ranks"`, one of several
            processes that a launcher has started on one store; `"ray"`, workers of a Ray cluster, for models and
            datasets by name. One process scores them in the end.

    Raises:
        XgapError: nothing to run, or an unknown comparison, baseline, correction, scorer or axis.

    Example:
        >>> import xgap_analysis as xg
        >>> study = xg.Study(["tiny"], ["emoji"], ["I-I", "T-I"], limit=3, progress=False)
        >>> xg.main_rows(study.run())[["comparison", "correction", "metric"]]
          comparison correction metric
        0        I-I       none     ap
        1        T-I       none     ap
    """

    models: Sequence[str | Model | Precomputed]
    datasets: Sequence[str | Dataset]
    comparisons: Sequence[AnyComparison] = tuple(COMPARISONS)
    corrections: Sequence[str | Correction | Fit] = ("none",)
    scorers: Sequence[str | Scorer | ScoreFunction] = ("cosine",)
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    metrics: Sequence[str | Metric | MetricFunction] = ()
    main: str | None = None
    label_set: str | None = None
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
    batch_size: int | None = None
    num_workers: int | None = None
    store: Store | None = None
    progress: bool = True
    engine: str | Engine = "local"

    def __post_init__(self) -> None:
        for part in LISTS:
            given = getattr(self, part)
            if isinstance(given, str) or not isinstance(given, Collection):
                raise XgapError(f"{part} of a study is a list; write [{given!r}]")
            if not len(given):
                raise XgapError(f"a study needs at least one of its {part}")
            twice = [name for name, n in Counter(one for one in given if isinstance(one, str)).items() if n > 1]
            if twice:
                raise XgapError(f"{twice[0]!r} stands twice in the {part} of a study, and its rows would too")
        if self.only is not None and self.only not in FILTERS:
            raise unknown_name("filter", self.only, FILTERS)
        check_axes(self.axes)
        check_seeds(self.seeds)
        if self.limit is not None:
            check_count(self.limit, "limit, a number of labels,")
        assert self.pace  # refuses numbers that there are not
        engine(self.engine)  # refuses an unknown one
        if "checkpoint" in self.axes and len(self.models) > 1:
            raise XgapError(
                "checkpoints stand in the place of the model; give one model beside an axis over checkpoints"
            )
        own: dict[str, tuple[Any, ...]] = {
            "comparisons": tuple(c if isinstance(c, str) else named_comparison(c) for c in self.comparisons),
            "corrections": tuple(c if isinstance(c, str) else correction(c) for c in self.corrections),
            "scorers": tuple(s if isinstance(s, str) else scorer(s) for s in self.scorers),
            "metrics": tuple(map(metric, self.metrics)),
        }
        for part, named in own.items():  # a function is known by its name from here on
            object.__setattr__(self, part, named)
        cells_of(self)  # refuses an unknown name or option before anything is computed

    def __repr__(self) -> str:
        """One line: what differs from the defaults, models and datasets by name."""
        shown = {part: [getattr(one, "name", one) for one in getattr(self, part)] for part in ("models", "datasets")}
        for own in fields(self):
            value, plain = getattr(self, own.name), {} if own.name == "axes" else own.default
            if own.name not in shown and value != plain:
                several = own.name in ("comparisons", "corrections", "scorers", "metrics")
                words = (one.name if isinstance(one, Comparison) else str(one) for one in value) if several else ()
                shown[own.name] = list(words) if several else value
        return f"Study({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def pace(self) -> Pace:
        """At which everything is encoded and inverted."""
        return Pace(self.batch_size, self.num_workers)

    def comparison(self, wanted: AnyComparison) -> Comparison:
        """A comparison of this study, or a known one, by name; or one of any two views.

        Raises:
            XgapError: an unknown name (the nearest are given), or a view of a modality that no dataset has.
        """
        own = {c.name: c for c in self.comparisons if isinstance(c, Comparison)}
        made = named_comparison(wanted, COMPARISONS | own)
        modalities = {"image", "text"}.union(
            *(modalities_of(d) if isinstance(d, str) else d.items for d in self.datasets)
        )
        for one in made.views:
            if (
                one.name not in VIEWS and one.modality not in modalities
            ):  # any other word is read as a modality of that name
                if isinstance(wanted, str) and wanted not in own:
                    raise unknown_name("comparison", wanted, (*COMPARISONS, *own))
                raise unknown_name("view", str(one), (*VIEWS, *modalities))
        return made

    def run(self) -> pd.DataFrame:
        """The tidy table: one row for each model, dataset, comparison, correction, scorer, axis and metric.

        Columns: model, dataset, split, label_set, comparison, correction, scorer, one for each axis, fitted_on,
        transductive, metric, value, low, high (95 % paired bootstrap over groups of queries that share a label),
        baseline, difference, difference_low, difference_high, p_value (see `paired_test`), p_adjusted (Holm's, over the
        main measures of one model on one dataset), family and family_size (the id and the number of the tests that
        p_adjusted is over, fixed here), claim, control, verdict and reason (see `metrics.verdict`), seed_spread
        (standard deviation of the value over inversion seeds), n_queries, n_unanswerable, n_gallery, n_groups,
        effective_groups (how many groups of equal size weigh as much), icc and design_effect (how alike the differences
        of one group are, and what that costs; of a baseline, its values: see `metrics.dependence`), detectable (the
        smallest true difference that this test would have seen four times out of five, see
        `metrics.detectable_difference`), note, against_best (of the main measure, among all that have one baseline and
        are not transductive: `best`, `tied` with it, or `lower`, see `metrics.against_best`), and where
        the features came from (`of_...`). All scores are in [0, 1]. The baseline is the comparison's own,
        uncorrected; its rows have no difference. A cell that cannot be computed (a tower without a linear projection,
        say) has a `note` instead of a value, and one that could only come out as 1 (one class, say) has a `note` beside
        it.

        Features are kept in the store, so a run that was killed resumes where it stopped. What keeps the results from
        saying much (an embedded model on other images than it was trained on, few groups) is said in a warning.
        """
        return self._along(_with_hints, table_work)

    def gaps(self, sample: int | None = None) -> pd.DataFrame:
        """The gap metrics of each model on each dataset: one row each (see `gap_report`), with intra-modal
        misalignment (1 - AUC) of images and of texts, and hubness of image retrieval. Axes over settings have a column
        each.

        Args:
            sample: pooled misalignment and uniformity are estimated from so many pairs, and have columns `..._low` and
                `..._high`; separability is that of so many items. By default all is exact.
        """
        return self._along(lambda evaluation: evaluation.gaps(sample), gap_work)

    def gap_table(self) -> pd.DataFrame:
        """The gap between every pair of modalities that a model encodes, with intervals over labels: see `gap_table`.

        Items of one label are pairs (of the label set `pair`, where the data says what is one), and labels are drawn
        whole. Columns for model, dataset, split and label set come first; `metrics.gap_ranks` reads such a table.
        """
        return self._along(Evaluation.gap_table, gap_work)

    def _along(
        self, made: Callable[[Evaluation], pd.DataFrame], work_of: Callable[[Evaluation], list[Work]]
    ) -> pd.DataFrame:
        """The tables of all evaluations, with a column for each axis over settings that the tables do not say."""
        tables = []
        for at, study in settings_of(shared(self, work_of)):
            for evaluation in study.evaluations():
                with paced(study.pace):
                    table = made(evaluation)
                tables.append(table.assign(**{name: value for name, value in at.items() if name not in table}))
        return pd.concat(tables, ignore_index=True)

    def evaluations(self) -> Iterator[Evaluation]:
        """One evaluation for each model and dataset."""
        named = {name: load_dataset(name) for name in self.datasets if isinstance(name, str)}  # read once
        for model in self.models:
            loaded = (
                load_model(model, device=self.device, precision=self.precision) if isinstance(model, str) else model
            )
            for dataset in self.datasets:
                whole = named[dataset] if isinstance(dataset, str) else dataset
                chosen = whole.split(self.split) if isinstance(dataset, str) else whole
                fitted = whole.split(self.fit_split) if self.fit_split in whole.splits else None
                limited = chosen if self.limit is None else chosen.limit(self.limit)
                evaluation = Evaluation(self, loaded, limited, fitted)
                yield evaluation if self.only is None else FILTERS[self.only](evaluation)


def _with_hints(evaluation: Evaluation) -> pd.DataFrame:
    """The table of an evaluation, after what a reader should know of it."""
    for hint in hints(evaluation):
        notice(hint)
    return evaluation.table()
