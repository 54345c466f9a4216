"""Terms of tokens: each equals a plain loop over ragged sets, has the value of its card and a true gradient."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

import xgap_analysis as xg
from xgap_analysis.scoring.tokens import TokenBlock
from xgap_analysis.training.objectives import Sizes, clip_loss
from xgap_analysis.training.objectives.grouping import grouped, grouping_loss
from xgap_analysis.training.objectives.masked_words import WordReader, hidden_words, mask_id, masked_words_loss
from xgap_analysis.training.objectives.relevant_patches import (
    PatchPainter,
    colours,
    masked_patches_loss,
    most_relevant,
    patchwise,
    relevance,
    without_patches,
)
from xgap_analysis.training.objectives.token_contrast import nearest_tokens, token_max_loss

SCALE = 6.0


def unit(*shape: int, seed: int) -> Tensor:
    return normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def block(counts: list[int], d: int, seed: int) -> TokenBlock:
    """Items of so many tokens, padded with zeros."""
    mask = torch.arange(max(counts))[None] < torch.tensor(counts)[:, None]
    return TokenBlock(unit(len(counts), max(counts), d, seed=seed) * mask[..., None], mask)


def sets(tokens: TokenBlock) -> list[np.ndarray]:
    return [own[there].numpy() for own, there in zip(tokens.vectors.detach(), tokens.mask, strict=True)]


IMAGES, TEXTS = block([3, 2, 4], 5, 0), block([1, 4, 2], 5, 1)


def test_token_max_is_the_cross_entropy_of_two_scores() -> None:
    total = 0.0
    for first, second in ((IMAGES, TEXTS), (TEXTS, IMAGES)):
        for i, a in enumerate(sets(first)):
            logits = np.array([SCALE * (a @ b.T).max(axis=1).mean() for b in sets(second)])
            logs = logits - np.log(np.exp(logits).sum())
            total -= (0.9 * logs[i] + 0.1 * logs.mean()) / 6
    assert token_max_loss(IMAGES, TEXTS, SCALE, smoothing=0.1).item() == pytest.approx(total)
    assert token_max_loss(IMAGES, TEXTS, SCALE).item() != pytest.approx(token_max_loss(IMAGES, IMAGES, SCALE).item())


def test_token_max_of_one_token_is_the_clip_loss_and_padding_never_wins() -> None:
    one, other = unit(4, 1, 5, seed=2), unit(4, 1, 5, seed=3)
    whole = torch.ones(4, 1, dtype=torch.bool)
    expected = clip_loss(one[:, 0], other[:, 0], SCALE).item()
    assert token_max_loss(TokenBlock(one, whole), TokenBlock(other, whole), SCALE).item() == pytest.approx(expected)
    far = -one + 0.1 * other  # each similarity is negative, so that a zero would win
    padded = TokenBlock(torch.cat([far, torch.zeros(4, 2, 5)], dim=1), torch.tensor([[True, False, False]] * 4))
    bare = token_max_loss(TokenBlock(one, whole), TokenBlock(far, whole), SCALE).item()
    assert token_max_loss(TokenBlock(one, whole), padded, SCALE).item() == pytest.approx(bare)


def test_the_tokens_that_are_kept_come_nearest_to_the_batch() -> None:
    kept = nearest_tokens(TEXTS, IMAGES, 0.5)
    every = np.concatenate(sets(IMAGES))
    for own, found in zip(sets(TEXTS), sets(kept), strict=True):
        count = math.ceil(len(own) / 2)
        best = sorted(range(len(own)), key=lambda i: -(every @ own[i]).max())[:count]
        np.testing.assert_array_equal(found, own[best])
    assert kept.mask[:, 0].all()
    assert nearest_tokens(TEXTS, IMAGES, 1.0) is TEXTS
    with pytest.raises(xg.XgapError, match="a share of tokens is above 0 and at most 1"):
        nearest_tokens(TEXTS, IMAGES, 1.5)


def test_grouping_pools_the_patches_of_each_caption() -> None:
    texts, delta = unit(3, 2, 5, seed=4), 0.3
    made = []
    for own, patches in zip(texts.numpy(), sets(IMAGES), strict=True):
        for text in own:
            s = patches @ text
            w = (s - s.min()) / (s.max() - s.min())
            w[w < delta] = 0
            g = (w / w.sum()) @ patches
            made.append(g / np.linalg.norm(g))
    np.testing.assert_allclose(grouped(texts, IMAGES, delta).flatten(0, 1), np.array(made), atol=1e-12)
    expected = clip_loss(torch.from_numpy(np.array(made)), texts.flatten(0, 1), SCALE).item()
    assert grouping_loss(texts, IMAGES, SCALE, delta).item() == pytest.approx(expected)


def test_grouping_where_patches_are_alike_is_the_contrast_with_them() -> None:
    """Equal similarities make 0 / 0 of the formula; the patches then count alike."""
    texts = unit(4, 2, 5, seed=5)
    patch = unit(4, 1, 5, seed=6)
    expected = clip_loss(patch.expand(-1, 2, -1).flatten(0, 1), texts.flatten(0, 1), SCALE).item()
    for count in (1, 3):
        alike = TokenBlock(patch.expand(-1, count, -1), torch.ones(4, count, dtype=torch.bool))
        for delta in (0.0, 0.5, -1.0):
            assert grouping_loss(texts, alike, SCALE, delta).item() == pytest.approx(expected)
    ranked = grouped(texts[:3], IMAGES, 1.0)  # the best patch alone
    best = [p[(p @ t).argmax()] for own, p in zip(texts[:3].numpy(), sets(IMAGES), strict=True) for t in own]
    np.testing.assert_allclose(ranked.flatten(0, 1), np.array(best), atol=1e-12)


def test_the_gradients_equal_finite_differences() -> None:
    x, y, many = (
        IMAGES.vectors.clone().requires_grad_(),
        TEXTS.vectors.clone().requires_grad_(),
        unit(3, 2, 5, seed=7).requires_grad_(),
    )
    scale = torch.tensor(SCALE, dtype=torch.float64, requires_grad=True)

    def contrast(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
        return token_max_loss(TokenBlock(a, IMAGES.mask), TokenBlock(b, TEXTS.mask), s)

    def grouping(t: Tensor, a: Tensor, s: Tensor) -> Tensor:
        return grouping_loss(t, TokenBlock(a, IMAGES.mask), s, 0.2)

    assert torch.autograd.gradcheck(contrast, (x, y, scale))
    assert torch.autograd.gradcheck(grouping, (many, x, scale))


def test_the_gradients_of_terms_with_parameters_equal_finite_differences() -> None:
    words, patches = unit(2, 3, 4, seed=0).requires_grad_(), IMAGES.vectors[:2, :3, :4].detach().clone()
    patches.requires_grad_()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, painter = WordReader(Sizes(4, 3, words=9), blocks=1).double(), PatchPainter(Sizes(4, 3)).double()
    ids, is_word = torch.tensor([[7, 1, 2], [7, 3, 0]]), torch.tensor([[False, True, True], [False, True, False]])
    whole = torch.ones(2, 3, dtype=torch.bool)
    pixels = torch.rand(2, 3, 4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def reading(w: Tensor, p: Tensor) -> Tensor:
        return masked_words_loss(model, w, is_word, TokenBlock(p, whole), ids, is_word)

    def painting(w: Tensor, p: Tensor) -> Tensor:
        return masked_patches_loss(painter(p, TokenBlock(w, is_word | (ids == 7))), pixels, whole)

    assert torch.autograd.gradcheck(reading, (words, patches))
    assert torch.autograd.gradcheck(painting, (words, patches))


IDS = torch.tensor([[90, 5, 6, 7, 91, 0], [90, 8, 91, 0, 0, 0], [90, 91, 0, 0, 0, 0], [90, 5, 5, 5, 5, 91]])
IS_WORD = (IDS > 0) & (IDS < 90)


def test_at_least_one_word_of_each_caption_is_hidden() -> None:
    generator = torch.Generator().manual_seed(0)
    changed, chosen = hidden_words(IDS, IS_WORD, 92, generator, share=0.0)
    assert chosen.sum(1).tolist() == [1, 1, 0, 1]
    assert torch.equal(changed[~chosen], IDS[~chosen])
    again = hidden_words(IDS, IS_WORD, 92, torch.Generator().manual_seed(0), share=0.0)
    assert torch.equal(again[0], changed)
    assert torch.equal(again[1], chosen)
    assert torch.equal(hidden_words(IDS, IS_WORD, 92, generator, share=1.0)[1], IS_WORD)


def test_most_hidden_words_become_the_mask_and_some_another_word() -> None:
    ids = torch.full((200, 20), 5)
    changed, chosen = hidden_words(ids, torch.ones_like(ids).bool(), 92, torch.Generator().manual_seed(1), share=0.5)
    of = changed[chosen]
    assert chosen.double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert (of == mask_id(92)).double().mean().item() == pytest.approx(0.8, abs=0.05)
    assert ((of != mask_id(92)) & (of != 5)).double().mean().item() == pytest.approx(0.1, abs=0.03)
    assert mask_id(49408) == 49405  # as the authors take it


def reader() -> WordReader:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return WordReader(Sizes(8, 3, words=92), blocks=1, heads=2).double()


def test_hidden_words_are_read_off_their_own_image_and_caption_alone() -> None:
    model, words = reader(), unit(4, 6, 8, seed=0)
    patches = block([2, 3, 1, 2], 8, 1)
    chosen = torch.zeros_like(IS_WORD)
    chosen[0, 2] = chosen[1, 1] = True
    found = masked_words_loss(model, words, IS_WORD, patches, IDS, chosen)
    logits = torch.stack([model.head(model(words, IS_WORD | (IDS == 90), patches))[i, j] for i, j in ((0, 2), (1, 1))])
    assert found.item() == pytest.approx(cross_entropy(logits, torch.tensor([6, 8])).item())
    # Another image, padded patches and what stands behind the caption change nothing; the own image does.
    elsewhere, padded = patches.vectors.clone(), torch.cat([patches.vectors, torch.ones(4, 1, 8)], dim=1)
    elsewhere[3] = -elsewhere[3]
    mask = torch.cat([patches.mask, torch.zeros(4, 1, dtype=torch.bool)], dim=1)
    behind = words.clone()
    behind[0, 5] = behind[1, 3] = 1.0
    for changed, tokens in (
        (words, TokenBlock(elsewhere, patches.mask)),
        (words, TokenBlock(padded, mask)),
        (behind, patches),
    ):
        again = masked_words_loss(model, changed, IS_WORD, tokens, IDS, chosen)
        assert again.item() == pytest.approx(found.item())
    own = TokenBlock(-patches.vectors, patches.mask)
    assert masked_words_loss(model, words, IS_WORD, own, IDS, chosen).item() != pytest.approx(found.item())
    assert masked_words_loss(model, words, IS_WORD, patches, IDS, torch.zeros_like(chosen)).item() == 0


def test_of_words_that_nothing_is_known_of_the_loss_is_the_log_of_the_vocabulary() -> None:
    model = reader()
    torch.nn.init.zeros_(model.head[-1].weight)
    torch.nn.init.zeros_(model.head[-1].bias)
    found = masked_words_loss(model, unit(4, 6, 8, seed=0), IS_WORD, block([1] * 4, 8, 1), IDS, IS_WORD)
    assert found.item() == pytest.approx(math.log(92))
    with pytest.raises(xg.XgapError, match="heads must divide the 8 dimensions"):
        WordReader(Sizes(8, 3, words=92), heads=3)


def test_a_patch_equal_to_a_word_has_relevance_one_and_is_hidden_first() -> None:
    words = block([2, 3, 1], 5, 8)
    vectors = unit(3, 4, 5, seed=9)
    vectors[0, 2] = words.vectors[0, 1]
    patches = TokenBlock(vectors, torch.ones(3, 4, dtype=torch.bool))
    found = relevance(patches, words)
    expected = [[max(p @ w for w in own) for p in image] for image, own in zip(sets(patches), sets(words), strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found[0, 2].item() == pytest.approx(1)
    assert most_relevant(found, patches.mask, 0.25)[0].tolist() == [False, False, True, False]
    high, low = most_relevant(found, patches.mask, 0.5), most_relevant(-found, patches.mask, 0.5)
    assert torch.equal(high, ~low)
    with pytest.raises(xg.XgapError, match="a share of patches is above 0 and at most 1, not 0"):
        most_relevant(found, patches.mask, 0.0)


def test_hidden_patches_are_those_of_the_image() -> None:
    pixels = torch.rand(2, 3, 8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert patchwise(pixels, 8) == (2, 4)
    hidden = torch.zeros(2, 8, dtype=torch.bool)
    hidden[0, 6] = True  # row 1, column 2
    made = without_patches(pixels, hidden)
    assert (made[0, :, 4:8, 8:12] == 0).all()
    made[0, :, 4:8, 8:12] = pixels[0, :, 4:8, 8:12]
    assert torch.equal(made, pixels)
    of = colours(pixels, 8)
    torch.testing.assert_close(of[0, 6], pixels[0, :, 4:8, 8:12].flatten())  # 4 x 4 pixels a patch: as they are
    with pytest.raises(xg.XgapError, match="5 patches are no grid of an image of 8 x 16"):
        patchwise(pixels, 5)


def test_only_hidden_patches_count_and_right_colours_give_zero() -> None:
    pixels = torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hidden = torch.tensor([[True, False, False, False], [False, True, True, False]])
    painted = torch.where(hidden[..., None], colours(pixels, 4), torch.tensor(9.0, dtype=torch.float64))
    assert masked_patches_loss(painted, pixels, hidden).item() == 0
    assert masked_patches_loss(painted + 0.5, pixels, hidden).item() == pytest.approx(0.25)
    grid = [pixels[0, c, 4 * j : 4 * j + 4, 4 * i : 4 * i + 4] for c in range(3) for j in range(2) for i in range(2)]
    small = colours(pixels, 1)[0, 0].view(3, 4, 4)
    assert small[0, 0, 0].item() == pytest.approx(grid[0].mean().item())


def test_the_painter_reads_the_words_of_the_own_caption() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        painter = PatchPainter(Sizes(5, 3, words=92)).double()
    patches, pixels = unit(3, 4, 5, seed=0), torch.zeros(3, 3, 8, 8, dtype=torch.float64)
    hidden = torch.zeros(3, 4, dtype=torch.bool)
    hidden[0, 0] = True
    one = masked_patches_loss(painter(patches, TEXTS), pixels, hidden).item()
    other = TEXTS.vectors.clone()
    other[1] = -other[1]
    assert masked_patches_loss(painter(patches, TokenBlock(other, TEXTS.mask)), pixels, hidden).item() == one
    other[0] = -other[0]
    assert masked_patches_loss(painter(patches, TokenBlock(other, TEXTS.mask)), pixels, hidden).item() != one
