"""Text, image and group score of pairs of captions and images."""

import numpy as np
import pytest

from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics import winoground


def test_it_is_what_the_definition_says_of_each_pair() -> None:
    scores = np.random.default_rng(0).integers(0, 4, (500, 2, 2))  # with ties
    found = winoground(scores)
    for row, ((a, b), (c, d)) in zip(found.itertuples(), scores, strict=True):
        text, image = a > c and d > b, a > b and d > c
        assert (row.text, row.image, row.group) == (text, image, text and image)


def test_independent_scores_give_a_quarter_a_quarter_and_a_sixth() -> None:
    share = winoground(np.random.default_rng(1).random((60_000, 2, 2))).mean()
    assert share.tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 6], abs=0.01)


def test_a_caption_that_is_always_preferred_and_a_tie_count_as_wrong() -> None:
    preferred = np.array([[[0.9, 0.8], [0.1, 0.2]]])
    assert winoground(preferred).to_numpy().tolist() == [[0, 1, 0]]
    assert winoground(np.ones((3, 2, 2))).to_numpy().sum() == 0


@pytest.mark.parametrize(
    ("scores", "message"), [(np.ones((3, 2)), r"\[n, 2, 2\]"), (np.full((2, 2, 2), np.nan), "2 pairs have a score")]
)
def test_other_scores_are_refused(scores: np.ndarray, message: str) -> None:
    with pytest.raises(XgapError, match=message):
        winoground(scores)
