"""Texts that would control a terminal, reverse a line, or look like a line of ours, if they got through."""

from __future__ import annotations

# A title, a cleared screen and red, by C0 and by C1; DEL, bidirectional controls, zero width, line separators, a tab.
STEERS = "/../\x1b]0;t\x07\x1b[2J\x9b31m\x7f\u202e\u2066\u200f\u200b\u2028\x85\t[bold]$(reboot)"
FORGED = ("running 999, held 999", "shithubd-worker: forged", "2026-11-26T00:00:00.000Z ERROR forged", "forged\tforged")
CANARY = STEERS + "".join(f"\r\n{line}" for line in FORGED)
# The characters that the constraint on a kind allows.
CANARY_OF_A_KIND = "\u202e\u2066\u200f\u200b[bold]$(reboot)"


def tame(text):
    """A text of the same length without any special character."""
    return "".join(c if c.isprintable() else "n" for c in text)


def check_plain(said, where):
    """No raw control character but the line ends, and no line that is not ours."""
    raw = {c for c in said if not c.isprintable() and c != "\n"}
    assert not raw, (where, raw, said)
    assert not [line for line in said.split("\n") if line.startswith(FORGED)], (where, said)
