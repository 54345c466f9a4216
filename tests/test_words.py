"""Words that make a native reader translate: they are counted in what users read, and the counts only fall.

`tests/words.json` has today's count of each file; a file that is not there has none. After replacing some, run
`python tests/test_words.py`, which writes the new counts, and look at the difference: no number may rise.
"""

import ast
import io
import json
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COUNTS = Path(__file__).with_name("words.json")
INSTEAD = {  # pattern, whatever its case: what to write
    r"ask(?:s|ed|ing)?": "query, request",
    r"answer(?:s|ed|ing)?": "is relevant to, evaluates, result",
    r"judge[sd]?|judging": "evaluate",
    r"told|tells?": "shown, says, distinguishes",
    r"cross(?:es|ed|ing)(?!-)": "is inverted into the text space",
    r"(?:its|their|his|her) (?:like|kind|own kind)": "similar items, items of its class",
    r"lie to each other|who gains|who loses": "are placed relative to each other",
    r"by hand|at hand": "manually, available",
    r"remed(?:y|ies)": "correction",
    r"head to head": "compared",
    r"meets?(?! DINO)": "are scored",  # but for the title of NoLA's paper
    r"hears?|heard": "receives",
    r"pictures?(?! of \{)": "image, figure",  # but for the prompt
    r"data sets?": "dataset",
    r"(?<!there )is no (?:whole|notebook|table|model|file|path)": "is not a ...",
    r"too small to tell": "inconclusive",
    r"gestures?": "action",
    r"(?<!side by )(?<!be)sides?(?! by side)": "modality, space",
}
WORST = re.compile("|".join(rf"\b(?:{pattern})\b" for pattern in INSTEAD), re.IGNORECASE)
PAGES = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "data/*/README.md")
PACKAGE = "xgap_analysis/**/*.py"


def found_in(text: str) -> list[str]:
    """The words to replace, in their order; code, links and addresses are not prose."""
    prose = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)|https?://\S+", " ", text, flags=re.DOTALL)
    return [match[0].lower() for match in WORST.finditer(" ".join(prose.split()))]


@cache
def texts() -> dict[str, str]:
    """What is read, by file: pages, notebooks' prose; docstrings, messages and comments of the package."""
    return dict(_texts())


def _texts() -> Iterator[tuple[str, str]]:
    for pattern in PAGES:
        for page in sorted(ROOT.glob(pattern)):
            yield page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")
    for notebook in sorted(ROOT.glob("notebooks/*.ipynb")):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        prose = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        yield notebook.relative_to(ROOT).as_posix(), "\n\n".join(prose)
    for source in sorted(ROOT.glob(PACKAGE)):
        yield source.relative_to(ROOT).as_posix(), "\n\n".join(sentences(source.read_text("utf-8")))


def sentences(source: str) -> Iterator[str]:
    """Docstrings, help, messages (strings with a space in them) and comments of a source file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield re.sub(r"^ *(>>>|\.\.\.) .*", "", node.value, flags=re.MULTILINE)  # examples are code
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def counts() -> dict[str, int]:
    """File to the number of words to replace, for files that have some."""
    return {file: n for file, text in texts().items() if (n := len(found_in(text)))}


ALLOWED: dict[str, int] = json.loads(COUNTS.read_text(encoding="utf-8")) if COUNTS.exists() else {}


@pytest.mark.parametrize("file", list(texts()))
def test_no_file_gains_a_word_that_is_to_go(file: str) -> None:
    found = found_in(texts()[file])
    assert len(found) <= ALLOWED.get(file, 0), f"{dict(Counter(found))} in {file}; write instead: " + "; ".join(
        f"{INSTEAD[p]} for {p}" for p in INSTEAD if any(re.fullmatch(p, word, re.I) for word in found)
    )


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/RESULTS.md"])
def test_the_first_pages_have_none(page: str) -> None:
    assert page not in ALLOWED


def test_the_list_names_files_that_exist() -> None:
    assert [file for file in ALLOWED if not (ROOT / file).exists()] == []


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("Does an image find its like better when it asks as a text?", ["its like", "asks"]),
        ("how two images, or two texts, should lie to each other", ["lie to each other"]),
        ("Remedies head to head", ["remedies", "head to head"]),
        ("only the query crosses to the text side", ["crosses", "side"]),
        ("the two sides' means; a Data set of pictures", ["sides", "data set", "pictures"]),
        ("it is no notebook, and it is told so", ["is no notebook", "told"]),
        ("there is no file x.npy; a picture frame", ["picture"]),
        ("Does image retrieval improve when the query is inverted into the text space?", []),
        ("side by side, beside *Cross the Gap* and cross-modal terms; inside a dataset", []),
        ("see `judge.py` and [the data](../data/models/judge.py)", []),
        ("the relevance judgements of NanoBEIR; CLIP meets DINO; `a picture of {}` or a picture of {}", []),
        ("before\n```sh\nxgap ask\n```\nafter", []),
    ],
)
def test_the_count_sees_words_in_prose_alone(sentence: str, words: list[str]) -> None:
    assert found_in(sentence) == words


if __name__ == "__main__":
    COUNTS.write_text(json.dumps(counts(), indent=1) + "\n", encoding="utf-8")
