"""The core works where the extra `notebook` is not installed, and what needs it says so in one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

EXTRA = ["IPython", "ipywidgets", "jscatter", "jupyterlab", "matplotlib", "nbclient", "nbconvert", "nbformat"]
EXTRA += ["papermill", "seaborn", "umap"]
WITHOUT = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRA}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def without(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Code in an interpreter that does not have the extra."""
    return subprocess.run([sys.executable, "-c", WITHOUT + code], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_a_study_runs_and_reports_and_figures_name_the_extra(tmp_path: Path) -> None:
    small = ["study", "--models", "tiny", "--comparisons", "I-I", "OTI-I", "--limit", "3", "--steps", "2"]
    ran = without(f"from xgap_analysis.cli import main; sys.exit(main({[*small, '--out', 't.csv']}))", tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "OTI-I" in ran.stdout
    assert (tmp_path / "t.csv").exists()
    report = without("from xgap_analysis.cli import main; sys.exit(main(['report']))", tmp_path)
    assert report.returncode == 2
    sentence = "which an extra installs: pip install 'xgap-analysis[notebook]'"
    assert report.stderr.startswith("xgap: error: xgap report needs ")
    assert report.stderr.rstrip().endswith(sentence)
    code = "import xgap_analysis as xg\ntry:\n    xg.plots\nexcept xg.XgapError as error:\n    print(error)"
    plots = without(code, tmp_path)
    assert plots.stdout.strip() == f"xgap_analysis.plots needs seaborn, {sentence}", plots.stderr
