"""The built distributions: the source makes the wheel, and the wheel works where there is no checkout."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pandas as pd
import pytest

import xgap_analysis as xg

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def run(*command: str | Path, folder: Path) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XGAP_"))}
    env["XGAP_HOME"] = str(folder / "home")
    done = subprocess.run([*map(str, command)], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the source distribution, which holds all that is needed to build it."""
    made = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", made], cwd=ROOT, check=True)
    (source,) = made.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(made / "source", filter="data")
    (unpacked,) = (made / "source").iterdir()
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", made], cwd=unpacked, check=True)
    (built,) = made.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment that has the wheel and the libraries of this one, but no checkout."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    scripts = place / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel,
        folder=place)  # fmt: skip
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=place).strip())
    # The .pth files of a folder that is named so are not read: an editable install stays behind.
    (own / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return scripts


def test_the_wheel_has_the_embedded_default_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"xgap_analysis"}
    assert any(name.startswith("xgap_analysis/_data/") for name in names)
    assert "xgap_analysis/py.typed" in names


def test_a_study_from_a_foreign_folder_gives_the_shipped_table(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import xgap_analysis; print(xgap_analysis.__file__)", folder=tmp_path)
    assert not Path(where.strip()).is_relative_to(ROOT)
    study = ["study", "--models", "tiny", "--datasets", "emoji", "--comparisons", "I-I", "--out", "table.parquet"]
    assert "I-I" in run(installed / "xgap", *study, folder=tmp_path)
    found = pd.read_parquet(tmp_path / "table.parquet")
    shipped = xg.embedded_table("study")
    keys = ["model", "dataset", "split", "comparison", "correction", "metric"]
    both = found.merge(shipped, on=keys, suffixes=("", "_shipped"), validate="one_to_one")
    assert len(both) == len(found) > 0
    for column in ("value", "low", "high", "n_queries", "n_groups"):
        assert both[column].tolist() == pytest.approx(both[f"{column}_shipped"].tolist(), abs=1e-6), column
