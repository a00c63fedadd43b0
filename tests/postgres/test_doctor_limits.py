"""`doctor --limit`: from which figure on something is a finding."""

from __future__ import annotations

import json

import nursery
import pytest
from commands import Command
from conftest import PATIENCE

from shithubd_worker.doctor.limits import LIMITS
from shithubd_worker.errors import EXIT_CHECK_SAYS_NO, EXIT_OK, EXIT_USAGE


def test_a_lower_limit_finds_what_is_not_yet_a_finding(database):
    command = Command(database)
    with database.connect() as connection, connection.transaction():
        connection.execute("CREATE TABLE scratch ()")  # so it has a number that vacuum heeds
        pid = connection.info.backend_pid
        assert command("doctor", "old-transaction").stdout.startswith("1 check")
        found = command("doctor", "old-transaction", "--limit", "old_seconds=0", code=EXIT_CHECK_SAYS_NO).stdout
        assert f"pid: {pid}" in found
    assert command("doctor", "old-transaction", "--limit", "old_seconds=0").stdout.startswith("1 check")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("age=5", f"there is no limit 'age': there are {', '.join(LIMITS)}"),
        ("old_seconds", "old_seconds needs a number, as in old_seconds=300"),
        ("old_seconds=soon", "old_seconds needs a number"),
        ("old_seconds=-1", "must be a number from 0 on"),
        ("old_seconds=nan", "must be a number from 0 on"),
        ("many_dead_rows=99999999999999999999", "must be a number from 0 on"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_in_one_line(database, given, says):
    assert says in Command(database).refused("doctor", "--limit", given, code=EXIT_USAGE)


@pytest.mark.parametrize("number", ["0", "0.5", "0.0000001", str((1 << 44) - 1)])
def test_each_check_takes_each_limit(database, number):
    def unchecked(*words):
        done = nursery.run(["doctor", *words, "--json"], env=database.environment(), cwd="/", timeout=PATIENCE)
        assert done.returncode in (EXIT_OK, EXIT_CHECK_SAYS_NO)
        return json.loads(done.stdout)["unchecked"]

    assert unchecked(*(word for name in LIMITS for word in ("--limit", f"{name}={number}"))) == unchecked()
