"""Fitted scorers know what they were fitted on, refuse anything else, and follow from their seed."""

import pytest
import torch

from xgap_analysis.core.contrast import both_ways
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.scoring.learned.fit import Learned, fit_scorer, register_learned
from xgap_analysis.scoring.learned.loop import Scale, descend, seeded
from xgap_analysis.scoring.learned.pairs import Paired, paired
from xgap_analysis.scoring.score import score
from xgap_analysis.scoring.scorer import Scorer, scorer
from xgap_analysis.scoring.tokens import TokenBlock

MODEL = {"model": "tiny", "fingerprint": "f1"}


def texts(n: int = 6, d: int = 8, space: str = "text", seed: int = 0, **about: str) -> Features:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator)
    return Features(x, map(str, range(n)), space, space, {**MODEL, **about})


def clips(n: int = 6, d: int = 8, space: str = "image", seed: int = 1, **about: str) -> TokenFeatures:
    generator = torch.Generator().manual_seed(seed)
    sets = [torch.randn(2 + i % 3, d, generator=generator) for i in range(n)]
    return TokenFeatures.from_sets(sets, map(str, range(n)), space, "video", {**MODEL, **about})


def test_batches_hold_each_item_once_with_one_of_its_own_queries() -> None:
    owner = {str(i): str(i // 2) for i in range(6)}  # two texts a clip, and three clips without a text
    of = paired(texts(), clips(), owner)
    assert of.items.tolist() == [0, 1, 2]
    assert of.queries_of == ((0, 1), (2, 3), (4, 5))
    generator = torch.Generator().manual_seed(0)
    drawn: set[str] = set()
    for _ in range(20):
        seen = []
        for query, gallery in of.batches(2, generator):
            assert [owner[q] for q in query.ids] == list(gallery.ids)
            seen += gallery.ids
            drawn |= set(query.ids)
        assert len(set(seen)) == len(seen) == 2  # the last pair would be alone in its batch
    assert drawn == set(owner)


def test_a_query_of_several_items_stands_once_in_a_batch() -> None:
    of = paired(texts(), clips(), {"0": ["0", "1", "2"], "1": "3", "2": ("4",)})
    assert of.queries_of == ((0,), (0,), (0,), (1,), (2,))
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(20):
        ((query, gallery),) = of.batches(5, generator)
        assert sorted(query.ids) == ["0", "1", "2"]
        seen.add(gallery.ids[query.ids.index("0")])
    assert seen == {"0", "1", "2"}


def test_no_pair_of_a_batch_is_a_negative_of_another() -> None:
    pairs = {"0": ["0", "1"], "1": ["0", "1"], "2": ["2"]}
    of = paired(texts(), clips(), pairs)
    for seed in range(20):
        for query, gallery in of.batches(5, torch.Generator().manual_seed(seed)):
            for q in query.ids:
                assert len(set(pairs[q]) & set(gallery.ids)) == 1


def test_a_fit_without_two_pairs_to_contrast_is_one_sentence() -> None:
    with pytest.raises(XgapError, match="no two of these have different queries and different items"):
        fit_scorer("x_pool(epochs=1)", texts(), clips(), pairs={"0": ["1", "2"]})


def test_a_scale_at_its_limit_still_learns() -> None:
    scale = Scale(start=10.0)
    scale.limit()
    assert scale().item() == pytest.approx(100)
    (gradient,) = torch.autograd.grad(scale(), scale.log)
    assert gradient.item() > 0


def test_the_contrastive_loss_is_the_mean_of_both_cross_entropies() -> None:
    scores = torch.randn(4, 4, dtype=torch.float64)
    rows = -torch.log_softmax(3 * scores, 1).diagonal().mean()
    columns = -torch.log_softmax(3 * scores, 0).diagonal().mean()
    assert torch.allclose(both_ways(scores, torch.tensor(3.0)), (rows + columns) / 2)


def test_a_fit_finds_a_rotation_and_leaves_the_global_seed_alone() -> None:
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(3)))[0]
    x = texts(40)
    turned = Features(x.vectors @ rotation, x.ids, "image", "image")
    module = torch.nn.Linear(8, 8, bias=False)

    def loss(query: TokenBlock, gallery: TokenBlock) -> torch.Tensor:
        return both_ways(module(query.vectors[:, 0]) @ gallery.vectors[:, 0].T, torch.tensor(20.0))

    before = torch.random.get_rng_state()
    with seeded(0) as generator:
        curve = descend(module, loss, paired(x, turned), generator, epochs=40, batch=20, learning_rate=3e-2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(curve) == 40
    assert curve[-1] < 0.1 * curve[0]
    found = module(x.vectors) @ turned.vectors.T
    assert (found.argmax(1) == torch.arange(40)).all()
    assert not any(p.requires_grad for p in module.parameters())


def test_the_same_seed_gives_the_same_scores_and_another_seed_others() -> None:
    fitted = [fit_scorer("x_pool(epochs=2, learning_rate=1e-2)", texts(), clips(), seed=seed) for seed in (0, 0, 1)]
    first, again, other = (score(texts(seed=5), clips(seed=6), of) for of in fitted)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-4)
    assert str(fitted[2]) == "x_pool(epochs=2, learning_rate=0.01, seed=1)"


def test_a_fitted_scorer_knows_what_it_has_seen() -> None:
    fitted = fit_scorer("x_pool(epochs=0)", texts(), clips(4), split="train")
    (of,) = fitted.fitted_on
    assert (of.split, of.query, of.gallery, of.dim) == ("train", ("text",), ("image",), 8)
    assert of.saw(texts().select(["3"]))
    assert not of.saw(texts().select(["5"])), "it has no clip, so nothing was learned from it"
    assert of.saw(clips(seed=7)), "an id is an item"
    others = TokenFeatures.from_sets([torch.eye(8)], ["0"], "image", "video", MODEL, "another list")
    assert not of.saw(others)
    assert scorer("sum", fitted, "cosine").fitted_on == (of,)
    assert scorer("cosine").fitted_on == ()


@pytest.mark.parametrize(
    ("query", "gallery", "sentence"),
    [
        (texts(d=6), clips(d=6), "fitted on features of 8 dimensions, and the query has 6"),
        (texts(space="image"), clips(), "fitted on a query of space 'text', and this one is of space 'image'"),
        (texts(), clips(space="text"), "fitted on a gallery of space 'image', and this one is of space 'text'"),
        (texts(model="small", fingerprint="f2"), clips(), "features of model 'tiny', and the query is of 'small'"),
        (texts(), clips(fingerprint="f2"), "and the gallery is of 'tiny' with other weights"),
        (texts(correction="center"), clips(), "of correction 'none', and the query is of 'center'"),
    ],
)
def test_features_unlike_those_of_the_fit_are_one_sentence(
    query: Features, gallery: TokenFeatures, sentence: str
) -> None:
    with pytest.raises(XgapError, match=sentence):
        score(query, gallery, fit_scorer("x_pool(epochs=0)", texts(), clips()))


def test_queries_of_another_space_are_taken_where_the_fit_says_so() -> None:
    fitted = fit_scorer("x_pool(epochs=0)", texts(), clips(), query_spaces=("text", "image"))
    assert score(texts(space="image"), clips(), fitted).shape == (6, 6)
    unnamed = Features(torch.randn(3, 8), "abc", "text", "text")  # of a model that nothing names
    assert score(unnamed, clips(), fitted).shape == (3, 6)


@pytest.fixture
def learned() -> str:
    @register_learned("dot-of-one")
    def maker(pairs: Paired, *, seed: int = 0) -> Learned:
        return Learned(torch.nn.Linear(1, 1), Scorer("dot", lambda q, g: q.vectors[:, 0] @ g.vectors[:, 0].T))

    return "dot-of-one"


def test_a_learned_scorer_of_ones_own_by_name(learned: str) -> None:
    x, y = texts(), texts(space="image", seed=3)
    assert torch.allclose(score(x, y, fit_scorer(learned, x, y)), score(x, y), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("x_pol", "unknown learned scorer 'x_pol'; nearest names: x_pool"),
        ("x_pool(epoch=3)", "unknown option of x_pool 'epoch'; nearest names: epochs"),
        ("x_pool(3)", "x_pool takes options by name"),
        ("x_pool(epochs=-1)", "epochs of 0 or more"),
        ("x_pool(batch=1)", "a batch of 2 or more"),
        ("x_pool(epochs=three)", "epochs of x_pool is a whole number, not 'three'"),
        ("x_pool(epochs=1.5)", "epochs of x_pool is a whole number, not 1.5"),
        ("x_pool(seed=True)", "seed of x_pool is a whole number, not True"),
        ("x_pool(learning_rate=high)", "learning_rate of x_pool is a number, not 'high'"),
        ("x_pool(dropout=1)", r"dropout of x_pool lies in \[0, 1\), not 1"),
        ("glscl(queries=0)", "one query and one layer or more, not 0 and 3"),
        ("grain(read=1)", "read of grain is a text, not 1"),
        ("x_pool(heads=3)", "heads must divide the 8 dimensions"),
        ("x_pool(learning_rate=1e30, epochs=3)", "the loss of the fit is"),
    ],
)
def test_a_mistake_is_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(XgapError, match=sentence):
        fit_scorer(name, texts(), clips())


def test_no_pair_is_an_error_that_says_how_to_give_them() -> None:
    with pytest.raises(XgapError, match="no query has the id of a gallery item; give pairs"):
        fit_scorer("x_pool", texts(), TokenFeatures.from_sets([torch.eye(8)], "a", "image", "video"))
    with pytest.raises(XgapError, match="no query is paired with a gallery item"):
        fit_scorer("x_pool", texts(), clips(), pairs={"0": "z"})
    with pytest.raises(XgapError, match="8 dimensions and the gallery 4"):
        fit_scorer("x_pool", texts(), clips(d=4))
