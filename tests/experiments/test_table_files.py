"""Tables as files: whole for programs, the main rows for a paper."""

from pathlib import Path

import pandas as pd
import pytest

from xgap_analysis.core.errors import XgapError
from xgap_analysis.experiments.table_files import save_table
from xgap_analysis.experiments.tables import embedded_table, main_rows


def table() -> pd.DataFrame:
    whole = embedded_table("study")
    return whole[whole["comparison"].isin(["I-I", "OTI-I"]) & whole["model"].isin(["tiny", "tiny-intra"])]


@pytest.mark.parametrize(("ending", "read"), [("parquet", pd.read_parquet), ("csv", pd.read_csv)])
def test_files_for_programs_have_every_row(tmp_path: Path, ending: str, read: object) -> None:
    path = save_table(table(), tmp_path / f"t.{ending}")
    made = read(path)  # type: ignore[operator]
    assert list(made) == list(table())
    assert made["value"].tolist() == pytest.approx(table()["value"].tolist())


def test_a_markdown_page_has_the_main_rows_with_the_largest_in_bold(tmp_path: Path) -> None:
    lines = save_table(table(), tmp_path / "t.md").read_text().splitlines()
    main = main_rows(table())
    assert lines[0] == "| dataset | split | comparison | tiny | tiny-intra |"
    assert len(lines) == 2 + len(main.groupby(["split", "comparison"]))
    for split, comparison, *cells in (line.strip("| ").split(" | ")[1:] for line in lines[2:]):
        own = main[(main["split"] == split) & (main["comparison"] == comparison)].set_index("model")
        for model, cell in zip(("tiny", "tiny-intra"), cells, strict=True):
            row = own.loc[model]
            text = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
            assert cell == (f"**{text}**" if row["value"] == own["value"].max() else text)


def test_a_latex_table_escapes_groups_and_bolds(tmp_path: Path) -> None:
    odd = table().replace({"model": {"tiny": "my_model 50%"}}).assign(**{"oti.steps": "10_0"})
    odd.loc[odd["comparison"] == "OTI-I", "oti.steps"] = "5_0"
    text = save_table(odd, tmp_path / "t.tex").read_text()
    assert r"my\_model 50\%" in text
    assert r"\multirow[t]{" in text
    assert r"oti.steps" in text
    assert r"10\_0" in text
    assert text.count(r"\textbf{") == len(main_rows(odd).groupby(["split", "comparison"]))
    assert text.count("{") == text.count("}")


def test_what_has_no_page_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(XgapError, match=r"main rows of a study; write other tables as .parquet or .csv"):
        save_table(embedded_table("gaps"), tmp_path / "gaps.tex")
    with pytest.raises(XgapError, match=r"a table is written as .parquet, .csv, .tex, .md, and '.*t.xlsx' is none"):
        save_table(table(), tmp_path / "t.xlsx")
    assert list(tmp_path.iterdir()) == []
