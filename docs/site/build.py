"""Build the site (`make docs`): pages, executed notebooks and the reference, without a network.

The pages stay where they are read on their own (docs, notebooks, the data cards), and their links stay as they are:
everything is copied into one folder in the same places, notebooks with their outputs, and Sphinx builds that.
"""

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))
PAGES = ("docs/**/*.md", "data/*/README.md", "CHANGELOG.md", "CONTRIBUTING.md")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def executed(notebooks: list[Path], report: Path) -> list[Path]:
    """The notebooks with their outputs, from the report; where one of them is not there, or has changed since, the
    report is made anew.
    """
    from xgap_analysis.cli.notebook import cells_of
    from xgap_analysis.cli.page import make_report

    outputs = [report / "notebooks" / file.name for file in notebooks]
    if not all(out.exists() and cells_of(out) == cells_of(file) for file, out in zip(notebooks, outputs, strict=True)):
        print("the report is missing or older than a notebook: it is made first, about a minute a notebook", flush=True)
        make_report(notebooks, report)
    return outputs


def stage(source: Path, notebooks: list[Path]) -> None:
    """Copy pages, notebooks and the files they link to, and write the pages that are made from the package."""
    import diagram
    import reference

    for pattern in PAGES:
        for page in sorted(ROOT.glob(pattern)):
            text = diagram.drawn(page.read_text(encoding="utf-8"))
            write(source / page.relative_to(ROOT), text)
            for link in LINK.findall(text):
                linked = (ROOT / link[1:] if link.startswith("/") else page.parent / link).resolve()
                if linked.is_file() and linked.suffix not in {".md", ".ipynb"} and linked.is_relative_to(ROOT):
                    copied = source / linked.relative_to(ROOT)
                    copied.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(linked, copied)
    (source / "docs" / "index.md").rename(source / "index.md")  # the front page; its links begin with a slash
    (source / "notebooks").mkdir()
    for notebook in notebooks:
        shutil.copy(notebook, source / "notebooks")
    for name, text in reference.pages().items():
        write(source / "docs" / "reference" / name, text)


def write(file: Path, text: str) -> None:
    """Write a text, with its folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def main() -> int:
    """Build; every warning is an error, a link that leads nowhere among them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "site")
    parser.add_argument("--report", type=Path, default=ROOT / "results" / "report", help="where the report lies")
    parser.add_argument("--plain", action="store_true", help="notebooks without outputs: a minute, to work on pages")
    args = parser.parse_args()
    committed = sorted((ROOT / "notebooks").glob("*.ipynb"))
    work = args.out.with_name(f"{args.out.name}-work")
    shutil.rmtree(work, ignore_errors=True)
    os.environ["COLUMNS"] = "100"  # of the help of `xgap`, wherever this runs
    from xgap_analysis.cli.page import NotebookError

    try:
        stage(work / "source", committed if args.plain else executed(committed, args.report))
    except NotebookError as error:
        print(f"error: {error}")
        return 1
    from sphinx.cmd.build import build_main

    options = ["-q", "-n", "-W", "--keep-going", "-b", "html", "-c", str(Path(__file__).parent)]
    code = build_main([*options, "-d", str(work / "doctrees"), str(work / "source"), str(work / "html")])
    if code != 0:
        print(f"the site is not built: every warning above is an error here, of a page in {work / 'source'}")
        return code
    shutil.rmtree(args.out, ignore_errors=True)
    shutil.move(work / "html", args.out)
    shutil.rmtree(work)
    print(f"open {args.out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
