"""The tower that a model does not have."""

from typing import Any

from xgap_analysis.core.errors import XgapError


class AbsentTower:
    """Stands where a model has no tower: whatever is asked of it is refused in one sentence."""

    def __init__(self, model: str, space: str) -> None:
        self.space = space
        self._model = model

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols of the language (copying, pickling) ask whether something is there
            raise AttributeError(name)
        self.refuse()

    def refuse(self, *_: Any) -> Any:
        """Say that there is no such tower.

        Raises:
            XgapError: always.
        """
        raise XgapError(f"model {self._model!r} has no {self.space} tower: only comparisons without one can be made")
