"""The one function in which every reader ends: what was read, as one split of a `Dataset`."""

from collections.abc import Callable, Mapping, Sequence

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.datasets.dataset import Dataset
from xgap_analysis.datasets.items import NO_IMAGES, AnyItems, Images, Texts

PROMPT = "a photo of {}"


def assemble(
    name: str,
    split_name: str,
    images: Images = NO_IMAGES,
    *,
    texts: Mapping[str, str] | None = None,
    captions: Mapping[str, Sequence[str]] | None = None,
    labels: Mapping[str, Mapping[str, str]] | None = None,
    classes: Mapping[str, Mapping[str, str]] | None = None,
    image_queries: Sequence[str] = (),
    text_queries: Sequence[str] = (),
    judgements: Mapping[str, Relevance] | None = None,
    prompt: str = PROMPT,
    items: Mapping[str, AnyItems] | None = None,
    query_ids: Mapping[str, Sequence[str]] | None = None,
    splits: Mapping[str, Callable[[], Dataset]] | None = None,
) -> Dataset:
    """A split of a dataset from what a reader found.

    The texts are `texts` and `captions`; where neither is given, they are the prompts of the classes.

    Args:
        name, split_name: for provenance and tables.
        images: of the split.
        texts: id to text.
        captions: id of an image (or of an item without one) to its captions, which get the ids `<id>#0`, `<id>#1`, ...
            and its labels. Where an item has several, the first of each item is a query and the others are the gallery.
        labels: label set to label by id; ids that are not in this split may be among them.
        classes: label set to label to the words that name it. The id of a prompt is its label.
        image_queries, text_queries: see `Dataset`; of captions, as said.
        judgements, splits: see `Dataset`.
        prompt: the text of a class, `{}` its name.
        items, query_ids: of further modalities (documents, say); see `Dataset`.

    Raises:
        XgapError: an image and a text with one id.
    """
    labels, classes = labels or {}, classes or {}
    written = dict(texts or {})
    item_of: dict[str, str] = {}
    for item, own in (captions or {}).items():
        for k, text in enumerate(own):
            written[f"{item}#{k}"], item_of[f"{item}#{k}"] = text, item
    prompts: dict[str, dict[str, str]] = {}  # the labels of prompts, by label set
    if texts is None and captions is None:
        for label_set, words in classes.items():
            prompts[label_set] = {label: label for label in words}
            written |= {label: prompt.replace("{}", named) for label, named in words.items()}
    clash = next((i for i in images.ids if i in written), None)
    if clash is not None:
        raise XgapError(f"dataset {name!r} has an image with the id of a text, {clash!r}; rename it")
    kept = {}
    for label_set in dict.fromkeys((*labels, *prompts)):
        of = labels.get(label_set, {})
        found = {i: of.get(item_of.get(i, i)) for i in (*images.ids, *written)}
        kept[label_set] = {i: label for i, label in found.items() if label is not None} | prompts.get(label_set, {})
    several = [item for item, own in (captions or {}).items() if len(own) > 1]
    if several:
        text_queries = tuple(f"{item}#0" for item, own in (captions or {}).items() if own)
    return Dataset(
        name=name,
        split_name=split_name,
        items={"image": images, "text": Texts(tuple(written), tuple(written.values())), **(items or {})},
        labels={label_set: of for label_set, of in kept.items() if of},
        class_names=classes,
        image_queries=image_queries,
        text_queries=text_queries,
        splits=splits or {},
        judgements=judgements or {},
        prompt=prompt,
        query_ids=query_ids,
    )
