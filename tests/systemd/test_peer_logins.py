"""Root on a host whose database identifies users by their names (peer), and has no role root."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from nspawn import Host, NspawnError
from worker_host import UNIT, configure

ENV = "/etc/shithub/operator.env"
STATUS = "exec shithubd-worker status --json"


@pytest.fixture
def peer(host: Host) -> Iterator[Host]:
    """There is a user for operators, oncall, and a role of that name; there is no role root. Nobody has a password."""
    host.psql("postgres", "ALTER ROLE root RENAME TO once_root")
    host.run("useradd", "--system", "oncall")
    host.write("/etc/shithub/worker.env", "PGHOST=/run/postgresql\nPGDATABASE=shithub\n")
    host.write("/etc/shithub/owner.env", "SHITHUBD_WORKER_RUN_AS=shithub-admin\n")
    host.write(ENV, "SHITHUBD_WORKER_RUN_AS=oncall\n")
    host.run("sh", "-c", "cd /etc/shithub && rm -f pgpass *.pgpass")
    try:
        yield host
    finally:
        host.run("userdel", "oncall")
        host.run("chown", "root", ENV)
        host.psql("postgres", "ALTER ROLE once_root RENAME TO root")
        configure(host)


def shell(host: Host, command: str, code: int = 0) -> str:
    """What root's login shell prints, including stderr, for a command that ends with this code."""
    said = host.run("runuser", "-l", "root", "-c", f"({command}) 2>&1; echo $?")
    *lines, exited = said.splitlines()
    assert int(exited) == code, said
    return "\n".join(lines)


def test_roots_commands_become_the_users_of_the_files_and_record_the_person(peer: Host) -> None:
    assert json.loads(shell(peer, STATUS))["holds"] == []
    shell(peer, "shithubd-worker drain --reason 'a try'")
    shell(peer, "shithubd-worker resume")
    # As a person who had logged in under another name and became root by su.
    uid = int(peer.run("id", "-u", "games"))
    shell(peer, f"echo {uid} > /proc/self/loginuid && shithubd-worker drain && shithubd-worker resume")
    asked = "SELECT DISTINCT split_part(actor, '@', 1) AS actor, login FROM audit ORDER BY actor"
    assert peer.sql("shithub", asked) == [
        {"actor": "games", "login": "oncall"},
        {"actor": "root", "login": "oncall"},
    ]
    assert "is at version" in shell(peer, "shithubd-worker migrate")
    shell(peer, "shithubd-worker history drop")


def test_a_refused_login_says_what_to_do(peer: Host) -> None:
    peer.write(ENV, "")
    [said] = shell(peer, "shithubd-worker status", 77).splitlines()
    assert 'the database refuses this login: role "root" does not exist: as a superuser, CREATE ROLE root LOGIN' in said
    assert (
        f"a line SHITHUBD_WORKER_RUN_AS=USER in {ENV} makes root's command run as a user whom the database accepts"
        in said
    )
    peer.write(ENV, "PGUSER=oncall\n")
    [said] = shell(peer, "shithubd-worker drain", 77).splitlines()
    assert "the system user 'root' asked for the role 'oncall', but peer authentication wants equal names: run" in said
    peer.write(ENV, "PGDATABASE=forge\nSHITHUBD_WORKER_RUN_AS=oncall\n")
    [said] = shell(peer, "shithubd-worker status", 78).splitlines()
    assert f"`createdb forge`, or correct PGDATABASE (or the URL): see /etc/shithub/worker.env and {ENV}" in said


def test_only_root_chooses_whom_root_becomes(peer: Host) -> None:
    peer.run("chmod", "0666", ENV)
    assert f"only root may have the right to write {ENV}" in shell(peer, "shithubd-worker status", 78)
    peer.run("chmod", "0640", ENV)
    peer.run("chown", "shithub", ENV)
    assert f"only root may have the right to write {ENV}" in shell(peer, "shithubd-worker status", 78)


def test_a_unit_whose_database_is_missing_fails_once_and_says_why(host: Host) -> None:
    host.run("sh", "-c", "echo 'PGHOST=/run/postgresql\nPGDATABASE=forge' >> /etc/shithub/worker.env")
    with pytest.raises(NspawnError):
        host.run("systemctl", "start", UNIT)
    shown = host.show(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}
    assert "`createdb forge`, or correct PGDATABASE (or the URL): see /etc/shithub/worker.env" in host.journal(UNIT)
