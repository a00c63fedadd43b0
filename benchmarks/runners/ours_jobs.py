"""Our handlers, for `shithubd-worker run --handlers`. Nothing is tuned: the registry's defaults hold."""

from __future__ import annotations

import os
import time
from typing import Any

from shithubd_worker import Registry

from benchmarks.runners.recorder import make_recorder

registry = Registry()
ran = make_recorder()


@registry.handler("bench.noop")
def noop(job: Any, n: int) -> None:
    """Nothing, many times."""
    ran(n)


@registry.handler("bench.urgent")
def urgent(job: Any, n: int) -> None:
    """Nothing, soon."""
    ran(n)


@registry.handler("bench.sleep")
def sleep(job: Any, n: int, seconds: float) -> None:
    """A handler that waits, as most do."""
    ran(n)
    time.sleep(seconds)


# As many further kinds as a workload asks for: bench.kind0, bench.kind1, ...
for number in range(int(os.environ.get("BENCH_KINDS", "0"))):
    registry.handler(f"bench.kind{number}")(noop)
