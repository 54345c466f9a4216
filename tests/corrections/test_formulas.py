"""Each correction against its formula, written in numpy a second time."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, softmax

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.tokens import TokenFeatures
from xgap_analysis.corrections import Calibration, correction, inter_modal_operator
from xgap_analysis.metrics import retrieval
from xgap_analysis.models import Model
from xgap_analysis.views import fuse

D = 12
WORDS = ("cat", "dog", "owl", "bee", "elk", "ant", "cow", "fox", "hen", "pig", "rat", "yak", "asp", "cod", "emu")


def features(n: int, space: str, seed: int, d: int = D) -> Features:
    vectors = torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + 0.3
    return Features(vectors, [f"{space}-{seed}-{i}" for i in range(n)], space, space)


class Text:
    """A text tower that looks words up."""

    def __init__(self, projection: torch.Tensor) -> None:
        self.projection = projection

    tokenize = staticmethod(lambda captions: torch.tensor([sum(map(ord, caption)) for caption in captions]))
    prepare = tokenize

    def encode(self, ids: torch.Tensor) -> torch.Tensor:
        draws = [torch.randn(D, generator=torch.Generator().manual_seed(int(i))) * (1 + int(i) % 3) for i in ids]
        return torch.stack(draws)


def model(image_width: int = 20, text_width: int = 16, **settings: Any) -> Any:
    rng = torch.Generator().manual_seed(5)
    image = SimpleNamespace(space="image", prepare=torch.stack, encode=torch.flatten)
    image.projection = torch.randn(image_width, D, generator=rng)
    text = Text(torch.randn(text_width, D, generator=rng))
    return Model("toy", {"image": image, "text": text}, weights_digest="0" * 64, settings=settings)


def calibration(**changed: Any) -> Calibration:
    of = {
        "image": changed.pop("images", features(30, "image", 0)),
        "text": changed.pop("texts", features(25, "text", 1)),
    }
    return Calibration(**{"features": of, "split": "train", "model": model(), "class_words": WORDS, **changed})


def rows(x: Features) -> NDArray[np.float64]:
    return x.vectors.numpy().astype(np.float64)


def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def prompts(template: str) -> NDArray[np.float64]:
    toy = model()
    return toy.text.encode(toy.tokenize([template.replace("{}", w) for w in WORDS])).numpy().astype(np.float64)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("template", ["{}", "a photo of {}"])
def test_pca_text_keeps_the_leading_directions_of_class_names(centred: bool, normalised: bool, template: str) -> None:
    texts = prompts(template)
    texts = unit(texts) if normalised else texts
    basis = np.linalg.svd(texts - texts.mean(0) if centred else texts)[2][:5]
    x = features(7, "image", 3)
    options = {"rank": 5, "template": template, "centred": centred, "normalised": normalised}
    made = correction("pca-text", **options).fit(calibration())(x)
    np.testing.assert_allclose(rows(made), unit(rows(x) @ basis.T @ basis), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "n", "centred", "spanned"), [("text", 4, True, 3), ("text", 4, False, 4), ("image", 3, True, 2)]
)
def test_a_subspace_of_few_items_keeps_what_they_span_in_any_order(
    name: str, n: int, centred: bool, spanned: int
) -> None:
    x, made = features(7, "image", 3), []
    for order in (slice(None), slice(None, None, -1)):
        images = features(n, "image", 1)
        given = calibration(images=images.select(images.ids[order]), class_words=WORDS[:n][order])
        with pytest.warns(UserWarning, match=f"span {spanned} directions, so {spanned} are kept and not 8"):
            made.append(rows(correction(f"pca-{name}", rank=8, centred=centred).fit(given)(x)))
    np.testing.assert_allclose(made[0], made[1], atol=1e-5)
    assert np.linalg.matrix_rank(made[0], tol=1e-4) == spanned


def test_items_that_stand_twice_span_no_direction_of_their_own() -> None:
    with pytest.warns(UserWarning, match="6 vectors span 2 directions"):
        correction("pca-text", rank=5).fit(calibration(class_words=[*WORDS[:3], *WORDS[:3]]))
    with pytest.raises(XgapError, match="span no direction"):
        correction("pca-text").fit(calibration(class_words=WORDS[:1]))


def test_pca_text_stands_on_captions_where_there_is_no_model() -> None:
    x, given = features(7, "image", 3), calibration(model=None, class_words=())
    texts = rows(given.texts)
    basis = np.linalg.svd(texts - texts.mean(0))[2][: D // 2]
    made = correction("pca-text(words=captions)").fit(given)(x)
    np.testing.assert_allclose(rows(made), unit(rows(x) @ basis.T @ basis), atol=1e-5)
    with pytest.raises(XgapError, match="needs a model"):
        correction("pca-text").fit(given)
    with pytest.raises(XgapError, match="is not known any more"):
        correction("pca-text(words=captions, normalised=False)").fit(given)


def test_pca_text_on_the_names_of_imagenet() -> None:
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    toy, x = model(), features(7, "image", 3)
    texts = unit(toy.text.encode(toy.tokenize(list(IMAGENET_CLASSNAMES))).numpy().astype(np.float64))
    basis = np.linalg.svd(texts - texts.mean(0), full_matrices=False)[2][:4]
    made = correction("pca-text", rank=4, words="imagenet", template="{}").fit(calibration())(x)
    np.testing.assert_allclose(rows(made), unit(rows(x) @ basis.T @ basis), atol=1e-5)


def test_pca_text_on_ones_own_names_and_on_those_of_torchvision(tmp_path: Path) -> None:
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    toy, x, file = model(), features(7, "image", 3), tmp_path / "names.txt"
    file.write_text("red cat\n\n  blue sea \nowl\nbee\nhigh sky\n", encoding="utf-8")
    for words, names in (
        (str(file), ["red cat", "blue sea", "owl", "bee", "high sky"]),
        ("imagenet-torch", list(_IMAGENET_CATEGORIES)),
    ):
        texts = unit(toy.text.encode(toy.tokenize(names)).numpy().astype(np.float64))
        basis = np.linalg.svd(texts - texts.mean(0), full_matrices=False)[2][:4]
        made = correction("pca-text", rank=4, words=words, template="{}").fit(calibration())(x)
        np.testing.assert_allclose(rows(made), unit(rows(x) @ basis.T @ basis), atol=1e-5)
    assert len(_IMAGENET_CATEGORIES) == 1000
    file.write_text("\n")
    with pytest.raises(XgapError, match="holds no name"):
        correction("pca-text", words=str(file)).fit(calibration())
    with pytest.raises(XgapError, match="cannot be read"):
        correction("pca-text", words=str(tmp_path / "none.txt")).fit(calibration())


def test_what_a_projection_takes_from_the_mean_can_be_restored() -> None:
    x, given = features(7, "image", 3), calibration()
    basis = np.linalg.svd(unit(prompts("a photo of {}")) - unit(prompts("a photo of {}")).mean(0))[2][:5]
    mean = rows(given.images).mean(0)
    made = correction("pca-text", rank=5, restored=True).fit(given)(x)
    expected = rows(x) @ basis.T @ basis + mean - mean @ basis.T @ basis
    np.testing.assert_allclose(rows(made), unit(expected), atol=1e-5)
    with pytest.raises(XgapError, match="no calibration features lie in the space 'audio'"):
        correction("pca-text", rank=5, restored=True).fit(given)(features(7, "audio", 3))


def test_pca_image_keeps_the_leading_directions_of_images() -> None:
    x, given = features(7, "text", 3), calibration()
    images = rows(given.images)
    basis = np.linalg.svd(images - images.mean(0))[2][:4]
    made = correction("pca-image", rank=4).fit(given)(x)
    np.testing.assert_allclose(rows(made), unit(rows(x) @ basis.T @ basis), atol=1e-5)


@pytest.mark.parametrize("name", ["pca-text", "pca-image", "random-subspace"])
def test_at_full_rank_nothing_changes(name: str) -> None:
    x = features(7, "image", 3)
    np.testing.assert_allclose(rows(correction(name, rank=D).fit(calibration())(x)), rows(x), atol=1e-6)


@pytest.mark.parametrize("name", ["pca-text", "pca-image", "random-subspace"])
@pytest.mark.parametrize("rank", [0, -1, D + 1])
def test_a_rank_out_of_range_is_refused(name: str, rank: int) -> None:
    with pytest.raises(XgapError, match=f"between 1 and the {D} dimensions, not {rank}"):
        correction(name, rank=rank).fit(calibration())


def test_a_random_subspace_has_its_rank_and_its_seed() -> None:
    x = features(40, "image", 3)

    def made(seed: int) -> NDArray[np.float64]:
        return rows(correction("random-subspace", rank=4, seed=seed).fit(calibration())(x))

    assert np.linalg.matrix_rank(made(0), tol=1e-5) == 4
    np.testing.assert_array_equal(made(0), made(0))
    assert np.abs(made(0) - made(1)).max() > 0.1


@pytest.mark.parametrize("space", ["image", "text"])
def test_whiten_gives_a_side_the_same_spread_everywhere(space: str) -> None:
    x, given = features(7, space, 3), calibration()
    side = rows({"image": given.images, "text": given.texts}[space])
    covariance = np.cov(side.T, bias=True)
    shrunk = 0.8 * covariance + 0.2 * np.trace(covariance) / D * np.eye(D)
    values, vectors = np.linalg.eigh(shrunk)
    expected = unit((rows(x) - side.mean(0)) @ (vectors / np.sqrt(values)) @ vectors.T)
    np.testing.assert_allclose(rows(correction("whiten", shrinkage=0.2).fit(given)(x)), expected, atol=1e-5)


def test_whiten_refuses_a_shrinkage_out_of_range() -> None:
    with pytest.raises(XgapError, match=r"not 0\.0"):
        correction("whiten", shrinkage=0.0).fit(calibration())


@pytest.mark.parametrize(("image_width", "text_width"), [(20, 16), (D, D), (16, 20)])
@pytest.mark.parametrize(("top", "bottom"), [(3, 2), (0, 4), (5, 0)])
def test_isoclip_on_features_is_isoclip_on_what_stands_before_the_projection(
    image_width: int, text_width: int, top: int, bottom: int
) -> None:
    toy = model(image_width, text_width)
    w_image, w_text = (tower.projection.numpy().astype(np.float64).T for tower in (toy.image, toy.text))
    left, _, right = np.linalg.svd(w_image.T @ w_text)
    made = correction("isoclip", k_top=top, k_bottom=bottom).fit(calibration(model=toy))
    for space, w, directions in (("image", w_image, left), ("text", w_text, right.T)):
        before = np.random.default_rng(2).normal(size=(9, w.shape[1]))
        kept = directions[:, top : D - bottom]
        x = Features(before @ w.T, [str(i) for i in range(9)], space, space)
        np.testing.assert_allclose(rows(made(x)), unit(before @ kept @ kept.T @ w.T), atol=1e-5)


def test_isoclip_that_leaves_nothing_out_changes_nothing() -> None:
    for space in ("image", "text"):
        x = features(7, space, 3)
        np.testing.assert_allclose(
            rows(correction("isoclip", k_top=0, k_bottom=0).fit(calibration())(x)), rows(x), atol=1e-6
        )


def test_isoclip_takes_the_published_ranks_of_each_side_where_there_are_some() -> None:
    toy = model(isoclip={"image": (3, 2), "text": (1, 4)})
    default = correction("isoclip").fit(calibration(model=toy))
    for space, top, bottom in (("image", 3, 2), ("text", 1, 4)):
        x = features(7, space, 3)
        stated = correction("isoclip", k_top=top, k_bottom=bottom).fit(calibration(model=toy))
        assert torch.equal(default(x).vectors, stated(x).vectors)


def test_isoclip_takes_shares_of_the_spectrum_where_nothing_was_published() -> None:
    x = features(7, "image", 3)
    stated = correction("isoclip", k_top=round(D * 150 / 512), k_bottom=round(D * 50 / 512))
    assert torch.equal(correction("isoclip").fit(calibration())(x).vectors, stated.fit(calibration())(x).vectors)


def test_isoclip_refuses_what_it_cannot_do() -> None:
    with pytest.raises(XgapError, match="came without one"):
        correction("isoclip").fit(calibration(model=None))
    with pytest.raises(XgapError, match="leave nothing of 12 directions"):
        correction("isoclip", k_top=6, k_bottom=6).fit(calibration())
    with pytest.raises(XgapError, match="not 'audio'"):
        correction("isoclip").fit(calibration())(features(3, "audio", 0))


def test_the_inter_modal_operator_is_the_product_of_the_projections() -> None:
    operator = inter_modal_operator(model())
    product = operator.left @ operator.singular_values.diag() @ operator.right.T
    torch.testing.assert_close(product, operator.projections[0].T @ operator.projections[1])
    assert len(operator.singular_values) == D


def similarities(query: NDArray[np.float64], gallery: NDArray[np.float64]) -> NDArray[np.float64]:
    return (query @ gallery.T).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("dynamic", [False, True])
def test_inverted_softmax(dynamic: bool) -> None:
    beta, given = 7.0, calibration()
    query, gallery = features(20, "image", 3), features(9, "text", 4)
    sides = correction("dynamic-" * dynamic + "inverted-softmax", beta=beta).fit(given).apply(query, gallery)
    scores = similarities(rows(query), rows(gallery))
    of_bank = similarities(rows(given.images), rows(gallery))
    expected = np.log(np.exp(beta * scores) / np.exp(beta * of_bank).sum(0))
    if dynamic:
        touched = np.isin(scores.argmax(1), of_bank.argmax(1))
        assert touched.any()
        expected = np.where(touched[:, None], expected, scores)
    assert sides.normalise is not None
    np.testing.assert_allclose(sides.normalise(torch.from_numpy(scores).float()).numpy(), expected, atol=1e-4)
    assert sides.query is query
    assert sides.note == ""


def dbnorm(scores: NDArray[np.float64], banks: list[tuple[NDArray[np.float64], float]], k: int) -> NDArray[np.float64]:
    """The product of one factor per bank: the inverted softmax for queries whose first item is a hub of that bank."""
    product = np.ones_like(scores)
    for of_bank, beta in banks:
        hubs = np.unique(np.argsort(-of_bank, axis=1)[:, :k])
        caught = np.isin(scores.argmax(1), hubs)
        softmax_of = np.exp(beta * scores) / np.exp(beta * of_bank).sum(0)
        product = product * np.where(caught[:, None], softmax_of, scores)
    return product


@pytest.mark.parametrize(
    "temperatures", [{}, {"beta": 20.0, "beta_gallery": 20.0}, {"beta": 50.0, "beta_gallery": 2.0}]
)
def test_dbnorm_multiplies_a_factor_of_each_bank(temperatures: dict[str, float]) -> None:
    # Few items in each bank, so that some queries are caught by one bank, some by the other, by both and by none.
    given = calibration(images=features(5, "image", 0), texts=features(4, "text", 1))
    query, gallery = features(60, "image", 3), features(14, "text", 4)
    scores = np.abs(similarities(rows(query), rows(gallery))) + 0.01
    betas = temperatures or {"beta": 1 / 1.99, "beta_gallery": 3.0}
    banks = [
        (similarities(rows(given.images), rows(gallery)), betas["beta"]),
        (similarities(rows(given.texts), rows(gallery)), betas["beta_gallery"]),
    ]
    caught = [np.isin(scores.argmax(1), np.unique(bank.argmax(1))) for bank, _ in banks]
    assert {(a, b) for a, b in zip(*caught, strict=True)} == {
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    }
    static = correction("dual-inverted-softmax", **temperatures).fit(given).apply(query, gallery)
    dynamic = correction("dual-dynamic-inverted-softmax", **temperatures).fit(given).apply(query, gallery)
    assert static.normalise is not None
    assert dynamic.normalise is not None
    given_scores = torch.from_numpy(scores).float()
    expected = sum(beta * scores - logsumexp(beta * bank, axis=0) for bank, beta in banks)
    np.testing.assert_allclose(static.normalise(given_scores).numpy(), expected, atol=1e-4)
    order = np.argsort(-dynamic.normalise(given_scores).numpy(), axis=1)
    np.testing.assert_array_equal(order, np.argsort(-dbnorm(scores, banks, 1), axis=1))
    # Both factors wherever a query is caught at all, which is another rule, agrees in some of the queries alone.
    union = np.where((caught[0] | caught[1])[:, None], expected, scores)
    assert 0 < (union.argmax(1) == order[:, 0]).mean() < 1


def test_dbnorm_keeps_the_order_of_negative_similarities() -> None:
    given = calibration(images=features(5, "image", 0), texts=features(4, "text", 1))
    query, gallery = features(60, "image", 3), features(14, "text", 4)
    sides = correction("dual-dynamic-inverted-softmax").fit(given).apply(query, gallery)
    assert sides.normalise is not None
    banks = [similarities(rows(of), rows(gallery)) for of in (given.images, given.texts)]
    scores = similarities(rows(query), rows(gallery)) - 0.5
    caught = [np.isin(scores.argmax(1), np.unique(bank.argmax(1))) for bank in banks]
    made = sides.normalise(torch.from_numpy(scores).float()).numpy()
    none, one = ~caught[0] & ~caught[1], caught[0] & ~caught[1]
    assert none.any()
    np.testing.assert_allclose(made[none], scores[none], atol=1e-6)
    factor = np.exp(scores / 1.99) / np.exp(banks[0] / 1.99).sum(0)
    product = np.where(scores > 0, scores * factor, scores / factor)
    np.testing.assert_array_equal(np.argsort(-made[one], axis=1), np.argsort(-product[one], axis=1))
    assert ((scores[one] > 0).any(axis=1) & (scores[one] < 0).any(axis=1)).any()
    left_out = torch.from_numpy(scores).float()
    left_out[:, 3] = -torch.inf
    again = sides.normalise(left_out)
    assert bool((again[:, 3] == -torch.inf).all())
    assert not bool(again.isnan().any())


def test_within_one_space_both_banks_are_one_and_the_pair_says_so() -> None:
    given, images = calibration(), features(20, "image", 3)
    for name in ("dual-inverted-softmax", "dual-dynamic-inverted-softmax", "sinkhorn", "inverse-graph-convolution"):
        fitted = correction(name).fit(given)
        assert fitted.apply(images, images).note == "both banks are the calibration items of space 'image'"
        assert fitted.apply(images, features(9, "text", 4)).note == ""
    both = correction("dual-inverted-softmax", beta=7.0, beta_gallery=7.0).fit(given).apply(images, images)
    single = correction("inverted-softmax", beta=7.0).fit(given).apply(images, images)
    scores = torch.from_numpy(similarities(rows(images), rows(images))).float()
    assert both.normalise is not None
    assert single.normalise is not None
    torch.testing.assert_close(both.normalise(scores), 2 * single.normalise(scores), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["dynamic-inverted-softmax", "dual-dynamic-inverted-softmax"])
@pytest.mark.parametrize("k", [0, -1, 10])
def test_a_neighbourhood_of_no_item_or_of_too_many_is_refused(name: str, k: int) -> None:
    with pytest.raises(XgapError, match=f"k lies between 1 and the 9 items of the gallery, not {k}"):
        correction(name, k=k).fit(calibration()).apply(features(2, "image", 3), features(9, "text", 4))


def test_a_bank_that_no_gallery_item_resembles_changes_no_ranking() -> None:
    bank = Features(torch.eye(6)[4:], ["b0", "b1"], "image", "image")
    given = calibration(images=bank, texts=Features(torch.eye(6)[4:], ["t0", "t1"], "text", "text"))
    gallery = Features(torch.cat([torch.randn(9, 4), torch.zeros(9, 2)], dim=1), list("abcdefghi"), "text", "text")
    query = features(8, "image", 3, d=6)
    scores = torch.from_numpy(similarities(rows(query), rows(gallery))).float()
    for name in ("inverted-softmax", "dual-inverted-softmax", "sinkhorn(gallery_bank=False)"):
        sides = correction(name).fit(given).apply(query, gallery)
        assert sides.normalise is not None
        assert torch.equal(sides.normalise(scores).argsort(dim=1), scores.argsort(dim=1))


def test_a_temperature_near_zero_takes_the_mean_of_the_bank_off_and_a_great_one_its_maximum() -> None:
    given, query, gallery = calibration(), features(20, "image", 3), features(9, "text", 4)
    scores, of_bank = similarities(rows(query), rows(gallery)), similarities(rows(given.images), rows(gallery))
    for beta, off in ((1e-3, of_bank.mean(0)), (5000.0, of_bank.max(0))):
        sides = correction("inverted-softmax", beta=beta).fit(given).apply(query, gallery)
        assert sides.normalise is not None
        made = sides.normalise(torch.from_numpy(scores)).numpy()
        np.testing.assert_array_equal(made.argmax(1), (scores - off).argmax(1))


@pytest.mark.parametrize("gallery_bank", [False, True])
def test_sinkhorn_against_a_plan_with_equal_sums(gallery_bank: bool) -> None:
    given, query, gallery = calibration(), features(20, "image", 3), features(9, "text", 4)
    sides = correction("sinkhorn", tau=0.1, rounds=10, gallery_bank=gallery_bank).fit(given).apply(query, gallery)
    items = np.concatenate([rows(gallery), rows(given.texts)]) if gallery_bank else rows(gallery)
    kernel = np.exp((similarities(items, rows(given.images)) - 1) / 0.1)
    u = np.full(len(items), 1 / len(items))
    for _ in range(10):
        v = 1 / len(given.images) / (kernel.T @ u)
        u = 1 / len(items) / (kernel @ v)
    expected = similarities(rows(query), rows(gallery)) + 0.1 * np.log(u[:9])
    assert sides.normalise is not None
    made = sides.normalise(torch.from_numpy(similarities(rows(query), rows(gallery))).float()).numpy()
    off = made - expected
    np.testing.assert_allclose(off - off.mean(), 0, atol=1e-5)  # the kernel's scale is one number of all potentials
    with pytest.raises(XgapError, match="1 round or more, not 0"):
        correction("sinkhorn", rounds=0).fit(given)


@pytest.mark.parametrize("share", [0.1, 0.01, None])
def test_inverse_graph_convolution(share: float | None) -> None:
    given, query, gallery = calibration(), features(20, "image", 3), features(9, "text", 4)
    name = "inverse-graph-convolution"
    sides = correction(name, rate_query=0.7, rate_gallery=0.4, share=share).fit(given).apply(query, gallery)
    x, expected = rows(gallery), np.zeros_like(rows(gallery))
    for bank, rate in ((rows(given.images), 0.7), (rows(given.texts), 0.4)):
        near = x @ bank.T
        if share is None:
            message = (near - near.mean()) @ bank / len(bank)
        else:
            k = max(1, int(share * len(bank)))
            kept = np.where(near >= np.sort(near, axis=1)[:, -k][:, None], near, 0)
            message = kept @ bank / k
        expected += unit(x - rate * message) / 2
    np.testing.assert_allclose(rows(sides.gallery), unit(expected), atol=1e-5)
    assert sides.query is query
    unchanged = correction(name, rate_query=0.0, rate_gallery=0.0).fit(given).apply(query, gallery)
    np.testing.assert_allclose(rows(unchanged.gallery), x, atol=1e-6)
    with pytest.raises(XgapError, match=r"lies in \(0, 1\]"):
        correction(name, share=0.0).fit(given)


def test_standardise_is_batch_normalisation_before_its_training() -> None:
    given, x = calibration(), features(7, "text", 3)
    side = rows(given.texts)
    expected = unit((rows(x) - side.mean(0)) / np.sqrt(side.var(0) + 1e-5))
    np.testing.assert_allclose(rows(correction("standardise").fit(given)(x)), expected, atol=1e-5)
    layer = torch.nn.BatchNorm1d(D, momentum=None).double()
    layer(given.texts.vectors.double())  # in training: with the moments of the batch
    again = layer.train()(given.texts.vectors.double()).detach().numpy()
    np.testing.assert_allclose(rows(correction("standardise").fit(given)(given.texts)), unit(again), atol=1e-5)
    # What it scales to unit length has the mean 0 in every dimension: the code's own directions, at their lengths.
    lengths = np.linalg.norm((side - side.mean(0)) / np.sqrt(side.var(0) + 1e-5), axis=1, keepdims=True)
    np.testing.assert_allclose(
        (rows(correction("standardise").fit(given)(given.texts)) * lengths).mean(0), 0, atol=1e-5
    )


def test_standardise_refuses_what_does_not_vary() -> None:
    one = Features(torch.ones(4, D), list("abcd"), "text", "text")
    with pytest.raises(XgapError, match="the 4 calibration vectors of space 'text' are all the same"):
        correction("standardise").fit(calibration(texts=one))
    flat = Features(torch.cat([torch.eye(4)[:, :3], torch.zeros(4, D - 3)], dim=1)[:3], list("abc"), "text", "text")
    with pytest.raises(XgapError, match="do not differ in dimension 3"):
        correction("standardise", epsilon=0.0).fit(calibration(texts=flat))
    with pytest.raises(XgapError, match="is not negative"):
        correction("standardise", epsilon=-1.0).fit(calibration())


def test_noise_of_the_published_variance_has_a_cosine_of_a_third_at_512_dimensions() -> None:
    x = features(400, "text", 3, d=512)
    made = correction("noise").fit(calibration())(x)
    cosines = (rows(made) * rows(x)).sum(1)
    assert cosines.mean() == pytest.approx(1 / np.sqrt(1 + 512 * 0.016), abs=0.01)  # 0.33
    assert cosines.std() < 0.1


def test_noise_is_of_each_item_and_of_one_space() -> None:
    x, by = features(6, "text", 3), correction("noise", variance=0.1, seed=4).fit(calibration())
    backwards = x.select(reversed(x.ids))
    assert torch.equal(by(backwards).vectors.flip(0), by(x).vectors)
    assert torch.equal(by(x.select(x.ids[2:3])).vectors, by(x).vectors[2:3])
    assert not torch.equal(correction("noise", variance=0.1, seed=5).fit(calibration())(x).vectors, by(x).vectors)
    images = features(6, "image", 3)
    assert by(images) is images
    assert correction("noise", space=None).fit(calibration())(images) is not images
    assert correction("noise", variance=0.0).fit(calibration())(x) is x
    assert len({tuple(row) for row in by(x).vectors.tolist()}) == 6
    # One id in query and gallery is two items, which get two draws; so do the tokens of an item.
    inverted = Features(x.vectors, x.ids, "text", "image")
    same = Features(torch.ones(6, D), x.ids, "text", "text")
    assert not torch.allclose(by(inverted).vectors, by(x).vectors)
    assert len({tuple(row) for row in by(same).vectors.tolist()}) == 6
    tokens = TokenFeatures(x.vectors, [0, 2, 6], ["a", "b"], "text", "text")
    assert torch.equal(by(tokens.select(["b"])).vectors, by(tokens).vectors[2:])
    with pytest.raises(XgapError, match=r"is 0 or more, not -0\.1"):
        correction("noise", variance=-0.1).fit(calibration())


def test_queries_and_documents_lose_the_mean_of_their_own_role() -> None:
    given = calibration()
    given = calibration(queries={"text": given.texts.ids[:10]})
    query, gallery, images = features(5, "text", 3), features(6, "text", 4), features(4, "image", 5)
    by = correction("center(roles=True)").fit(given)
    texts = rows(given.texts)
    pair = by.apply(query, gallery)
    np.testing.assert_allclose(rows(pair.query), unit(rows(query) - texts[:10].mean(0)), atol=1e-6)
    np.testing.assert_allclose(rows(pair.gallery), unit(rows(gallery) - texts[10:].mean(0)), atol=1e-6)
    mixed = by.apply(query, images)
    np.testing.assert_allclose(rows(mixed.gallery), unit(rows(images) - rows(given.images).mean(0)), atol=1e-6)
    assert pair.query.provenance["correction"] == "center(roles=True)"
    assert not by.changes_features
    with pytest.raises(XgapError, match=r"maps queries in one way and the gallery in another: use its apply"):
        by(query)
    with pytest.raises(XgapError, match="has no queries apart from its gallery"):
        correction("center(roles=True)").fit(calibration())


def test_the_dynamic_softmax_leaves_a_query_alone_whose_nearest_item_is_no_hub() -> None:
    bank = Features(torch.eye(4)[:1], ["b"], "image", "image")
    given = calibration(images=bank, texts=Features(torch.eye(4)[:1], ["t"], "text", "text"))
    gallery = Features(torch.eye(4)[:3], list("xyz"), "image", "image")
    sides = correction("dynamic-inverted-softmax").fit(given).apply(gallery, gallery)
    assert sides.normalise is not None
    made = sides.normalise(torch.eye(3))
    assert torch.equal(made[1:], torch.eye(3)[1:])
    assert not torch.equal(made[0], torch.eye(3)[0])


def test_the_query_itself_does_not_decide_whether_its_nearest_item_is_a_hub() -> None:
    # x asks; itself taken out of its ranking, the nearest is y, which is no hub of the bank.
    vectors = torch.tensor([[1.0, 0, 0], [0.9, 0.4, 0], [0, 0, 1.0]])
    images = Features(vectors, list("xyz"), "image", "image")
    bank = Features(torch.tensor([[1.0, -0.1, 0]]), ["b"], "image", "image")
    given = calibration(images=bank, texts=Features(torch.eye(3)[:1], ["t"], "text", "text"))
    sides = correction("dynamic-inverted-softmax").fit(given).apply(images, images)
    seen: list[torch.Tensor] = []

    def watch(scores: torch.Tensor) -> torch.Tensor:
        assert sides.normalise is not None
        seen.append(sides.normalise(scores))
        return seen[-1]

    from xgap_analysis.datasets import Relevance

    labels = {"x": "1", "y": "1", "z": "1"}
    retrieval(images, images, Relevance.from_labels(labels, labels), normalise=watch)
    assert float(seen[0][0, 1]) == pytest.approx(float(vectors[0] @ images.vectors[1]), abs=1e-6)


def test_an_empty_bank_is_refused() -> None:
    nothing = Features(torch.zeros(0, D), [], "image", "image")
    with pytest.raises(XgapError, match="the bank of the inverted softmax is empty"):
        correction("inverted-softmax").fit(calibration(images=nothing)).apply(
            features(2, "image", 3), features(2, "text", 4)
        )


@pytest.mark.parametrize("name", ["inverted-softmax", "text-signature(compare=kl)"])
def test_a_temperature_below_zero_is_refused(name: str) -> None:
    with pytest.raises(XgapError, match="is positive, not -1"):
        correction(name, beta=-1.0).fit(calibration())


def test_a_text_signature_is_compared_by_cosine() -> None:
    query, gallery = features(6, "image", 3), features(9, "image", 4)
    sides = correction("text-signature").fit(calibration()).apply(query, gallery)
    anchors = unit(prompts("a photo of {}"))
    expected = unit(rows(query) @ anchors.T) @ unit(rows(gallery) @ anchors.T).T
    np.testing.assert_allclose(rows(sides.query) @ rows(sides.gallery).T, expected, atol=1e-5)


def test_a_text_signature_is_ranked_by_kullback_and_leibler() -> None:
    query, gallery = features(6, "image", 3), features(9, "image", 4)
    sides = correction("text-signature", compare="kl", beta=9.0).fit(calibration()).apply(query, gallery)
    anchors = unit(prompts("a photo of {}"))
    p = softmax(9 * rows(query) @ anchors.T, axis=1)
    log_q = log_softmax(9 * rows(gallery) @ anchors.T, axis=1)
    kl = (p[:, None] * (np.log(p)[:, None] - log_q[None])).sum(2)
    assert sides.normalise is not None
    made = sides.normalise(torch.from_numpy(rows(sides.query) @ rows(sides.gallery).T)).numpy()
    np.testing.assert_array_equal(np.argsort(-made, axis=1), np.argsort(kl, axis=1))
    # The same up to what is one number for a whole row.
    scale = np.linalg.norm(p, axis=1, keepdims=True)
    np.testing.assert_allclose(np.ptp(made * scale + kl, axis=1), 0, atol=1e-4)


def test_anchors_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(XgapError, match="words is one of"):
        correction("text-signature(words=names)").fit(calibration())
    with pytest.raises(XgapError, match="has not"):
        correction("text-signature", template="a photo").fit(calibration())
    with pytest.raises(XgapError, match="names no classes"):
        correction("text-signature").fit(calibration(class_words=()))
    with pytest.raises(XgapError, match='"cosine" or "kl"'):
        correction("text-signature(compare=dot)").fit(calibration())


def test_fused_queries_have_the_weighted_mean_of_both_similarities() -> None:
    native, gallery = features(6, "image", 3), features(9, "image", 4)
    inverted = Features(features(6, "text", 5).vectors, native.ids, "text", "image")
    made = fuse(native, inverted, weight=0.3)
    expected = 0.7 * rows(native) @ rows(gallery).T + 0.3 * rows(inverted) @ rows(gallery).T
    ratio = rows(made) @ rows(gallery).T / expected
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-4)
    assert (made.ids, made.space, made.origin) == (native.ids, "image", "image")
    assert torch.equal(fuse(native, inverted, 0.0).vectors, native.vectors)
    with pytest.raises(XgapError, match=r"lies in \[0, 1\], not 2"):
        fuse(native, inverted, 2.0)


def test_logsumexp_of_a_large_beta_stays_finite() -> None:
    query, gallery, given = features(6, "image", 3), features(9, "text", 4), calibration()
    sides = correction("inverted-softmax", beta=2000.0).fit(given).apply(query, gallery)
    scores = similarities(rows(query), rows(gallery))
    expected = 2000 * scores - logsumexp(2000 * similarities(rows(given.images), rows(gallery)), axis=0)
    assert sides.normalise is not None
    np.testing.assert_allclose(sides.normalise(torch.from_numpy(scores)).numpy(), expected, atol=1e-2)
