"""The limit, in four settings: our schema and our rows, no job system. See runners/limit.py."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.contenders.contender import Contender
from benchmarks.contenders.ours import Ours
from benchmarks.paths import OWN_PYTHON
from benchmarks.processes import Command

BATCH = 500


@dataclass(frozen=True)
class Limit(Contender):
    """A loop of the bare statements."""

    ours: Ours | None = None

    def migrate_command(self, url: str) -> Command:
        """Our schema."""
        assert self.ours is not None
        return self.ours.migrate_command(url)


def limits(ours: Ours) -> tuple[Limit, ...]:
    """All four."""

    def limit(name: str, title: str, expected: int, *, batch: int, fused: bool, sync: bool) -> Limit:
        return Limit(
            name=name,
            title=title,
            settings=f"batch {batch}, {'one statement' if fused else 'two statements'}, "
            f"{'synchronous' if sync else 'asynchronous'} commit",
            runner=(OWN_PYTHON, "-m", "benchmarks.runners.limit"),
            enqueue_runner=ours.enqueue_runner,
            work={"batch": batch, "fused": fused, "sync": sync},
            unsettled=ours.unsettled,
            expected=expected,
            system=ours.system,
            one_at_a_time=batch == 1,
            ours=ours,
        )

    return (
        limit("limit", "limit: fused, async commit", 50_000, batch=BATCH, fused=True, sync=False),
        limit("limit-plain", "limit: two statements, sync commit", 40_000, batch=BATCH, fused=False, sync=True),
        limit("limit-single", "limit: one at a time, fused, async", 2_700, batch=1, fused=True, sync=False),
        limit(
            "limit-single-plain", "limit: one at a time, two statements, sync", 1_200, batch=1, fused=False, sync=True
        ),
    )
