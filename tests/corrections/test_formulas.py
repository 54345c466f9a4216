"""Each correction against its formula, written in numpy a second time."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, softmax

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
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


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_inverted_softmax(dual: bool, dynamic: bool) -> None:
    beta, given = 7.0, calibration()
    query, gallery = features(20, "image", 3), features(9, "text", 4)
    name = "dual-" * dual + "dynamic-" * dynamic + "inverted-softmax"
    sides = correction(name, beta=beta).fit(given).apply(query, gallery)
    scores = similarities(rows(query), rows(gallery))
    banks = [rows(given.images), *([rows(given.texts)] if dual else [])]
    expected = np.ones_like(scores)
    hubs = np.zeros(9, dtype=bool)
    for bank in banks:
        of_bank = similarities(bank, rows(gallery))
        expected *= np.exp(beta * scores) / np.exp(beta * of_bank).sum(0)
        hubs[of_bank.argmax(1)] = True
    expected = np.log(expected)
    if dynamic:
        touched = hubs[scores.argmax(1)]
        assert touched.any()
        expected = np.where(touched[:, None], expected, scores)
    assert sides.normalise is not None
    np.testing.assert_allclose(sides.normalise(torch.from_numpy(scores).float()).numpy(), expected, atol=1e-4)
    assert sides.query is query


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
