"""Queries, a corpus whose documents are texts, images or both, and graded relevance: MixBench's and MTEB's layouts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.relevance import Relevance
from xgap_analysis.core.table_values import clean_text, id_text, image_path, is_missing, plain
from xgap_analysis.datasets.assemble import assemble
from xgap_analysis.datasets.dataset import Dataset, in_splits
from xgap_analysis.datasets.items import Images, Items, Texts
from xgap_analysis.datasets.joined import SECTION
from xgap_analysis.datasets.judgements import graded
from xgap_analysis.datasets.local.arrow import Place, held_images
from xgap_analysis.datasets.local.columnar import path_cells, read_columns, rows_with_images, schema_of
from xgap_analysis.datasets.local.pairs import check_any_there, places_of
from xgap_analysis.datasets.local.rows import row_of
from xgap_analysis.datasets.local.tables import columns_of, read_rows
from xgap_analysis.datasets.parts import Parts
from xgap_analysis.datasets.stored import image_files

FORMS = (".jsonl", ".ndjson", ".json", ".parquet", ".tsv", ".csv")
CORPORA = ("mixed_corpus", "corpus")  # the likelier first: MixBench has both, and searches the first
IDS = {"queries": ("query_id", "query-id", "id", "_id"), "corpus": ("corpus_id", "corpus-id", "id", "_id")}
LABEL_SET = "relevance"


@dataclass(frozen=True)
class _Row:
    """A query or a document: its text, its image by name, or where in a file its image lies."""

    id: str
    text: str | None
    image: str | None
    held: Place | None

    @property
    def has_image(self) -> bool:
        """Whether it has an image, one way or the other."""
        return self.image is not None or self.held is not None


def is_mixed(path: Path) -> bool:
    """Whether a folder holds tables of queries and of a corpus."""
    return bool(_tables(path, "queries")) and any(_tables(path, name) for name in CORPORA)


def load_mixed(
    path: Path | str, *, corpus: str | None = None, qrels: Path | str | None = None, images: Path | str | None = None
) -> Dataset:
    """Queries and documents, each a text, an image or both, with graded relevance, as the split `test`.

    Each table is a file or a folder of files, in JSON lines, Parquet, CSV or TSV:

    | table | MixBench | MTEB | columns |
    |---|---|---|---|
    | `queries` | `queries.jsonl` | `queries/*.parquet` | `query_id` or `id`, `text`, `image` |
    | `mixed_corpus`, or `corpus` | `mixed_corpus.jsonl` | `corpus/*.parquet` | `corpus_id` or `id`, `text`, `image` |
    | `qrels` | `qrels/qrels.tsv` | `qrels/*.parquet` | `query_id`, `corpus_id` (or with `-`), `score` |

    An image is a path, from the folder or from the one above it, or bytes (as Hugging Face has them). Where a column
    `modality` says `text` or `image`, no other is there. MixBench's release of 2026 has no qrels: name those of the
    release before, whose ids are the same, as `qrels`.

    Items: `document` of the corpus, ids `document/<id>`, of one section each, with parts `texts` and `images`; views
    `document(weight=0.5)` (a text and an image as one vector) and `sections`. Queries, ids `query/<id>`, are texts or
    images where all of them are (`T-D`, `I-D`); otherwise they are documents too, and queries in these (`D-D`).
    Relevance `relevance` is given document by document; a row without a score has grade 1.

    To centre, fit on the documents themselves, as GR-CLIP does: `Study(..., corrections=["center(roles=True)"],
    fit_split="test")`, which the table marks as transductive. A document of both has no mean of its own there, as in
    their mean of texts and images that are fused: each of its parts loses the mean of its modality.

    Args:
        path: the folder.
        corpus: the name of the table that is searched, where it is not the first that is there.
        qrels: the table of relevance, where it is elsewhere.
        images: the folder of the images, where it is another; paths are relative to it.

    Raises:
        XgapError: a table that is missing or cannot be read, an id given twice, a row without text and image, a row
            whose modality says something else, or qrels that do not fit.
    """
    root = Path(path).expanduser()
    searched = [corpus] if corpus else [name for name in CORPORA if _tables(root, name)] or [" or ".join(CORPORA)]
    queries, documents = (_read(root, name, role) for name, role in (("queries", "queries"), (searched[0], "corpus")))
    relevance = Relevance.from_qrels(_qrels(root, qrels, queries, documents))
    parts = _parts("document", documents, root, images)
    kinds = {(row.text is not None, row.has_image) for row in queries.values()}
    ids = tuple(f"document/{i}" for i in documents)
    query_items = tuple(f"query/{i}" for i in queries)
    alone: dict[str, Any] = {}
    query_ids: dict[str, Sequence[str]] = {}
    if len(kinds) == 1 and kinds != {(True, True)}:  # all of one modality: items of it
        (own,) = _parts("query", queries, root, images, apart=False).values()
        alone = {own.modality: own.items}
    else:
        ids, query_ids = (*ids, *query_items), {"document": query_items}
        parts |= {f"query {name}": own for name, own in _parts("query", queries, root, images).items()}
    made = assemble(
        root.resolve().name,
        "test",
        items={**alone, "document": Items(ids, _closed, "", "document", parts)},
        judgements={LABEL_SET: relevance},
        query_ids=query_ids,
    )
    return in_splits({"test": lambda: made})


def _tables(root: Path, name: str) -> list[Path]:
    """The files of a table: one of this name, or those of the folder of this name."""
    one = [root / f"{name}{form}" for form in FORMS if (root / f"{name}{form}").is_file()]
    folder = root / name
    inside = sorted(f for f in folder.iterdir() if f.suffix in FORMS and f.is_file()) if folder.is_dir() else []
    return one or inside


def _found(root: Path, name: str) -> list[Path]:
    if not root.is_dir():
        raise XgapError(f"there is no folder {root}")
    files = _tables(root, name)
    if not files:
        below = sorted(p.name for p in root.iterdir() if p.is_dir() and is_mixed(p))
        hint = f"; it holds the datasets {', '.join(below)}: name one of them, {root / below[0]}" if below else ""
        raise XgapError(f"{root} has no table {name} (a file or a folder of {', '.join(FORMS)}){hint}")
    forms = {file.suffix for file in files}
    if len(forms) > 1:
        raise XgapError(f"the table {name} of {root} is there as {' and '.join(sorted(forms))}; keep one of them")
    return files


def _read(root: Path, name: str, role: str) -> dict[str, _Row]:
    """The rows of a table by id."""
    made: dict[str, _Row] = {}
    for file in _found(root, name):
        rows, held = _parquet(file) if file.suffix == ".parquet" else (read_rows(file), None)
        columns = columns_of(rows)
        key = next((column for column in IDS[role] if column in columns), None)
        if key is None or not {"text", "image"} & set(columns):
            needs = f"an id ({', '.join(IDS[role])}) and a text or an image"
            raise XgapError(f"{file} needs {needs}; it has the columns {', '.join(columns)}")
        for k, row in enumerate(rows):
            if is_missing(row.get(key)):
                raise XgapError(f"row {k + 1} of {file} has no id")
            item = id_text(row[key])
            if item in made:
                raise XgapError(f"{file} gives the id {item!r} twice")
            text = row_of(file, k, _text, row.get("text"))
            inside = (file, k) if held is not None and held[k] else None
            image = None if held is not None else row_of(file, k, image_path, row.get("image"))
            _check_modality(row.get("modality"), text, image or inside, file, item)
            made[item] = _Row(item, text, image, inside)
    return made


def _parquet(file: Path) -> tuple[list[dict[str, Any]], list[bool] | None]:
    """The rows without images that lie in the file itself, and which rows hold such."""
    import pyarrow as pa

    try:
        names = schema_of(file).names
        table = read_columns(file, [name for name in names if name != "image"])
        rows: list[dict[str, Any]] = table.to_pylist()
        if "image" not in names:
            return rows, None
        if str(schema_of(file).field("image").type) == "null":  # a table of texts alone
            return [{**row, "image": None} for row in rows], None
        paths = path_cells(file, "image")
        if paths is None:
            return [{**row, "image": None} for row in rows], rows_with_images(file, "image")
    except (OSError, pa.ArrowException) as error:
        raise XgapError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    return [{**row, "image": cell} for row, cell in zip(rows, paths, strict=True)], None


def _check_modality(said: Any, text: str | None, image: Any, file: Path, item: str) -> None:
    if text is None and image is None:
        raise XgapError(f"row {item!r} of {file} has neither a text nor an image; leave it out")
    if (said == "text" and image is not None) or (said == "image" and text is not None):
        what = f"row {item!r} of {file} is of modality {said!r} and has a text and an image"
        raise XgapError(f"{what}; empty the one that is not meant, or correct the modality")


def _parts(
    of: str, rows: Mapping[str, _Row], root: Path, images: Path | str | None, apart: bool = True
) -> dict[str, Parts]:
    """Texts and images as parts of queries or documents, one section each; not `apart`, under the ids of these."""
    made = {}
    shown = {f"{of}/{i}": row for i, row in rows.items() if row.has_image}
    if shown:
        opened = _images({f"{item}/image" if apart else item: row for item, row in shown.items()}, root, images)
        made["images"] = Parts(opened, tuple(shown), {SECTION: (0,) * len(shown)})
    said = {f"{of}/{i}": row.text for i, row in rows.items() if row.text is not None}
    if said:
        texts = Texts([f"{item}/text" if apart else item for item in said], list(said.values()))
        made["texts"] = Parts(texts, tuple(said), {SECTION: (0,) * len(said)})
    return made


def _images(shown: Mapping[str, _Row], root: Path, images: Path | str | None) -> Images:
    held = {item: row.held for item, row in shown.items() if row.held is not None}
    if held and len(held) < len(shown):
        raise XgapError(f"some files of {root} hold images, and others name them; give all of one kind")
    if held:
        return held_images(held, "image")
    named = {item: row.image for item, row in shown.items() if row.image is not None}
    first = next(iter(named.values()))
    # Published paths begin in the folder or in the one above, which holds several such datasets.
    base = (
        root if images is not None or (root / first).is_file() or not (root.parent / first).is_file() else root.parent
    )
    places = places_of(named, root, images, base=base, inside=base)
    check_any_there(places, root)
    return image_files(Path(), places)


def _qrels(
    root: Path, given: Path | str | None, queries: Mapping[str, _Row], documents: Mapping[str, _Row]
) -> dict[str, dict[str, float]]:
    files = _found(root, "qrels") if given is None else [Path(given).expanduser()]
    made: list[tuple[Any, Any, Any]] = []
    for file in files:
        rows = read_rows(file)
        columns = columns_of(rows)
        keys = [next((c for c in (f"{what}_id", f"{what}-id") if c in columns), None) for what in ("query", "corpus")]
        if None in keys:
            raise XgapError(f"{file} needs the columns query_id and corpus_id; it has: {', '.join(columns)}")
        made += [(row[keys[0]], row[keys[1]], row.get("score")) for row in rows]  # type: ignore[index]
    return graded(made, files[0], queries, documents)


def _text(cell: Any) -> str | None:
    """The text of a cell; None where there is none (a document may say "none")."""
    cell = plain(cell)
    if isinstance(cell, str):
        return clean_text(cell.strip()) or None
    if is_missing(cell):
        return None
    raise XgapError(f"a text is expected, not {str(cell)[:60]} ({type(cell).__name__})")


def _closed(item: str) -> Any:
    raise XgapError(f"{item!r} is opened by its parts, its text and its image")
