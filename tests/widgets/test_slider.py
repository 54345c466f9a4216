"""A slider over given values, in the kernel."""

from typing import Any

from xgap_analysis.widgets.slider import Slider


def test_value_and_place_follow_one_another() -> None:
    slider, received = Slider([0, 1, 5, 25], 5, "step"), list[Any]()
    assert (slider.value, slider.index, slider.texts) == (5, 2, ["0", "1", "5", "25"])
    slider.observe(lambda change: received.append(change["new"]), "value")
    slider.index = 3  # what the page sends
    assert slider.value == 25
    slider.value = 1
    assert slider.index == 1
    assert received == [25, 1]


def test_the_nearest_value_is_taken() -> None:
    slider = Slider([-0.5, 0.1, 0.3, 1.5], 0.1 * 3, "shift")
    assert slider.value == 0.3
    slider.value = 7
    assert (slider.value, slider.index) == (1.5, 3)


def test_it_starts_at_a_value_that_is_the_first() -> None:
    assert Slider([3, 4], 3, "k").value == 3
