"""The diagram of the rooms, which is written in Mermaid, as an SVG that needs no script."""

import base64
import re
from html import escape

BOX, GAP, ROW = (116, 34), 22, 78
ARROW = re.compile(r"(\w+) --> (\w+)")
FLOOR = re.compile(r"^\| (\d) \| (.*?) \|", re.MULTILINE)


def drawn(page: str) -> str:
    """A page whose Mermaid diagram is an image; other pages as they are."""
    return re.sub(r"```mermaid\n(.*?)```", lambda found: _image(found[1], page), page, flags=re.DOTALL)


def _image(diagram: str, page: str) -> str:
    code = base64.b64encode(svg(ARROW.findall(diagram), floors(page)).encode()).decode()
    about = "The rooms and their imports, one row for each floor"
    return f'<img class="rooms" alt="{about}" src="data:image/svg+xml;base64,{code}">'


def floors(page: str) -> list[list[str]]:
    """The rooms of each floor, from the top, as the page's table has them."""
    rows: dict[int, list[str]] = {}
    for floor, rooms in FLOOR.findall(page):
        rows.setdefault(int(floor), []).extend(re.findall(r"`(\w+)/`", rooms))
    return [rows[floor] for floor in sorted(rows, reverse=True)]


def svg(arrows: list[tuple[str, str]], rows: list[list[str]]) -> str:
    """One row of boxes for each floor, and a line for each import."""
    width = max(len(row) for row in rows) * (BOX[0] + GAP) + 160
    place = {}
    for y, row in enumerate(rows):
        left = (width - len(row) * BOX[0] - (len(row) - 1) * GAP) / 2
        for x, room in enumerate(row):
            place[room] = (left + x * (BOX[0] + GAP), 10 + y * ROW)
    parts = []
    for start, end in arrows:
        (x1, y1), (x2, y2) = place[start], place[end]
        x1, y1, x2 = x1 + BOX[0] / 2, y1 + BOX[1], x2 + BOX[0] / 2
        if y2 - y1 > ROW:  # past other floors: around their boxes
            bend = 60 if x2 >= width / 2 else -60
            path = f"M{x1},{y1} C{x1 + bend},{y1 + ROW * 0.6} {x2 + bend},{y2 - ROW * 0.8} {x2},{y2 - 2}"
        else:
            path = f"M{x1},{y1} L{x2},{y2 - 2}"
        parts.append(f'<path d="{path}" fill="none" stroke="#8795a5" stroke-width="1.4" marker-end="url(#tip)"/>')
    for room, (x, y) in place.items():
        parts.append(
            f'<rect x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="6" fill="#e8f0f8" stroke="#1f5a92"/>'
            f'<text x="{x + BOX[0] / 2}" y="{y + 22}" text-anchor="middle" fill="#12304d" '
            f'font-family="ui-monospace, monospace" font-size="14">{escape(room)}</text>'
        )
    height = 20 + (len(rows) - 1) * ROW + BOX[1]
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#8795a5"/></marker></defs>'
    )
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
    return f"{frame}{tip}{''.join(parts)}</svg>"
