"""20 Newsgroups and IMDB: a sentence for each class is the query for the posts and the reviews of that class.

The sentences are this project's own.
"""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from xgap_analysis.core.errors import XgapError
from xgap_analysis.datasets.assemble import assemble
from xgap_analysis.datasets.dataset import Dataset, in_splits
from xgap_analysis.datasets.published.files import read_text
from xgap_analysis.datasets.published.protocols import Protocol
from xgap_analysis.datasets.published.summaries import condensed

GROUPS = {
    "alt.atheism": "a discussion about atheism and whether any god exists",
    "comp.graphics": "a question about computer graphics, image formats and drawing software",
    "comp.os.ms-windows.misc": "a question about Microsoft Windows, its files and its drivers",
    "comp.sys.ibm.pc.hardware": "a question about hardware for IBM compatible PCs, such as drives and controllers",
    "comp.sys.mac.hardware": "a question about hardware for Apple Macintosh computers",
    "comp.windows.x": "a question about programming and using the X Window System on Unix",
    "misc.forsale": "an offer of used things for sale, with prices and shipping",
    "rec.autos": "a discussion about cars, their engines and their dealers",
    "rec.motorcycles": "a discussion about motorcycles and riding them",
    "rec.sport.baseball": "a discussion about baseball teams, pitchers and batting",
    "rec.sport.hockey": "a discussion about ice hockey teams, playoffs and goals",
    "sci.crypt": "a discussion about encryption, keys and the privacy of communication",
    "sci.electronics": "a question about electronic circuits and their parts",
    "sci.med": "a question about a disease, its treatment and doctors",
    "sci.space": "a discussion about spaceflight, satellites and astronomy",
    "soc.religion.christian": "a discussion among Christians about the Bible, faith and the church",
    "talk.politics.guns": "an argument about guns, weapon laws and self-defence",
    "talk.politics.mideast": "an argument about politics in the Middle East, Israel, Turkey and Armenia",
    "talk.politics.misc": "an argument about government, taxes and society",
    "talk.religion.misc": "an argument about religions, their teachings and morality",
}
SENTIMENTS = {
    "pos": "a review by someone who loved the movie",
    "neg": "a review by someone who disliked the movie",
}


def load_newsgroups(name: str, protocol: Protocol, folder: Path) -> Dataset:
    """20 Newsgroups by date: test, with 20 sentences as queries, and train. Posts are whole, headers included.

    A post's id is `<group>/<file>`.

    Raises:
        XgapError: folders that are not those of the 20 groups, or a file of summaries that lacks some posts.
    """
    makers = {}
    for split in ("test", "train"):
        base = folder / f"20news-bydate-{split}"
        if split == "train" and not base.is_dir():
            continue  # only corrections would be fitted on it
        makers[split] = partial(_newsgroups, name, split, folder, base)
    return in_splits(makers)


def _newsgroups(name: str, split: str, folder: Path, base: Path) -> Dataset:
    there = {entry.name for entry in os.scandir(base) if entry.is_dir()}
    if there != GROUPS.keys():
        odd = sorted(there ^ GROUPS.keys())
        raise XgapError(f"expected the 20 groups as folders in {base}; {odd[0]!r} is missing, or too much")
    posts = {f"{group}/{file}": base / group / file for group in GROUPS for file in _files(base / group)}
    texts = {item: read_text(path, "latin-1").strip() for item, path in posts.items()}
    group_of = {item: item.split("/")[0] for item in posts}
    return _with_sentences(name, split, folder, "group", texts, group_of, GROUPS)


def load_imdb(name: str, protocol: Protocol, folder: Path) -> Dataset:
    """IMDB's 50,000 labelled reviews, with two sentences as queries, as the split test (there is no other).

    A review's id is `<train or test>/<pos or neg>/<file without suffix>`, or its row (from 0) in `IMDB_Dataset.csv`.

    Raises:
        XgapError: missing or damaged files, or a file of summaries that lacks some reviews.
    """
    table = next(((folder / n) for n in ("IMDB_Dataset.csv", "IMDB Dataset.csv") if (folder / n).exists()), None)
    return in_splits({"test": partial(_imdb_files if table is None else _imdb_table, name, folder, table or folder)})


def _imdb_files(name: str, folder: Path, base: Path) -> Dataset:
    places = [f"{part}/{sentiment}" for part in ("train", "test") for sentiment in SENTIMENTS]
    for place in places:
        if not (base / place).is_dir():
            raise XgapError(f"expected reviews in {base / place}, which is not there")
    reviews = {f"{place}/{Path(f).stem}": base / place / f for place in places for f in _files(base / place)}
    texts = {item: read_text(path).strip() for item, path in reviews.items()}
    return _with_sentences(name, "test", folder, "sentiment", texts, {i: i.split("/")[1] for i in texts}, SENTIMENTS)


def _imdb_table(name: str, folder: Path, table: Path) -> Dataset:
    import pandas as pd

    try:
        frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise XgapError(f"{table} is damaged: it is no CSV ({error})") from error
    if not {"review", "sentiment"} <= set(frame.columns):
        raise XgapError(f"{table} needs the columns review and sentiment; it has: {', '.join(frame.columns)}")
    kinds = {"positive": "pos", "negative": "neg"}
    unknown = next((x for x in frame["sentiment"] if x not in kinds), None)
    if unknown is not None:
        raise XgapError(f"{table} has the sentiment {unknown!r}, which is neither 'positive' nor 'negative'")
    texts = {str(row): review.strip() for row, review in enumerate(frame["review"])}
    of = {str(row): kinds[x] for row, x in enumerate(frame["sentiment"])}
    return _with_sentences(name, "test", folder, "sentiment", texts, of, SENTIMENTS)


def _with_sentences(
    name: str,
    split: str,
    folder: Path,
    label_set: str,
    texts: Mapping[str, str],
    label_of: Mapping[str, str],
    sentences: Mapping[str, str],
) -> Dataset:
    """Sentences are queries (`query/<class>`) for the texts of their class."""
    if not texts:
        raise XgapError(f"there is no text in {folder}")
    short, how = condensed(folder, texts)
    queries = {f"query/{label}": sentence for label, sentence in sentences.items()}
    labels = {f"query/{label}": label for label in sentences} | dict(label_of)
    texts = queries | short
    return assemble(name, f"{split}, {how}", texts=texts, labels={label_set: labels}, text_queries=tuple(queries))


def _files(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
