from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features
from xgap_analysis.models import Model
from xgap_analysis.store import Store
from xgap_analysis.views.inversion.invert import encode_pseudo_tokens, invert
from xgap_analysis.views.inversion.loop import InversionLoop

Make = Callable[..., Model]
SIDES = [("image", 1), ("image", 2), ("text", 1), ("text", 4)]
QUIET = {"store": None, "progress": False}


def given_features(model: Model, space: str, n: int) -> Features:
    dim = model.image.encode(torch.zeros(1, 3, 32, 32)).shape[1]
    vectors = torch.randn(n, dim, generator=torch.Generator().manual_seed(9))
    return Features(vectors, [f"item {i}" for i in range(n)], space, space, {"split": "test", "digest": "d"})


@pytest.mark.parametrize(("space", "tokens"), SIDES)
@pytest.mark.parametrize("kind_", ["native", "siglip"])
def test_the_result_does_not_depend_on_company_or_order(kind_: str, space: str, tokens: int, make_model: Make) -> None:
    model = make_model(kind_)
    whole = given_features(model, space, 64)
    some = whole.select([whole.ids[i] for i in (40, 3, 17, 63, 0, 22, 8)])
    settings = {**QUIET, "tokens": tokens, "steps": 150 if space == "image" else 60}
    together, alone = invert(model, whole, **settings), invert(model, some, **settings)
    cosines = (together.features.select(some.ids).vectors * alone.features.vectors).sum(dim=1)
    assert cosines.min() > 0.9999
    assert alone.features.ids == some.ids


@pytest.mark.parametrize(("space", "tokens"), SIDES)
def test_what_comes_out(space: str, tokens: int, make_model: Make) -> None:
    model, other = make_model("native"), {"image": "text", "text": "image"}[space]
    given = given_features(model, space, 10)
    found = invert(model, given, steps=40, tokens=tokens, snapshots=(0, 5, 40), **QUIET)
    assert (found.features.space, found.features.origin) == (other, space)
    assert found.pseudo_tokens.shape == (10, tokens, 32)
    assert found.loss.shape == (40, 10)
    assert (found.loss[-1] < found.loss[0]).all()
    again = encode_pseudo_tokens(model, found.pseudo_tokens, space=other)
    torch.testing.assert_close(again, found.features.vectors, atol=1e-5, rtol=0)
    assert list(found.snapshots) == [0, 5, 40]
    torch.testing.assert_close(found.snapshots[40].vectors, found.features.vectors)
    for step in (0, 5):
        loss = 1 - (found.snapshots[step].vectors * given.vectors).sum(dim=1)
        torch.testing.assert_close(loss, found.loss[step], atol=1e-5, rtol=0)
    assert found.provenance["view"] == ("oti" if space == "image" else "ovi")
    assert found.provenance["input"]["split"] == "test"
    assert found.features.provenance["digest"] != "d"


def test_the_papers_defaults(make_model: Make) -> None:
    model = make_model("native")
    oti = invert(model, given_features(model, "image", 1), **QUIET)
    ovi = invert(model, given_features(model, "text", 1), **QUIET)
    assert (oti.loss.shape[0], oti.pseudo_tokens.shape[1]) == (150, 1)
    assert (ovi.loss.shape[0], ovi.pseudo_tokens.shape[1]) == (1000, 1)
    shared = {k: oti.provenance[k] for k in ("lr", "weight_decay", "init_std", "stop", "template")}
    assert shared == {"lr": 2e-2, "weight_decay": 0.01, "init_std": 0.02, "stop": "fixed", "template": "a photo of {}"}
    four = replace(model, settings={"ovi_tokens": 4})
    assert invert(four, given_features(four, "text", 1), steps=1, **QUIET).pseudo_tokens.shape[1] == 4
    assert invert(four, given_features(four, "image", 1), steps=1, **QUIET).pseudo_tokens.shape[1] == 1


def test_the_shortcuts_give_the_general_ways_result(make_model: Make) -> None:
    for space, steps in (("image", 150), ("text", 40)):
        quick, general = make_model("native"), make_model("native", shortcuts=False)
        given = given_features(quick, space, 8)
        pair = [invert(m, given, steps=steps, **QUIET).features.vectors for m in (quick, general)]
        assert (pair[0] * pair[1]).sum(dim=1).min() > 0.9999


def test_a_seed_gives_the_same_bits_and_another_other_ones(make_model: Make) -> None:
    model = make_model("native")
    given = given_features(model, "image", 5)
    first, again, other = (invert(model, given, steps=20, seed=s, **QUIET) for s in (1, 1, 2))
    assert torch.equal(first.pseudo_tokens, again.pseudo_tokens)
    assert torch.equal(first.features.vectors, again.features.vectors)
    assert not torch.equal(first.pseudo_tokens, other.pseudo_tokens)


def test_a_killed_run_resumes_with_the_same_bits(
    make_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xgap_analysis.views.inversion import invert as inversion

    monkeypatch.setattr(inversion, "SHARD", 8)
    model, store, ran = make_model("native"), Store(tmp_path), []
    given = given_features(model, "image", 30)
    settings = {"steps": 10, "batch_size": 4, "progress": False, "snapshots": (3,)}
    expected = invert(model, given, store=None, **settings)
    original = InversionLoop.run

    def dying(*args: object, **options: object) -> object:
        ran.append(1)
        if len(ran) == 6:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(InversionLoop, "run", dying)
    with pytest.raises(KeyboardInterrupt):
        invert(model, given, store=store, **settings)
    resumed = invert(model, given, store=store, **settings)
    assert len(ran) == 6 + 4  # the two shards that were done were not computed again
    for part in ("features", "pseudo_tokens", "loss"):
        a, b = (getattr(x, part) for x in (resumed, expected))
        assert torch.equal(getattr(a, "vectors", a), getattr(b, "vectors", b))
    invert(model, given, store=store, **settings)
    assert len(ran) == 10
    moved = replace(given, vectors=given.vectors.roll(1, dims=1))  # the same provenance, other vectors
    invert(model, moved, store=store, **settings)
    assert len(ran) == 18


def test_an_inversion_is_found_again_with_and_without_its_snapshots(
    make_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, store, looks = make_model("native"), Store(tmp_path), []
    given = given_features(model, "image", 6)
    original = InversionLoop.run

    def watched(*args: object, snapshots: list[int], **options: object) -> object:
        looks.append(snapshots)
        return original(*args, snapshots=snapshots, **options)

    monkeypatch.setattr(InversionLoop, "run", watched)
    settings = {"steps": 10, "progress": False, "store": store}
    first = invert(model, given, snapshots=(3, 5), **settings)
    assert looks == [[3, 5]]
    fewer = [invert(model, given, snapshots=some, **settings) for some in ((), (5,), (3, 5), (10,))]
    assert torch.equal(fewer[-1].snapshots[10].vectors, first.features.vectors)  # the last step is the inversion
    assert looks == [[3, 5]]
    more = invert(model, given, snapshots=(3, 4), **settings)
    assert looks == [[3, 5], [4]]
    for again in (*fewer, more):
        assert torch.equal(again.features.vectors, first.features.vectors)
        assert again.provenance == first.provenance
        for step in {3, 5} & set(again.snapshots):
            assert torch.equal(again.snapshots[step].vectors, first.snapshots[step].vectors)
    of = [x.provenance for x in (first.features, first.snapshots[3], more.snapshots[4])]
    assert [p.get("snapshot") for p in of] == [None, 3, 4]
    assert len({p["digest"] for p in of}) == 3


@pytest.mark.parametrize("fits", [1, 3, 8])
def test_a_batch_too_large_for_the_memory_goes_in_halves(
    fits: int, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sizes, refused = make_model("native"), [], []
    given = given_features(model, "image", 40)
    settings = {**QUIET, "steps": 20, "snapshots": (3,), "batch_size": 12}
    expected = invert(model, given, **settings)
    original = InversionLoop.run

    def small(self: InversionLoop, start: torch.Tensor, *rest: object, **options: object) -> object:
        (sizes if len(start) <= fits else refused).append(len(start))
        if len(start) > fits:
            raise torch.OutOfMemoryError("too much")
        return original(self, start, *rest, **options)

    monkeypatch.setattr(InversionLoop, "run", small)
    with pytest.warns(UserWarning, match="do not fit the memory of cpu: they are optimised in halves"):
        found = invert(model, given, **settings)
    assert (sum(sizes), max(sizes) <= fits) == (40, True)
    assert refused == sorted(set(refused), reverse=True)  # a size is tried once, and none above it again
    for a, b in ((found.features, expected.features), (found.snapshots[3], expected.snapshots[3])):
        assert a.ids == b.ids
        assert (a.vectors * b.vectors).sum(dim=1).min() > 0.9999
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-4, rtol=0)
    fits = 0
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning, match="do not fit"):
        invert(model, given, **settings)


def test_batches_of_one_size_share_a_descent(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model, made = make_model("native"), []
    original = InversionLoop.__init__

    def counted(self: InversionLoop, forward: object, shape: tuple[int, ...], *rest: object, **options: object) -> None:
        made.append(shape[0])
        original(self, forward, shape, *rest, **options)

    monkeypatch.setattr(InversionLoop, "__init__", counted)
    invert(model, given_features(model, "image", 30), steps=2, batch_size=8, **QUIET)
    assert made == [8, 6]


def test_one_bar_counts_the_steps_to_its_end(
    make_model: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    model = make_model("native")
    invert(model, given_features(model, "image", 6), steps=10, batch_size=4, store=None)
    shown = capsys.readouterr().err
    assert "OTI with native" in shown
    assert "60/60" in shown
    invert(model, given_features(model, "image", 6), steps=10, **QUIET)
    assert capsys.readouterr().err == ""


def test_stopping_at_a_cosine_saves_nothing_of_the_rest(make_model: Make) -> None:
    model = make_model("native")
    given = given_features(model, "image", 12)
    found = invert(model, given, steps=100, stop=0.3, tokens=2, **QUIET)
    reached = 1 - found.loss[-1]
    assert (reached >= 0.3 - 1e-4).any()
    final = (found.features.vectors * given.vectors).sum(dim=1)
    torch.testing.assert_close(final[reached >= 0.3], reached[reached >= 0.3], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"space": "audio"}, {}, "audio"),
        ({"vectors": torch.ones(4, 7)}, {}, "7 dimensions, those of model 'native' 24"),
        ({}, {"steps": 0}, "the number of steps is a whole number of 1 or more, not 0"),
        ({}, {"steps": 5, "snapshots": (6,)}, "from 0 to 5"),
        ({}, {"batch_size": 0}, "batch_size"),
        ({}, {"stop": "soon"}, "stop is"),
        ({}, {"tokens": 0}, "the number of pseudo-tokens is a whole number of 1 or more, not 0"),
        ({}, {"template": "a photo"}, "once"),
        ({}, {"precision": "int8"}, "precision"),
        ({"space": "text"}, {"tokens": 17}, "16 patches"),
        ({}, {"store": "here"}, "store is"),
    ],
)
def test_mistakes_are_reported(
    change: dict[str, object], options: dict[str, object], message: str, make_model: Make
) -> None:
    model = make_model("native")
    given = replace(given_features(model, "image", 4), **change)
    with pytest.raises(XgapError, match=message):
        invert(model, given, **{"progress": False, "store": None, **options})


def test_nothing_to_invert(make_model: Make) -> None:
    model = make_model("native")
    with pytest.raises(XgapError, match="empty"):
        invert(model, Features(torch.zeros(0, 24), [], "image", "image"), **QUIET)
