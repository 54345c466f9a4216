"""A user's mistake in a notebook: one sentence in place of a traceback."""

import nbformat
from nbclient import NotebookClient

CELLS = (
    "import os\n"
    "from xgap_analysis.core.errors import XgapError\n"
    "os.environ['XGAP_DEBUG'] = '0'\n"
    "def named(name):\n"
    "    raise XgapError(f'unknown metric {name!r}; nearest names: retrieval')\n",
    "first = 1\nnamed('retrievel')",
    "%env XGAP_DEBUG=1\nnamed('retrievel')",
)


def test_a_notebook_shows_the_sentence_and_the_line_and_a_traceback_on_demand() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(notebook, kernel_name="python3", timeout=600, startup_timeout=300, allow_errors=True).execute()
    short, long = ("\n".join(cell.outputs[-1]["traceback"]) for cell in notebook.cells[1:])
    assert short.splitlines() == [
        "XgapError: unknown metric 'retrievel'; nearest names: retrieval",
        "in line 5 of a cell: raise XgapError(f'unknown metric {name!r}; nearest names: retrieval')",
        "(%env XGAP_DEBUG=1 shows the whole way there)",
    ]
    assert "Traceback" in long
    assert "XgapError: unknown metric 'retrievel'" in long
