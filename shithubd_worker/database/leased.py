"""Which of the leased jobs run: what can be known of it, and how commands say it.

A worker leases jobs ahead, hundreds if they are quick, and runs one at a time. Its beat names a job that runs for
longer than half a second (leases_v1: `runs`). Of shorter jobs nobody knows which one runs at this moment, only that no
more than one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Running(NamedTuple):
    """What one worker runs. `leases` has one lease if that is the one, and several if it is at most one of them."""

    leases: list[dict[str, Any]]

    @property
    def kinds(self) -> str:
        """The kind that runs, or each that may."""
        return ", ".join(dict.fromkeys(lease["kind"] for lease in self.leases))

    @property
    def job(self) -> str:
        """The id of the job, or out of how many it is one."""
        return str(self.leases[0]["id"]) if len(self.leases) == 1 else f"1 of {len(self.leases):,}"


def running(leases: Iterable[dict[str, Any]]) -> list[Running]:
    """What runs, at most one job for each worker.

    >>> ahead = [{"id": id, "worker": "w", "kind": "k", "runs": id == 2} for id in (1, 2, 3)]
    >>> unknown = [{"id": id, "worker": None, "leased_by": "web1:1", "kind": "k", "runs": None} for id in (4, 5)]
    >>> [each.job for each in running(ahead + unknown)]
    ['2', '1 of 2']
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for lease in leases:
        if lease["runs"] is not False:
            found.setdefault(lease["worker"] or lease["leased_by"], []).append(lease)
    return [Running(each) for each in found.values()]


def how_many(leases: Sequence[dict[str, Any]]) -> str:
    """How many of these leases run, and how many there are if that is more: `1`, `1 of 500 leased`."""
    return counted(len(running(leases)), len(leases))


def counted(runs: int, leased: int) -> str:
    """The same for two numbers.

    >>> print(counted(1, 1), counted(1, 1500))
    1 1 of 1,500 leased
    """
    return f"{runs:,}" if runs == leased else f"{runs:,} of {leased:,} leased"


def describe(one: Running) -> str:
    """`search.reindex 42 by web1:4711 for 12 s`."""
    first = one.leases[0]
    since = f" for {first['seconds']:.0f} s" if first["seconds"] is not None else ""
    return f"{one.kinds} {one.job} by {first['leased_by']}{since}"


def briefly(leases: Iterable[dict[str, Any]]) -> str:
    """The first three that run."""
    return "; ".join(map(describe, running(leases)[:3])) or "none of them runs"
