"""NoLA: the classifier of descriptions, the rule of pseudo-labels, the labeller and its student."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

import xgap_analysis as xg
from xgap_analysis.training.objectives import Sizes
from xgap_analysis.training.objectives.pseudo_labels import (
    description_classifier,
    fit_labeller,
    pseudo_labels,
    student_of,
)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_a_class_is_the_direction_of_the_mean_of_its_descriptions() -> None:
    texts, labels = unit(6, 4), torch.tensor([0, 2, 1, 0, 2, 0])
    found = description_classifier(texts, labels)
    for label in range(3):
        mean = texts[labels == label].mean(0)
        torch.testing.assert_close(found[label], mean / mean.norm())
    with pytest.raises(xg.XgapError, match="class 1 has no description; give every class from 0 to 2 one"):
        description_classifier(texts[:2], torch.tensor([0, 2]))


def test_the_surest_images_of_each_class_are_taken() -> None:
    scores = torch.tensor([[3.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 5, 0], [0, 4, 3]])
    items, classes = pseudo_labels(scores, least=2)
    # Class 2 is no first guess: it takes the second guesses, of which only item 4 has a guess that is not a tie.
    assert classes.tolist()[:4] == [0, 0, 1, 1]
    assert items.tolist()[:4] == [0, 2, 3, 4]
    assert set(classes.tolist()[4:]) == {2}
    assert items.tolist()[4] == 4
    many = torch.eye(2).repeat(100, 1)
    items, classes = pseudo_labels(many, share=0.2, least=16)  # floor(0.2 * 200 / 2) = 20
    assert torch.bincount(classes).tolist() == [20, 20]
    assert torch.bincount(pseudo_labels(many, share=0.01)[1]).tolist() == [16, 16]
    never = torch.tensor([[4.0, 3, 2, 1]] * 3)
    assert sorted(set(pseudo_labels(never)[1].tolist())) == [0, 1, 2]  # the fourth guess is none


def test_a_labeller_learns_what_it_is_shown_and_the_seed_decides() -> None:
    centres = unit(3, 6)
    labels = torch.arange(60) % 3
    features = normalize(centres[labels] + 0.1 * unit(60, 6, seed=1), dim=1)
    labeller = fit_labeller(features, labels, 3, epochs=40, learning_rate=1e-2, width=8)
    assert (labeller(features).argmax(1) == labels).float().mean() > 0.9
    assert not any(p.requires_grad for p in labeller.parameters())
    again = fit_labeller(features, labels, 3, epochs=40, learning_rate=1e-2, width=8)
    assert torch.equal(again(features), labeller(features))


def test_the_student_starts_as_zero_shot_and_learns_from_the_other_augmentation() -> None:
    classifier, images, pixels = unit(4, 5), unit(2, 6, 5, seed=1), torch.zeros(6, 3, 2, 2)
    pixels[:, 0, 0, 0] = torch.arange(6) % 4

    class Corner(nn.Module):
        def forward(self, seen: Tensor) -> Tensor:
            return torch.eye(4)[seen[:, 0, 0, 0].long()]

    labeller = Corner()
    scale = torch.tensor(3.0)
    batch = xg.BatchFeatures(images, torch.zeros(0, 0, 0), scale, scale, torch.zeros(6).long(), pixels=pixels)
    term = student_of(classifier, labeller, smoothing=0.0)
    own = term.made(Sizes(5, 99, words=1))
    assert own is not None
    assert torch.equal(own.weight, classifier)
    total = 0.0
    for i in range(6):
        logits = [3.0 * float(images[1, i] @ row) for row in classifier]
        total -= (logits[i % 4] - math.log(sum(map(math.exp, logits)))) / 6
    assert term(batch, own).item() == pytest.approx(total, abs=1e-5)
    smoothed = student_of(classifier, labeller)(batch, own).item()
    logs = (3.0 * images[1] @ classifier.T).log_softmax(1)
    assert smoothed == pytest.approx(0.9 * total - 0.1 * logs.mean().item(), abs=1e-5)
    others = [(classifier + 1, labeller, 0.0), (classifier, nn.Linear(2, 2), 0.0), (classifier, labeller, 0.1)]
    assert len({str(term), *(str(student_of(*other)) for other in others)}) == 4  # runs of them are other runs
    assert str(term) == str(student_of(classifier.clone(), Corner(), 0.0))
    with pytest.raises(xg.XgapError, match="the classifier has 5 dimensions, and the model's features 7"):
        term.made(Sizes(7, 4, words=1))
