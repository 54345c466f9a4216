"""What a batch holds beside features: tokens, further modalities, given scores, token ids, labels that repeat."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xgap_analysis as xg
from xgap_analysis import Further, GivenScores
from xgap_analysis.models.trainable import load_trainable
from xgap_analysis.training.objectives import BatchFeatures
from xgap_analysis.training.pairs import Pairs, augmentation
from xgap_analysis.training.step import TrainStep

SHORT = xg.Recipe(steps=3, batch=6, warmup=1, learning_rate=1e-2, augmentation="none")
EVERYTHING = xg.Needs(
    images=2,
    captions=2,
    teacher=True,
    image_tokens=True,
    text_tokens=True,
    extra=1,
    pair_scores=True,
    pixels=True,
    ids=True,
    towers=True,
)


def everything(batch: BatchFeatures) -> Tensor:
    """A number in which each tensor of a batch has a part."""
    teacher = batch.needed("teacher")
    patches, words = batch.needed("image_tokens"), batch.needed("text_tokens")
    extra = sum(v.square()[:, 0].sum() for v in batch.needed("extra").values())
    tokens = (patches.vectors[:, 0] * words.vectors[:, 0]).sum() + (words.vectors.sum(1)[:, 1]).square().sum()
    old = (teacher.image_tokens.vectors.mean(1) * patches.vectors.mean(1)).sum()
    pairs = (batch.images[0] @ batch.texts[:, 0].T * batch.needed("pair_scores")).sum()
    return tokens + extra + old + pairs + batch.images[1].square()[:, 0].sum()


TERM = xg.Term("everything", everything, needs=dataclasses.replace(EVERYTHING, pixels=False, ids=False, towers=False))


def further(data: xg.Dataset, trained: bool = False) -> dict[str, Further]:
    ids = [f"{label}/sound-{k}" for label in range(12) for k in range(3)]
    rows = torch.randn(len(ids), 5, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(3)
    return {"audio": Further(ids, rows, nn.Linear(5, 16) if trained else nn.Linear(5, 16).requires_grad_(False))}


def with_sounds(data: xg.Dataset) -> xg.Dataset:
    labels = {**data.labels_of(), **{f"{label}/sound-{k}": str(label) for label in range(12) for k in range(3)}}
    return dataclasses.replace(data, labels={"colour": labels})


def scores_of(data: xg.Dataset) -> GivenScores:
    rows = torch.arange(24.0)[:, None] + 100 * torch.arange(24.0)[None]
    return GivenScores(data.images.ids, data.texts.ids, rows / 1000)


def made(start: Path, data: xg.Dataset, recipe: xg.Recipe, **given: Any) -> tuple[TrainStep, Pairs, Any]:
    model = load_trainable(start, device="cpu")
    change = augmentation(model.module, model.preprocess, recipe.augmentation)
    pairs = Pairs(data, recipe, model.tokenize, change, **given)
    return TrainStep(model.module, recipe, len(pairs.labels), None, pairs.towers), pairs, model


def seen(start: Path, data: xg.Dataset, needs: xg.Needs, step: int = 0, **given: Any) -> tuple[BatchFeatures, Pairs]:
    """The features of a step, as a term of these needs gets them."""
    kept: list[BatchFeatures] = []

    def keeps(batch: BatchFeatures) -> Tensor:
        kept.append(batch)
        return batch.images.sum() + batch.texts.sum()

    change = given.pop("change", {})
    recipe = dataclasses.replace(SHORT, objective={xg.Term("keeps", keeps, needs=needs): 1.0}, **change)
    learner, pairs, _ = made(start, data, recipe, **given)
    learner.gradients(pairs[step], step)
    return kept[0], pairs


def test_tokens_of_a_batch_are_the_views_of_patches_and_words(start: Path, data: xg.Dataset) -> None:
    batch, pairs = seen(start, data, xg.Needs(image_tokens=True, text_tokens=True))
    drawn, model = pairs.drawn(0), xg.load_model(start, device="cpu")
    patches = xg.tokens(model, data.images.select([item.image for item in drawn]), progress=False)
    words = xg.tokens(model, [item.captions[0] for item in drawn], progress=False)
    for row, item in enumerate(drawn):
        torch.testing.assert_close(batch.image_tokens.vectors[row], patches.tokens_of(item.image), atol=1e-5, rtol=0)
        own = batch.text_tokens.vectors[row][batch.text_tokens.mask[row]]
        torch.testing.assert_close(own, words.tokens_of(str(row)), atol=1e-5, rtol=0)
    assert batch.text_tokens.mask[:, 0].all()
    assert not batch.text_tokens.vectors[~batch.text_tokens.mask].any()


def test_a_batch_holds_what_is_needed_and_no_more(start: Path, data: xg.Dataset) -> None:
    bare, _ = seen(start, data, xg.Needs())
    absent = ("teacher", "image_tokens", "text_tokens", "extra", "pair_scores", "pixels", "ids", "is_word", "towers")
    for name in absent:
        with pytest.raises(xg.XgapError, match=f"no {name}: a term that reads it is registered with needs"):
            bare.needed(name)
    given = {"further": further(data), "pair_scores": scores_of(data)}
    full, pairs = seen(start, with_sounds(data), EVERYTHING, **given)
    assert all(full.needed(name) is not None for name in absent)
    torch.testing.assert_close(full.images, bare.images[:1].expand_as(full.images))  # without augmentation
    drawn = pairs.drawn(0)
    assert full.pair_scores[1, 2] == scores_of(data).of([drawn[1].image], [drawn[2].texts[0]])[0, 0]
    sound = given["further"]["audio"]
    row = sound.tower(sound.inputs_of([drawn[3].extra["audio"]]))[0]
    torch.testing.assert_close(full.extra["audio"][3], row / row.norm())
    assert drawn[3].extra["audio"].split("/")[0] == drawn[3].label
    features, words = full.towers.text(full.ids[:, 0])
    torch.testing.assert_close(features, full.texts[:, 0])
    torch.testing.assert_close(words[full.is_word[:, 0]], full.text_tokens.vectors[full.text_tokens.mask])
    features, patches = full.towers.image(full.pixels)
    torch.testing.assert_close(features, full.images[0])
    torch.testing.assert_close(patches, full.image_tokens.vectors)
    torch.testing.assert_close(full.teacher.image_tokens.vectors, full.image_tokens.vectors)


def test_a_full_batch_in_parts_gives_the_gradient_of_the_whole(start: Path, data: xg.Dataset) -> None:
    grads = []
    for size in (None, 4):
        recipe = dataclasses.replace(SHORT, batch=10, micro_batch=size, objective={TERM: 1.0})
        given = {"further": further(data, trained=True), "pair_scores": scores_of(data)}
        learner, pairs, _ = made(start, with_sounds(data), recipe, **given)
        learner.gradients(pairs[0], 0)
        grads.append({name: p.grad for name, p in learner.parameters() if p.grad is not None})
    assert {"visual.proj", "text_projection", "audio.weight"} <= grads[0].keys()
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-6, rtol=1e-4)


def test_tokens_change_no_feature_to_the_bit(start: Path, data: xg.Dataset) -> None:
    bare, _ = seen(start, data, xg.Needs())
    full, _ = seen(start, data, xg.Needs(image_tokens=True, text_tokens=True))
    assert torch.equal(bare.images, full.images)
    assert torch.equal(bare.texts, full.texts)


def test_a_run_with_a_further_tower_trains_it_and_goes_on(start: Path, data: xg.Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(SHORT, objective={TERM: 1.0})
    given: dict[str, Any] = {"further": further(data, trained=True), "pair_scores": scores_of(data)}
    before = given["further"]["audio"].tower.weight.clone()
    xg.train(start, with_sounds(data), tmp_path, recipe, progress=False, device="cpu", **given)
    state = torch.load(tmp_path / "state.pt", weights_only=True)["parts"]["tower audio"]
    assert not torch.equal(state["weight"], before)
    other = {**given, "pair_scores": GivenScores(data.images.ids, data.texts.ids, torch.zeros(24, 24))}
    with pytest.raises(xg.XgapError, match="another run"):
        xg.train(start, with_sounds(data), tmp_path, recipe, progress=False, device="cpu", **other)


def test_items_of_one_label_in_a_batch(data: xg.Dataset) -> None:
    recipe = dataclasses.replace(SHORT, batch=8, sampler="shared(items=2)", objective={"clip": 1.0}, caption_views=1)
    pairs = Pairs(data, recipe, lambda texts: torch.zeros(len(texts), 4), lambda image: torch.zeros(3, 8, 8))
    for step in range(6):
        drawn = pairs.drawn(step)
        assert set(Counter(item.label for item in drawn).values()) == {2}
        assert len({item.image for item in drawn}) == len({item.texts for item in drawn}) == 8
        batch = pairs[step]
        assert len(set(batch.labels.tolist())) == 4
    shown = [item.label for step in range(3) for item in pairs.drawn(step)]
    assert set(Counter(shown).values()) == {2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler": "free"}, r'a sampler is "labels" or "shared\(items=2\)", not \'free\''),
        ({"sampler": "shared(items=1)"}, "a sampler is"),
        ({"sampler": "shared(items=4)"}, "take a batch that is a multiple of it"),
        ({"sampler": "shared(items=6)"}, "take a batch that is a multiple of it"),
        ({"objective": {xg.Term("own", everything, needs=EVERYTHING): 1.0}, "micro_batch": 2}, "leave micro_batch out"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(xg.XgapError, match=message):
        dataclasses.replace(SHORT, **change)


def test_what_a_term_needs_and_is_not_given_is_one_sentence(
    start: Path, data: xg.Dataset, full_batch: Callable[..., BatchFeatures]
) -> None:
    recipe = dataclasses.replace(SHORT, objective={TERM: 1.0})
    with pytest.raises(
        xg.XgapError, match="'everything' needs 1 modalities beside images and texts, and there is none"
    ):
        made(start, with_sounds(data), recipe, pair_scores=scores_of(data))
    with pytest.raises(xg.XgapError, match="'everything' needs scores of image-text pairs, and none are given"):
        made(start, with_sounds(data), recipe, further=further(data))
    with pytest.raises(xg.XgapError, match=r"no item of 'audio' has a label in 'colours' \(train\): its labels say"):
        made(start, data, recipe, further=further(data), pair_scores=scores_of(data))
    blank = dataclasses.replace(data.texts, captions=(" ", *data.texts.captions[1:]))
    with pytest.raises(xg.XgapError, match="reads the words of captions, and text '0/text-0' of 'colours' has none; "):
        made(start, with_sounds(dataclasses.replace(data, texts=blank)), recipe, further=further(data))
    with pytest.raises(xg.XgapError, match="text 'z' has no pair scores"):
        scores_of(data).of(["0/0"], ["z"])
    with pytest.raises(xg.XgapError, match="scores of 24 images and 24 texts are not"):
        GivenScores(data.images.ids, data.texts.ids, torch.zeros(2, 2))
    with pytest.raises(xg.XgapError, match="one row for each id"):
        Further(["a", "a"], torch.zeros(2, 3))
    with pytest.raises(xg.XgapError, match="needs image_tokens needs images=1 or more"):
        xg.Needs(images=0, image_tokens=True)
    with pytest.raises(xg.XgapError, match=r"pair_scores of a batch of 4 items is \[4, 4, ...\], not \[2, 2\]"):
        full_batch(pair_scores=torch.zeros(2, 2))
    assert full_batch().generator("a").initial_seed() != full_batch().generator("b").initial_seed()
