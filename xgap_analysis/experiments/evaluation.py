"""One model on one dataset: the views, computed when they are first needed, and the scores of each comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.core.tokens import AnyFeatures
from xgap_analysis.corrections import Correction, FittedCorrection, QueryGallery, correction
from xgap_analysis.corrections.protocol import Fit
from xgap_analysis.datasets import Dataset, Texts
from xgap_analysis.datasets.items import AnyItems
from xgap_analysis.experiments.calibrating import calibration_for
from xgap_analysis.experiments.comparison import AnyComparison, Comparison
from xgap_analysis.experiments.gaps import gap_table_of, gaps_of, pairs_of
from xgap_analysis.experiments.inversions import inversion_along
from xgap_analysis.experiments.kept import Kept
from xgap_analysis.experiments.pairing import pair_of
from xgap_analysis.experiments.rows import table_of
from xgap_analysis.metrics import nearest_items, retrieval, zero_shot
from xgap_analysis.models import Model
from xgap_analysis.scoring import COSINE, ScoreFunction, Scorer
from xgap_analysis.store import Store
from xgap_analysis.views import Precomputed, View, view
from xgap_analysis.views.encode import provenance_of
from xgap_analysis.views.inversion.invert import Inversion, invert
from xgap_analysis.views.native import native_view
from xgap_analysis.views.pace import paced

if TYPE_CHECKING:
    from xgap_analysis.experiments.study import Study

AnyScorer = str | Scorer | ScoreFunction
AnyCorrection = str | Correction | Fit


@dataclass
class Evaluation:
    """One model on one dataset.

    Args:
        study: its settings (label set, seeds, inversion steps and tokens, store).
        model: whose towers encode; or `Precomputed`, where the items are features already.
        data: the split that is evaluated.
        fit_data: the split that corrections are fitted on, if there is one.

    Example:
        >>> import xgap_analysis as xg
        >>> (evaluation,) = xg.Study(["tiny"], ["emoji"], ["I-I"], limit=2, progress=False).evaluations()
        >>> images = evaluation.view("image", "all")
        >>> len(evaluation.scores("I-I")) == len(images)  # one row per query
        True
    """

    study: "Study"
    model: Any
    data: Dataset
    fit_data: Dataset | None = None
    # No argument, so that a copy with another study, model or data (`replace`) begins with nothing kept.
    kept: Kept = field(default_factory=Kept, init=False, repr=False)

    @property
    def label_set(self) -> str:
        """The label set that defines relevance and classes."""
        return self.study.label_set or self.data.default_label_set

    @property
    def labels(self) -> Mapping[str, str]:
        """Label by item id, of that label set."""
        return self.data.labels_of(self.label_set)

    @property
    def is_control(self) -> bool:
        """Whether nothing is claimed of this model on this dataset: by the study, its labels or its weights."""
        return self.study.control or self.data.control or is_untrained(self.model.name)

    @property
    def encoder(self) -> Model | None:
        """The model that corrections may read; None where features were computed elsewhere."""
        return None if isinstance(self.model, Precomputed) else self.model

    @property
    def classes(self) -> Texts:
        """The class names of the label set, in the dataset's prompt; ids are the labels."""
        words = self.data.words_of(self.label_set)
        return Texts(tuple(words), tuple(words.values()))

    def items(self, modality: str, part: str) -> AnyItems:
        """The items of a modality: the `"queries"`, the `"gallery"`, `"all"`, or the `"classes"` (names; texts).

        Raises:
            XgapError: a modality that the dataset does not have.
        """
        if part == "classes":
            if modality != "text":
                raise XgapError(f"class names are texts; a view of {modality} items cannot represent them")
            return self.classes
        items = self.data.items_of(modality)
        if not len(items):
            raise XgapError(f"dataset {self.data.name!r} ({self.data.split_name}) has no {modality}s")
        if part == "all":
            return items
        return items.select(self.data.queries(modality) if part == "queries" else self.data.gallery(modality))

    def view(self, wanted: str | View, part: str, seed: int | None = None) -> AnyFeatures:
        """Features of a view of the `"queries"`, the `"gallery"`, `"all"` items, or the `"classes"`.

        The seed is of the inversion, here and below; None takes the study's first.
        """
        own, seed = view(wanted), self._seed(seed)
        part = self.part_of(own, part)
        key = (own, part, seed if own.is_seeded else None)
        if key not in self.kept.views:
            with paced(self.study.pace):
                shared = inversion_along(self, own, part, seed)
                if shared is None:
                    self.kept.views[key] = own(self.model, self.items(own.modality, part), **self.context(seed))
            if shared is not None:
                self.kept.views |= {(v, part, key[2]): features for v, features in shared.items()}
        return self.kept.views[key]

    def native(self, modality: str, part: str) -> Features:
        """The features that the model's own encoder of a modality gives; see `view`."""
        made = self.view(native_view(modality), part)
        assert isinstance(made, Features)  # one vector per item
        return made

    def provenance(self, comparison: Comparison) -> dict[str, Any]:
        """What a table says of where the query features of a comparison come from, in columns `of_...`."""
        own = comparison.query
        encoded = self.encoder is None or own.modality in self.encoder.towers
        made = self.native(own.modality, "queries") if encoded else self.view(own, "queries")
        return {f"of_{key}": value for key, value in provenance_of(made).items()}

    def part_of(self, own: View, part: str) -> str:
        """The part of the items that a view is of; `"all"` where every item is a query and in the gallery."""
        return part if part == "classes" or self.data.has_queries(own.modality) else "all"

    def _seed(self, given: int | None) -> int:
        return self.study.seeds[0] if given is None else given

    def context(self, seed: int | None = None) -> dict[str, Any]:
        """What every view is offered; it takes what it has a parameter for."""
        study = self.study
        given = {"steps": study.steps, "tokens": study.tokens}
        about = {
            "on_error": study.on_error,
            "store": self.study.store or Store(),
            "progress": study.progress,
            "seed": self._seed(seed),
            "prompt": self.data.prompt,
        }
        return {**about, **{name: value for name, value in given.items() if value is not None}}

    def inversion(
        self, native: Features, seed: int | None = None, snapshots: Sequence[int] = (), **options: Any
    ) -> Inversion:
        """The inversion of native features with the study's settings, and options of `invert` in their place."""
        own = ("on_error", "prompt")  # of views alone
        context = {name: value for name, value in self.context(seed).items() if name not in own}
        with paced(self.study.pace):
            return invert(self.model, native, snapshots=snapshots, **{**context, **options})

    def fitted(self, by: AnyCorrection) -> FittedCorrection:
        """A correction, fitted on the calibration split; refused where there is none, or by the correction itself."""
        wanted = correction(by)
        key = (str(wanted), wanted.maker)
        if key not in self.kept.fitted:
            self.kept.fitted[key] = wanted.fit(calibration_for(self, wanted))
        return self.kept.fitted[key]

    def pair(
        self, comparison: AnyComparison, by: AnyCorrection = "none", scorer: AnyScorer = COSINE, seed: int | None = None
    ) -> QueryGallery:
        """Query and gallery of a comparison, corrected, and how they are scored.

        Raises:
            XgapError: a dataset that does not have the items or the labels that the comparison needs.
        """
        return pair_of(self, self.study.comparison(comparison), by, scorer, self._seed(seed))

    def scores(
        self, comparison: AnyComparison, by: AnyCorrection = "none", scorer: AnyScorer = COSINE, seed: int | None = None
    ) -> pd.DataFrame:
        """One row per query of a comparison: the columns of `retrieval` or of `zero_shot`."""
        comparison = self.study.comparison(comparison)
        pair = self.pair(comparison, by, scorer, seed)
        how: dict[str, Any] = {"normalise": pair.normalise, "scorer": pair.scorer}
        if comparison.task == "zero-shot":
            frame = zero_shot(pair.query, pair.gallery, self.labels, **how)
        else:
            frame = retrieval(pair.query, pair.gallery, self.data.relevance(self.label_set), **how)
        frame.attrs["note"] = pair.note
        return frame

    def ranking(
        self,
        query_id: str,
        comparison: AnyComparison,
        by: AnyCorrection = "none",
        k: int = 8,
        seed: int | None = None,
        scorer: AnyScorer = COSINE,
    ) -> pd.DataFrame:
        """The k nearest gallery items of one query: columns `item`, `rank` (from 1), `score` and `hit`.

        Raises:
            XgapError: as `pair`, or an id that is not a query of this comparison.
        """
        comparison = self.study.comparison(comparison)
        pair = self.pair(comparison, by, scorer, seed)
        relevance = self.relevance(comparison)
        return nearest_items(pair.query, pair.gallery, query_id, relevance, k, pair.normalise, pair.scorer)

    def relevance(self, comparison: Comparison) -> Relevance:
        """Which gallery items are relevant; in zero-shot, the class whose id is the query's label."""
        if comparison.task == "zero-shot":
            return Relevance.from_labels(self.labels, {label: label for label in self.classes.ids})
        return self.data.relevance(self.label_set)

    def table(self) -> pd.DataFrame:
        """The rows of this model and dataset; see `Study.run`."""
        return table_of(self)

    def gaps(self, sample: int | None = None) -> pd.DataFrame:
        """One row of gap metrics; see `Study.gaps`."""
        return gaps_of(self, sample)

    def gap_table(self) -> pd.DataFrame:
        """The gap between every pair of modalities; see `Study.gap_table`."""
        return gap_table_of(self)

    def pairs(self, images: Features | None = None, texts: Features | None = None) -> tuple[Features, Features]:
        """Images and captions, native ones by default, paired by id: each image with the first text of its label."""
        return pairs_of(self, images, texts)

    def with_cells(self, study: "Study") -> "Evaluation":
        """The same evaluation for other cells of its study; what it has computed is kept."""
        made = replace(self, study=study)
        made.kept = self.kept  # its keys name the cell
        return made


def is_untrained(model: str) -> bool:
    """Whether a model of this name has its first weights, as `tiny-untrained` and `ViT-B-32/random` have: a control."""
    return model == "tiny-untrained" or model.endswith("/random")
