"""What a hold can be set on, by the names that people give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shithubd_worker.admin.arguments import name_of
from shithubd_worker.errors import Refused
from shithubd_worker.model import Scope

if TYPE_CHECKING:
    from shithubd_worker.database.operations import Operations


def check_place(host: str | None, unit: str | None, worker: str | None) -> None:
    """Raise TypeError or ValueError if these can't name one host, unit or worker, or nothing."""
    given = {what: name for what, name in (("host", host), ("unit", unit), ("worker", worker)) if name is not None}
    if len(given) > 1:
        raise ValueError("give one of host, unit and worker")
    for what, name in given.items():
        name_of(what, name)


def scope_of(operations: Operations, host: str | None, unit: str | None, worker: str | None) -> Scope:
    """The scope of a host, a unit or a worker; without any of them, the fleet. A worker's host:pid becomes its uuid,
    because pids are reused and uuids are not. Raises Refused if the worker isn't known."""
    check_place(host, unit, worker)
    if host is not None:
        return Scope("host", host)
    if unit is not None:
        return Scope("unit", unit if unit.endswith(".service") else f"{unit}.service")
    if worker is None:
        return Scope("fleet")
    found = [row for row in operations.workers() if worker in (row["id"], row["leased_by"])]
    alive = [row for row in found if not row["silent"]] or found
    if len(alive) != 1:
        what = "no worker" if not alive else f"{len(alive)} workers"
        raise Refused(f"{what} called {worker!r}: see `shithubd-worker workers`, and name one by its uuid")
    return Scope("worker", alive[0]["id"])
