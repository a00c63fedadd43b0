"""The background worker of a git forge: PostgreSQL is the queue, systemd the supervisor, the runbook the interface.

These names are for your programs. Each has an example below. A handler is a function, and a registry names it:

    registry = Registry()


    @registry.handler("stars.add")
    def add_stars(job: Job, repo: str, stars: int = 1) -> None:
        job.log.info("%s has %d more", repo, stars)

If this is myforge/jobs.py, then `shithubd-worker run --handlers myforge.jobs:registry` runs its jobs. docs/handlers.md
has all details.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shithubd_worker.admin.client import Client
    from shithubd_worker.client import enqueue
    from shithubd_worker.errors import Interrupted, LeaseLost, NotNow, NotTheWorker, Permanent, RetryAfter
    from shithubd_worker.job import Job
    from shithubd_worker.registry import Registry

__version__ = "0.1.0"
__all__ = [
    "Client",
    "Interrupted",
    "Job",
    "LeaseLost",
    "NotNow",
    "NotTheWorker",
    "Permanent",
    "Registry",
    "RetryAfter",
    "__version__",
    "enqueue",
]

# A type checker would take any name from a module with a __getattr__. So it sees none.
if not TYPE_CHECKING:
    _HOMES = {"Client": "admin.client", "Job": "job", "Registry": "registry", "enqueue": "client"}

    def __getattr__(name: str) -> object:
        # Imported when first used, so that `shithubd-worker --help` doesn't pay for what it doesn't show.
        from sys import modules

        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=modules[__name__])
        from importlib import import_module

        found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
        return found

    def __dir__() -> list[str]:
        return __all__  # also those that are not imported yet, so that help() shows them
