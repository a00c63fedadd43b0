"""repo.maintenance: let git tidy a repository, and record its size before and after."""

from __future__ import annotations

import time
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from shithubd_worker.errors import NotNow, Permanent, RetryAfter
from shithubd_worker.handlers import git

if TYPE_CHECKING:
    from shithubd_worker.job import Job

# In seconds. It is shorter than the kind's max_runtime, so git is asked to end before it is killed.
TIME_LIMIT = 3000.0
# If another gc already runs on the repository, the job is tried again after so many seconds.
BUSY_AGAIN_SECONDS = 600
# After a gc that took too long, the job waits a day: each such gc leaves a temporary pack, which git keeps for two
# weeks.
TOO_LONG_AGAIN_SECONDS = 86_400

# One gc does all that a bare repository needs. It packs the refs. It puts reachable objects into one pack with a
# bitmap, which makes clones cheap, and unreachable ones into a second pack. It writes the commit graph.
_GC = (
    "-c", "gc.cruftPacks=true",  # unreachable objects: one pack, not a file for each object
    "-c", "gc.bigPackThreshold=2g",  # a pack of this size stays unchanged: it would take an hour and gain little
    "-c", "pack.threads=2",  # a worker's unit is sized for one job, not for a thread on every core
    "-c", "pack.windowMemory=256m",
    "-c", "pack.deltaCacheSize=256m",
    "gc", "--quiet",
)  # fmt: skip
# Forks borrow objects from the repository that they were made of, and no repository knows who borrows from it. What is
# unreachable here may be all that a fork has. So a gc drops nothing, unless the payload says that nobody borrows.
_KEEP_ALL = ("--no-prune",)
_DROP_OLD = ("--prune=2.weeks.ago",)


@dataclass(frozen=True, slots=True)
class Measure:
    """A repository's objects: `size` in bytes on disk, `loose` objects (a file each), and `packs`."""

    size: int
    loose: int
    packs: int


def maintain(job: Job, repo: str, prune: bool = False) -> None:
    """The handler. Raises Permanent for a repository that doesn't exist, NotNow while another gc runs on it.

    `prune` says that nobody borrows objects from this repository, so objects that have been unreachable for two weeks
    may go. Only the forge can know that. It frees the space of a forced push.
    """
    if not isinstance(prune, bool):
        raise Permanent("prune must be true or false")
    repository = git.find(job, repo)
    before = _measure(job, repository)
    started = time.monotonic()
    _collect(job, repository, prune)
    seconds = time.monotonic() - started
    after = _measure(job, repository)
    _record(job, repository, seconds, before, after)
    job.log.info(
        "tidied %s in %.1f s: %d → %d bytes, %d → %d loose objects, %d → %d packs",
        repository.name, seconds, before.size, after.size, before.loose, after.loose, before.packs, after.packs,
    )  # fmt: skip


def _measure(job: Job, repository: git.Repository) -> Measure:
    lines = git.run(job, repository, "count-objects", "-v").decode().splitlines()
    facts = dict(line.split(": ", 1) for line in lines if not line.startswith("alternate"))
    kibibytes = int(facts["size"]) + int(facts["size-pack"]) + int(facts["size-garbage"])
    return Measure(kibibytes * 1024, int(facts["count"]), int(facts["packs"]))


def _collect(job: Job, repository: git.Repository, prune: bool) -> None:
    """Run gc. The remains of a gc that was killed need no work here. Git ignores a gc.pid whose process is gone, and
    removes temporary packs after two weeks. Until then they count in the size. This function removes no such pack and
    no *.lock file, because they may belong to a fetch or push that runs now."""
    try:
        git.run(job, repository, *_GC, *(_DROP_OLD if prune else _KEEP_ALL), seconds=TIME_LIMIT, changes=True)
    except git.TooLong as error:
        raise RetryAfter(TOO_LONG_AGAIN_SECONDS, str(error)) from None
    except git.GitFailed as error:
        if "gc is already running" not in str(error):
            raise
        raise NotNow(BUSY_AGAIN_SECONDS, str(error)) from None


def _record(job: Job, repository: git.Repository, seconds: float, before: Measure, after: Measure) -> None:
    from psycopg import sql

    table = sql.Identifier(job.schema, "repo_maintenance")
    with job.transaction() as connection:
        connection.execute(
            sql.SQL(
                "INSERT INTO {} (repo, job_id, started_at, seconds, size_before, loose_before, packs_before,"
                " size_after, loose_after, packs_after)"
                " VALUES (%s, %s, clock_timestamp() - pg_catalog.make_interval(secs => %s), %s, %s, %s, %s, %s, %s, %s)"
            ).format(table),
            (repository.name, job.id, seconds, seconds, *astuple(before), *astuple(after)),
        )
        # Each run deletes the old rows of its own repository, so nothing else has to.
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE repo = %s AND started_at < now() - interval '1 year'").format(table),
            (repository.name,),
        )
