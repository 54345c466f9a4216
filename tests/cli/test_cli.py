"""The `xgap` command as a user meets it: what it prints, what it leaves behind, and how it says no."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import huggingface_hub.constants
import pandas as pd
import pytest
import safetensors.torch
import torch

from xgap_analysis import cli
from xgap_analysis.cli import checks
from xgap_analysis.cli import command as command_line
from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features_io import load_features
from xgap_analysis.core.paths import data_root
from xgap_analysis.datasets import load_dataset
from xgap_analysis.experiments.recipes import ABLATIONS
from xgap_analysis.experiments.study import Study
from xgap_analysis.experiments.tables import main_rows
from xgap_analysis.models import inventory, load_model
from xgap_analysis.store import Store
from xgap_analysis.views.encode import encode
from xgap_analysis.views.inversion.invert import invert

UNTRAINED = "tiny-untrained"  # weights do not matter here
SMALL = ["--model", UNTRAINED, "--split", "val", "--limit", "2"]


class Said(NamedTuple):
    """What one run of the command gave."""

    code: int
    out: str
    err: str


Xgap = Callable[..., Said]


@pytest.fixture
def xgap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Xgap:
    """The command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XGAP_DEBUG", raising=False)

    def run(*args: str) -> Said:
        capsys.readouterr()
        code = cli.main(args)
        return Said(code, *capsys.readouterr())

    return run


def in_a_new_process(code: str, *args: str) -> "subprocess.CompletedProcess[str]":
    root = Path(cli.__file__).parent.parent.parent
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, env=env, check=False)


def test_help_names_every_command(xgap: Xgap) -> None:
    said = xgap("--help")
    assert said.code == 0
    assert [name for name in cli.COMMANDS if f"• {name}" not in said.out] == []
    assert xgap() == said


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_each_help_shows_an_example_that_parses(xgap: Xgap, command: str) -> None:
    said = xgap(command, "--help")
    assert said.code == 0
    _, _, after = said.out.partition("Example:\n")
    examples = [line.split() for line in after.partition("\n\n")[0].splitlines()]
    assert examples
    assert [words[:2] for words in examples] == [["xgap", command]] * len(examples)
    assert {type(command_line._parse(words[1:])) for words in examples} == {cli.COMMANDS[command]}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from xgap_analysis.cli import main; main(['study', '--help']); "
        "print(sorted({'torch', 'open_clip', 'pandas', 'nbconvert'} & set(sys.modules)))"
    )
    done = in_a_new_process(code)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_help_of_a_study_names_lists_as_lists(xgap: Xgap) -> None:
    text = xgap("study", "--help").out
    assert "--models [STR [STR ...]]" in text
    assert "{None}" not in text


def test_models_are_listed_with_their_size(xgap: Xgap) -> None:
    rows = {row["model"]: row for row in json.loads(xgap("models", "--json").out)}
    assert set(inventory.DEFAULT_MODELS) <= rows.keys()
    row = rows[UNTRAINED]
    assert row | {"model": "tiny"} == rows["tiny"] | {"description": row["description"]}  # of one shape, drawn
    weights = safetensors.torch.load_file(data_root() / "models" / "tiny" / "open_clip_model.safetensors")
    assert row["parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert row["image_parameters"] == sum(t.numel() for name, t in weights.items() if name.startswith("visual."))
    assert row["available"] is True
    assert rows["tiny-image"]["text_parameters"] is None
    words = xgap("models").out
    assert all(name in words for name in (*rows, "hf-hub:", "local-dir:", "ViT-B-32/openai", "\navailable: in this"))


def test_backbones_are_listed_with_the_papers_settings_and_whether_they_are_available(
    xgap: Xgap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("XGAP_WEIGHTS", str(tmp_path))
    (tmp_path / "slip_large_100ep.pt").touch()
    snapshot = tmp_path / "models--timm--vit_large_patch14_clip_224.openai" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").touch()
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    rows = {row["model"]: row for row in json.loads(xgap("models", "--json").out)}
    assert all(row.keys() == rows[UNTRAINED].keys() for row in rows.values())
    there = {
        name for name, row in rows.items() if row["available"] and row["weights"] not in ("embedded", "registered")
    }
    assert there == {"SLIP-ViT-L-16/yfcc15m", "ViT-L-14/openai"}
    row = rows["ViT-L-14/openai"]
    assert (row["ovi_tokens"], row["isoclip_image"], row["isoclip_text"]) == (4, [250, 200], [10, 300])
    assert row["parameters"] == row["image_parameters"] + row["text_parameters"] == 427_616_512
    assert rows["SLIP-ViT-L-16/yfcc15m"]["weights"] == "slip_large_100ep.pt of facebookresearch/SLIP"
    assert rows["timm:vit_large_patch16_dinov3.lvd1689m"]["text_parameters"] is None


def test_pretrained_models_are_named_as_they_are_loaded(xgap: Xgap) -> None:
    rows = json.loads(xgap("models", "--pretrained", "--json").out)
    assert {"ViT-B-32/openai", "ViT-B-16-SigLIP/webli", UNTRAINED} <= {row["model"] for row in rows}
    assert all(row.keys() == rows[0].keys() for row in rows)


def test_datasets_are_listed_by_split(xgap: Xgap) -> None:
    rows = {(row["dataset"], row["split"]): row for row in json.loads(xgap("datasets", "emoji", "--json").out)}
    data = load_dataset("emoji").split("test")
    row = rows["emoji", "test"]
    assert (row["images"], row["texts"]) == (len(data.images), len(data.texts))
    assert row["text_queries"] == len(data.text_queries)
    assert row["labels"]["concept"] == len(data.class_names["concept"])
    assert "concept" in xgap("datasets", "emoji").out


@pytest.mark.parametrize("space", ["image", "text"])
def test_encode_writes_what_the_package_encodes(xgap: Xgap, space: str) -> None:
    said = xgap("encode", *SMALL, "--space", space, "--out", "new/f.npz")
    assert said.code == 0
    data = load_dataset("emoji").split("val").limit(2)
    expected = encode(load_model(UNTRAINED), data.images if space == "image" else data.texts, store=None)
    loaded = load_features("new/f.npz")
    assert loaded.ids == expected.ids
    assert loaded.space == loaded.origin == space
    assert torch.allclose(loaded.vectors, expected.vectors, atol=1e-6)
    (entry,) = Store().entries()
    assert f"in the store: {entry.key}" in said.out


@pytest.mark.parametrize(("space", "other"), [("image", "text"), ("text", "image")])
def test_invert_writes_what_the_package_inverts(xgap: Xgap, space: str, other: str) -> None:
    said = xgap("invert", *SMALL, "--space", space, "--steps", "3", "--seed", "7", "--out", "f.safetensors")
    assert said.code == 0
    data = load_dataset("emoji").split("val").limit(2)
    model = load_model(UNTRAINED)
    native = encode(model, data.images if space == "image" else data.texts)
    expected = invert(model, native, steps=3, seed=7, store=None).features
    loaded = load_features("f.safetensors")
    assert (loaded.space, loaded.origin, loaded.ids) == (other, space, native.ids)
    assert torch.nn.functional.cosine_similarity(loaded.vectors, expected.vectors).min() > 0.9999
    keys = {entry.provenance["view"]: entry.key for entry in Store().entries()}
    assert f"in the store: {keys['oti' if space == 'image' else 'ovi']}" in said.out
    reached = float((expected.vectors * native.vectors).sum(1).mean())
    printed = re.search(r"native features: (-?\d\.\d{4}) on average", said.out)
    assert printed is not None
    assert float(printed[1]) == pytest.approx(reached, abs=2e-4)


@pytest.mark.parametrize("command", [["encode"], ["invert", "--steps", "1"], ["study", "--comparisons", "OTI-I"]])
def test_batch_size_readers_and_precision_are_options_of_all_that_encodes(xgap: Xgap, command: list[str]) -> None:
    name, steps = ("--models", ["--steps", "1"]) if command[0] == "study" else ("--model", [])
    pace = ["--batch-size", "5", "--num-workers", "0", "--precision", "bf16"]
    said = xgap(*command, name, UNTRAINED, "--split", "val", "--limit", "1", *steps, *pace)
    assert (said.code, "error" in said.err) == (0, False)
    entries = [one.provenance for one in Store().entries()]
    assert entries
    assert {one["precision"] for one in entries} == {"bf16"}
    assert {one["loop_precision"] for one in entries if "loop_precision" in one} <= {"bf16"}
    assert not {"batch_size", "num_workers"} & set().union(*entries)


STUDY = ["study", "--models", UNTRAINED, "--split", "val", "--limit", "4", "--steps", "2"]


def test_study_prints_and_writes_the_table(xgap: Xgap) -> None:
    args = [*STUDY, "--comparisons", "I-I", "OTI-I", "--seeds", "1", "2", "--out", "made/study.parquet"]
    said = xgap(*args)
    assert said.code == 0
    expected = Study([UNTRAINED], ["emoji"], ["I-I", "OTI-I"], split="val", limit=4, steps=2, seeds=(1, 2)).run()
    written = pd.read_parquet("made/study.parquet")
    pd.testing.assert_frame_equal(written, expected, check_dtype=False)
    heading, *lines = said.out.splitlines()
    assert heading.split()[:4] == ["model", "dataset", "split", "comparison"]
    main = main_rows(expected)
    assert len(lines) == len(main)
    for line, row in zip(lines, main.to_dict("records"), strict=True):
        assert f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in line
    assert f"{main['difference'][1]:+.3f}" in lines[1]
    assert main["verdict"].isna().all()  # the model has its first weights: a control
    assert "control" in lines[1]
    assert f"{main['p_value'][1]:.4f}  {main['p_adjusted'][1]:.4f}" in lines[1]
    rows = json.loads(xgap(*args, "--overwrite", "--json").out)
    assert [row["value"] for row in rows] == pytest.approx(expected["value"].tolist(), nan_ok=True)
    assert rows[0]["difference"] is None


@pytest.mark.filterwarnings("always:damaged shard")
def test_the_store_is_listed_verified_and_emptied(xgap: Xgap) -> None:
    assert json.loads(xgap("store", "list", "--json").out) == []
    assert xgap("encode", *SMALL).code == 0
    (row,) = json.loads(xgap("store", "list", "--json").out)
    assert row["n_items"] > 0
    assert (row["n_failed"], row["notes"]["model"]) == (0, UNTRAINED)
    assert row["key"][:12] in xgap("store", "list").out
    assert json.loads(xgap("store", "size", "--json").out)[0]["bytes"] == Store().size() > 0
    assert xgap("store", "verify").code == 0
    (shard,) = Store().folder(row["key"]).glob("*.safetensors")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    damaged = xgap("store", "verify", row["key"][:6])
    assert damaged.code == 1
    assert shard.name in damaged.out
    again = xgap("encode", *SMALL)
    assert again.code == 0
    assert f"xgap: warning: damaged shard {shard}" in again.err
    assert shard.read_bytes() == whole
    assert xgap("store", "remove", row["key"][:6]).code == 0
    assert Store().entries() == []


def test_train_leaves_a_model_that_loads(xgap: Xgap, tmp_path: Path) -> None:
    options = ["--batch", "8", "--objective", "clip=1", "image-image=0.5", "--temperature", "0.01", "0.5"]
    said = xgap("train", "--model", UNTRAINED, "--out", "run", "--steps", "3", "--checkpoints", "1", *options, "--json")
    assert said.code == 0
    curve = json.loads(said.out)
    assert curve[-1]["step"] == 3
    assert curve[-1]["scale"] == pytest.approx(2)
    assert curve[-1]["loss"] == pytest.approx(curve[-1]["clip"] + 0.5 * curve[-1]["image-image"], rel=1e-5)
    assert 0 < curve[-1]["image_to_text"] < 1
    digests = {load_model(tmp_path / "run" / name).weights_digest for name in ("last", "step-1")}
    assert len(digests) == 2
    assert load_model(tmp_path / "run" / "best").weights_digest in digests
    again = xgap("train", "--model", UNTRAINED, "--out", "run", "--steps", "4", *options)
    assert again.code == 2
    assert "another run" in again.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--table", "objectives", "--corrections", "center"], "takes no --corrections, but --models --datasets"),
        (["--table", "objectives", "--models", "tiny", "tiny-intra"], "trains from one of the models"),
        (["--table", "objectives", "--processes", "0"], "1 or more"),
        (["--table", "corrections", "--quick"], "is for a table that trains its models"),
        (["--processes", "2"], "is for a table that trains its models"),
        (["--table", "objective"], "nearest names"),
    ],
)
def test_study_says_what_a_table_that_trains_takes(xgap: Xgap, options: list[str], said: str) -> None:
    code, _, err = xgap("study", *options)
    assert code == 2
    assert said in err


@pytest.mark.slow
def test_study_trains_and_compares_the_settings_of_a_table(
    xgap: Xgap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XGAP_HOME", str(tmp_path / "home"))
    chosen = ABLATIONS["objectives"]
    few = dataclasses.replace(chosen, settings={name: chosen.settings[name] for name in ("CLIP", "SLIP", "DSE")})
    monkeypatch.setitem(ABLATIONS, "objectives", few)
    code, out, err = xgap("study", "--table", "objectives", "--quick", "--limit", "4", "--out", "few.parquet")
    assert code == 0, err
    assert "Of one seed:" in out
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["CLIP", "SLIP", "DSE"]
    table = pd.read_parquet(tmp_path / "few.parquet")
    assert set(table["ablation"]) == {"objectives"}
    assert set(table["step"]) == {0, 2}
    assert all(len(groups) == 4 for groups in table.loc[table["quantity"] == "I-I", "by_group"])


def test_study_fits_corrections_on_the_split_that_is_named(xgap: Xgap) -> None:
    said = xgap(*STUDY, "--comparisons", "I-I", "--corrections", "center", "--fit-split", "seen", "--json")
    assert said.code == 0
    assert {row["fitted_on"] for row in json.loads(said.out)} == {"seen"}


MISTAKES = {
    "model": (["encode", "--model", "tiny-untraind"], "'tiny-untraind'; nearest names: tiny-untrained"),
    "directory": (["encode", "--model", "local-dir:/no/such"], "/no/such"),
    "dataset": (["encode", "--dataset", "emojy"], "unknown dataset 'emojy'; nearest names: emoji"),
    "split": (["encode", "--split", "tst"], "it has: train, val, test, seen"),
    "limit": (["encode", "--limit", "0"], "limit, a number of labels, is a whole number of 1 or more"),
    "format": (["encode", "--out", "f.txt"], ".npz, .parquet, .safetensors"),
    "place": (["encode", "--out", "in-the-way/f.npz"], "in-the-way/f.npz cannot be written"),
    "folder": (["encode", "--out", "folder.npz"], "folder.npz is a folder"),
    "steps": (["invert", *SMALL, "--steps", "0"], "the number of steps is a whole number of 1 or more, not 0"),
    "comparison": ([*STUDY, "--comparisons", "I-J"], "unknown comparison 'I-J'; nearest names: "),
    "correction": ([*STUDY, "--corrections", "centre"], "nearest names: center"),
    "label_set": ([*STUDY, "--label-set", "colour"], "it has: concept, subgroup, group, artist"),
    "no models": (["study", "--models"], "--models needs at least one name"),
    "no comparisons": (["study", "--comparisons"], "--comparisons needs at least one name"),
    "a seed below 0": (["study", "--limit", "2", "--seeds", "-1"], "a seed is a whole number of 0 or more, not -1"),
    "a seed twice": (["study", "--limit", "2", "--seeds", "0", "0"], "seed 0 stands twice in the seeds"),
    "a seed of an inversion": (["invert", *SMALL, "--steps", "1", "--seed", "-1"], "a seed is a whole number of 0 or"),
    "no launcher": (["encode", *SMALL, "--engine", "ranks"], "engine ranks needs a launcher"),
    "second model": (["study", "--models", UNTRAINED, "tiny-untraind"], "'tiny-untraind'"),
    "table": ([*STUDY, "--out", "study.txt"], "a table is written as .parquet, .csv, .tex, .md"),
    "existing": ([*STUDY, "--out", "there.csv"], "there.csv exists: replace it with --overwrite, or name another"),
    "no plan": (["study", "--table", "intra", "--dry-run"], "takes no --dry-run"),
    "number": (["study", "--limit", "abc"], "--limit: a whole number is expected, not 'abc'; xgap study --help"),
    "real number": (["train", "--learning-rate", "k"], "--learning-rate: a number is expected, not 'k'"),
    "numbers": (["study", "--seeds", "1", "a"], "--seeds: a whole number is expected, not 'a'"),
    "no number": (["study", "--limit"], "Missing value for argument '--limit'"),
    "option": (["study", "--lmit=3"], "unknown option of xgap study '--lmit'; nearest names: --limit"),
    "top option": (["--verion"], "Unrecognized options: --verion"),
    "command": (["stdy"], "unknown command 'stdy'; nearest names: study"),
    "choice": (["encode", "--precision", "fp8"], "Expected one of ('fp32', 'bf16', 'fp16')"),
    "precision": ([*STUDY, "--precision", "tf32"], "Expected one of ('fp32', 'bf16', 'fp16')"),
    "batch size": (["encode", "--batch-size", "0"], "batch_size is a number of items, at least 1, not 0"),
    "readers": ([*STUDY, "--num-workers", "-1"], "num_workers is a number of processes, or 0 to read in threads, not"),
    "device": (["encode", "--device", "gpu"], "there is no device 'gpu' on this machine; it has cpu"),
    "no key": (["store", "remove"], "by the first digits of its key"),
    "key": (["store", "remove", "abc"], "starts with 'abc'"),
    "notebook": (["report", "--notebooks", "no.ipynb"], "'no.ipynb' is not a notebook"),
    "term": (["train", "--out", "run", "--objective", "clap=1"], "nearest names: clip"),
    "weight": (["train", "--out", "run", "--objective", "clip=much"], "name=weight"),
    "temperature": (["train", "--out", "run", "--temperature", "hot"], "learned, a number or two"),
    "batch": (["train", "--out", "run", "--model", UNTRAINED, "--batch", "5000"], "take a smaller batch"),
    "hub": (["encode", "--model", "hf-hub:no/such"], "hub cannot be reached"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_in_one_sentence(
    xgap: Xgap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    # A port of this machine that nobody listens on: the hub as it is without a network.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    (tmp_path / "in-the-way").touch()
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "there.csv").touch()
    args, expected = MISTAKES[mistake]
    said = xgap(*args)
    assert said.code == 2
    assert said.out == ""
    beside = ("encode ", "xgap: warning: ")  # a progress bar, and what was cut before the mistake was found
    (line,) = [line for line in said.err.splitlines() if line and not line.startswith(beside)]
    assert line.startswith("xgap: error: ")
    assert expected in line


def test_the_version_is_that_of_the_package(xgap: Xgap) -> None:
    assert xgap("--version") == (0, f"xgap_analysis {metadata.version('xgap_analysis')}\n", "")


def test_no_table_is_replaced_silently(xgap: Xgap) -> None:
    for n in ("", "-2", "-3"):
        assert f"rows are in results/study{n}.parquet" in xgap(*STUDY, "--comparisons", "I-I").err
    named = [*STUDY, "--comparisons", "I-I", "--out", "results/study.parquet"]
    before = Path("results/study.parquet").read_bytes()
    assert xgap(*named).code == 2
    assert Path("results/study.parquet").read_bytes() == before
    assert xgap(*named, "--overwrite").code == 0


def test_a_quiet_command_gives_results_and_warnings_only(xgap: Xgap) -> None:
    said = xgap(*STUDY, "--comparisons", "I-I", "OTI-I", "--quiet")
    assert said.code == 0
    assert "OTI-I" in said.out
    assert all(line.startswith("xgap: warning: ") for line in said.err.splitlines())


def test_a_dry_run_plans_and_computes_nothing(xgap: Xgap) -> None:
    said = xgap(*STUDY, "--comparisons", "I-I", "OTI-I", "--seeds", "1", "2", "--dry-run")
    assert said.code == 0
    heading, images, oti, _, total = said.out.splitlines()
    assert heading.split() == ["model", "dataset", "split", "view", "items", "seeds", "seconds"]
    assert images.split()[3] == "image"
    assert (oti.split()[3], oti.split()[5]) == ("oti", "2")
    assert total.startswith("at most about ")
    assert Store().entries() == []
    assert list(Path().iterdir()) == []
    (row, _) = json.loads(xgap(*STUDY, "--comparisons", "OTI-I", "--dry-run", "--json").out)
    assert row["seconds"] >= 0


def test_debugging_shows_where_a_mistake_arose(xgap: Xgap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XGAP_DEBUG", "1")
    with pytest.raises(XgapError, match="unknown dataset"):
        xgap("encode", "--dataset", "emojy")


def test_a_new_process_exits_with_the_same_code() -> None:
    done = in_a_new_process(
        "import sys; from xgap_analysis.cli import main; sys.exit(main())", "encode", "--dataset", "x"
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("xgap: error: unknown dataset 'x'")


def test_an_interruption_says_what_is_kept(xgap: Xgap, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.COMMANDS["datasets"], "run", interrupted)
    said = xgap("datasets")
    assert said.code == 130
    assert "finished shards are kept" in said.err


def test_an_error_of_the_system_is_one_line(xgap: Xgap, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object) -> int:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(cli.COMMANDS["datasets"], "run", full)
    said = xgap("datasets")
    assert said.code == 2
    assert said.err.splitlines() == ["xgap: error: [Errno 28] No space left on device: 'somewhere'"]


def test_doctor_looks_at_everything(xgap: Xgap, xgap_home: Path) -> None:
    said = xgap("doctor", "--json")
    rows = {row["check"]: row for row in json.loads(said.out)}
    assert said.code == (0 if all(row["ok"] for row in rows.values()) else 1)
    assert rows["python"]["found"].startswith(".".join(map(str, sys.version_info[:3])))
    assert torch.__version__ in rows["packages"]["found"]
    assert rows["dataset emoji"]["ok"] is True
    assert str(xgap_home) in rows["feature store"]["found"]
    assert all(row["check"] in xgap("doctor").out for row in rows.values())


def test_doctor_finds_what_is_damaged_or_missing(xgap: Xgap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "emoji").mkdir()
    (tmp_path / "emoji" / "SHA256SUMS").write_text(f"{'0' * 64}  concepts.json\n")
    (tmp_path / "emoji" / "concepts.json").write_text("{}")
    for module in (checks, inventory):
        monkeypatch.setattr(module, "data_root", lambda: tmp_path)
    monkeypatch.setenv("XGAP_HOME", str(tmp_path / "emoji" / "concepts.json" / "store"))
    said = xgap("doctor", "--json")
    rows = {row["check"]: row for row in json.loads(said.out)}
    assert said.code == 1
    assert [name for name, row in rows.items() if not row["ok"]] == [
        "dataset emoji",
        "embedded models",
        "feature store",
    ]
    assert "concepts.json" in rows["dataset emoji"]["found"]
    assert "tiny-nogap" in rows["embedded models"]["found"]
    assert "XGAP_HOME" in rows["feature store"]["found"]
