"""Sets of the same items stand behind one another, item by item."""

import pytest
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.stacked import stacked
from xgap_analysis.core.tokens import TokenFeatures


def test_each_items_tokens_come_in_the_order_of_the_sets() -> None:
    whole = Features(torch.randn(3, 4), "abc", "image", "image", items="list")
    sets = [2 * torch.nn.functional.normalize(torch.randn(n, 4), dim=1) for n in (2, 1, 3)]
    parts = TokenFeatures.from_sets(sets, "cab", "image", "image")
    found = stacked(whole, parts)
    assert (found.ids, found.items, found.space) == (("a", "b", "c"), "list", "image")
    assert found.lengths.tolist() == [2, 4, 3]
    for row, item in enumerate("abc"):
        expected = torch.cat([whole.vectors[row : row + 1], parts.tokens_of(item)])
        assert torch.equal(found.tokens_of(item), expected)
    assert found.select("a").norms.tolist() == pytest.approx([1, 2])


def test_sets_of_two_spaces_lie_in_one_that_is_named_for_both() -> None:
    image, text = (Features(torch.randn(2, 4), "ab", side, side) for side in ("image", "text"))
    assert stacked(image, text, image).space == "image+text"


def test_a_missing_item_and_another_width_are_refused() -> None:
    x = Features(torch.randn(2, 4), "ab", "image", "image")
    with pytest.raises(XgapError, match="1 ids have no tokens here, the first is 'b'"):
        stacked(x, x.select(["a"]))
    with pytest.raises(XgapError, match="sets of 4 and of 5 dimensions"):
        stacked(x, Features(torch.randn(2, 5), "ab", "image", "image"))
