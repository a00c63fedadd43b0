"""The forge's own kinds, listed by hand: what runs, and its limits in seconds.

Importing this file is cheap: a handler imports its libraries when it first runs.
"""

from __future__ import annotations

from shithubd_worker.handlers.repo_maintenance import maintain
from shithubd_worker.handlers.search_reindex import reindex
from shithubd_worker.handlers.webhook_deliver import deliver
from shithubd_worker.registry import Registry

__all__ = ["registry"]

registry = Registry()
# The first index of a large repository takes minutes. The lease is renewed meanwhile, so it can stay short.
registry.handler("search.reindex", lease_timeout=120, max_runtime=3600)(reindex)
# git's own time limit (TIME_LIMIT) is shorter than this, so git is asked to end before it is killed.
# Nobody waits for it, and many forges enqueue it for all repositories in one night.
registry.handler(
    "repo.maintenance",
    lease_timeout=300,
    max_runtime=3600,
    max_attempts=5,
    wait_objective=6 * 3600,
)(maintain)
# With the usual backoff, this many attempts take about seventeen hours: a receiver may be down for a night.
registry.handler("webhook.deliver", lease_timeout=60, max_runtime=30, max_attempts=24)(deliver)
