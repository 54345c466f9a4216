"""Terms of features: each equals a plain loop, has the value of its card and the gradient of finite differences."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

import xgap_analysis as xg
from xgap_analysis.training.objectives import Sizes, clip_loss, uniformity_loss
from xgap_analysis.training.objectives.centroids import centroid_uniformity_loss
from xgap_analysis.training.objectives.grouping import multi_positive_loss
from xgap_analysis.training.objectives.latent_space import (
    Reconstruction,
    adaptive_contrast,
    reconstruction_loss,
    separability_loss,
)
from xgap_analysis.training.objectives.multi_event import multi_event_loss
from xgap_analysis.training.objectives.principal import long_and_short_loss, principal
from xgap_analysis.training.objectives.refinement import hybrid_distillation_loss, random_reference_loss


def unit(*shape: int, seed: int) -> Tensor:
    return normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def softmax(row: np.ndarray) -> np.ndarray:
    above = np.exp(row - row.max())
    return above / above.sum()


X, Y, SCALE = unit(5, 4, seed=0), unit(5, 4, seed=1), 7.0


def test_several_positives_are_the_mean_of_clip_losses() -> None:
    texts = unit(5, 3, 4, seed=2)
    expected = np.mean([clip_loss(X, texts[:, k], SCALE).item() for k in range(3)])
    assert multi_positive_loss(X, texts, SCALE).item() == pytest.approx(expected)
    equal = Y[:, None].expand(-1, 3, -1)
    assert multi_positive_loss(X, equal, SCALE).item() == pytest.approx(clip_loss(X, Y, SCALE).item())


@pytest.mark.parametrize("unbalanced", [False, True])
def test_every_text_of_a_video_is_a_positive_of_it(unbalanced: bool) -> None:
    scores = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    video_of = torch.tensor([0, 0, 0, 1, 2, 2, 1])
    own = video_of[:, None] == torch.arange(3)

    def one_way(values: np.ndarray, positive: np.ndarray) -> float:
        total = 0.0
        for row, mine in zip(values, positive, strict=True):
            each = []
            for j in np.flatnonzero(mine):
                beside = [math.exp(row[i]) for i in range(len(row)) if i == j or not (unbalanced and mine[i])]
                each.append(-math.log(math.exp(row[j]) / sum(beside)))
            total += sum(each) / len(each)
        return total / len(values)

    values, positive = scores.numpy(), own.numpy()
    expected = one_way(values.T, positive.T) + 0.3 * one_way(values, positive)
    assert multi_event_loss(scores, own, 0.3, unbalanced=unbalanced).item() == pytest.approx(expected)


def test_one_text_per_video_is_twice_the_clip_loss() -> None:
    found = multi_event_loss(SCALE * Y @ X.T, torch.eye(5, dtype=torch.bool))
    assert found.item() == pytest.approx(2 * clip_loss(X, Y, SCALE).item())


def test_principal_keeps_the_leading_directions_of_a_batch() -> None:
    vectors = unit(9, 6, seed=3)
    centred = vectors.numpy() - vectors.numpy().mean(0)
    u, s, v = np.linalg.svd(centred, full_matrices=False)
    expected = vectors.numpy().mean(0) + (u[:, :2] * s[:2]) @ v[:2]
    np.testing.assert_allclose(principal(vectors, 2), expected, atol=1e-12)
    assert torch.equal(principal(vectors, 8), vectors)  # n - 1 directions are all there are
    assert not torch.allclose(principal(vectors, 3), vectors)


def test_principal_has_a_gradient_where_directions_cannot_be_distinguished() -> None:
    same = torch.ones(6, 4, dtype=torch.float64).requires_grad_()
    twice = unit(3, 4, seed=0).repeat(2, 1).requires_grad_()
    for vectors in (same, twice):
        made = principal(vectors, 3)
        torch.testing.assert_close(made, vectors)
        (gradient,) = torch.autograd.grad(made.sum(), vectors)
        assert torch.isfinite(gradient).all()


def test_long_and_short_captions_in_plain_numpy() -> None:
    short, smoothing = unit(5, 4, seed=4), 0.1

    def contrast(of: np.ndarray, captions: np.ndarray) -> float:
        logits, total = SCALE * of @ captions.T, 0.0
        for way in (logits, logits.T):
            for i, row in enumerate(way):
                target = np.full(5, smoothing / 5)
                target[i] += 1 - smoothing
                total -= (target * np.log(softmax(row))).sum() / 10
        return total

    expected = contrast(X.numpy(), Y.numpy()) + 0.5 * contrast(principal(X, 2).numpy(), short.numpy())
    found = long_and_short_loss(X, Y, short, SCALE, rank=2, smoothing=smoothing, short_weight=0.5)
    assert found.item() == pytest.approx(expected)
    whole = long_and_short_loss(X, Y, Y, SCALE, smoothing=0.0)  # the default rank is above n - 1
    assert whole.item() == pytest.approx(2 * clip_loss(X, Y, SCALE).item())


def test_centroids_of_pairs_are_spread() -> None:
    centres = [(x + y) / np.linalg.norm(x + y) for x, y in zip(X.numpy(), Y.numpy(), strict=True)]
    kernels = [math.exp(-2 * ((centres[i] - centres[j]) ** 2).sum()) for i in range(5) for j in range(i)]
    assert centroid_uniformity_loss(X, Y).item() == pytest.approx(math.log(np.mean(kernels)))
    assert centroid_uniformity_loss(X, X).item() == pytest.approx(uniformity_loss(X).item())


def test_random_references_pull_both_modalities_to_one_place() -> None:
    references = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    expected = sum(
        (x[i, j] - references[i, j]) ** 2 for x in (X, Y) for i in range(5) for j in range(4)
    ) / (5 * 4)  # fmt: skip
    assert random_reference_loss(X, Y, references).item() == pytest.approx(float(expected))
    assert random_reference_loss(X, X, X).item() == 0


def test_distillation_of_mixed_targets_in_plain_numpy() -> None:
    student, teacher = (X @ Y.T).numpy(), (unit(5, 4, seed=6) @ unit(5, 4, seed=7).T).numpy()
    total = 0.0
    for s, t in ((student, teacher), (student.T, teacher.T)):
        for i in range(5):
            q = 0.3 * np.eye(5)[i] + 0.7 * softmax(t[i])
            total += (q * np.log(q / softmax(s[i]))).sum() / 10
    found = hybrid_distillation_loss(torch.from_numpy(student), torch.from_numpy(teacher), 0.3)
    assert found.item() == pytest.approx(total)
    same = torch.from_numpy(teacher)
    assert hybrid_distillation_loss(same, same, 0.0).item() == pytest.approx(0, abs=1e-12)


def test_separability_of_equal_rows_is_the_log_of_their_number() -> None:
    assert separability_loss(X[:1].expand(5, -1), SCALE).item() == pytest.approx(math.log(5))
    expected = np.mean([math.log(sum(math.exp(SCALE * (X[i] @ X[j] - 1)) for j in range(5))) for i in range(5)])
    assert separability_loss(X, SCALE).item() == pytest.approx(expected)


def test_an_item_among_many_like_it_has_a_higher_temperature() -> None:
    def one_way(a: np.ndarray, b: np.ndarray, guidance: float) -> float:
        total = 0.0
        for i in range(5):
            alike = np.mean([a[i] @ a[j] for j in range(5) if j != i])
            total -= math.log(softmax(SCALE * (b @ a[i]) / (1 + guidance * max(0.0, alike)))[i]) / 10
        return total

    x, y = normalize(X + 1, dim=1), normalize(Y + 1, dim=1)  # most of them alike
    expected = one_way(x.numpy(), y.numpy(), 2.0) + one_way(y.numpy(), x.numpy(), 2.0)
    assert adaptive_contrast(x, y, SCALE, 2.0).item() == pytest.approx(expected)
    assert adaptive_contrast(x, y, SCALE, 0.0).item() == pytest.approx(clip_loss(x, y, SCALE).item())
    assert abs(adaptive_contrast(x, y, SCALE, 2.0).item() - clip_loss(x, y, SCALE).item()) > 0.01
    apart = torch.eye(4, dtype=torch.float64)
    assert adaptive_contrast(apart, apart, SCALE).item() == pytest.approx(clip_loss(apart, apart, SCALE).item())


def test_a_latent_space_of_all_dimensions_can_rebuild_both_modalities() -> None:
    own = Reconstruction(Sizes(4, 3), width=4).double()
    with torch.no_grad():
        for part in own.parameters():
            part.copy_(1e-3 * torch.eye(4) if part.ndim == 2 else torch.zeros(4))
    assert reconstruction_loss(own, X, X).item() == pytest.approx(0, abs=1e-5)  # tanh is the identity near 0
    cosines = [(a * b).sum(1).mean().item() for a in (X, Y) for b in (X, Y)]
    assert reconstruction_loss(own, X, Y).item() == pytest.approx(1 - np.mean(cosines), abs=1e-5)
    assert Reconstruction(Sizes(9, 3)).encoders["image"].out_features == 4


def test_the_gradients_equal_finite_differences() -> None:
    def leaf(*shape: int, seed: int) -> Tensor:
        return unit(*shape, seed=seed).requires_grad_()

    x, y, many = leaf(5, 3, seed=0), leaf(5, 3, seed=1), leaf(5, 2, 3, seed=2)
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    own = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1], [1, 0]]).bool()
    scores = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    latent = Reconstruction(Sizes(3, 3), width=2).double()
    drawn = unit(5, 3, seed=4)
    for loss, given in (
        (multi_positive_loss, (x, many, scale)),
        (lambda s: multi_event_loss(s, own, 0.5), (scores,)),
        (lambda s: multi_event_loss(s, own, unbalanced=True), (scores,)),
        (lambda a: principal(a, 2), (x,)),
        (lambda a, b, s: long_and_short_loss(a, b, b, s, rank=2), (x, y, scale)),
        (centroid_uniformity_loss, (x, y)),
        (lambda a, b: random_reference_loss(a, b, drawn), (x, y)),
        (lambda a, b: hybrid_distillation_loss(a @ b.T, drawn @ drawn.T), (x, y)),
        (separability_loss, (x, scale)),
    ):
        assert torch.autograd.gradcheck(loss, given)
    # What guides a temperature and what is to be rebuilt are constants: the gradient is that of the loss around them.
    alike = [(z @ z.T).detach().fill_diagonal_(0).sum(1) / 4 for z in (x, y)]
    frozen = [z.detach().clone() for z in (x, y)]

    def guided(a: Tensor, b: Tensor) -> Tensor:
        logits, target = 5.0 * a @ b.T, torch.arange(5)
        each = [
            torch.nn.functional.cross_entropy(way / (1 + m.clamp_min(0))[:, None], target)
            for way, m in zip((logits, logits.T), alike, strict=True)
        ]
        return (each[0] + each[1]) / 2

    def rebuilt(a: Tensor, b: Tensor) -> Tensor:
        named = {"image": (a, frozen[0]), "text": (b, frozen[1])}
        each = [1 - (latent(named[of][0], of, to) * named[to][1]).sum(1).mean() for of in named for to in named]
        return torch.stack(each).mean()

    for ours, theirs in (
        (lambda a, b: adaptive_contrast(a, b, 5.0), guided),
        (lambda a, b: reconstruction_loss(latent, a, b), rebuilt),
    ):
        assert torch.autograd.gradcheck(theirs, (x, y))
        for mine, checked in zip(*(torch.autograd.grad(f(x, y), (x, y)) for f in (ours, theirs)), strict=True):
            torch.testing.assert_close(mine, checked)


def test_terms_read_what_they_say_of_a_batch() -> None:
    images, texts = unit(2, 4, 3, seed=0), unit(4, 2, 3, seed=1)
    labels, scale = torch.tensor([0, 1, 0, 2]), torch.tensor(SCALE, dtype=torch.float64)
    words = torch.tensor([[3, 1], [1, 3], [2, 2], [0, 4]])  # of the first caption, of the second
    is_word = torch.arange(5)[None, None] < words[..., None]
    batch = xg.BatchFeatures(images, texts, scale, scale, labels, ids=is_word.long(), is_word=is_word, seed=3)
    own = labels.repeat_interleave(2)[:, None] == labels
    expected = multi_event_loss(scale * texts.flatten(0, 1) @ images[0].T, own, 0.5)
    assert xg.objective("multi-event(alpha=0.5)")(batch).item() == pytest.approx(expected.item())
    long = torch.stack([texts[0, 0], texts[1, 1], texts[2, 0], texts[3, 1]])
    short = torch.stack([texts[0, 1], texts[1, 0], texts[2, 1], texts[3, 0]])
    expected = long_and_short_loss(images[0], long, short, scale, rank=2)
    assert xg.objective("long-and-short(rank=2)")(batch).item() == pytest.approx(expected.item())
    each = [multi_positive_loss(view, texts, scale).item() for view in images]
    assert xg.objective("multi-positive")(batch).item() == pytest.approx(np.mean(each))
    random = xg.objective("random-reference")
    assert random(batch).item() == random(batch).item() != random(replace(batch, seed=4)).item()
    taught = replace(batch, teacher=replace(batch, images=unit(2, 4, 3, seed=5)))
    similar = [each.images[0] @ texts[:, 0].T for each in (batch, taught.needed("teacher"))]
    expected = hybrid_distillation_loss(similar[0], similar[1], 0.2)
    assert xg.objective("hybrid-distillation(alpha=0.2, scale=1.0)")(taught).item() == pytest.approx(expected.item())
    scaled = [taught.teacher.scale * cosines for cosines in similar]  # one scale of both, of the model as it was
    expected = hybrid_distillation_loss(scaled[0], scaled[1], 0.2)
    assert xg.objective("hybrid-distillation(alpha=0.2)")(taught).item() == pytest.approx(expected.item())
