"""The background worker of a git forge: PostgreSQL is the queue, systemd the supervisor, the runbook the interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shithubd_worker.client import enqueue
    from shithubd_worker.errors import LeaseLost, NotNow, Permanent, RetryAfter
    from shithubd_worker.job import Job
    from shithubd_worker.registry import Registry

__version__ = "0.1.0"
__all__ = ["Job", "LeaseLost", "NotNow", "Permanent", "Registry", "RetryAfter", "__version__", "enqueue"]

_HOMES = {
    "Job": "job",
    "LeaseLost": "errors",
    "NotNow": "errors",
    "Permanent": "errors",
    "Registry": "registry",
    "RetryAfter": "errors",
    "enqueue": "client",
}


def __getattr__(name: str) -> Any:
    # Imported when first used, so that `shithubd-worker --help` doesn't pay for what it doesn't show.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
