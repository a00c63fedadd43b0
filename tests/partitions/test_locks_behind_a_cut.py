"""A worker is cut off in the middle of its job.transaction(): the next run must not wait for its locks for long.

The handler works, and the server waits for it. The server looks for its client only if nothing that it sent is in
flight: what is in flight, Linux sends again and again, for about 15 minutes (docs/failures.md).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from waiting import eventually

from partitions.network import Network, why_not
from partitions.session import fleet
from partitions.trial import runs


def test_the_next_run_gets_the_locks_of_a_transaction_that_was_cut_off(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    with fleet(tmp_path, 3) as made:
        job = made.enqueue("commits")
        first = eventually(lambda: [run for run in runs(made, job) if run["event"] == "locked"], "it locked its row")[0]
        host = int(first["worker"].removeprefix("web"))
        eventually(lambda: not in_flight(made.network, host), "the host acknowledged all that the server sent")
        made.network.cut(host, "both")
        eventually(lambda: len(begun(made.evidence, job)) == 2, "the next run begins", within=60)
        (made.evidence / f"{job}.door").touch()
        eventually(lambda: made.query("SELECT 1 FROM job_history WHERE outcome = 'ok'"), "it is done", within=60)
        assert made.query("SELECT effects FROM ledger") == [(1,)]


def in_flight(network: Network, host: int) -> int:
    """How many bytes the server has sent to this host, or will send, that the host has not acknowledged."""
    ends = (line.split() for line in Path(f"/proc/{network.server.pid}/net/tcp").read_text().splitlines()[1:])
    address = "".join(f"{int(part):02X}" for part in reversed(network.address(host).split(".")))
    return sum(int(end[4].partition(":")[0], 16) for end in ends if end[2].startswith(f"{address}:"))


def begun(evidence: Path, job: int) -> list[str]:
    return [line for line in (evidence / f"{job}.runs").read_text().splitlines() if '"begin"' in line]
