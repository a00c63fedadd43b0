"""Text that would steer a terminal, turn a line around, or pass for a line of ours, if it got through."""

from __future__ import annotations

# A title, an empty screen and red by C0 and by C1, DEL, bidirectional controls, zero width, line separators, a tab.
STEERS = "/../\x1b]0;t\x07\x1b[2J\x9b31m\x7f\u202e\u2066\u200f\u200b\u2028\x85\t[bold]$(reboot)"
FORGED = ("running 999, held 999", "shithubd-worker: forged", "2026-11-26T00:00:00.000Z ERROR forged", "forged\tforged")
CANARY = STEERS + "".join(f"\r\n{line}" for line in FORGED)
# What the constraint on a kind lets through.
CANARY_OF_A_KIND = "\u202e\u2066\u200f\u200b[bold]$(reboot)"


def tame(text):
    """As long, with nothing in it that matters."""
    return "".join(c if c.isprintable() else "n" for c in text)


def check_plain(said, where):
    """No raw control but the end of a line, and no line that isn't ours."""
    raw = {c for c in said if not c.isprintable() and c != "\n"}
    assert not raw, (where, raw, said)
    assert not [line for line in said.split("\n") if line.startswith(FORGED)], (where, said)
