"""The papers' tables by name: which grid is run, what is averaged, and what is printed beside it."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import xgap_analysis as xg
from xgap_analysis.corrections import correction
from xgap_analysis.datasets.catalog import PROTOCOLS
from xgap_analysis.experiments.papers.grids import GRIDS, Average, expanded
from xgap_analysis.experiments.papers.reproduction import published_figures, with_averages, with_published
from xgap_analysis.experiments.tables import main_results


def test_the_grids_are_of_known_things() -> None:
    for name, grid in GRIDS.items():
        xg.Study(["x"], ["y"], grid.comparisons, grid.corrections)  # refuses what it does not know
        assert set(grid.paper_datasets) <= set(PROTOCOLS), name
        for average in grid.averages:
            assert set(average.datasets) <= set(grid.paper_datasets)
            assert set(average.comparisons) & set(grid.comparisons)
            assert str(len(average.datasets)) in average.name
    sizes = {a.name: len(a.datasets) for grid in GRIDS.values() for a in grid.averages}
    assert sorted(sizes.values()) == [3, 11, 13, 13, 15]


def test_every_published_figure_belongs_to_a_cell_of_its_papers_tables() -> None:
    figures = published_figures()
    assert figures["percent"].between(0, 100).all()
    assert figures["source"].str.len().min() > 10
    keys = ["paper", "model", "dataset", "comparison", "correction", "metric", "tokens", "step"]
    assert not figures.duplicated(keys).any()
    for figure in figures.to_dict("records"):
        grids = [grid for grid in GRIDS.values() if figure["paper"] in grid.papers]
        sets = {s for grid in grids for s in (*grid.paper_datasets, *(a.name for a in grid.averages))}
        models = {m for grid in grids for m in grid.paper_models}
        assert figure["dataset"] in sets, figure
        assert any(model == figure["model"] or model.startswith(f"{figure['model']}/") for model in models), figure
        comparisons = {c for grid in grids for c in ("I-I", *grid.comparisons)}
        assert figure["comparison"] in comparisons
        assert xg.COMPARISONS[figure["comparison"]].metric == figure["metric"]
        assert figure["correction"] in {str(correction(c)) for grid in grids for c in grid.corrections}
        if not pd.isna(figure["step"]):
            assert figure["step"] in GRIDS["drift"].axes["oti.steps"]
            assert figure["tokens"] in GRIDS["drift"].axes["oti.tokens"]


def test_the_means_that_a_paper_prints_are_means_of_what_it_prints() -> None:
    """A misread cell of the largest table would show: each mean is that of its 13 sets, to the rounding."""
    figures = published_figures()
    figures = figures[figures["source"].str.contains("Table 3")]
    groups = figures.groupby(["model", "comparison", "correction"])
    assert len(groups) == 15
    for cell, part in groups:
        mean = part["dataset"].str.startswith("average")
        assert mean.sum() == 1
        assert (~mean).sum() == 13
        assert part.loc[~mean, "percent"].mean() == pytest.approx(part.loc[mean, "percent"].item(), abs=0.11), cell


def row(model: str, dataset: str, value: float, comparison: str = "OTI-I", **more: Any) -> dict[str, Any]:
    about = {"correction": "none", "baseline": "I-I", "metric": "ap", "main": True, "transductive": False}
    return {"model": model, "dataset": dataset, "comparison": comparison, **about, "value": value, "n_queries": 10} | {
        "difference": value / 10,
        "note": "",
        **more,
    }


def test_a_mean_is_made_only_of_all_its_sets() -> None:
    average = Average("average of 2 sets", ("a", "b"), ("OTI-I",))
    rows = [row("m", "a", 0.2), row("m", "b", 0.4), row("m", "c", 0.9), row("n", "a", 0.5)]
    rows += [row("o", "a", 0.5), row("o", "b", math.nan), row("m", "a", 0.1, "I-I"), row("m", "b", 0.1, "I-I")]
    rows += [row("m", "a", 0.0, metric="recall_at_1", main=False)]
    made = with_averages(pd.DataFrame(rows), [average])
    assert len(made) == len(rows) + 1
    last = made.iloc[-1]
    assert (last["model"], last["dataset"], last["comparison"]) == ("m", "average of 2 sets", "OTI-I")
    assert last["value"] == pytest.approx(0.3)
    assert last["difference"] == pytest.approx(0.03)
    assert last["n_queries"] == 20
    assert last["note"] == "mean of 2 datasets"


def test_a_published_figure_stands_beside_its_cell_alone_with_its_source() -> None:
    rows = [
        row("ViT-B-32/openai", "stanford-cars", 0.3),
        row("ViT-B-32/openai", "stanford-cars", 0.3, "I-I"),
        row("ViT-B-32/openai", "stanford-cars", 0.3, metric="recall_at_1", main=False),
        row("ViT-B-32/openai", "stanford-cars", 0.3, correction="center"),
        row("ViT-B-32/openai", "stanford-cars", 0.3, **{"oti.tokens": 4, "oti.steps": 17}),
        row("SLIP-ViT-B-16//home/me/slip_base_100ep.pt", "dtd", 0.3),
        row("tiny", "emoji", 0.3),
        row("ViT-B-32/openai", "roxford5k", 0.3, metric="ap_trapezoid"),  # what landmarks are judged by
    ]
    made = with_published(pd.DataFrame(rows), ["cross-the-gap", "reevaluating"])
    assert made["published"].tolist() == pytest.approx(
        [0.280, 0.246, math.nan, math.nan, 0.321, 0.305, math.nan, 0.430], nan_ok=True
    )
    assert "Reevaluating" in made["published_source"][0]
    assert "Cross the Gap" in made["published_source"][1]  # the first paper that has a figure
    assert made["published_source"][6] == ""
    assert made["value"].tolist() == [0.3] * 8  # ours stay ours
    other = with_published(pd.DataFrame(rows), ["reevaluating"])
    assert other["published"][1] == pytest.approx(0.249)
    with pytest.raises(xg.XgapError, match="no figures of nobody are known"):
        with_published(pd.DataFrame(rows), ["nobody"])


@pytest.mark.parametrize(
    ("changed", "seeds", "note"),
    [
        ({}, (42,), ""),
        ({"split": "val"}, (42,), "split test, ours val"),
        ({"of_precision": "fp32"}, (42,), "precision fp16, ours fp32"),
        ({}, (1, 2), "seed 42, ours 1, 2"),
        ({"split": "val", "of_precision": "bf16"}, (42,), "split test, ours val; precision fp16, ours bf16"),
    ],
)
def test_a_figure_stands_beside_what_was_made_as_it_was(
    changed: dict[str, str], seeds: tuple[int, ...], note: str
) -> None:
    how = {"split": "test", "of_precision": "fp16"} | changed
    ours = row("ViT-B-32/openai", "stanford-cars", 0.3, **how)
    made = with_published(pd.DataFrame([ours]), ["cross-the-gap", "reevaluating"], seeds=seeds).iloc[0]
    assert made["published"] == pytest.approx(math.nan if note else 0.280, nan_ok=True)
    assert made["published_note"].endswith(note)
    assert bool(made["published_source"]) == (not note)
    words = main_results(pd.DataFrame([made]))[0]
    assert words["source"] == (made["published_source"] or made["published_note"])
    native = row("ViT-B-32/openai", "stanford-cars", 0.3, "I-I", **how)
    beside = with_published(pd.DataFrame([native]), ["cross-the-gap"], seeds=seeds).iloc[0]
    assert math.isnan(beside["published"]) == bool(changed)  # no seed enters what is not inverted


@pytest.mark.parametrize(
    ("more", "note"),
    [
        ({"scorer": "cosine", "oti.template": math.nan}, ""),
        ({"scorer": "late_interaction"}, "scorer cosine, ours late_interaction"),
        ({"oti.template": "a {}"}, "oti.template is not the paper's but a {}"),
        ({"limit": 20}, "limit is not the paper's but 20"),
    ],
)
def test_a_figure_stands_beside_no_other_scorer_and_no_other_options(more: dict[str, Any], note: str) -> None:
    made = with_published(pd.DataFrame([row("ViT-B-32/openai", "stanford-cars", 0.3, **more)]), ["reevaluating"])
    assert made["published"].isna().all() == bool(note)
    assert made["published_note"].item().endswith(note)


def test_a_mean_is_of_one_scorer_and_of_one_value_of_an_option() -> None:
    average = Average("average of 2 sets", ("a", "b"), ("OTI-I",))
    rows = [
        row("m", dataset, value + 0.1 * k, scorer=scorer, **{"oti.steps": steps})
        for dataset, value in (("a", 0.2), ("b", 0.4))
        for k, (scorer, steps) in enumerate([("cosine", math.nan), ("own", math.nan), ("own", 5)])
    ]
    made = with_averages(pd.DataFrame(rows), [average]).iloc[len(rows) :]
    assert made["value"].tolist() == pytest.approx([0.3, 0.4, 0.5])
    assert made["scorer"].tolist() == ["cosine", "own", "own"]
    assert made["oti.steps"].isna().tolist() == [True, True, False]


def test_of_several_papers_the_one_whose_protocol_is_ours_is_reported() -> None:
    cell = row("ViT-B-32/openai", "stanford-cars", 0.3, "I-I", split="test", of_precision="fp32")
    made = with_published(pd.DataFrame([cell]), ["cross-the-gap", "reevaluating"]).iloc[0]
    assert made["published"] == pytest.approx(0.249)  # of a paper that states no precision
    assert made["published_note"] == ""


def test_a_mean_over_sets_says_how_they_were_made() -> None:
    average = Average("average of 2 sets", ("a", "b"), ("OTI-I",))
    more = {"split": "test", "of_precision": "fp16"}
    made = with_averages(pd.DataFrame([row("m", s, 0.2, **more) for s in "ab"]), [average]).iloc[-1]
    assert (made["split"], made["of_precision"]) == ("test", "fp16")
    mixed = [row("m", s, 0.2, split=split, of_precision="fp16") for s, split in (("a", "test"), ("b", "val"))]
    assert with_averages(pd.DataFrame(mixed), [average]).iloc[-1]["split"] == "test, val"


def test_a_named_table_on_the_embedded_default(model: Any) -> None:
    emoji = xg.load_dataset("emoji")
    train = emoji.split("train").limit(4)  # the whole of it takes its time
    data = replace(emoji.split("test").limit(5), splits={"train": lambda: train})
    table = xg.reproduce("pca", [model], [data], steps=2, progress=False)
    main = xg.main_rows(table)
    names = [str(correction(c)) for c in GRIDS["pca"].corrections]
    assert list(main["correction"]) == [name for name in names for _ in range(2)]
    assert main["value"].between(0, 1).all()
    assert main["published"].isna().all()
    with pytest.raises(xg.XgapError, match="unknown table 'pcs'"):
        xg.reproduce("pcs")
    with pytest.raises(xg.XgapError, match='nothing is meant by "paper"'):
        xg.reproduce("corrections", ["paper"])


def test_the_paper_stands_for_its_models_and_datasets() -> None:
    grid = GRIDS["slip"]
    assert expanded(["tiny", "paper"], grid.paper_models) == ("tiny", *grid.paper_models)
    with pytest.raises(xg.XgapError, match="XGAP_DATA"):
        xg.reproduce("slip", ["tiny-untrained"], ["paper"])


def test_the_drift_is_evaluated_at_its_steps_for_each_number_of_tokens(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XGAP_DATA", raising=False)
    data = xg.load_dataset("emoji").split("test").limit(5)
    table = xg.main_rows(xg.reproduce("drift", [model], [data], steps=10, progress=False))
    at = list(table[["oti.tokens", "oti.steps"]].itertuples(index=False, name=None))
    assert at[1:] == [(tokens, step) for tokens in (1, 2, 4, 8, 16) for step in (1, 5, 10)]
    assert table["comparison"].tolist() == ["I-I"] + ["OTI-I"] * 15  # I-I, which no axis changes, stands there once
    too_many = table[table["oti.tokens"] == 16]
    assert too_many["note"].str.contains("16 pseudo-tokens do not fit").all()  # a small model still has the others
    assert too_many["value"].isna().all()
    study = xg.Study([model], [data], ["I-I", "OTI-I"], steps=5, tokens=2, progress=False)
    usual = xg.main_rows(study.run()).set_index("comparison").loc["OTI-I"]
    mine = table[(table["oti.tokens"] == 2) & (table["oti.steps"] == 5)].iloc[0]
    for name in ("value", "low", "high", "difference", "difference_low", "p_value", "n_queries"):
        assert mine[name] == pytest.approx(usual[name], abs=1e-5), name
    one = xg.main_rows(xg.reproduce("drift", [model], [data], steps=5, tokens=2, progress=False))
    assert one["value"].tolist() == pytest.approx([table["value"][0], *table["value"][4:6]])


def test_figures_are_left_out_where_the_task_is_another(
    model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = xg.load_dataset("emoji").split("test").limit(4)
    figures = pd.DataFrame(
        [
            {
                "paper": "cross-the-gap",
                "source": "made up for a test",
                "model": model.name,
                "dataset": "emoji",
                "step": pd.NA,
            }
        ]
    ).assign(comparison="I-I", correction="none", metric="ap", tokens=pd.NA, percent=12.0)
    figures = figures.assign(split=data.split_name, precision="fp32", seed=pd.NA)
    other = published_figures().assign(model="none")
    figures = pd.concat([figures.astype(other.dtypes.to_dict()), other], ignore_index=True)
    monkeypatch.setattr("xgap_analysis.experiments.papers.reproduction.published_figures", lambda: figures)
    run = {"comparisons": ["I-I"], "progress": False}
    assert xg.main_rows(xg.reproduce("image-retrieval", [model], [data], **run))["published"].tolist() == [0.12]
    limited = xg.reproduce("image-retrieval", [model], [data], limit=3, **run)
    assert limited["published"].isna().all()
    assert xg.main_rows(limited)["published_note"].str.contains("limit is not the paper's but 3").all()
    for other in (replace(data, split_name="val"), replace(model, precision="bf16")):
        part = {"models": [model], "datasets": [data]}
        part |= {"datasets": [other]} if isinstance(other, xg.Dataset) else {"models": [other]}
        made = xg.main_rows(xg.reproduce("image-retrieval", **part, **run))
        assert made["published"].isna().all()
        assert made["published_note"].str.contains("ours val|ours bf16").all()
