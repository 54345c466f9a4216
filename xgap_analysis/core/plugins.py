"""Files of a user's own: what they register (views, scorers, corrections, objectives, ...) becomes known by name."""

import importlib.util
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from xgap_analysis.core.errors import XgapError


def load_plugin(path: Path | str) -> ModuleType:
    """Run a Python file as a module, so that its `register_...` decorators run.

    As with `python my_file.py`, modules that lie beside the file can be imported from it. A file that is loaded again
    runs again, and what it registers replaces what it registered before.

    Args:
        path: of a `.py` file.

    Raises:
        XgapError: no such file, one that is not Python, or one that raises; the sentence names the file and the line.
    """
    file = Path(path).expanduser().absolute()
    if not file.is_file() or file.suffix != ".py":
        why = "there is no such file" if not file.exists() else "it is not a .py file"
        raise XgapError(f"plug-in {str(path)!r} cannot be loaded: {why}")
    # Two files of one name in two folders are two modules.
    name = f"xgap_plugin_{sha256(str(file).encode()).hexdigest()[:8]}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise XgapError(f"plug-in {str(path)!r} cannot be loaded: Python has no loader for it")
    module = importlib.util.module_from_spec(spec)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # at the end, so that nothing installed is hidden
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        said = " ".join(str(error).split())
        what = said if isinstance(error, XgapError) else f"{type(error).__name__}: {said}".removesuffix(": ")
        line = _line(error, file)
        raise XgapError(f"plug-in {str(path)!r} failed{f' in line {line}' if line else ''}: {what}") from error
    return module


def _line(error: BaseException, file: Path) -> int | None:
    """The last line of the file that an error passed through; that of a syntax error is in the error."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return error.lineno
    line, step = None, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == str(file):
            line = step.tb_lineno
        step = step.tb_next
    return line
