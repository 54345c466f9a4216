"""The parser of the `xgap` command, and its exit codes.

Exit codes: 0, 2 for a user's mistake (one sentence on stderr; `XGAP_DEBUG=1` shows where it arose), 1 for a notebook
that failed or a check that found something, 130 after Ctrl-C. What is heavy is imported by the command that needs it.
"""

import inspect
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Annotated, Any, Union

import tyro

from xgap_analysis.cli.datasets import Datasets
from xgap_analysis.cli.doctor import Doctor
from xgap_analysis.cli.encode import Encode
from xgap_analysis.cli.gaps import Gaps
from xgap_analysis.cli.invert import Invert
from xgap_analysis.cli.known import Adapters, Corrections, Metrics, Objectives, Scorers, Views
from xgap_analysis.cli.models import Models
from xgap_analysis.cli.output import complain, note, quietly, say, show_warning
from xgap_analysis.cli.parsing import parsed
from xgap_analysis.cli.plugins import load_plugins
from xgap_analysis.cli.report import Report
from xgap_analysis.cli.store import Store
from xgap_analysis.cli.study import Study
from xgap_analysis.cli.systems import Systems
from xgap_analysis.cli.train import Train
from xgap_analysis.core.errors import XgapError, debugging, missing_extra, unknown_name

COMMANDS: Mapping[str, Any] = {
    c.__name__.lower(): c
    for c in (
        *(Models, Datasets, Views, Scorers, Corrections, Metrics, Objectives, Adapters, Systems),
        *(Encode, Invert, Study, Gaps, Train, Report, Store, Doctor),
    )
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: arguments without the program's name; the process's own by default.
    """
    args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        if args == ["--version"]:
            say(f"xgap_analysis {version('xgap_analysis')}")
            return 0
        command = _parse(args)
        with warnings.catch_warnings(), quietly(getattr(command, "quiet", False)):
            warnings.showwarning = show_warning
            load_plugins(getattr(command, "plugin", ()))
            code: int = command.run()
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # the parser's, after --help
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        note("stopped; finished shards are kept, and the same command goes on from there")
        return 130
    except BrokenPipeError:  # whoever read our output, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (XgapError, OSError, ModuleNotFoundError) as raised:
        lacking = isinstance(raised, ModuleNotFoundError)
        error = missing_extra(f"xgap {args[0]}", raised) if lacking else raised  # type: ignore[arg-type]
        if error is raised and lacking:
            raise
        if debugging():
            raise
        complain("error: " + " ".join(str(error).split()))
        return 2


def _parse(args: Sequence[str]) -> Any:
    if args[0] in COMMANDS:
        chosen = COMMANDS[args[0]]
        about = inspect.cleandoc(chosen.__doc__)
        return parsed(chosen, f"xgap {args[0]}", about, args[1:])
    if not args[0].startswith("-"):
        raise unknown_name("command", args[0], COMMANDS)
    each = [
        Annotated[c, tyro.conf.subcommand(name, description=inspect.cleandoc(c.__doc__).splitlines()[0])]
        for name, c in COMMANDS.items()
    ]
    about = (
        "Intra-modal misalignment, modality inversion and the modality gap in CLIP-like models.\n\n"
        "Example:\n    xgap study --comparisons I-I OTI-I --limit 50\n    xgap COMMAND --help"
    )
    any_of_them: Any = Union[tuple(each)]  # noqa: UP007  a union of what is in a list has no other form
    return parsed(any_of_them, "xgap", about, args)
