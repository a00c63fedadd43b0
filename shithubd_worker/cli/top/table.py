"""Rows as lines of a given width. A figure is shown whole or not at all; a text may be cut."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from shithubd_worker.plain import lasting, on_one_line

GAP = 2
# Below this width a text says nothing any more. Then a column of less importance gives way.
SHORTEST_TEXT = 16
CUT = "~"
CURSOR = "> "


class Line(NamedTuple):
    """One line of the screen, with a style of rich."""

    text: str
    style: str = ""
    cursor: int | None = None  # the letter that is shown the other way round


class Column(NamedTuple):
    """A column. Those with the highest `rank` give way first."""

    name: str
    rank: int
    text: bool = False


def fit(text: str, width: int) -> str:
    """The text on one line of exactly this width. It ends with a mark if something is left out."""
    plain = on_one_line(text)
    if cell_len(plain) <= width:
        return set_cell_size(plain, width)
    return set_cell_size(plain, width - 1) + CUT if width > 0 else ""


def wrapped(line: Line, width: int, most: int) -> list[Line]:
    """The line in so many lines as it needs, but at most `most`."""
    parts = textwrap.wrap(on_one_line(line.text), width, max_lines=most, placeholder=CUT) or [""]
    return [Line(part, line.style) for part in parts]


def laid_out(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, *, sorted_by: int | None = None
) -> tuple[str, list[str]]:
    """The head of a table and its rows, as lines. `sorted_by`: the column whose head gets a mark."""
    heads = [f"{column.name}*" if number == sorted_by else column.name for number, column in enumerate(columns)]
    plain = [[on_one_line(cell) for cell in row] for row in rows]
    natural = [max(cell_len(row[number]) for row in (heads, *plain)) for number in range(len(columns))]
    least = [min(size, SHORTEST_TEXT) if column.text else size for column, size in zip(columns, natural, strict=True)]
    kept = list(range(len(columns)))
    while len(kept) > 1 and sum(least[each] + GAP for each in kept) - GAP > width:
        kept.remove(max(kept, key=lambda each: columns[each].rank))
    sizes = {each: least[each] for each in kept}
    for each in kept:
        left = width - sum(size + GAP for size in sizes.values()) + GAP
        sizes[each] = max(1, min(natural[each], sizes[each] + left))
    gap = " " * GAP

    def cell(number: int, text: str) -> str:
        shown = fit(text, min(sizes[number], cell_len(text)))
        room = " " * (sizes[number] - cell_len(shown))
        return shown + room if columns[number].text else room + shown

    def line(cells: Sequence[str]) -> str:
        return gap.join(cell(each, cells[each]) for each in kept).rstrip()

    return line(heads), [line(row) for row in plain]


def with_cursor(head: str, lines: Sequence[str], styles: Sequence[str], at: int, height: int, width: int) -> list[Line]:
    """As many of the lines as there is room for, below their head. The line of the cursor has a mark, too: a terminal
    may show no styles. The lines are narrower than the screen by the width of that mark."""
    first, end = window(len(lines), at, max(1, height - 1))
    shown = [Line(f"  {head}", "bold")]
    for number in range(first, end):
        if number == at:
            shown.append(Line(fit(f"{CURSOR}{lines[number]}", width), "reverse"))
        else:
            shown.append(Line(f"{' ' * len(CURSOR)}{lines[number]}", styles[number]))
    return shown


def window(count: int, at: int, height: int) -> tuple[int, int]:
    """Which of `count` rows are shown, so that row `at` is among them and stands in the middle if it can."""
    first = max(0, min(at - height // 2, count - height))
    return first, min(count, first + height)


def figure(figures: dict[str, object], name: str) -> str:
    """A number of jobs. With a + if there are more than were counted."""
    capped = figures.get("capped") or ()
    return f"{figures[name]:,}{'+' if name in capped else ''}"  # type: ignore[operator]


def brief(seconds: float | None) -> str:
    """How long something lasts, in as many digits as say something.

    >>> print(brief(0.0123), brief(1.26), brief(45), brief(600), brief(None) == "")
    12 ms 1.3 s 45 s 10 min True
    """
    if seconds is None:
        return ""
    if 0 <= seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if 0 <= seconds < 10 else lasting(seconds)  # noqa: PLR2004 (two digits)


def rate(per_second: float | None) -> str:
    """Jobs per second.

    >>> print(rate(1234.5), rate(12.34), rate(0.0012), rate(0.0))
    1,234 12.3 0.0012 0
    """
    if per_second is None:
        return ""
    if per_second >= 100:  # noqa: PLR2004 (three digits)
        return f"{per_second:,.0f}"
    return f"{per_second:.3g}" if per_second >= 1 else f"{per_second:.2g}"
