"""`xgap study --table atlas`: which options it takes, and what it prints."""

from pathlib import Path

import pandas as pd
import pytest

from xgap_analysis import cli, embedded_table
from xgap_analysis.cli.atlas import printed
from xgap_analysis.experiments.systems import systems


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corrections", "center"], "compares systems as they are and takes no --corrections, but --models"),
        (["--fit-split", "val"], "takes no --fit-split"),
        (["--models", "tiny", "tiny-intra"], "is of one of the models: give one"),
        (["--datasets", "emoji", "emoji-clips"], "is of one of the datasets: give one"),
        (["--dry-run"], "takes no --dry-run"),
    ],
)
def test_an_option_of_no_use_is_refused(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", "--table", "atlas", *options]) == 2
    assert message in capsys.readouterr().err


def test_it_prints_every_published_system_once_with_a_row_or_a_reason() -> None:
    table = embedded_table("atlas")
    changes, _, reasons = printed(table).partition("\n\n")
    for one in systems():
        assert (one.system in changes) is (one.system in set(table["system"]))
        assert any(line.startswith(one.system) for line in reasons.splitlines()) is (one.system not in changes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*captions are longer", "ignore:.*without a relevant")
def test_a_quick_run_has_every_system(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["study", "--table", "atlas", "--quick", "--out", "quick.parquet"]) == 0
    made, shipped = pd.read_parquet("quick.parquet"), embedded_table("atlas")
    assert list(made.columns) == list(shipped.columns)
    assert set(made["system"]) == set(shipped["system"])
    assert made["value"].notna().groupby(made["system"]).any().all()
    assert "* a verdict" in capsys.readouterr().out
