"""The scripts beside the embedded models that train them: what a batch may hold, and a few steps on a CPU."""

import copy
import io
import json
import random
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import xgap_analysis as xg
from xgap_analysis.core.paths import data_root
from xgap_analysis.models.trainable import load_trainable

SCRIPTS = data_root() / "models"
NAMES = ("icons", "corpus", "phrases", "images", "muon", "train")


def concepts() -> dict[str, dict[str, Any]]:
    return json.loads((data_root() / "emoji" / "concepts.json").read_text("utf-8"))


def held_out() -> str:
    """A name of the test split of two words."""
    return next(f["name"] for f in concepts().values() if f["split"] == "test" and len(f["name"].split()) == 2)


def trained() -> dict[str, Any]:
    """A concept of the train split whose name has two words."""
    return next(f for f in concepts().values() if f["split"] == "train" and len(f["name"].split()) == 2)


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The scripts as modules, which are gone afterwards."""
    before = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    sys.path.insert(0, str(SCRIPTS))
    yield {name: __import__(name) for name in NAMES}
    sys.path.remove(str(SCRIPTS))
    for name in NAMES:
        sys.modules.pop(name, None)
    sys.modules.update(before)


@pytest.fixture(scope="module")
def icons(scripts: dict[str, ModuleType]) -> ModuleType:
    return scripts["icons"]


@pytest.fixture(scope="module")
def corpus(scripts: dict[str, ModuleType], icons: ModuleType) -> Any:
    """The emoji, and three monochrome and one coloured drawing."""
    about = [
        ("a", ["lighthouse", "beacon"], ["travel"]),  # new
        ("a", [trained()["name"]], []),
        ("b", ["beacon lighthouses", f"{held_out()} lamp"], []),  # an alias holds a held-out name
        ("b", ["lighthouse"], ["sea"]),  # the same name again
    ]
    alpha = np.stack([np.full((64, 64), value, np.uint8) for value in (17, 34, 51)])
    return scripts["corpus"].Corpus(icons.Drawings(alpha, np.full((1, 64, 64, 4), 200, np.uint8), about))


def test_recipes_are_those_that_the_shipped_models_were_trained_by(scripts: dict[str, ModuleType]) -> None:
    train = scripts["train"]
    for name in ("tiny", "tiny-seed1", "tiny-seed2", "tiny-intra", "tiny-nogap", "tiny-image"):
        shipped = json.loads((SCRIPTS / name / "training.json").read_text("utf-8"))["recipe"]
        recipe = {key: value for key, value in vars(train.RECIPES[name]).items() if key != "branch_of"}
        assert recipe == {key: shipped[key] for key in recipe}
        config = json.loads((SCRIPTS / name / "open_clip_config.json").read_text("utf-8"))
        assert config["model_cfg"] == train.MODEL


def test_training_starts_from_the_weights_of_the_untrained_model(scripts: dict[str, ModuleType]) -> None:
    own = scripts["train"].new_model(0).state_dict()
    shipped = load_trainable("tiny-untrained", device="cpu").module.state_dict()
    assert all(torch.equal(own[name], shipped[name]) for name in shipped)


def test_no_image_of_a_held_out_concept_or_artist_is_in_the_corpus(corpus: Any) -> None:
    train = {key: facts for key, facts in concepts().items() if facts["split"] == "train"}
    emoji = xg.load_dataset("emoji").split("train")
    assert corpus.facts["of emoji"] == len(emoji.images)
    assert corpus.n_concepts == len(set(emoji.labels["concept"].values()) & {*train}) == 1206
    assert {group.facts["name"] for group in corpus.groups[: corpus.n_concepts]} <= {f["name"] for f in train.values()}


def test_icons_join_the_concept_or_the_name_that_they_show(corpus: Any) -> None:
    first = corpus.facts["of emoji"]
    joined = [group for group in corpus.groups[: corpus.n_concepts] if group.icons]
    assert [(group.facts["name"], group.icons) for group in joined] == [(trained()["name"], [first + 1])]
    lighthouse = corpus.groups[-1]
    assert lighthouse.icons == [first, first + 2]
    assert lighthouse.names == ["lighthouse", "beacon"]
    assert lighthouse.topics == ["travel", "sea"]
    assert corpus.facts["icon names"] == 1
    assert corpus.facts["icons left out"] == 1
    assert corpus.images[first : first + 3, 0, 0].tolist() == [[0, 0, 0, 17], [0, 0, 0, 34], [200] * 4]
    assert corpus.coloured[first - 1 : first + 3].tolist() == [True, False, False, True]


def test_a_held_out_name_is_seen_in_any_order_and_number(corpus: Any) -> None:
    assert corpus.held_out.is_in(held_out())
    assert corpus.held_out.is_in(" and a ".join(reversed(held_out().split())) + "s")
    assert not corpus.held_out.is_in("an entirely other thing")


def plural(name: str) -> str:
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    return name + ("es" if name.endswith(("s", "x", "ch", "sh")) else "s")


def test_no_held_out_name_passes_in_the_plural(corpus: Any) -> None:
    held = [f for f in concepts().values() if f["split"] != "train"]
    names = [n for f in held for n in (f["name"], *f["other_names"]) if len(n) > 2 and any(map(str.isalnum, n))]
    assert len(names) > 900
    assert [n for n in names if n.isascii() and not corpus.held_out.is_in(f"two {plural(n)}")] == []


@pytest.mark.parametrize(
    ("one", "many"),
    [
        *(("blueberry", "blueberries"), ("peach", "peaches"), ("fox", "foxes"), ("dress", "dresses"), ("pie", "pies")),
        *(("brush", "brushes"), ("cookie", "cookies"), ("house", "houses"), ("heart", "hearts"), ("toy", "toys")),
    ],
)
def test_a_word_and_its_plural_are_one(scripts: dict[str, ModuleType], one: str, many: str) -> None:
    words = scripts["corpus"].words
    assert words(one) == words(many)
    assert len(words(f"{one} {many} glass gla")) == 3  # "ss" is no plural


def test_a_batch_follows_from_seed_and_step(corpus: Any) -> None:
    rows, captions = corpus.batch(32, 0.3, seed=0, step=5)
    again = corpus.batch(32, 0.3, seed=0, step=5)
    assert torch.equal(rows, again[0])
    assert captions == again[1]
    assert not torch.equal(rows, corpus.batch(32, 0.3, seed=0, step=6)[0])
    assert not torch.equal(rows, corpus.batch(32, 0.3, seed=1, step=5)[0])


def test_a_batch_has_distinct_groups_and_two_captions_of_each(
    scripts: dict[str, ModuleType], icons: ModuleType
) -> None:
    corpus = scripts["corpus"].Corpus(icons.NONE)
    rows, captions = corpus.batch(200, 0.3, seed=0, step=0)
    owner = {row: i for i, group in enumerate(corpus.groups) for row in (*group.emoji, *group.icons)}
    assert len({owner[row] for row in rows.tolist()}) == len(rows) == 200
    assert len(captions) == 400
    for row, first in zip(rows.tolist(), captions, strict=False):
        facts = corpus.groups[owner[row]].facts
        own = {facts["name"], facts["subgroup"].replace("-", " "), *facts["other_names"], *facts["keywords"]}
        assert any(one in first for one in own)


def test_captions_of_icons_are_names_with_or_without_a_topic(corpus: Any) -> None:
    group, draw = corpus.groups[-1], random.Random(0)
    plain = {template.removesuffix("{}") for template in sys.modules["corpus"].TEMPLATES}
    drawn = {group.caption(draw) for _ in range(400)}
    bare = {next((c.removeprefix(t) for t in plain if c.startswith(t)), c) for c in drawn}
    names, topics = ("lighthouse", "beacon"), ("travel", "sea")
    assert bare <= {*names, *topics, *(f"{n} {t}" for n in names for t in topics)}
    assert {"lighthouse", "beacon", "sea", "lighthouse travel"} <= bare


def test_a_set_gives_two_drawings_of_a_name_without_styles_brands_and_signs(icons: ModuleType) -> None:
    body = {"body": "<path/>"}
    sheet = {
        "prefix": "made",
        "info": {"license": {"spdx": "MIT"}, "palette": False},
        "width": 24,
        "height": 32,
        "suffixes": {"outline": "Outline", "": "Plain"},
        "icons": {
            **{f"sailing-boat{end}": body for end in ("", "-outline", "-bold", "-2")},
            "some-company": body,
            "letter-a": body,
            "gone": {**body, "hidden": True},
        },
        "aliases": {"yacht-outline": {"parent": "sailing-boat"}, "turned": {"parent": "sailing-boat", "rotate": 1}},
        "categories": {"SeaTravel": ["sailing-boat", "sailing-boat-outline"], "Brands": ["some-company"]},
    }
    assert icons.is_used(sheet)
    found = list(icons.icons_of(sheet))
    assert [icon.captions[0] for icon in found] == ["sailing boat"] * 2
    assert all(icon.square == (-4.0, 0.0, 32) for icon in found)
    every = {name: next(icons.icons_of({**sheet, "icons": {name: body}})) for name in list(sheet["icons"])[:2]}
    assert every["sailing-boat"].captions == ["sailing boat", "yacht"]
    assert every["sailing-boat"].topics == every["sailing-boat-outline"].topics == ["sea travel"]
    for info in ({"license": {"spdx": "GPL-3.0"}}, {"license": {"spdx": "MIT"}, "category": "Emoji"}):
        assert not icons.is_used({**sheet, "info": info})
    assert not icons.is_used({**sheet, "prefix": "circle-flags"})


def test_equal_drawings_are_kept_once(icons: ModuleType) -> None:
    seen: set[Any] = set()
    one, other = icons.Icon("s", "", (0, 0, 1), ["cat"]), icons.Icon("s", "", (0, 0, 1), ["dog"])
    pixels = np.zeros((64, 64), np.uint8)
    nearly = pixels.copy()
    nearly[0, 0] = 17
    assert icons.is_new(one, pixels, seen)
    assert not icons.is_new(other, pixels, seen)  # the same
    assert not icons.is_new(one, nearly, seen)  # nearly the same, of the same name
    assert icons.is_new(other, nearly, seen)


def archive_of(path: Path, files: dict[str, str]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))


def test_words_of_wordnet_are_used_or_can_be_drawn(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    phrases = scripts["phrases"]
    noun = (
        "  1 a licence\n"
        '00001 05 n 02 Felis_catus 0 house_cat 0 000 | a cat kept at home (as a pet); "he had a cat"\n'
        "00002 09 n 02 thought 0 idea_of_it 0 000 | something that is in the mind\n"
        "00003 09 n 01 never_tagged 0 000 | something that no text has\n"
    )
    index = "thought%1:09:00:: 00002 1 7\nhouse_cat%1:05:00:: 00001 1 0\nrun%2:38:00:: 00004 1 2\n"
    verb = "00004 38 v 01 run 0 000 01 + 01 00 | go fast\n"
    archive = tmp_path / f"{phrases.WORDNET}-{phrases.WORDNET_VERSION}.tgz"
    texts = {"data.noun": noun, "data.verb": verb, "data.adj": "", "index.sense": index}
    archive_of(archive, {f"dict/{name}": text for name, text in texts.items()})
    assert phrases.wordnet(tmp_path) == ["house cat", "thought", "something that is in the mind", "run", "go fast"]


def test_without_npm_the_corpus_is_refused_in_one_sentence(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"the npm package .* cannot be fetched .* --quick trains without it"):
        scripts["train"].main(["prepare", "--cache", str(tmp_path)])
    with pytest.raises(SystemExit, match="no icons in"):
        scripts["train"].main(["tiny", "--cache", str(tmp_path), "--to", str(tmp_path)])


def test_principal_components_are_those_of_scikit_learn(scripts: dict[str, ModuleType]) -> None:
    from sklearn.decomposition import PCA

    vectors = torch.randn(60, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 9)
    own = scripts["phrases"].principal(vectors, 3).numpy()
    other = PCA(3).fit_transform(vectors.numpy())
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    np.testing.assert_allclose(own @ own.T, other @ other.T, atol=1e-4)


def test_distillation_is_smallest_where_the_student_is_the_teacher(scripts: dict[str, ModuleType]) -> None:
    draw = torch.Generator().manual_seed(0)
    teacher, other = (torch.nn.functional.normalize(torch.randn(20, 6, generator=draw), dim=1) for _ in range(2))
    loss = scripts["train"].distil_loss
    cosines = (teacher @ teacher.T).double().numpy() / 0.07
    wanted = np.exp(cosines) / np.exp(cosines).sum(1, keepdims=True)
    assert loss(teacher, teacher).item() == pytest.approx(-(wanted * np.log(wanted)).sum(1).mean(), abs=1e-4)
    assert loss(other, teacher) > loss(teacher, teacher)


def test_muon_takes_orthogonal_steps(scripts: dict[str, ModuleType]) -> None:
    draw = torch.Generator().manual_seed(0)
    made = scripts["muon"].orthogonal(torch.randn(3, 12, 7, generator=draw))
    assert ((torch.linalg.svdvals(made) > 0.6) & (torch.linalg.svdvals(made) < 1.3)).all()
    weight = torch.nn.Parameter(torch.zeros(12, 7))
    weight.grad = torch.randn(12, 7, generator=draw)
    scripts["muon"].Muon([weight], lr=0.1, weight_decay=0.0).step()
    np.testing.assert_allclose(
        weight.detach(), -0.1 * (12 / 7) ** 0.5 * scripts["muon"].orthogonal(weight.grad[None])[0], atol=1e-4
    )


def test_augmented_images_are_in_range_and_follow_from_the_generator(scripts: dict[str, ModuleType]) -> None:
    images = torch.randint(0, 256, (6, 64, 64, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[3:, ..., 3] = 0  # nothing drawn: the background alone
    coloured = torch.tensor([True, False] * 3)
    first, again = (scripts["images"].augment(images, coloured, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (6, 3, 64, 64)
    assert first.min() >= -1
    assert first.max() <= 1
    assert first[3:].flatten(2).std(dim=2).max() < 1e-6


def test_a_branch_goes_on_with_the_rate_of_its_schedule(scripts: dict[str, ModuleType], corpus: Any) -> None:
    train = scripts["train"]
    material = train.Material(corpus, None, [], torch.zeros(0, 16, dtype=torch.long), torch.zeros(0, 8))
    recipe = train.replace(train.RECIPES["tiny-image"], steps=10, pairs=4, warmup=1)
    trunk, branch = (train.Run(recipe, material, torch.device("cpu")) for _ in range(2))
    trunk.update(0)
    state = trunk.state()
    assert state["made_by"]["recipe"] == train.asdict(recipe)
    branch.restore(copy.deepcopy(state))
    for run in (trunk, branch):
        run.update(8)
    rates = [[g["lr"] for o in run.optimisers for g in o.param_groups] for run in (trunk, branch)]
    share = 0.5 * (1 + np.cos(np.pi * 8 / 10))
    assert sorted({*rates[1]}) == pytest.approx([share * recipe.learning_rate, share * recipe.matrix_rate])
    assert rates[1] == rates[0]
    for one, other in zip(trunk.model.parameters(), branch.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_a_branch_of_another_recipe_is_refused(scripts: dict[str, ModuleType], corpus: Any, tmp_path: Path) -> None:
    train = scripts["train"]
    material = train.Material(corpus, None, [], torch.zeros(0, 16, dtype=torch.long), torch.zeros(0, 8))
    recipe = train.replace(train.RECIPES["tiny-nogap"], steps=10, distil_weight=0.0)
    assert train.trunk_of("tiny-nogap", recipe) == train.replace(train.TINY, steps=10, distil_weight=0.0)
    other = train.Run(train.replace(train.TINY, steps=10, pairs=7, distil_weight=0.0), material, torch.device("cpu"))
    for state in (other.state(), {key: part for key, part in other.state().items() if key != "made_by"}):
        torch.save(state, tmp_path / "tiny-10.pt")
        with pytest.raises(SystemExit, match="of another recipe or corpus than tiny-nogap goes on from: train tiny"):
            train.train("tiny-nogap", recipe, material, tmp_path, tmp_path)


@pytest.mark.slow
def test_a_few_steps_on_a_cpu_write_models_that_load(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = scripts["train"]
    material = train.Material.read(tmp_path, quick=True)
    monkeypatch.setattr(train.Material, "read", lambda cache, quick: material)  # one reading serves all
    where = ["--quick", "--cache", str(tmp_path), "--to", str(tmp_path)]
    with pytest.raises(SystemExit, match="train that first"):
        train.main(["tiny-nogap", *where])
    data = xg.load_dataset("emoji").split("val").limit(3)
    weights = {}
    for name in ("tiny", "tiny-nogap", "tiny-intra", "tiny-image", "tiny-gap"):
        train.main([name, *where])
        model = xg.load_model(tmp_path / name, device="cpu")
        assert xg.encode(model, data.images, progress=False).vectors.isfinite().all()
        assert set(model.towers) == ({"image"} if name == "tiny-image" else {"image", "text"})
        weights[name] = model.weights_digest
        last = json.loads((tmp_path / name / "training.json").read_text("utf-8"))["curve"][-1]
        assert last["step"] == 4
        terms = {"tiny-intra": {"clip_loss", "simclr_loss", "distil_loss"}, "tiny-image": {"simclr_loss"}}
        assert {key for key in last if key.endswith("_loss")} == terms.get(name, {"clip_loss", "distil_loss"})
    assert len(set(weights.values())) == 5
    assert float(xg.load_model(tmp_path / "tiny-gap", device="cpu").logit_scale) == pytest.approx(100, rel=1e-3)
    assert float(xg.load_model(tmp_path / "tiny-nogap", device="cpu").logit_scale) == pytest.approx(2, rel=1e-3)
    captions = data.texts.captions
    ids = xg.load_model(tmp_path / "tiny", device="cpu").tokenize(list(captions))
    assert torch.equal(ids, train.tokenise(material.tokenizer, captions))
