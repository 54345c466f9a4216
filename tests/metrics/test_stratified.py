"""Picks from several rankings, against a slow count."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.metrics import four_groups, stratified
from xgap_analysis.scoring import score


def pair(n: int, seed: int, name: str = "e") -> tuple[Features, Features]:
    """Images and texts of one id each."""
    ids = [f"{name}{i}" for i in range(n)]
    draws = torch.randn(2, n, 6, generator=torch.Generator().manual_seed(seed))
    return Features(draws[0], ids, "image", "image"), Features(draws[1], ids, "text", "text")


@settings(max_examples=20)
@given(st.integers(10, 14), st.integers(0, 99), st.integers(1, 2), st.booleans())
def test_picks_against_a_slow_count(m: int, seed: int, per_group: int, same: bool) -> None:
    images, texts = pair(m, seed)
    asked = (images, texts) if same else pair(4, seed + 1, "q")
    groups = four_groups(*asked, images, texts)
    made = stratified(groups, per_group, block=3)
    for number, query in enumerate(asked[0].ids):
        picked: list[str] = []
        tops = {}
        for name, (q, g) in groups.items():
            scores = score(q, g)[number].tolist()
            order = [i for i in sorted(range(m), key=lambda j: (-scores[j], j)) if images.ids[i] != query]
            tops[name] = {images.ids[i] for i in order[:per_group]}
            new = [images.ids[i] for i in order if images.ids[i] not in picked][:per_group]
            rows = made.picks[(made.picks["query"] == query) & (made.picks["group"] == name)]
            assert rows["item"].tolist() == new
            assert rows["place"].tolist() == list(range(1, per_group + 1))
            picked += new
        assert len(set(picked)) == 4 * per_group
    assert len(made.overlap) == 6
    assert made.overlap["overlap"].between(0, 1).all()
    if not same and len(asked[0]) == 1:
        (row,) = made.overlap[(made.overlap["a"] == "I-I") & (made.overlap["b"] == "T-T")].itertuples()
        assert row.overlap == len(tops["I-I"] & tops["T-T"]) / per_group


def test_one_group_is_the_first_k_and_equal_rankings_give_the_next_items() -> None:
    images, _ = pair(9, 0)
    query, _ = pair(3, 1, "q")
    order = np.argsort(-score(query, images).numpy(), axis=1)
    one = stratified({"I-I": (query, images)}, 4).picks
    assert one["item"].tolist() == [images.ids[j] for row in order for j in row[:4]]
    assert stratified({"I-I": (query, images)}, 4).overlap.empty
    two = stratified({"a": (query, images), "b": (query, images)}, 2)
    assert two.picks["item"].tolist() == one["item"].tolist()
    assert two.overlap["overlap"].tolist() == [1]
    assert two.overlap["n"].tolist() == [3]


def test_where_modalities_are_aligned_all_lists_agree_and_a_shuffled_modality_agrees_by_chance() -> None:
    images, _ = pair(200, 0)
    texts = Features(images.vectors, images.ids, "text", "text")
    assert (stratified(four_groups(images, texts, images, texts), 5).overlap["overlap"] == 1).all()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    shuffled = Features(images.vectors[order], images.ids, "text", "text")
    overlap = stratified(four_groups(images, shuffled, images, shuffled), 5).overlap.set_index(["a", "b"])["overlap"]
    assert overlap["I-I", "T-T"] == pytest.approx(5 / 199, abs=0.03)
    assert overlap["I-I", "I-T"] < 0.1


def test_the_overlap_is_a_figure() -> None:
    from xgap_analysis.plots import agreement

    images, texts = pair(20, 0)
    ax = agreement(stratified(four_groups(images, texts, images, texts), 3).overlap, "overlap")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["I-I", "T-T", "I-T", "T-I"]
    assert ax.get_title() == "overlap (n = 20)"


def test_mistakes_are_one_sentence() -> None:
    (images, texts), (few, _) = pair(9, 0), pair(2, 0)
    with pytest.raises(XgapError, match="there is no group to pick from"):
        stratified({})
    with pytest.raises(XgapError, match="picks 1 item or more, not 0"):
        stratified({"I-I": (images, images)}, 0)
    with pytest.raises(XgapError, match="group 'I-I' has 1 items to pick 2 from"):
        stratified({"I-I": (few, few)}, 2)
    with pytest.raises(XgapError, match="queries of group 'T-T' are not those of the others"):
        stratified({"I-I": (images, images), "T-T": (texts.select(reversed(texts.ids)), texts)})
    three = pair(4, 0)[0]
    with pytest.raises(XgapError, match="group 'I-T' has 0 items left for query 'e0'"):
        stratified({"I-I": (three, three), "I-T": (three, three)}, 3)
