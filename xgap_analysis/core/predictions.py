"""Rankings that another tool computed: the prediction files of MTEB."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from xgap_analysis.core.errors import XgapError

Run = Mapping[str, Mapping[str, float]]  # query id -> item id -> score
ABOUT = "mteb_model_meta"


def load_predictions(path: Path | str, *, subset: str | None = None, split: str | None = None) -> Run:
    """The scores of a retrieval task that MTEB saved with `prediction_folder=`: query id to item id to score.

    Its file `<task>_predictions.json` has, beside the model, an object for each subset (`default` where there is one)
    with one for each split. A query has as many items as were kept, the nearest ones.

    Args:
        path: the file.
        subset, split: which; needed where the file has several.

    Raises:
        XgapError: no such file, another layout, a score that is no number, or several subsets or splits.

    Example:
        >>> import json, pathlib
        >>> import xgap_analysis as xg
        >>> held = {"mteb_model_meta": {"model_name": "m"}, "default": {"test": {"q": {"a": 0.9, "b": 0.1}}}}
        >>> _ = pathlib.Path("Task_predictions.json").write_text(json.dumps(held))
        >>> xg.load_predictions("Task_predictions.json")
        {'q': {'a': 0.9, 'b': 0.1}}
    """
    path = Path(path)
    try:
        held = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise XgapError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise XgapError(f"{path} is not a complete JSON file; was its run stopped while it wrote?") from error
    if not isinstance(held, dict) or ABOUT not in held:
        raise XgapError(f"{path} is no prediction file of MTEB, which has an entry {ABOUT!r}")
    subsets = {name: of for name, of in held.items() if name != ABOUT}
    splits = _only(subsets, subset, "subset", path)
    queries = _only(splits, split, "split", path)
    if not isinstance(queries, dict) or not all(isinstance(items, dict) for items in queries.values()):
        raise XgapError(f"{path} holds predictions of another task than retrieval, with no scores by query and item")
    run = {query: {item: _score(s) for item, s in items.items()} for query, items in queries.items()}
    wrong = next((query for query, items in run.items() if any(map(math.isnan, items.values()))), None)
    if wrong is not None:
        raise XgapError(f"{path} has a score of query {wrong!r} that is no number")
    return run


def _only(given: object, name: str | None, kind: str, path: Path) -> object:
    if not isinstance(given, dict) or not given:
        raise XgapError(f"{path} has no {kind} with predictions")
    if name is None and len(given) > 1:
        raise XgapError(f"{path} has several {kind}s; pass {kind}= one of {', '.join(given)}")
    if name is not None and name not in given:
        raise XgapError(f"{path} has no {kind} {name!r}, but: {', '.join(given)}")
    return given[next(iter(given)) if name is None else name]


def _score(value: object) -> float:
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # of a whole number beyond all doubles
        return math.nan
