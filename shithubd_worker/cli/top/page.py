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
        text, style, cursor = self.lines[y] if y < len(self.lines) else Line("")
        shown, usual = fit(text, self.size.width), Style.parse(style)
        if cursor is None:
            return Strip([Segment(shown, usual)], self.size.width)
        parts = (shown[:cursor], usual), (shown[cursor : cursor + 1], Style(reverse=True)), (shown[cursor + 1 :], usual)
        return Strip([Segment(*part) for part in parts], self.size.width)
