"""Filters of a study: which items are evaluated."""

from dataclasses import replace

from xgap_analysis.experiments.evaluation import Evaluation
from xgap_analysis.metrics import filtered_ids


def zero_shot_correct(evaluation: Evaluation) -> Evaluation:
    """The same evaluation on only those images that zero-shot classifies correctly (the filtered test)."""
    images, classes = evaluation.native("image", "all"), evaluation.native("text", "classes")
    named, labels, data = set(classes.ids), evaluation.labels, evaluation.data
    right = filtered_ids(images.select(i for i in images.ids if labels.get(i) in named), classes, labels)
    kept = {*right, *data.texts.ids}
    filtered = replace(
        data,
        split_name=f"{data.split_name}, zero-shot-correct",
        items={**data.items, "image": data.images.select(right)},
        query_ids={**data.query_ids, "image": tuple(i for i in data.image_queries if i in kept)},
    )
    return replace(evaluation, data=filtered)


FILTERS = {"zero-shot-correct": zero_shot_correct}
