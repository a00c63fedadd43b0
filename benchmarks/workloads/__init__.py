"""All workloads, in the order in which they run."""

from benchmarks.workloads.beats import W4C
from benchmarks.workloads.drain import W1, W3, W5
from benchmarks.workloads.enqueue import W6, W6_PLAIN
from benchmarks.workloads.fleet import FLEET, STARTUP
from benchmarks.workloads.growth import BESIDE, GROWTH
from benchmarks.workloads.handlers import HANDLERS, KINDS_AT_ONCE
from benchmarks.workloads.incident import INCIDENT
from benchmarks.workloads.latency import W2
from benchmarks.workloads.load import LOAD, URGENT
from benchmarks.workloads.snapshot import W4, W4B
from benchmarks.workloads.workload import Outcome, Size, Workload

__all__ = ["ALL", "Outcome", "Size", "Workload"]

ALL: tuple[Workload, ...] = (
    W1,
    W2,
    W3,
    W4,
    W4B,
    W4C,
    W5,
    W6,
    W6_PLAIN,
    LOAD,
    URGENT,
    HANDLERS,
    KINDS_AT_ONCE,
    GROWTH,
    BESIDE,
    INCIDENT,
    FLEET,
    STARTUP,
)
