"""Attributes inserted into the captions of a dataset, and what a model makes of the changed captions."""

import hashlib
import random
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.precision import exact
from xgap_analysis.corrections import Correction, correction
from xgap_analysis.datasets import Dataset, Texts
from xgap_analysis.datasets.embedded.scenes import COLOURS
from xgap_analysis.datasets.insertions import Described, ImageCosines, described, perturb
from xgap_analysis.datasets.items import AnyItems
from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.experiments.study import Study
from xgap_analysis.metrics import perturbation
from xgap_analysis.models import Model
from xgap_analysis.models.captions import Tokenizer, long_captions
from xgap_analysis.store import Store
from xgap_analysis.views.encode import encode

KINDS = (("large", "small"), tuple(COLOURS.values()))  # attributes of which an object has one at most


def image_cosines(model: Model, images: AnyItems, *, store: Store | None = None) -> ImageCosines:
    """The cosine of images and texts by a model, for `perturb`.

    Args:
        model: whose towers encode.
        images: by id.
        store: of features; those of texts that are tried are kept too.

    Example:
        >>> import xgap_analysis as xg
        >>> data = xg.load_dataset("emoji-scenes").split("val")
        >>> images = data.images.select(data.images.ids[:2])
        >>> image_cosines(xg.load_model("tiny"), images)(images.ids, ["a kite", "an owl"]).shape
        (2,)
    """
    seen = encode(model, images, store=store, progress=False)
    row = {item: k for k, item in enumerate(seen.ids)}

    def cosines(ids: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        place = {text: k for k, text in enumerate(dict.fromkeys(texts))}
        said = encode(model, Texts(tuple(place), tuple(place)), store=store, progress=False)
        v = exact(seen.vectors[[row[i] for i in ids]])
        t = exact(said.vectors[[place[text] for text in texts]])
        return np.asarray((v * t).sum(dim=1).cpu())

    return cosines


def falsified(rows: Sequence[Described], kinds: Sequence[Sequence[str]] = KINDS, seed: int = 0) -> list[Described]:
    """The same captions with attributes that their objects do not have: each replaced by another of the same kind.

    A word of the object's name is not chosen (a blue heart is not made "blue" where that is false), unless there is no
    other of that kind.

    Args:
        rows: captions with true attributes.
        kinds: groups of attributes of which an object has one at most.
        seed: of the choice.

    Raises:
        XgapError: an attribute of no kind.

    Example:
        >>> row = Described("1", "image 1", "a kite", ["kite"], ["large"])
        >>> falsified([row])[0].attributes
        ['small']
    """
    made = []
    for row in rows:
        false = []
        for place, attribute in enumerate(row.attributes):
            kind = next((kind for kind in kinds if attribute in kind), None)
            if kind is None:
                raise XgapError(f"attribute {attribute!r} of caption {row.id!r} is of no kind; add it to one of kinds")
            digest = hashlib.sha256(f"{seed} {row.id} {place}".encode()).digest()
            false.append(random.Random(digest).choice(_others(kind, attribute, row.objects[place])))
        made.append(Described(row.id, row.image, row.text, row.objects, false))
    return made


def _others(kind: Sequence[str], attribute: str, name: str) -> list[str]:
    """The attributes of a kind that are neither an object's own nor a word of its name, where there are such."""
    other = [word for word in kind if word != attribute]
    words = {word.casefold() for word in re.findall(r"\w+", name)}
    return [word for word in other if word.casefold() not in words] or other


def insertion_table(
    model: str | Model,
    data: Dataset,
    picks: Sequence[str] = ("random", "least-like"),
    corrections: Sequence[str | Correction] = ("none",),
    *,
    rows: Sequence[Described] | None = None,
    both: bool = True,
    fold: int | None = None,
    seed: int = 0,
    store: Store | None = None,
    **how: Any,
) -> pd.DataFrame:
    """How captions with an attribute more are retrieved: `metrics.perturbation` for each rule and correction.

    Args:
        model: by name or loaded.
        data: images and captions; `emoji-scenes` knows the attributes of its objects.
        picks: of `perturb`.
        corrections: of the features that are evaluated, fitted on the split `train`; candidates are compared with the
            images by the model's own features in all of them, so that the changed captions are the same.
        rows: captions with attributes; by default those of the dataset's parts `names` (see `described`).
        both: also attributes that the objects do not have (`falsified`), and the true ones in their place: a model that
            reads attributes is nearer to the image with these.
        fold, seed: of `metrics.perturbation`; the seed also of `random` picks.
        store: of features.
        how: whatever else `perturb` takes.

    Returns:
        Columns model, dataset, split, cut (the number of captions that are left out, since the model cuts one of their
        versions: a word more would push another out), changed (the share of captions with an insertion), attributes
        (`true`, `false`, or `true after false`: from a caption with a false attribute to that with a true one, of which
        no sign is claimed), pick, correction, and those of `perturbation`.

    Raises:
        XgapError: a dataset without what is needed, a correction of scores, captions that are all too long, or what
            `perturb` refuses.

    Example:
        >>> import xgap_analysis as xg
        >>> data = xg.load_dataset("emoji-scenes").split("val").limit(4)
        >>> table = insertion_table("tiny", data, ["random"], both=False)
        >>> table["quantity"].tolist()
        ['mrr', 'I-T', 'I-T over others', 'I-T beyond movement', 'T-T']
    """
    study = Study([model], [data], ["T-I"], store=store, progress=False)
    (evaluation,) = study.evaluations()
    images, texts = evaluation.native("image", "all"), evaluation.native("text", "all")
    own = list(described(data.texts) if rows is None else rows)
    how |= {"image_cosines": image_cosines(evaluation.model, evaluation.items("image", "all"), store=store)}
    given = {"true": own, **({"false": falsified(own, seed=seed)} if both else {})}
    said = {(name, pick): perturb(given[name], pick, seed=seed, **how) for name in given for pick in picks}
    cut = _cut(evaluation.model, [[row.text for row in own], *said.values()])
    kept = [k for k in range(len(own)) if k not in cut]
    if not kept:
        raise XgapError("the model cuts each of these captions, before or after; take shorter ones")
    sets = {("", ""): texts.select(own[k].id for k in kept)}
    for version, captions in said.items():
        changed = Texts([own[k].id for k in kept], [captions[k] for k in kept])
        sets[version] = encode(evaluation.model, changed, store=store, progress=False)
    pairs = [(name, pick, ("", ""), (name, pick), -1) for name, pick in said]
    if both:
        pairs += [("true after false", pick, ("false", pick), ("true", pick), 0) for pick in picks]
    about = {"model": evaluation.model.name, "dataset": data.name, "split": data.split_name, "cut": len(cut)}
    about["changed"] = float(np.mean([any(own[k].text != of[k] for of in said.values()) for k in kept]))
    made = []
    for name, pick, before, after, claim in pairs:
        for by in corrections:
            of_texts, of_images = _maps(evaluation, by)
            parts = (of_texts(sets[before]), of_texts(sets[after]), of_images(images))
            table = perturbation(*parts, evaluation.data.relevance(), fold=fold, seed=seed, claim=claim)
            named = {"attributes": name, "pick": pick, "correction": str(correction(by))}
            made.append(pd.DataFrame([{**about, **named}] * len(table)).join(table))
    return pd.concat(made, ignore_index=True)


def _cut(model: Any, versions: Sequence[Sequence[str]]) -> set[int]:
    """The places of captions that are longer than the model reads in one of their versions, where that can be known."""
    tokenize = getattr(model.towers["text"], "tokenize", None)
    if not isinstance(tokenize, Tokenizer):
        return set()
    silent = tokenize.silent
    return {k for texts in versions for k in long_captions(silent, list(texts), silent(list(texts)))}


def _maps(evaluation: Evaluation, by: str | Correction) -> tuple[Any, Any]:
    """What maps texts, as queries, and images, as the gallery."""
    if str(correction(by)) == "none":
        return (lambda features: features,) * 2
    maps = evaluation.fitted(by).maps
    if maps is None:
        raise XgapError(f"correction {correction(by)} changes scores and gives no features, which cosines need")
    return maps
