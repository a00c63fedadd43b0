"""What a bundle has of a host's units and journal, without a systemd. tests/systemd shows it on a booted host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shithubd_worker.doctor import of_host
from shithubd_worker.doctor.redaction import LEFT_OUT
from shithubd_worker.host import units_asked
from shithubd_worker.host.units_asked import Unit

CANARY = "canary-7f3a"


def entry(**fields: Any) -> dict[str, Any]:
    made = of_host._entry(json.dumps({"__REALTIME_TIMESTAMP": "1000000", "PRIORITY": "6", **fields}))
    assert made is not None
    return made


def test_no_line_of_a_units_file_shows_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop_in = tmp_path / "override.conf"
    drop_in.write_text(
        f"[Service]\nKillMode=mixed\nEnvironment=A=1 \\\n  PASSWORD={CANARY} \\\n# why\n  B={CANARY}\n"
        f"ExecStart=/usr/bin/x --password={CANARY}\nSetCredential=db:{CANARY}\n{CANARY}==\nX-Note={CANARY}\n"
    )
    told = {"FragmentPath": str(drop_in), "DropInPaths": [], "KillMode": "mixed", "Environment": [CANARY]}
    monkeypatch.setattr(units_asked, "workers", lambda: iter([Unit("x.service", {**told, "ExecStart": [CANARY]})]))
    [unit] = of_host._units()
    assert CANARY not in json.dumps(unit)
    lines = {each["key"]: each["value"] for each in unit["lines"]}
    assert lines["KillMode"] == "mixed"
    assert lines["Environment"] == lines["ExecStart"] == LEFT_OUT


def test_a_line_of_the_journal_that_is_no_usual_one_ends_nothing() -> None:
    """A program may send each field twice, or send bytes. journalctl then shows a list."""
    odd = entry(MESSAGE=[104, 105], SHITHUB_LOGGER=["a", "b"], SHITHUB_OUTCOME=[], SHITHUB_JOB_ID=["1", "2"])
    assert (odd["message"], odd["priority"], odd["job_id"]) == (LEFT_OUT, 6, None)
    assert entry(MESSAGE=None, PRIORITY=None)["message"] == LEFT_OUT
    assert of_host._entry("no JSON") is None


def test_systemds_words_on_a_faulty_file_are_left_out_and_those_on_a_start_are_not() -> None:
    systemd = {"_PID": "1", "_UID": "0", "UNIT": "x.service"}
    assert entry(MESSAGE=f"Ignoring invalid assignment: {CANARY}", **systemd)["message"] == LEFT_OUT
    assert entry(MESSAGE=CANARY, MESSAGE_ID=of_host._INVALID, **systemd)["message"] == LEFT_OUT
    assert entry(MESSAGE="Started x.service", MESSAGE_ID="39f5", **systemd)["message"] == "Started x.service"
    assert entry(MESSAGE=CANARY, MESSAGE_ID="39f5", _PID="2", _UID="0")["message"] == LEFT_OUT
