"""`environment.yml`, `requirements.lock` and `pyproject.toml` say the same."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK, LOWEST = ((ROOT / f"requirements{kind}.lock").read_text() for kind in ("", "-lowest"))
PYTHONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]


def locked(python: str, lock: str = LOCK) -> dict[str, str]:
    """Version by package name, as a lock has it for a Python on Linux."""
    machine = {**default_environment(), "python_version": python, "python_full_version": f"{python}.1"}
    machine |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    lines = (line.rstrip(" \\") for line in lock.splitlines() if not line.startswith((" ", "#")))
    asked = [Requirement(line) for line in lines]
    fitting = [one for one in asked if one.marker is None or one.marker.evaluate(machine)]
    versions = {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in fitting}
    assert len(versions) == len(fitting), "a package has two versions for one Python"
    return versions


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_a_fitting_version_of_everything_that_is_wanted(python: str) -> None:
    versions = locked(python)
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    for line in [*PROJECT["dependencies"], *extras]:
        asked = Requirement(line)
        if asked.marker is None or asked.marker.evaluate({**default_environment(), "python_version": python}):
            assert versions[canonicalize_name(asked.name)] in asked.specifier, line


def test_the_lower_bounds_are_the_versions_that_the_oldest_python_is_tested_with() -> None:
    lines = [
        *PROJECT["dependencies"],
        *(line for of in ("notebook", "ray") for line in PROJECT["optional-dependencies"][of]),
    ]
    bounds = {canonicalize_name(Requirement(line).name): Requirement(line).specifier for line in lines}
    lowest = locked(PYTHONS[0], LOWEST)
    assert {name: str(bound) for name, bound in bounds.items()} == {name: f">={lowest[name]}" for name in bounds}


@pytest.mark.parametrize("lock", [LOCK, LOWEST], ids=["newest", "lowest"])
def test_everything_in_a_lock_has_a_hash_and_nothing_an_address(lock: str) -> None:
    assert "://" not in lock
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert len(entries) > 100
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_every_python_that_is_advertised_is_supported() -> None:
    assert PYTHONS == ["3.10", "3.11", "3.12", "3.13"]
    assert all(f"{python}.1" in SpecifierSet(PROJECT["requires-python"]) for python in PYTHONS)
    assert "3.9.20" not in SpecifierSet(PROJECT["requires-python"])


def test_conda_gives_python_and_pip_gives_everything_else() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *conda, pip = environment["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip"]
    *named, installed = pip["pip"]
    known = {Requirement(line).name for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["notebook"]}
    assert {"jupyterlab", "torch", "open_clip_torch", "seaborn"} <= set(named) <= known
    extras = re.fullmatch(r"-e \.\[([\w,-]+)\]", installed)
    assert extras is not None, installed
    assert set(extras[1].split(",")) <= PROJECT["optional-dependencies"].keys()
    assert {"dev", "notebook"} <= set(extras[1].split(","))


def script(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def checked_pythons(root: Path, own: str, on_path: list[str], of_pyenv: list[str]) -> str:
    """What `.ci/pythons` says of a machine with these Pythons, where every tool only says how it was called."""
    for file in (".ci/pythons", "pyproject.toml"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, root / file)
    script(root / ".venv/bin/python", f'[ "$1" = -c ] && echo {own} || echo "$*"')
    script(root / ".venv/bin/uv", '[ "$1" != venv ] || install -D -m 755 "${0%uv}says" "$5/bin/python"', 'echo "uv $*"')
    script(root / ".venv/bin/says", 'echo "$*"')
    answer = "case $2 in *\"'{}'\"*) exit 0;; *) exit 1;; esac"  # to the question whether it is of that version
    script(root / "bin/python3", answer.format(own))
    for version in ("3.10", "3.11", "3.12", "3.13"):  # pyenv has a name for each version that it knows
        script(root / f"bin/python{version}", answer.format(version) if version in on_path else "exit 127")
    for version in of_pyenv:
        script(root / f"pyenv/versions/{version}.4/bin/python{version}", answer.format(version))
    env = {"PATH": f"{root / 'bin'}:{os.defpath}", "PYENV_ROOT": str(root / "pyenv"), "TMPDIR": str(root)}
    done = subprocess.run([root / ".ci/pythons"], env=env, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("own", "on_path", "of_pyenv", "checked"),
    [
        ("3.11", ["3.10", "3.12"], ["3.13"], ["3.10", "3.13"]),
        ("3.11", [], ["3.10", "3.12"], ["3.10", "3.12"]),
        ("3.10", ["3.12"], [], ["3.12"]),
        ("3.13", ["3.10"], [], ["3.10"]),
        ("3.12", [], [], []),
    ],
)
def test_the_oldest_and_the_newest_python_of_a_machine_are_checked_too(
    own: str, on_path: list[str], of_pyenv: list[str], checked: list[str], tmp_path: Path
) -> None:
    said = checked_pythons(tmp_path / "a folder ü", own, on_path, of_pyenv)
    assert re.findall(r"^Python (\S+) \(", said, re.MULTILINE) == checked
    for tool in ("-m ruff check", "-m mypy", "-m pytest"):
        assert said.count(tool) == len(checked)
    older = said.count("-m mypy --python-version 3.10")  # types of the libraries in .venv, in the oldest Python
    assert older == checked.count("3.10")
    of = dict(re.findall(r"^Python (\S+) \(.*\), (\S+)$", said, re.MULTILINE))
    assert of == {version: f"requirements{'-lowest' if version == '3.10' else ''}.lock" for version in checked}
    assert ("no other supported Python" in said) is not checked
    wheels = re.findall(r"^uv pip install .*--no-build --require-hashes -r (\S+)$", said, re.MULTILINE)
    assert wheels == list(of.values())  # nothing is compiled
