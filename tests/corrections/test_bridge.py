"""Maps between spaces against numpy, and the worlds in which their answer is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.core.features_io import save_features
from xgap_analysis.corrections import Calibration, correction
from xgap_analysis.corrections.linear import canonical, procrustes, ridge
from xgap_analysis.corrections.perceptron import Training, contrastive, trained
from xgap_analysis.metrics import retrieval

N, D, E = 60, 7, 5


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features(vectors: torch.Tensor, space: str, name: str = "") -> Features:
    return Features(vectors, [f"{name or space[0]}{i}" for i in range(len(vectors))], space, space)


def rows(x: Features) -> NDArray[np.float64]:
    return x.vectors.numpy().astype(np.float64)


def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def calibration(x: torch.Tensor, y: torch.Tensor) -> Calibration:
    """Images and texts of one id each."""
    return Calibration({"image": features(x, "image", "p"), "text": features(y, "text", "p")}, "train")


@pytest.mark.parametrize("centred", [True, False])
def test_procrustes_turns_the_paired_vectors_about_their_means(centred: bool) -> None:
    given, x = calibration(draw(0, N, D) + 1, draw(1, N, D) + 1), features(draw(2, 4, D), "image")
    images, texts = rows(given.images), rows(given.texts)
    off, on = (images.mean(0), texts.mean(0)) if centred else (0, 0)
    u, _, v = np.linalg.svd((images - off).T @ (texts - on))
    made = correction("bridge", kind="procrustes", centred=centred).fit(given)(x)
    np.testing.assert_allclose(rows(made), unit((rows(x) - off) @ u @ v + on), atol=1e-5)
    assert (made.space, made.origin, made.ids) == ("text", "image", x.ids)


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_ridge_is_least_squares_with_a_penalty(penalty: float) -> None:
    given, x = calibration(draw(0, N, D) + 1, draw(1, N, E) + 1), features(draw(2, 4, D), "image")
    images, texts = rows(given.images), rows(given.texts)
    a, b = images - images.mean(0), texts - texts.mean(0)
    load = penalty * (a**2).mean() * N
    extended = np.vstack([a, np.sqrt(load) * np.eye(D)])
    weights = np.linalg.lstsq(extended, np.vstack([b, np.zeros((D, E))]), rcond=None)[0]
    made = correction("bridge", kind="ridge", penalty=penalty).fit(given)(x)
    np.testing.assert_allclose(rows(made), unit((rows(x) - images.mean(0)) @ weights + texts.mean(0)), atol=1e-5)


def test_canonical_directions_are_those_of_scikit_learn() -> None:
    from sklearn.cross_decomposition import CCA

    x, y = draw(0, N, D), torch.cat([draw(0, N, D)[:, :2] + 0.5 * draw(1, N, 2), draw(2, N, E - 2)], dim=1)
    a, b = x - x.mean(0), y - y.mean(0)
    made = canonical(a, b, 0.0, 3)
    one, two = CCA(n_components=3, max_iter=5000, tol=1e-12).fit(a.numpy(), b.numpy()).transform(a.numpy(), b.numpy())
    for k in range(3):
        for ours, theirs in ((a @ made.first, one), (b @ made.second, two)):
            assert abs(np.corrcoef(ours[:, k], theirs[:, k])[0, 1]) == pytest.approx(1, abs=1e-4)
        between = np.corrcoef((a @ made.first)[:, k], (b @ made.second)[:, k])[0, 1]
        assert between == pytest.approx(float(made.correlations[k]), abs=1e-9)
        assert between > 0
    torch.testing.assert_close((a @ made.first).square().mean(0), torch.ones(3, dtype=torch.float64))


def test_a_rotated_space_correlates_wholly_and_an_unrelated_one_not_at_all() -> None:
    x = draw(0, N, D)
    x = x - x.mean(0)
    turn = torch.linalg.qr(draw(3, D, D)).Q
    torch.testing.assert_close(canonical(x, x @ turn, 0.0, D).correlations, torch.ones(D, dtype=torch.float64))
    assert bool((canonical(x, x @ turn, 0.01, D).correlations > 0.97).all())
    q = torch.linalg.qr(draw(4, N, 2 * D)).Q  # orthogonal columns
    assert float(canonical(q[:, :D], q[:, D:], 0.0, D).correlations.max()) < 1e-9
    torch.testing.assert_close(procrustes(x, x @ turn), turn)
    torch.testing.assert_close(ridge(x, x @ turn, 0.0), turn)


def test_cca_maps_both_spaces() -> None:
    given = calibration(draw(0, N, D), draw(1, N, E))
    by = correction("bridge(kind=cca, rank=3)").fit(given)
    images, texts = by(given.images), by(given.texts)
    assert (images.dim, texts.dim, images.space, texts.space) == (3, 3, "image", "text")
    a, b = (torch.from_numpy(rows(x) - rows(x).mean(0)) for x in (given.images, given.texts))
    made = canonical(a, b, 0.01, 3)
    np.testing.assert_allclose(rows(images), unit((a @ made.first).numpy()), atol=1e-5)
    np.testing.assert_allclose(rows(texts), unit((b @ made.second).numpy()), atol=1e-5)


def test_a_network_of_one_layer_reaches_the_least_squares_error() -> None:
    x = draw(0, 200, D)
    y = x @ draw(1, D, E) / 3 + 0.1 * draw(2, 200, E) + 0.5
    made = trained(x, y, Training(depth=1, steps=2000, lr=0.02))
    ones = np.hstack([x.numpy(), np.ones((200, 1))])
    best = np.linalg.lstsq(ones, y.numpy(), rcond=None)[1].sum() / 200
    error = float((made(x).double() - y).square().sum(1).mean())
    assert best * (1 - 1e-6) <= error < best * 1.01  # the network computes in single precision
    # Two layers with GELU between them fit what is not linear.
    bent = torch.stack([x[:, 0].abs(), x[:, 1] * x[:, 2]], dim=1)
    errors = [
        float((trained(x, bent, Training(depth=depth, steps=1000, lr=0.02))(x) - bent).square().mean())
        for depth in (1, 2)
    ]
    assert errors[1] < 0.8 * errors[0]


def test_the_mlp_is_linear_gelu_linear_of_the_width_of_its_target() -> None:
    made = trained(draw(0, 30, D), draw(1, 30, E), Training(steps=3))
    (w1, b1), (w2, b2) = made.layers
    assert [tuple(part.shape) for part in (w1, b1, w2, b2)] == [(E, D), (E,), (E, E), (E,)]
    x = draw(2, 4, D).float()
    inner = (x @ w1.T + b1).double().numpy()
    from scipy.stats import norm

    expected = (inner * norm.cdf(inner)) @ w2.double().numpy().T + b2.double().numpy()
    np.testing.assert_allclose(made(x).numpy(), expected, atol=1e-5)
    again = trained(draw(0, 30, D), draw(1, 30, E), Training(steps=3))
    assert torch.equal(again(x), made(x))
    assert not torch.equal(trained(draw(0, 30, D), draw(1, 30, E), Training(steps=3, seed=1))(x), made(x))


def test_the_contrastive_loss_takes_no_second_caption_of_an_item_for_a_negative() -> None:
    made, target = draw(0, 4, E), draw(1, 4, E)
    target[3] = target[0]
    logits = unit(made.numpy()) @ unit(target.numpy()).T / 0.07
    logits[0, 3] = logits[3, 0] = -np.inf
    rowwise = np.log(np.exp(logits).sum(1)) - np.diag(logits)
    columnwise = np.log(np.exp(logits).sum(0)) - np.diag(logits)
    assert float(contrastive(made, target)) == pytest.approx((rowwise.mean() + columnwise.mean()) / 2, rel=1e-6)


@pytest.mark.parametrize("kind", ["mlp", "procrustes", "ridge", "cca"])
def test_a_bridge_joins_what_its_control_does_not(kind: str) -> None:
    def world(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        content, turn = draw(seed, N, 6), torch.linalg.qr(draw(99, 12, 12)).Q
        images = torch.cat([content, torch.ones(N, 6)], dim=1) + 0.1 * draw(seed + 1, N, 12)
        return images, (torch.cat([content, -torch.ones(N, 6)], dim=1) + 0.1 * draw(seed + 2, N, 12)) @ turn

    given = calibration(*(torch.cat(of) for of in zip(*(world(10 * s) for s in range(1, 5)), strict=True)))
    images, texts = (features(of, space, "p") for of, space in zip(world(0), ("image", "text"), strict=True))
    relevance = {i: i for i in images.ids}
    found = {}
    for name in ("none", "bridge", "bridge-shuffled"):
        by = correction(name, **({} if name == "none" else {"kind": kind})).fit(given)
        pair = by.apply(images, texts)
        found[name] = float(retrieval(pair.query, pair.gallery, (relevance, relevance))["hit_at_1"].mean())
    assert found["none"] < 0.2
    assert found["bridge"] > 0.5
    assert found["bridge-shuffled"] < 0.2


def test_a_pair_is_of_one_label_or_of_one_id() -> None:
    x, y = features(draw(0, 4, D), "image"), features(draw(1, 3, D), "text")
    labels = {"i0": "cat", "i1": "cat", "i2": "owl", "t1": "cat", "t2": "cat", "t0": "bee"}
    left, right = Calibration({"image": x, "text": y}, "train", labels=labels).paired("image", "text")
    np.testing.assert_allclose(left.numpy(), rows(x)[:2])
    np.testing.assert_allclose(right.numpy(), rows(y)[[1, 1]])
    with pytest.raises(XgapError, match="no item of space 'image' in the calibration set is paired"):
        correction("bridge").fit(Calibration({"image": x, "text": y}, "train"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bridge(kind=affine)", "unknown kind of bridge 'affine'"),
        ("bridge(loss=l1)", "unknown loss 'l1'"),
        ("bridge(source=audio)", "no calibration features of space 'audio'"),
        ("bridge(kind=ridge, rank=3)", "rank is the number of directions of kind=cca"),
        ("bridge(kind=cca, rank=8)", "from 1 to 5, not 8"),
        ("bridge(kind=ridge, penalty=-1.0)", "penalty of a bridge is 0 or more"),
        ("bridge(depth=0)", "not depth=0"),
        ("xbt", "needs the old model's features of the calibration texts"),
        ("xbt(old=x.npz, on=images)", 'on="text" or on="pairs"'),
        ("xbt(old=x.npz, on=pairs, kind=ridge)", "cannot be fitted on=pairs"),
        ("xbt(old=nothing.npz)", "there is no file nothing.npz"),
    ],
)
def test_mistakes_are_one_sentence(name: str, message: str) -> None:
    with pytest.raises(XgapError, match=message):
        correction(name).fit(calibration(draw(0, N, D), draw(1, N, E)))


def test_a_bridge_refuses_features_that_it_was_not_fitted_on() -> None:
    by = correction("bridge(kind=ridge)").fit(calibration(draw(0, N, D), draw(1, N, E)))
    with pytest.raises(XgapError, match="was not fitted on features of space 'audio'"):
        by(features(draw(2, 3, D), "audio"))
    with pytest.raises(XgapError, match="have 6 dimensions, those it was fitted on 7"):
        by(features(draw(2, 3, 6), "image"))
    three = {space: features(draw(0, 9, D), space, "p") for space in ("image", "text", "audio")}
    with pytest.raises(XgapError, match="has 2 other spaces to lead into"):
        correction("bridge").fit(Calibration(three, "train"))


# An old and a new model of the same items: the new one is the old one, turned.
TURN = torch.linalg.qr(draw(50, 8, 8)).Q


def models(seed: int, gap: float = 0.5, n: int = N) -> tuple[dict[str, Features], dict[str, Features]]:
    """Images and texts as the old model and as the new one see them; the gap of the new one is its own."""
    content = draw(seed, n, 8)
    sides = {"image": content + gap, "text": content + 0.3 * draw(seed + 1, n, 8) - gap}
    old = {space: features(of, space, "p") for space, of in sides.items()}
    return old, {space: features(torch.from_numpy(rows(of)) @ TURN, space, "p") for space, of in old.items()}


def first(query: Features, gallery: Features) -> float:
    relevance = ({i: i for i in query.ids}, {i: i for i in gallery.ids})
    return float(retrieval(query, gallery, relevance, exclude_self=False)["hit_at_1"].mean())


def test_a_turned_model_is_turned_back_and_retrieves_as_it_did_itself() -> None:
    (old, new), (old_fit, new_fit) = models(0), models(5)
    by = correction("xbt", old=old_fit["text"], kind="procrustes").fit(Calibration(new_fit, "train"))
    pair = by.apply(new["text"], old["image"])
    np.testing.assert_allclose(rows(pair.query), rows(old["text"]), atol=1e-5)
    assert pair.gallery is old["image"]
    assert first(pair.query, pair.gallery) == first(new["text"], new["image"]) > 0.3
    assert first(new["text"], old["image"]) < 0.2
    control = correction("xbt-shuffled", old=old_fit["text"], kind="procrustes").fit(Calibration(new_fit, "train"))
    assert first(control.apply(new["text"], old["image"]).query, old["image"]) < 0.2
    # From texts alone the images are turned back too, since here the gap turns as the texts do.
    np.testing.assert_allclose(rows(by.apply(new["image"], old["image"]).query), rows(old["image"]), atol=1e-5)


@pytest.mark.parametrize("on", ["text", "pairs"])
def test_the_projection_of_xbt_is_learned_from_texts_and_from_pairs(on: str) -> None:
    (old, new), (old_fit, new_fit) = models(0, n=200), models(5, n=400)
    by = correction("xbt", old=old_fit["text"], on=on, steps=600).fit(Calibration(new_fit, "train"))
    query = by.apply(new["text"], old["text"]).query
    assert float((query.vectors * old["text"].vectors).sum(1).mean()) > 0.8
    assert first(query, old["text"]) > 3 * first(new["text"], old["text"])
    if on == "pairs":  # which bring images to where the texts are
        alone = correction("xbt", old=old_fit["text"], steps=600).fit(Calibration(new_fit, "train"))
        images = [first(fitted.apply(new["image"], old["text"]).query, old["text"]) for fitted in (by, alone)]
        assert images[0] > 1.5 * images[1]


def test_what_the_gap_costs_a_map_from_texts_shows_in_the_images() -> None:
    def error(gap_turns: bool) -> float:
        (old, new), (old_fit, new_fit) = models(0), models(5)
        if not gap_turns:  # the new model's images stand elsewhere than its texts' map would have them
            offset = 1.5 * torch.nn.functional.normalize(draw(7, 8), dim=0)
            new, new_fit = (
                {**of, "image": features(torch.from_numpy(rows(of["image"])) + offset, "image", "p")}
                for of in (new, new_fit)
            )
        name = correction("xbt", old=old_fit["text"], kind="procrustes")
        by = name.fit(Calibration(new_fit, "train"))
        cosine = {s: (by.apply(new[s], old[s]).query.vectors * old[s].vectors).sum(1).mean() for s in new}
        return float(cosine["text"] - cosine["image"])

    assert error(gap_turns=True) == pytest.approx(0, abs=1e-4)
    assert error(gap_turns=False) > 0.1


def test_centred_xbt_takes_the_mean_of_its_own_modality_from_each_query() -> None:
    (old, new), (old_fit, new_fit) = models(0), models(5)
    given = Calibration(new_fit, "train")
    by = correction("xbt", old=old_fit["text"], kind="procrustes", centred=True).fit(given)
    means = {space: rows(of).mean(0) for space, of in new_fit.items()}
    turn, _, flip = np.linalg.svd(
        (rows(new_fit["text"]) - means["text"]).T @ (rows(old_fit["text"]) - rows(old_fit["text"]).mean(0))
    )
    for space in ("image", "text"):
        expected = (rows(new[space]) - means[space]) @ turn @ flip + rows(old_fit["text"]).mean(0)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(rows(by.apply(new[space], old["image"]).query), expected, atol=1e-5)


def test_options_of_another_kind_are_refused() -> None:
    given = Calibration(models(5)[1], "train")
    for name, options, message in (
        ("bridge", {"kind": "ridge", "steps": 3}, "depth and steps are of kind=mlp, and kind=ridge reads neither"),
        ("bridge", {"kind": "procrustes", "penalty": 1.0}, "penalty is of kind=ridge and kind=cca"),
        ("xbt", {"kind": "ridge", "depth": 3, "old": given.texts}, "depth and steps are of kind=mlp"),
    ):
        with pytest.raises(XgapError, match=message):
            correction(name, **options).fit(given)


def test_features_as_an_option_have_a_short_name() -> None:
    (old_fit, *_), other = models(0)[1:], models(3)[1]
    one, two = (str(correction("xbt", old=of["text"])) for of in (old_fit, other))
    assert one.startswith("xbt(old=features-")
    assert len(one) < 60
    assert one != two


def test_old_features_come_from_a_file_by_id_or_by_row(tmp_path: Path) -> None:
    (old, new), (old_fit, new_fit) = models(0), models(5)
    given = Calibration(new_fit, "train")
    expected = correction("xbt", old=old_fit["text"], kind="ridge").fit(given).apply(new["text"], old["text"]).query
    backwards = old_fit["text"].select(reversed(old_fit["text"].ids))
    save_features(backwards, tmp_path / "old.npz")
    np.save(tmp_path / "old.npy", rows(old_fit["text"]))
    for name in ("old.npz", "old.npy"):
        by = correction("xbt", old=str(tmp_path / name), kind="ridge").fit(given)
        torch.testing.assert_close(by.apply(new["text"], old["text"]).query.vectors, expected.vectors)
    with pytest.raises(XgapError, match="none of the 60 calibration texts, such as 'p0', is among the old"):
        correction("xbt", old=features(draw(0, 4, 8), "text", "q")).fit(given)
    with pytest.raises(XgapError, match="gallery of xbt is the old model's, of 8 dimensions, not 5"):
        correction("xbt", old=old_fit["text"], kind="ridge").fit(given).apply(
            new["text"], features(draw(0, 3, 5), "image")
        )
