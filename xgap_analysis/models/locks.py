"""One lock for each model: a hook on a module, or a head taken off it, is there for all threads that pass through."""

import threading
import weakref
from typing import Any

_LOCKS: "weakref.WeakKeyDictionary[Any, threading.RLock]" = weakref.WeakKeyDictionary()
_MAKING = threading.Lock()


def lock_of(module: Any) -> "threading.RLock":
    """The lock of a model, for as long as one works with its modules; all towers over one module share it.

    It is no attribute of the module, which could then neither be copied nor saved.
    """
    with _MAKING:
        return _LOCKS.setdefault(module, threading.RLock())
