"""A notebook as the report runs it: with the parameters and the plug-ins of the command line in cells of their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from xgap_analysis.core.errors import XgapError

PARAMETERS, INJECTED = "parameters", "injected-parameters"  # papermill's tags


def read_notebook(file: Path, parameters: Mapping[str, Any], plugins: Sequence[Path] = ()) -> NotebookNode:
    """A notebook with a first cell that runs the plug-ins, and one that sets the parameters behind its own.

    Raises:
        XgapError: a file that is not a notebook, or one without a parameters cell although parameters are given.
    """
    try:
        notebook = load_notebook_node(str(file))
    except (OSError, ValueError, AttributeError, nbformat.ValidationError) as error:
        raise XgapError(f"{file} cannot be read as a notebook ({str(error).splitlines()[0]})") from error
    if parameters:
        if not any(is_code(cell) and PARAMETERS in cell.metadata.get("tags", []) for cell in notebook.cells):
            raise XgapError(f"{file} has no cell with the tag {PARAMETERS!r}, so it takes no {', '.join(parameters)}")
        notebook = parameterize_notebook(notebook, parameters, kernel_name="python3", language="python")
    if plugins:
        loads = [f"load_plugin({str(plugin.expanduser().absolute())!r})" for plugin in plugins]
        source = "\n".join(["from xgap_analysis.core.plugins import load_plugin", "", *loads[:-1], f"_ = {loads[-1]}"])
        notebook.cells.insert(0, nbformat.v4.new_code_cell(source, metadata={"tags": [INJECTED]}))
    return notebook


def cells_of(file: Path) -> list[tuple[str, str]]:
    """Kind and source of every cell of a notebook file: what it says and runs, without what came of it."""
    return [(cell.cell_type, cell.source) for cell in nbformat.read(file, as_version=4).cells]


def is_code(cell: NotebookNode) -> bool:
    """Whether a cell has code to run."""
    return cell.cell_type == "code" and bool(cell.source.strip())
