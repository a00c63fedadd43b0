"""All contenders, in the order of the tables."""

from pathlib import Path

from benchmarks.contenders.chancy import CHANCY
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.graphile import GRAPHILE, GRAPHILE_DEFAULTS, GRAPHILE_LARGE
from benchmarks.contenders.limit import limits
from benchmarks.contenders.ours import Ours, ours
from benchmarks.contenders.pgboss import PGBOSS
from benchmarks.contenders.pgqueuer import PGQUEUER, PGQUEUER_OWN
from benchmarks.contenders.procrastinate import PROCRASTINATE
from benchmarks.paths import REPOSITORY

__all__ = ["Contender", "Ours", "all_contenders"]

PEERS = (GRAPHILE, GRAPHILE_LARGE, GRAPHILE_DEFAULTS, PGBOSS, PGQUEUER, PGQUEUER_OWN, CHANCY, PROCRASTINATE)


def all_contenders(checkout: Path = REPOSITORY) -> tuple[Contender, ...]:
    """Ours, of a checkout; the limit on its schema; the peers."""
    defaults, single = ours(checkout)
    return (defaults, single, *limits(defaults), *PEERS)
