"""Files that are written whole, and pages with places to fill."""

from pathlib import Path

from xgap_analysis.core.writing import fill_places


def test_the_places_of_a_page_are_filled_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "card.md"
    page.write_text("# A\n<!-- X -->\nold\nlines\n<!-- /X -->\nbetween\n<!-- Y -->\n\n<!-- /Y -->\nend\n")
    for _ in range(2):  # again is the same
        fill_places(page, {"Y": "two", "X": "one"})
        text = page.read_text("utf-8")
        assert text == "# A\n<!-- X -->\none\n<!-- /X -->\nbetween\n<!-- Y -->\ntwo\n<!-- /Y -->\nend\n"
