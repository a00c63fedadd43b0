"""A screen that is drawn again and again shows the beginning, where the most important lines stand."""

from __future__ import annotations

import io

import pytest

from shithubd_worker.cli.screen import anew, line, table

WIDTH, HEIGHT = 40, 10


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A small terminal. Its call draws a screen, and tells its lines."""
    for name, value in {"COLUMNS": WIDTH, "LINES": HEIGHT, "TERM": "xterm"}.items():
        monkeypatch.setenv(name, str(value))

    def draw(*lines, cells=()):
        monkeypatch.setattr("sys.stdout", made := Terminal())
        with anew():
            for each in lines:
                line(each)
            table(("kind",), [([cell], "red") for cell in cells])
        clear, _, text = made.getvalue().partition("\x1b[1;1H")
        assert clear == "\x1b[2J"
        return text.splitlines()

    return draw


@pytest.mark.parametrize("count", [0, 1, HEIGHT - 1])
def test_what_fits_is_shown_whole(terminal, count):
    lines = [f"line {n}" for n in range(count)]
    assert terminal(*lines) == (lines or [""])


@pytest.mark.parametrize("count", [HEIGHT, 5000])
def test_of_what_does_not_fit_the_beginning_is_shown_and_the_rest_is_counted(terminal, count):
    shown = terminal(*(f"line {n}" for n in range(count)))
    assert shown[:-1] == [f"line {n}" for n in range(HEIGHT - 2)]
    assert shown[-1] == f"... {count - HEIGHT + 2:,} more lines: without --watch you see all of them"


def test_a_line_that_the_terminal_folds_counts_as_several(terminal):
    wide = "語" * WIDTH  # two columns each
    assert terminal(wide, "a") == [wide, "a"]
    shown = terminal(*[wide] * HEIGHT)
    assert shown[:-1] == [wide] * ((HEIGHT - 2) // 2)


def test_the_cells_of_a_table_keep_their_styles(terminal):
    assert any("\x1b[31m" in each for each in terminal(cells=["broken"]))


def test_without_a_terminal_all_lines_are_written_and_nothing_is_cleared(monkeypatch):
    monkeypatch.setattr("sys.stdout", made := io.StringIO())
    with anew():
        for n in range(100):
            line(n)
    assert made.getvalue().splitlines() == [str(n) for n in range(100)]
