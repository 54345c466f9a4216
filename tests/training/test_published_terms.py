"""Terms of published systems equal plain loops on random input, give their known answers, and have right gradients."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from torch import Tensor
from torch.nn.functional import normalize

from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring import scorer
from xgap_analysis.training import BatchFeatures, Sizes, objective
from xgap_analysis.training.objectives import (
    angular,
    clip_loss,
    match,
    mc_arc_margin_loss,
    off_diagonal_loss,
    one_to_many_loss,
    pair,
    pair_scores_loss,
    products,
    sdm_loss,
    symile_loss,
)
from xgap_analysis.training.objectives.pair_scores import PairHead

Made = Callable[..., BatchFeatures]
SEEDS = range(5)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def same(*shape: int) -> Tensor:
    """Unit rows that are all the same."""
    return normalize(torch.ones(*shape, dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("smooth", [0.0, 0.1])
def test_match_is_the_cross_entropy_and_both_divergences(seed: int, smooth: float) -> None:
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(size=(4, 6)) * 3, rng.dirichlet(np.ones(6), size=4)
    target[0, 2:] = 0
    target[0] /= target[0].sum()
    t = (1 - smooth) * target + smooth / 6
    p, log_p = softmax(logits, 1), log_softmax(logits, 1)
    expected = {
        "ce": -(t * log_p).sum(1),
        "forward": rel_entr(t, p).sum(1),
        "reverse": (p * (log_p - np.log(t + 1e-8))).sum(1),
    }
    for kind, rows in expected.items():
        of = torch.tensor(logits), torch.tensor(target)
        assert match(*of, kind=kind, smooth=smooth).item() == pytest.approx(rows.mean(), abs=1e-12)
        assert match(*of, kind=kind, smooth=smooth, total="sum").item() == pytest.approx(rows.sum(), abs=1e-12)
    index = torch.tensor([5, 0, 1, 1])
    one_hot = torch.eye(6, dtype=torch.float64)[index]
    for kind in expected:
        both = [match(torch.tensor(logits), target, kind=kind, smooth=smooth).item() for target in (index, one_hot)]
        assert both[0] == pytest.approx(both[1], abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_angular_adds_the_margin_to_own_angles_and_falls_beyond_half_a_turn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cosine, own, margin = rng.uniform(-1, 1, (5, 7)), rng.random((5, 7)) < 0.4, 0.6
    expected = cosine.copy()
    for i, j in zip(*np.nonzero(own), strict=True):
        angle = math.acos(cosine[i, j])
        expected[i, j] = (
            math.cos(angle + margin) if angle + margin < math.pi else cosine[i, j] - margin * math.sin(margin)
        )
    made = angular(torch.tensor(cosine), torch.tensor(own), 3.0, margin)
    np.testing.assert_allclose(made, 3 * expected, atol=1e-5)
    grid = angular(torch.linspace(-1, 1, 300)[:, None], torch.ones(300, 1, dtype=torch.bool), 1.0, margin)[:, 0]
    assert (grid.diff() > 0).all()


def naive_mc(images: np.ndarray, texts: list[np.ndarray], scale: float, margin: float, hardest: float) -> float:
    total = 0.0
    for i, image in enumerate(images):
        logits, target = [], []
        for j, own in enumerate(texts):
            for text in own:
                cos = float(image @ text)
                if i == j:
                    angle = math.acos(cos)
                    far = angle + margin > math.pi
                    cos = cos - margin * math.sin(margin) if far else math.cos(angle + margin)
                logits.append(scale * cos)
                target.append(1 / len(own) if i == j else 0.0)
        log_p = log_softmax(logits)
        total += -sum(t * x for t, x in zip(target, log_p, strict=True))
        total += hardest * max((1 - t) * -x for t, x in zip(target, log_p, strict=True))
    return total / len(images)


@pytest.mark.parametrize("seed", SEEDS)
def test_mc_arc_margin_of_different_numbers_of_captions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, texts = unit(5, 4, seed=seed), unit(5, 3, 4, seed=seed + 100)
    counts = rng.integers(1, 4, 5)
    counts[1] = 0  # an image without captions counts with the second part only
    there = torch.arange(3)[None] < torch.tensor(counts)[:, None]
    ragged = [texts[i, : counts[i]].numpy() for i in range(5)]
    made = mc_arc_margin_loss(images, texts, there, 12.0, 0.3, 0.2).item()
    assert made == pytest.approx(naive_mc(images.numpy(), ragged, 12.0, 0.3, 0.2), abs=1e-5)
    other = texts.masked_fill(~there[..., None], 0.7)  # padding is read nowhere
    assert mc_arc_margin_loss(images, other, there, 12.0, 0.3, 0.2).item() == made


def test_mcip_of_equal_cosines_is_1_1_log_2_and_its_first_part_is_infonce() -> None:
    assert mc_arc_margin_loss(same(2, 3), same(2, 1, 3), scale=1.0, margin=0.0).item() == pytest.approx(
        0.7624, abs=1e-4
    )
    images, texts = unit(5, 4), unit(5, 4, seed=1)
    half = match(9.0 * images @ texts.T, torch.arange(5)).item()
    plain = mc_arc_margin_loss(images, texts[:, None], scale=9.0, margin=0.0, hardest=0.0).item()
    assert plain == pytest.approx(half, abs=1e-6)
    assert mc_arc_margin_loss(images, texts[:, None], scale=9.0).item() > plain + 0.01
    with pytest.raises(XgapError, match=r'no image of a batch has a caption; with captions="near\(...\)" lower'):
        mc_arc_margin_loss(images, texts[:, None], torch.zeros(5, 1, dtype=torch.bool))


def test_mc_arc_margin_leaves_texts_where_they_are(full_batch: Made) -> None:
    batch = full_batch()
    images, texts = batch.images.clone().requires_grad_(), batch.texts.clone().requires_grad_()
    objective("mc-arc-margin")(replace(batch, images=images, texts=texts)).backward()
    assert images.grad.abs().sum() > 0
    assert texts.grad is None


@pytest.mark.parametrize("seed", SEEDS)
def test_one_to_many_as_published_counts_texts_a_kth(seed: int) -> None:
    n, k = 4, 3
    images, texts = unit(n, 5, seed=seed), unit(n, k, 5, seed=seed + 1)
    logits = 6.0 * images.numpy() @ texts.flatten(0, 1).numpy().T
    own = np.arange(n).repeat(k)
    i2t = -np.mean([log_softmax(logits[i])[own == i].sum() for i in range(n)])  # summed over an image's captions
    t2i = -np.mean([log_softmax(logits[:, j])[own[j]] for j in range(n * k)])
    made = one_to_many_loss(images, texts, 6.0, "published").item()
    assert made == pytest.approx((i2t + t2i) / (2 * k), abs=1e-12)
    assert one_to_many_loss(images, texts, 6.0).item() == pytest.approx((i2t / k + t2i) / 2, abs=1e-12)


def test_one_to_many_of_equal_logits() -> None:
    both = [one_to_many_loss(same(2, 4), same(2, 3, 4), 1.0, w).item() for w in ("equal", "published")]
    assert both == pytest.approx([1.2425, 1.0114], abs=1e-4)
    images, texts = unit(4, 3), unit(4, 3, seed=1)
    assert one_to_many_loss(images, texts[:, None], 7.0, "published").item() == pytest.approx(
        clip_loss(images, texts, 7.0).item(), abs=1e-12
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_symile_is_the_mean_cross_entropy_over_anchors(seed: int, modalities: int) -> None:
    n, d = 3, 4
    blocks = [unit(n, d, seed=seed + 10 * m) for m in range(modalities)]
    arrays = [block.numpy() for block in blocks]
    total = 0.0
    for a in range(modalities):
        others = [arrays[m] for m in range(modalities) if m != a]
        for i in range(n):
            logits = {}
            for chosen in np.ndindex(*[n] * len(others)):
                row = np.prod([block[j] for block, j in zip(others, chosen, strict=True)], axis=0)
                logits[chosen] = 9.0 * float(arrays[a][i] @ row)
            total -= logits[(i,) * len(others)] - math.log(sum(map(math.exp, logits.values())))
    expected = pytest.approx(total / (n * modalities), abs=1e-9)
    assert symile_loss(blocks, 9.0, "all").item() == expected
    assert symile_loss(blocks[::-1], 9.0, "all").item() == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_shuffled_products_keep_the_right_ones_on_the_diagonal(seed: int) -> None:
    blocks = [unit(6, 4, seed=seed + 10 * m) for m in range(3)]
    logits, target = products(blocks, 1, "shuffle", torch.Generator().manual_seed(seed))
    rng = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(6, generator=rng) for _ in range(2)]
    for i in range(6):
        for j in range(6):
            a, c = (i, i) if i == j else (orders[0][j], orders[1][j])
            assert logits[i, j].item() == pytest.approx((blocks[1][i] * blocks[0][a] * blocks[2][c]).sum().item())
    assert target.tolist() == list(range(6))


def test_symile_of_two_modalities_is_clip_and_of_equal_rows_a_logarithm(full_batch: Made) -> None:
    images, texts = unit(5, 4), unit(5, 4, seed=1)
    assert symile_loss([images, texts], 8.0, "all").item() == pytest.approx(
        clip_loss(images, texts, 8.0).item(), abs=1e-12
    )
    equal = [same(4, 3)] * 3
    assert symile_loss(equal, 5.0, "shuffle").item() == pytest.approx(math.log(4))
    assert symile_loss(equal, 5.0, "all").item() == pytest.approx(2 * math.log(4))
    batch = full_batch()
    term = objective("symile")
    assert term(batch).item() == term(batch).item()  # what it draws follows from the step
    assert term(batch).item() != term(replace(batch, seed=1)).item()
    two = [clip_loss(a, b, 5.0) for a, b in ((images, texts), (images, images), (texts, images))]
    triple = replace(batch, images=images[None], texts=texts[:, None], labels=torch.arange(5), extra={"x": images},
                     image_tokens=None, text_tokens=None, pair_scores=None, ids=None, is_word=None)  # fmt: skip
    assert objective("pairwise-clip")(triple).item() == pytest.approx(sum(two).item())
    with pytest.raises(XgapError, match='take a smaller batch, or negatives="shuffle"'):
        products([torch.zeros(2048, 64)] * 3, 0, "all")
    with pytest.raises(XgapError, match="needs two of them or more"):
        products([images], 0, "all")
    with pytest.raises(XgapError, match="this batch has no extra"):
        term(replace(batch, extra={}))


def naive_off_diagonal(now: np.ndarray, before: np.ndarray) -> float:
    total = 0.0
    for s, t in ((now, before), (now.T, before.T)):
        for i in range(len(s)):
            if int(t[i].argmax()) == i:
                total += rel_entr(softmax(t[i]), softmax(s[i])).sum() / 2
    return total


@pytest.mark.parametrize("seed", SEEDS)
def test_the_off_diagonal_term_reads_rows_that_the_old_model_has_right(seed: int, full_batch: Made) -> None:
    rng = np.random.default_rng(seed)
    x = unit(6, 5, seed=seed)
    old = normalize(x + torch.tensor(rng.normal(size=(6, 5))) * 0.5, dim=1)
    args = x, unit(6, 5, seed=seed + 1), old, x
    right = (old @ x.T).argmax(1) == torch.arange(6)
    assert 0 < right.sum() < 6 or seed
    expected = naive_off_diagonal((args[0] @ args[1].T).numpy(), (old @ x.T).numpy())
    assert off_diagonal_loss(*args).item() == pytest.approx(expected, abs=1e-12)


def test_mod_x_of_an_unchanged_and_of_a_wrong_model_is_zero_and_of_a_constant_one_0_2219(full_batch: Made) -> None:
    x, y = unit(5, 4), unit(5, 4, seed=1)
    assert off_diagonal_loss(x, x, x, x).item() == pytest.approx(0, abs=1e-12)
    assert off_diagonal_loss(x, y, x, x.roll(1, 0)).item() == pytest.approx(0, abs=1e-12)
    eye = torch.eye(2, dtype=torch.float64)
    assert off_diagonal_loss(same(2, 2), same(2, 2), eye, eye).item() == pytest.approx(0.2219, abs=1e-4)
    batch = full_batch()
    assert objective("off-diagonal")(replace(batch, teacher=batch)).item() == pytest.approx(0, abs=1e-12)
    assert objective("off-diagonal")(batch).item() >= 0


@pytest.mark.parametrize("seed", SEEDS)
def test_sdm_spreads_similarities_over_the_items_of_a_label(seed: int) -> None:
    x, y = unit(6, 5, seed=seed), unit(6, 5, seed=seed + 1)
    labels = np.array([0, 0, 1, 2, 2, 2])
    total = 0.0
    for logits in (7.0 * x.numpy() @ y.numpy().T, 7.0 * y.numpy() @ x.numpy().T):
        for i in range(6):
            p, q = softmax(logits[i]), (labels == labels[i]) / (labels == labels[i]).sum()
            total += sum(p[j] * (math.log(p[j]) - math.log(q[j] + 1e-8)) for j in range(6)) / 6
    assert sdm_loss(x, y, torch.tensor(labels), 7.0).item() == pytest.approx(total, abs=1e-9)


def test_sdm_of_one_label_is_zero_and_of_two_is_17_034() -> None:
    assert sdm_loss(same(4, 3), same(4, 3), torch.zeros(4, dtype=torch.long)).item() == pytest.approx(0, abs=1e-6)
    assert sdm_loss(same(2, 3), same(2, 3), torch.arange(2)).item() == pytest.approx(17.034, abs=1e-3)


def test_pair_scores_are_regressed_on_those_of_a_scorer(full_batch: Made) -> None:
    batch = full_batch()
    x, y = unit(4, 5), unit(3, 5, seed=1)
    assert pair_scores_loss(x @ y.T, x @ y.T).item() == 0
    head = PairHead(5, 3).double()
    made = pair(x, y, head)
    first, last = head.layers[0], head.layers[2]
    for i in range(4):
        for j in range(3):
            a, b = x[i].numpy(), y[j].numpy()
            row = np.concatenate([a, b, a * b, np.abs(a - b)])
            hidden = np.maximum(first.weight.detach().numpy() @ row + first.bias.detach().numpy(), 0)
            score = last.weight.detach().numpy() @ hidden + last.bias.detach().numpy()
            assert made[i, j].item() == pytest.approx(score[0], abs=1e-12)
    teacher = batch.teacher
    wanted = scorer("late_interaction")(teacher.image_tokens, teacher.text_tokens).double()
    term = objective("pair-scores(width=0)")
    own = term.made(Sizes(5, 4)).double()
    each = [((i @ t.T) - wanted).square().mean().item() for i, t in batch.pairs()]
    assert term(batch, own).item() == pytest.approx(np.mean(each), abs=1e-9)
    given = replace(batch, pair_scores=batch.images[0] @ batch.texts[:, 0].T, images=batch.images[:1])
    assert objective("pair-scores(scorer=None, width=0)")(given, own).item() == pytest.approx(0, abs=1e-12)
    needs = [objective(f"pair-scores(scorer={name})").needed for name in ("late_interaction", "cosine", "None")]
    assert [n.teacher for n in needs] == [True, True, False]
    assert [n.image_tokens and n.text_tokens for n in needs] == [True, False, False]
    assert [n.pair_scores for n in needs] == [False, False, True]


def test_the_gradients_equal_finite_differences(full_batch: Made) -> None:
    x, y, many = unit(4, 3), unit(4, 3, seed=1), unit(4, 2, 3, seed=2)
    z, old = unit(4, 3, seed=3), (unit(4, 3, seed=4), unit(4, 3, seed=5))
    labels, there = (
        torch.tensor([0, 0, 1, 2]),
        torch.tensor([[True, True], [True, False], [False, False], [True, True]]),
    )
    logits, target = torch.randn(3, 4, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64)
    for tensor in (x, y, many, z, logits, target):
        tensor.requires_grad_()

    def shuffled(*blocks: Tensor) -> Tensor:
        return symile_loss(blocks, 3.0, "shuffle", torch.Generator().manual_seed(0))

    for loss, given in (
        (lambda a: match(a, target.detach(), kind="forward"), (logits,)),
        (lambda a: match(a, target.detach(), kind="reverse"), (logits,)),
        (lambda a, b: mc_arc_margin_loss(a, b, there, 6.0, 0.2), (x, many)),
        (lambda a, b: one_to_many_loss(a, b, 5.0, "published"), (x, many)),
        (lambda a, b, c: symile_loss([a, b, c], 5.0, "all"), (x, y, z)),
        (shuffled, (x, y, z)),
        (lambda a, b: off_diagonal_loss(a, b, *old), (x, y)),
        (lambda a, b: off_diagonal_loss(a, b, old[0], old[0]), (x, y)),
        (lambda a, b: sdm_loss(a, b, labels, 5.0), (x, y)),
        (lambda a, b: pair_scores_loss(pair(a, b), old[0] @ old[1].T), (x, y)),
    ):
        assert torch.autograd.gradcheck(loss, given)


TERMS = [
    "one-to-many(k=2, weighting=published)",
    "mc-arc-margin",
    "symile",
    "symile(negatives=all)",
    "pairwise-clip",
    "off-diagonal",
    "sdm",
    "identity",
    "pair-scores",
    "pair-scores(scorer=None, width=0)",
]


@pytest.mark.parametrize("name", [name for name in TERMS if name != "symile"])
def test_the_order_of_the_items_changes_no_term(name: str, full_batch: Made) -> None:
    term, batch, order = objective(name), full_batch(), torch.tensor([2, 0, 3, 1])
    own = term.made(Sizes(5, 4))
    own = None if own is None else own.double()

    def turned(b: BatchFeatures) -> BatchFeatures:
        blocks = {
            part: replace(getattr(b, part), vectors=getattr(b, part).vectors[order], mask=getattr(b, part).mask[order])
            for part in ("image_tokens", "text_tokens")
        }
        return replace(
            b,
            images=b.images[:, order],
            texts=b.texts[order],
            labels=b.labels[order],
            extra={m: rows[order] for m, rows in b.extra.items()},
            pair_scores=b.pair_scores[order][:, order],
            teacher=None if b.teacher is None else turned(b.teacher),
            **blocks,
        )

    assert term(turned(batch), own).item() == pytest.approx(term(batch, own).item(), abs=1e-6)
