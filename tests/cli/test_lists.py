"""The lists of registered names, `xgap views` to `xgap adapters`: every name, with its options."""

import json

import pytest

import xgap_analysis as xg
from xgap_analysis import cli
from xgap_analysis.corrections import CORRECTIONS
from xgap_analysis.metrics.metric import METRICS
from xgap_analysis.models import ADAPTERS
from xgap_analysis.scoring import SCORERS
from xgap_analysis.training import OBJECTIVES
from xgap_analysis.views import VIEWS

REGISTRIES = {
    **{"views": VIEWS, "scorers": SCORERS, "corrections": CORRECTIONS, "metrics": METRICS},
    **{"objectives": OBJECTIVES, "adapters": ADAPTERS},
}
MAKERS = {
    **{"views": xg.view, "scorers": xg.scorer, "corrections": xg.correction, "metrics": xg.metric},
    **{"objectives": xg.objective, "adapters": xg.adapter},
}


def rows_of(kind: str, capsys: pytest.CaptureFixture[str]) -> dict[str, dict]:
    capsys.readouterr()
    assert cli.main([kind, "--json"]) == 0
    return {row[kind[:-1]]: row for row in json.loads(capsys.readouterr().out)}


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_registered_name_is_listed_with_what_it_is(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(kind, capsys)
    assert set(rows) == set(REGISTRIES[kind])
    assert [name for name, row in rows.items() if not row["about"]] == []
    assert cli.main([kind]) == 0
    printed = capsys.readouterr().out
    assert [name for name, row in rows.items() if name not in printed or row["about"] not in printed] == []


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_listed_option_can_be_given_with_its_default(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = MAKERS[kind]
    for name, row in rows_of(kind, capsys).items():
        if name in ("fuse", "precomputed", "rerank"):  # their options stand behind arguments
            continue
        for option, value in row["options"].items():
            assert made(name, **{option: value}).options[option] == value


def test_a_view_has_the_modality_of_its_items_and_the_space_of_its_features(capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of("views", capsys)
    assert (rows["oti"]["modality"], rows["oti"]["space"]) == ("image", "text")
    assert (rows["ovi"]["modality"], rows["ovi"]["space"]) == ("text", "image")
    assert rows["fuse"]["modality"] is None
    assert rows["oti"]["options"]["seed"] == 42
    assert not {"store", "progress", "on_error", "model", "items"} & {
        o for row in rows.values() for o in row["options"]
    }
    assert cli.main(["views"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("oti ")]
    assert "template='a photo of {}', seed=42" in line


def test_a_correction_has_what_it_is_fitted_on_and_whether_it_is_a_control(capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of("corrections", capsys)
    fitted_on = {name: rows[name]["fitted_on"] for name in ("none", "center", "isoclip")}
    assert fitted_on == {"none": "", "center": "the fit split", "isoclip": "the model"}
    assert rows["pca-image"]["control"] is True
    assert rows["pca-text"]["control"] is False
    assert rows["gap-shift"]["options"] == {"lambda_": 0.5}


def test_a_scorer_has_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of("scorers", capsys)
    assert (rows["cosine"]["takes"], rows["late_interaction"]["takes"]) == ("vectors", "tokens")
    assert rows["late_interaction"]["options"]["inner"] == "max"


def test_an_objective_has_what_it_needs_and_an_adapter_where_it_enters(capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of("objectives", capsys)
    assert rows["clip"]["needs"] == "1 image, 1 caption, temperature"
    assert rows["image-image"]["needs"] == "2 images"
    assert (rows["arc-margin"]["options"], rows["arc-margin"]["trains"]) == ({"scale": 64.0, "margin": 0.5}, True)
    assert rows["multi-positive"]["options"] == {"k": 2}  # of what it needs, and not of its loss
    assert rows["one-to-many"]["options"] == {"weighting": "equal", "k": 2}  # of its loss, and of what it needs
    rows = rows_of("adapters", capsys)
    enters = {name: (row["enters"], row["starts_as_base"]) for name, row in rows.items()}
    assert (enters["head"], enters["clip-moe"]) == (("head", True), ("mlp", True))
    assert (enters["long-clip"], enters["llm2clip"]) == (("positions", True), ("tower", "image"))
