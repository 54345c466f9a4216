"""The one registry: entries by name, from this code, from a package that is installed, or from a notebook's cell."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.registry import Registry, check_options, name_of, origin


def double(x: int, *, times: int = 1) -> int:
    return 2 * x * times


def triple(x: int) -> int:
    return 3 * x


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> "Registry[Any]":
    monkeypatch.setattr("xgap_analysis.core.registry.entry_points", lambda group: [])
    return Registry("thing", lambda entry: entry)


def test_entries_are_a_mapping_by_name(registry: "Registry[Any]") -> None:
    registry.add("double", double)
    registry.add("triple", triple)
    assert registry["double"] is double
    assert list(registry) == ["double", "triple"]
    assert len(registry) == 2
    assert "double" in registry
    assert "single" not in registry
    assert dict(registry.items()) == {"double": double, "triple": triple}


def test_an_unknown_name_offers_the_nearest(registry: "Registry[Any]") -> None:
    registry.add("double", double)
    registry.add("triple", triple)
    with pytest.raises(XgapError, match=r"^unknown thing 'doubel'; nearest names: double$"):
        registry["doubel"]
    with pytest.raises(XgapError, match="unknown thing 'x'; nearest names: double, triple"):
        registry.remove("x")


def test_the_same_code_may_register_again_and_the_newer_counts(registry: "Registry[Any]") -> None:
    def made(factor: int) -> Callable[[int], int]:
        def scaled(x: int) -> int:
            return factor * x

        return scaled

    registry.add("scaled", made(2))
    with pytest.warns(UserWarning, match="the thing 'scaled' is replaced by its new definition"):
        registry.add("scaled", made(5))
    assert registry["scaled"](1) == 5
    assert list(registry) == ["scaled"]


def test_a_cell_of_a_notebook_may_replace_what_another_cell_registered(registry: "Registry[Any]") -> None:
    first, second = (eval(text, {"__name__": "__main__"}) for text in ("lambda x: x", "lambda x: -x"))
    second.__qualname__ = "other"
    registry.add("own", first)
    with pytest.warns(UserWarning, match="replaced"):
        registry.add("own", second)
    assert registry["own"] is second


def test_a_name_that_other_code_has_is_refused(registry: "Registry[Any]") -> None:
    registry.add("double", double)
    with pytest.raises(
        XgapError, match=r"a thing named 'double' already, from .*test_registry\.double; register yours"
    ):
        registry.add("double", triple)
    assert registry["double"] is double
    registry.remove("double")
    registry.add("double", triple)
    assert registry["double"] is triple


@pytest.mark.parametrize("wrong", [7, "double", None])
def test_what_is_no_function_is_refused(registry: "Registry[Any]", wrong: object) -> None:
    with pytest.raises(XgapError, match="thing 'x' must be a function, not"):
        registry.add("x", wrong)
    assert "x" not in registry


def test_an_installed_package_brings_its_entries_once_when_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    registry: Registry[Any] = Registry("thing", lambda entry: entry)
    asked = []

    class Entry:
        def load(self) -> None:
            registry.add("theirs", triple)

    def entry_points(group: str) -> list[Entry]:
        asked.append(group)
        return [Entry()]

    monkeypatch.setattr("xgap_analysis.core.registry.entry_points", entry_points)
    registry.add("double", double)
    assert registry["double"] is double
    assert asked == []  # a name that is known waits for no package
    assert registry["theirs"] is triple
    assert list(registry) == ["double", "theirs"]
    assert "more" not in registry
    assert asked == ["xgap_analysis.things"]


def test_a_kind_of_two_words_has_a_group_without_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[str] = []
    monkeypatch.setattr("xgap_analysis.core.registry.entry_points", lambda group: groups.append(group) or [])
    assert "any" not in Registry("frame thing", lambda entry: entry)
    assert groups == ["xgap_analysis.frame_things"]


def test_options_are_those_that_the_function_takes() -> None:
    check_options("thing", "double", double, 1, {"times": 3})
    with pytest.raises(XgapError, match="unknown option of double 'time'; nearest names: times"):
        check_options("thing", "double", double, 1, {"time": 3})
    with pytest.raises(XgapError, match="unknown option of this thing 'x'"):  # the first parameter is no option
        check_options("thing", "", double, 1, {"x": 3})
    check_options("thing", "any", lambda x, **more: x, 1, {"whatever": 1})


def test_the_origin_of_a_function_names_it_whatever_it_is_wrapped_in() -> None:
    assert origin(functools.partial(double, times=2)) == origin(double) == (__name__, "double")

    class Called:
        def __call__(self) -> None: ...

    assert origin(Called())[1].endswith("Called")


def test_a_function_without_a_registered_name_has_its_own() -> None:
    assert name_of(double) == "double"
    assert name_of(lambda x: x) == "own"
    assert name_of(functools.partial(double, times=2)) == "partial"
