"""What the site needs beside Sphinx's own extensions: house docstrings as reStructuredText, names of the package as
links, and formulas that need no script.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from numpy.typing import ArrayLike
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.typing import stringify_annotation

CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)
NAME = re.compile(r"(xg\.)?([A-Za-z_]\w*(?:\.\w+)?)(\(.*\))?", re.DOTALL)

ARRAY_LIKE = stringify_annotation(ArrayLike, "smart")
STAR = "\0"  # the one star that is markup, until all others are escaped
ROW = re.compile(r" *\|.*\|")
BAR = re.compile(r"\|(?=(?:[^`]*`[^`]*`)*[^`]*$)")  # outside code
LINKS = (nodes.reference, addnodes.pending_xref, nodes.title)  # links already; a title is one in tables of contents


def as_restructured_text(lines: list[str]) -> list[str]:
    """A docstring of this package as reStructuredText: one backtick is code, an indented block is code, and nothing
    else is markup. Sections (`Args:`) and examples stay for Sphinx's own reader.
    """
    result: list[str] = []
    prose: list[str] = []
    block = ""  # the indentation of a code block's lines, while one is read

    def end_of_prose() -> None:
        result.extend(_prose("\n".join(prose)).split("\n") if prose else [])
        prose.clear()

    lines = _with_tables(lines)

    for number, line in enumerate(lines):
        before = next((one for one in reversed(lines[:number]) if one.strip()), "")
        indent = line[: len(line) - len(line.lstrip())]
        if block and line.strip() and not line.startswith(block):
            block = ""
        if not block and line.strip():
            example = re.fullmatch(r"\s*Examples?:", before) and number and lines[number - 1].strip()
            after_blank = number and not lines[number - 1].strip() and before and not before.startswith((" ", "-"))
            if line.lstrip().startswith(">>>"):
                end_of_prose()
                block = indent or "\0"
            elif indent and (example or after_blank):
                end_of_prose()
                if example:
                    result[-1] = result[-1].rstrip(":") + "::"
                    result.append("")
                else:
                    result += ["::", ""]
                block = indent
        if block == "\0" and not line.strip():
            block = ""
        if block:
            result.append(line)
        else:
            prose.append(line)
    end_of_prose()
    return result


def _with_tables(lines: Sequence[str]) -> list[str]:
    """Tables in Markdown as list-tables, which the rest leaves as they are but for code."""
    result: list[str] = []
    for number, line in enumerate(lines):
        if not ROW.fullmatch(line):
            if number and ROW.fullmatch(lines[number - 1]):
                result.append("")
            result.append(line)
            continue
        indent = line[: len(line) - len(line.lstrip())]
        if not number or not ROW.fullmatch(lines[number - 1]):
            result += ["", f"{indent}.. list-table::", f"{indent}   :header-rows: 1", ""]
        cells = [cell.strip() for cell in BAR.split(line.strip()[1:-1])]
        if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            result += [f"{indent}   {STAR if place == 0 else ' '} - {cell}" for place, cell in enumerate(cells)]
    return result


def _prose(text: str) -> str:
    parts = CODE.split(text)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = f"``{part.strip('`')}``"
            if i + 1 < len(parts) and re.match(r"\w", parts[i + 1]):
                parts[i + 1] = "\\ " + parts[i + 1]
        else:
            parts[i] = re.sub(r"(?<=\w)_(?!\w)", r"\\_", re.sub(r"([*|])", r"\\\1", part))
    return "".join(parts).replace(STAR, "*")


def clean_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make a docstring ready to be read; a table of names, which has none of its own, lists its names."""
    if what == "data" and getattr(obj, "__doc__", None) == type(obj).__doc__:
        names = ", ".join(f"`{one}`" for one in obj) if isinstance(obj, Mapping) else ""
        lines[:] = [f"A mapping from names: {names}." if names else f"A {type(obj).__name__}.", ""]
    lines[:] = as_restructured_text(lines)


def clean_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Replace what no parser of signatures reads (a default that is made anew each time) and what no reader does (all
    that numpy takes for an array).
    """
    if signature is not None:
        signature = signature.replace("<factory>", "...").replace(ARRAY_LIKE, "~numpy.typing.ArrayLike")
        signature = re.sub(r"Scorer\(name='cosine'.*?arguments=\(\)\)", "'cosine'", signature)
    return signature, returns


class LinkedNames(SphinxTransform):
    """Make code that is a name of the package, such as `xg.Study`, a link to its page."""

    default_priority = 5

    def apply(self, **kwargs: Any) -> None:
        import xgap_analysis

        public = {name for name in dir(xgap_analysis) if name not in xgap_analysis._ROOMS}
        for literal in list(self.document.findall(nodes.literal)):
            match = NAME.fullmatch(literal.astext())
            if match is None or isinstance(literal.parent, LINKS):
                continue
            name, *rest = match[2].split(".")
            # A bare name, such as `Features`, is one of ours in docstrings; elsewhere it may be anything.
            sure = match[1] or (self.env.docname.startswith("docs/reference/") and not match[3])
            if sure and (name in public or (name in xgap_analysis._ROOMS and rest)):
                target = f"xgap_analysis.{match[2]}"
                link = addnodes.pending_xref(
                    "", literal.deepcopy(), refdomain="py", reftype="obj", reftarget=target, refexplicit=True
                )
                link["refdoc"] = self.env.docname
                link["refwarn"] = False
                literal.replace_self(link)


def inline_math(self: Any, node: nodes.math) -> None:
    self.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def block_math(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """As Sphinx calls it."""
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    app.connect("autodoc-process-docstring", clean_docstring, priority=100)
    app.connect("autodoc-process-signature", clean_signature)
    app.add_transform(LinkedNames)
    return {"parallel_read_safe": True}
