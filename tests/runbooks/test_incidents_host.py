"""Incidents of a host and of releases on it. The operator follows the pages: see incidents.py."""

from __future__ import annotations

import pytest
from incidents import HERE, Incident, ends_of, in_flight, incident, put, start_load
from nspawn import Host, eventually
from worker_host import UNIT, open_door, runs

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
FAILED = "alerts/WorkerUnitFailed.md"
MODULE = "incident_jobs.py"
UPGRADE = "tasks/upgrade.md"
RESTART = f"systemctl restart {UNIT}"


def deploy(it: Incident, what: str, before: str, after: str = "") -> None:
    """A release of the handlers with a change in it."""
    text = (HERE / MODULE).read_text()
    assert before in text
    it.host.write(f"/srv/forge/{MODULE}", text.replace(before, after))
    it.begins(what)


def go_back(it: Incident, page: str, when: str) -> None:
    """The page leads to this: put the former release in place, and start the unit."""
    it.link(page, UPGRADE, when)
    it.host.write(f"/srv/forge/{MODULE}", (HERE / MODULE).read_text())
    it.types("systemctl restart shithubd-worker  # with the former release of the handlers")


def test_a_release_that_cannot_be_imported(host: Host) -> None:
    with incident("a broken deploy: it can't be imported", host) as it:
        deploy(it, "a release is deployed that imports what isn't there", "import ctypes\n", "import forge_missing\n")
        it.types(RESTART, 1)
        page = it.alert("WorkerUnitFailed")
        it.follow(page, "Is it real?")
        [ended, checked] = it.follow(page, "Find the cause", like=False)
        assert "ExecMainStatus=78" in ended
        assert "forge_missing" in ended
        assert "forge_missing" in checked
        go_back(it, page, "you see 78")
        it.ends("the former release is back")
        it.works_again()
        it.follow(page, "Is it over?")


def test_a_release_that_lost_a_kind(host: Host) -> None:
    with incident("a broken deploy: it lost a kind", host) as it:
        handler = '@registry.handler("forge.badge", max_attempts=3, backoff=1)\n'
        deploy(it, "a release is deployed that has no handler for forge.badge any more", handler)
        it.types(RESTART)
        numbers = put(host, "forge.badge", count=3)
        page = it.alert("KindUnhandled")
        [told] = it.follow(page, "Is it real?", like=False)
        assert [line for line in told.splitlines() if "forge.badge" in line and line.endswith("none")], told
        it.follow(page, "Find the cause", like=False)
        go_back(it, page, "until the last release")
        it.ends("the former release is back")
        it.works_again()
        eventually(lambda: ends_of(host, *numbers) == ["ok"] * 3, "the jobs are done")
        eventually(lambda: not it.monitoring.firing("KindUnhandled"), "the alert is over")


def test_a_release_with_a_bug_in_one_handler(host: Host) -> None:
    with incident("a broken deploy: a bug in one handler", host) as it:
        line = "    # The line that a faulty release changes.\n"
        deploy(it, "a release is deployed with a bug in the handler of forge.badge", line, "    len(job.id)\n")
        it.types(RESTART)
        numbers = put(host, "forge.badge", count=10)
        page = it.alert("KindOnlyFails")
        assert "TypeError" in it.follow(page, "Is it real?", values={"kind": "forge.badge"}, like=False)[0]
        it.types('shithubd-worker pause-kind forge.badge --reason "all attempts fail"')
        eventually(lambda: not it.monitoring.firing("KindOnlyFails"), "the alert is over")
        go_back(it, page, "`TypeError`")
        it.types("shithubd-worker resume-kind forge.badge")
        it.types('shithubd-worker jobs retry --kind forge.badge --reason "mended" --yes')
        it.ends("the former release is back, and all is tried again")
        it.works_again()
        eventually(lambda: ends_of(host, *numbers).count("ok") == len(numbers), "they are done")
        it.follow(page, "Is it over?", like=False)


def test_a_broken_file(host: Host) -> None:
    with incident("a broken file", host) as it:
        host.run("sh", "-c", "echo SHITHUBD_WORKER_GRACE=soon >> /etc/shithub/worker.env")
        it.begins("a faulty value in worker.env, and a reload; hours later a restart")
        reloaded, _ = it.types(f"systemctl reload {UNIT}", None)
        it.over = it.began
        it.works_again()
        it.types(f"systemctl status {UNIT} --no-pager -n 3", None)
        it.types(RESTART, 1)
        page = it.alert("WorkerUnitFailed")
        it.follow(page, "Is it real?", "Find the cause")
        it.says(page, "you see 78")
        it.follow(page, "Mend it", "Is it over?")
        it.ends("the line is gone, and the unit is started")
        it.works_again()
        assert reloaded != 0, "a reload of a faulty file fails"


def test_a_password_that_was_changed_without_telling_the_workers(host: Host) -> None:
    """Hours later the database restarts."""
    page = "tasks/credentials-rotation.md"
    with incident("a password changed, the workers not told", host) as it:
        it.begins("the workers' password is changed in the database alone; then PostgreSQL is restarted")
        it.follow(page, "A new one, in a file", "Change it in the database", like=False)
        it.over = it.began
        it.works_again()
        host.run("systemctl", "restart", "postgresql")
        alert = it.alert_of("WorkerUnitFailed", "PostgresUnreachable")
        it.link(alert, page, "77")
        [listed, *_] = it.follow(FAILED, "Is it real?", like=False)
        it.follow(page, "Then on each host", like=False)
        it.types(f"systemctl start {UNIT}")
        it.ends("the file has the new password, and the unit is started")
        it.works_again()
        it.follow(page, "Check", like=False)
        assert "failed" in listed
        assert f"{UNIT}: Main process exited, code=exited, status=77" in it.shown()


def test_a_wrong_password_file(host: Host) -> None:
    page = "tasks/credentials-rotation.md"
    with incident("a wrong password file", host) as it:
        host.run("sed", "-i.right", "s/battery/horse/", "/etc/shithub/pgpass")
        it.begins("a wrong password is put into /etc/shithub/pgpass, and the unit restarted")
        it.types(RESTART, 1)
        alert = it.alert("WorkerUnitFailed")
        it.follow(alert, "Is it real?")
        [ended, _] = it.follow(alert, "Find the cause", like=False)
        assert "ExecMainStatus=77" in ended
        assert "password authentication failed" in ended
        it.link(alert, page, "you see 77")
        it.types("mv /etc/shithub/pgpass.right /etc/shithub/pgpass")
        it.types(f"systemctl start {UNIT}")
        it.ends("the right file is back, and the unit is started")
        it.works_again()
        it.follow(alert, "Is it over?")


@pytest.mark.parametrize("how", ["a reboot", "a power cut"])
def test_the_host_goes_down(how: str, host: Host) -> None:
    with incident(how, host) as it:
        number = in_flight(host, "forge.import", '{"door": "door"}')
        before = host.show(UNIT, "InvocationID")
        it.begins(f"{how}, while the worker runs a job; the database is on the same host")
        if how == "a reboot":
            host.reboot()
        else:
            host.lose_power()
        it.ends("the host is booted")
        eventually(lambda: host.show(UNIT, "ActiveState") == {"ActiveState": "active"}, "the worker is up")
        assert host.show(UNIT, "InvocationID") != before
        eventually(lambda: runs(host, number), "the job runs again")
        it.monitoring.start()
        start_load(host)
        it.follow("tasks/stuck-job.md", "What became of it?", values={"job-id": str(number)}, like=False)
        open_door(host)
        it.works_again()
        assert ends_of(host, number) == ["released" if how == "a reboot" else "crashed", "ok"]


@pytest.mark.parametrize("how", ["stopped", "standing still"])
def test_the_journal_is_silent(how: str, host: Host) -> None:
    page = "tasks/journal-silent.md"
    with incident(f"a journald that is {how}", host) as it:
        before = host.show(UNIT, "MainPID", "NRestarts")
        if how == "stopped":
            sockets = ("systemd-journald.socket", "systemd-journald-dev-log.socket")
            host.run("systemctl", "stop", *sockets, "systemd-journald")
        else:
            host.run("systemctl", "kill", "--signal=STOP", "systemd-journald.service")
        it.begins(f"journald is {how}")
        it.over = it.began
        it.works_again()
        it.index(page)
        it.follow(page, "Is it the journal?", like=False)
        it.follow(page, "Start it again")
        it.ends("journald is restarted")
        it.works_again()
        it.follow(page, "Does it tell again?")
        assert host.show(UNIT, "MainPID", "NRestarts") == before
