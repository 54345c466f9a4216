"""Spoilt captions, the grammar head and the choice of a caption: definitions, and the values of the card."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from xgap_analysis.metrics.clip_score import clip_score, ref_clip_score
from xgap_analysis.training.objectives import Sizes
from xgap_analysis.training.objectives.caption_reward import GrammarHead, caption_scores, grammar_loss, policy_loss
from xgap_analysis.training.objectives.corruption import KINDS, corrupted

START, END = 90, 91
TEXT = [11, 12, 13, 14, 15]


def row(*words: int, length: int = 18) -> list[int]:
    made = [START, *words, END]
    return made + [0] * (length - len(made))


IDS = torch.tensor([row(*TEXT), row(21), row(), row(31, 32)])


def spoilt(kind: str, seed: int, ids: torch.Tensor = IDS) -> list[list[int]]:
    made = corrupted(ids, (ids > 0) & (ids < START), torch.Generator().manual_seed(seed), (kind,))
    assert made.shape == ids.shape
    texts = []
    for given in made.tolist():
        end = given.index(END)
        assert given[0] == START
        assert not any(given[end + 1 :])
        texts.append(given[1:end])
    return texts


def parts(text: list[int]) -> set[tuple[int, ...]]:
    return {tuple(text[i : i + n]) for n in (1, 2, 3) for i in range(len(text) - n + 1)}


@pytest.mark.parametrize("seed", range(12))
def test_each_kind_does_what_it_says(seed: int) -> None:
    repeated = spoilt("repeat", seed)[0]
    assert set(repeated) == set(TEXT)
    assert len(TEXT) < len(repeated) <= 14
    removed = spoilt("remove", seed)[0]
    assert 2 <= len(removed) <= 4
    assert tuple(w for w in TEXT if w not in removed) in parts(TEXT)  # one run
    assert removed == sorted(removed)
    more = spoilt("insert", seed)[0]
    assert 6 <= len(more) <= 8
    assert set(more) <= {*TEXT, 21, 31, 32}
    swapped = spoilt("swap", seed)[0]
    assert len(swapped) == 5
    assert sum(a != b for a, b in zip(swapped, TEXT, strict=True)) in (1, 2, 3)
    assert sorted(spoilt("shuffle", seed)[0]) == TEXT


def test_every_caption_with_words_is_changed_and_the_draws_follow_from_the_seed() -> None:
    is_word = (IDS > 0) & (IDS < START)
    seen = set()
    for seed in range(30):
        made = corrupted(IDS, is_word, torch.Generator().manual_seed(seed))
        assert torch.equal(made, corrupted(IDS, is_word, torch.Generator().manual_seed(seed)))
        assert torch.equal(made[2], IDS[2])  # nothing to spoil
        assert not any(torch.equal(made[i], IDS[i]) for i in (0, 1))
        seen.add(tuple(made[0].tolist()))
    assert len(seen) > 20
    assert len(KINDS) == 5


def test_a_caption_that_fills_its_row_keeps_its_end() -> None:
    full = torch.tensor([row(*range(1, 17)), row(3)])
    for seed in range(10):
        for kind in ("repeat", "insert"):
            made = corrupted(full, (full > 0) & (full < START), torch.Generator().manual_seed(seed), (kind,))
            assert made[0, -1] == END
            assert (made[0, 1:-1] < START).all()


def test_a_grammar_head_that_knows_nothing_has_a_loss_of_log_two() -> None:
    generator = torch.Generator().manual_seed(0)
    real, wrong = torch.randn(4, 3, generator=generator), torch.randn(5, 3, generator=generator)
    blind = GrammarHead(Sizes(3, 2))
    nn.init.zeros_(blind.layers[2].weight)
    assert grammar_loss(blind, real, wrong).item() == pytest.approx(math.log(2))
    assert blind.chance(real).tolist() == pytest.approx([0.5] * 4)
    assert not any(layer.bias is not None for layer in blind.layers if isinstance(layer, nn.Linear))
    sharp = nn.Linear(3, 2)
    logits = np.concatenate([sharp(real).detach().numpy(), sharp(wrong).detach().numpy()]).astype(float)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.mean([*np.log(chances[:4, 1]), *np.log(chances[4:, 0])])
    assert grammar_loss(sharp, real, wrong).item() == pytest.approx(expected, abs=1e-6)


def test_the_gradient_of_the_grammar_loss_equals_finite_differences() -> None:
    head = GrammarHead(Sizes(3, 2)).double()
    real, wrong = (
        torch.randn(4, 3, generator=torch.Generator().manual_seed(s)).double().requires_grad_() for s in (1, 2)
    )
    assert torch.autograd.gradcheck(lambda a, b: grammar_loss(head, a, b), (real, wrong))


def test_the_policy_step_moves_towards_what_is_rewarded_more_than_the_greedy_choice() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, generator=generator).double().requires_grad_()
    rewards = torch.rand(3, 4, generator=generator).double().requires_grad_()
    drawn = torch.tensor([[0, 3], [1, 1], [2, 0]])
    chances = np.exp(logits.detach().numpy())
    chances /= chances.sum(1, keepdims=True)
    given, total = rewards.detach().numpy(), 0.0
    for i in range(3):
        for j in drawn[i]:
            total -= (given[i, j] - given[i, chances[i].argmax()]) * math.log(chances[i, j]) / 6
    assert policy_loss(logits, rewards, drawn).item() == pytest.approx(total)
    greedy = logits.argmax(dim=1, keepdim=True)
    assert policy_loss(logits, rewards, greedy).item() == 0  # the card: drawn = greedy
    assert torch.autograd.gradcheck(lambda x: policy_loss(x, rewards, drawn), (logits,))
    policy_loss(logits, rewards, drawn).backward()
    assert rewards.grad is None
    better = torch.tensor([[0.0, 1.0]])
    flat = torch.tensor([[0.1, 0.0]], requires_grad=True)
    policy_loss(flat, better, torch.tensor([[1]])).backward()
    assert flat.grad is not None
    assert flat.grad[0, 1] < 0 < flat.grad[0, 0]


def test_scores_of_all_captions_of_a_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    images, captions, others = (
        normalize(torch.randn(*shape, generator=generator).double(), dim=-1) for shape in ((3, 4), (3, 2, 4), (2, 4))
    )
    every = [*captions.flatten(0, 1), *others]
    plain, against = (caption_scores(images, captions, others, of) for of in (False, True))
    for i in range(3):
        for j, text in enumerate(every):
            assert plain[i, j].item() == pytest.approx(clip_score(images[i], text).item())
            references = torch.stack([captions[i, k] for k in range(2) if 2 * i + k != j])
            expected = ref_clip_score(images[i][None], text[None], references[None]).item()
            assert against[i, j].item() == pytest.approx(expected)
    single = caption_scores(images, captions[:, :1], others, True)
    assert single.diagonal().tolist() == [0, 0, 0]  # a caption is no reference of itself
    assert float(against.max()) > 0
