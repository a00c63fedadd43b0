"""Git inside the unit: no repository leads it out of the root, to places where the unit itself may read and write."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_repositories import CANARY, HARMLESS, HOSTILE
from nspawn import Host, eventually
from worker_host import PYTHON, REPOSITORY, UNIT, drop_in, enqueue, outcomes

pytestmark = pytest.mark.timeout(900)  # the first test boots the host and installs everything

ROOT, OUTSIDE = "/var/lib/shithub/repos", "/var/lib/shithub/beside/outside"
NO_LANDLOCK = "this kernel has no Landlock, or the unit forbids it"


def as_the_forge(host: Host, *command: str) -> str:
    return host.run("runuser", "-u", "shithub", "--", *command)


def program(host: Host, command: str) -> object:
    """What hostile_repositories.py prints on the host."""
    return json.loads(as_the_forge(host, PYTHON, "/srv/forge/hostile_repositories.py", command, ROOT, OUTSIDE))


@pytest.fixture
def before(host: Host) -> Iterator[object]:
    """The repositories, and what is outside of the root."""
    host.write("/srv/forge/hostile_repositories.py", (REPOSITORY / "tests/hostile_repositories.py").read_text())
    host.run("systemctl", "start", UNIT)  # it makes the directories
    as_the_forge(host, "mkdir", "-p", str(Path(OUTSIDE).parent))
    yield program(host, "build")
    host.run("sh", "-c", f"rm -rf {ROOT}/* {Path(OUTSIDE).parent}")
    host.psql("shithub", "TRUNCATE search_files, search_repos, repo_maintenance")


def run_all(host: Host, names: list[str]) -> None:
    values = [
        f"('{kind}', '{json.dumps({'repo': f'{name}.git'})}', 1)"
        for name in names
        for kind in ("search.reindex", "repo.maintenance")
    ]
    host.psql("shithub", f"INSERT INTO jobs (kind, payload, max_attempts) VALUES {', '.join(values)}")
    left = "SELECT 1 FROM jobs WHERE state <> 'failed' LIMIT 1"
    eventually(lambda: not host.sql("shithub", left), "all jobs have ended")


def test_no_hostile_repository_reaches_anything_outside(host: Host, before: object) -> None:
    began = time.time()
    run_all(host, [*HOSTILE, "base", "fork"])
    assert program(host, "look") == before
    told = str([host.sql("shithub", f"SELECT * FROM {t}") for t in ("jobs", "job_history", "search_files")])
    assert CANARY not in told + host.journal(UNIT, began)
    assert HARMLESS in told
    assert NO_LANDLOCK not in host.journal(UNIT)
    fine = host.sql(
        "shithub",
        "SELECT DISTINCT payload->>'repo' AS repo, kind FROM job_history WHERE outcome = 'ok'"
        " AND payload->>'repo' IN ('base.git', 'fork.git')",
    )
    assert len(fine) == 4


def test_a_unit_that_forbids_landlock_says_so_and_checks_links(host: Host, before: object) -> None:
    drop_in(host, UNIT, "[Service]\nSystemCallFilter=~landlock_create_ruleset")
    host.run("systemctl", "restart", UNIT)
    number = enqueue(host, "search.reindex", repo="base.git")
    eventually(lambda: outcomes(host, number) == ["ok"], "it is indexed")
    run_all(host, ["alternates", "link-objects", "config-include", "commondir"])
    eventually(lambda: NO_LANDLOCK in host.journal(UNIT), "the journal says so")
    assert program(host, "look") == before
