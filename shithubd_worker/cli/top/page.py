"""The whole screen, line by line."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from shithubd_worker.cli.top.table import Line, fit


class Page(Widget, can_focus=True):
    """The whole screen, line by line."""

    lines: list[Line] = []  # noqa: RUF012 (set as a whole)

    def render_line(self, y: int) -> Strip:
        """One line of it."""
        text, style = self.lines[y] if y < len(self.lines) else Line("")
        return Strip([Segment(fit(text, self.size.width), Style.parse(style))], self.size.width)
