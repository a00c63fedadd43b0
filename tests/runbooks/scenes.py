"""The scenes that runbook pages start from: real incidents on the booted host. The pages' comments name them."""

from __future__ import annotations

from pathlib import Path

import doctor_scenes  # noqa: F401 (it names the scenes of the doctor's findings)
import held_scenes  # noqa: F401 (it names the scenes of holds)
from nspawn import Host, eventually, superuser_psql
from stage import AHEAD, FEEDER, RECEIVER, SESSION, begin, empty, gives, insert, play, scene
from worker_host import DOOR, PROGRAM, UNIT, cli, enqueue, in_flight, open_door, postgresql, start_postgresql, state

__all__ = ("SESSION", "begin", "gives", "play", "take_back_the_migration")

HEARD = "/run/chat.heard"
CHAT = f"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with open("{HEARD}", "ab") as heard:
            heard.write(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 8065), Handler)
open("{HEARD}", "w").write("listening\\n")
server.serve_forever()
"""
# Lets running jobs finish soon after a stop or a hold, and not before. So a page shows the same on a slow machine as on
# a fast one.
OPENER = f"""
until systemctl show 'shithubd-worker*.service' --property=ActiveState | grep -q deactivating ||
      [ "$({" ".join(superuser_psql())} -d shithub -c 'SELECT count(*) FROM holds')" != 0 ]
do sleep 0.1; done
sleep 0.3
touch {DOOR}
"""


def _lease_to_the_dead(host: Host, number: int, kind: str, on: str, expires: str) -> None:
    """Lease a job to a worker of another host that has been silent for ten minutes."""
    host.psql(
        "shithub",
        "WITH w AS (INSERT INTO workers (id, host, pid, machine_id, boot_id, pid_namespace, start_ticks, version,"
        f" schema_version, kinds) VALUES (gen_random_uuid(), '{on}', 4711, 'other', 'other', 1, 1, '0.1.0', 3,"
        f" '{{{kind}}}') RETURNING id) INSERT INTO beats (worker_id, state, beat_at)"
        " SELECT id, 'running', now() - interval '10 minutes' FROM w",
        "UPDATE jobs SET state = 'processing', leased_by = w.host || ':' || w.pid, worker_id = w.id, attempts = 1,"
        f" leased_at = now() - interval '10 minutes', lease_expires_at = {expires},"
        f" lease_token = gen_random_uuid() FROM workers w WHERE w.host = '{on}' AND jobs.id = {number}",
    )


def _install_a_migration(host: Host) -> None:
    """The installed release needs one more migration. A running worker does not know it."""
    directory, newest = _release(host)
    host.write(f"{directory}/migrations/{newest + 1:04}_nothing.sql", "-- expand\n")


def take_back_the_migration(host: Host) -> None:
    """Put the installed release and its database back."""
    directory, _ = _release(host)
    host.run("sh", "-c", f"rm -f {directory}/migrations/*_nothing.sql")
    host.psql("shithub", f"UPDATE worker_schema SET version = {_release(host)[1]}")


def _release(host: Host) -> tuple[str, int]:
    """The directory of the installed release's SQL, and its schema version."""
    look = (
        "from shithubd_worker.database import schema; from shithubd_worker.host import shipped;"
        " print(shipped.SQL, schema.newest_version())"
    )
    directory, newest = host.run(str(Path(PROGRAM).with_name("python")), "-c", look).split()
    return directory, int(newest)


@scene()
def at_work(host: Host, kind: str, waiting: str) -> None:
    """A worker runs a job, and more jobs wait. The job ends when somebody wants to stop it."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    in_flight(host, kind, until="door")
    for _ in range(int(waiting)):
        enqueue(host, kind, until="door")
    host.run("sh", "-c", 'setsid sh -c "$1" >/dev/null 2>&1 &', "sh", OPENER)


@scene(gives={"day"})
def fills_up(host: Host, kind: str, slot: str) -> dict[str, str]:
    """A worker is at work, a standby that is gone has left its slot, and the history has a table of five days ago."""
    at_work(host, kind, waiting="1")
    [day] = host.sql("shithub", "SELECT d - 5 AS first, d - 4 AS next FROM date(now() AT TIME ZONE 'UTC') AS d")
    name = day["first"].replace("-", "")
    table = f"job_history_7d_{name}"
    host.psql(
        "shithub",
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots",
        f"SELECT pg_create_physical_replication_slot('{slot}', true)",
        f"DROP TABLE IF EXISTS {table}",
        f"CREATE TABLE {table} PARTITION OF job_history_7d"
        f" FOR VALUES FROM ('{day['first']} 00:00Z') TO ('{day['next']} 00:00Z')",
    )
    return {"day": name}


@scene(gives={"job-id"})
def stuck_behind(host: Host, kind: str, waiting: str) -> dict[str, str]:
    """A worker runs a job that does not end. Quick jobs wait behind it."""
    never_ends(host, kind)
    return {"job-id": str(insert(host, kind, int(waiting))[-1])}


@scene()
def backlog(host: Host, kind: str, count: str) -> None:
    """Some jobs of a kind have run, and many more wait."""
    empty(host)
    insert(host, kind, 20)
    host.run("systemctl", "start", UNIT)
    eventually(lambda: not host.sql("shithub", "SELECT FROM jobs"), "they have run")
    host.run("systemctl", "stop", UNIT)  # so that the worker tells its figures now
    insert(host, kind, int(count))


@scene()
def starts_late(host: Host, kind: str, behind: str) -> None:
    """Jobs of a quick kind come all the time, and wait behind those of a slow kind: more than one worker can do."""
    empty(host)
    host.run("touch", RECEIVER)
    host.run("systemctl", "start", UNIT)
    feed = (
        f"INSERT INTO jobs (kind, payload) VALUES ('{behind}', '{{\"seconds\": 4}}');"
        f" INSERT INTO jobs (kind) SELECT '{kind}' FROM generate_series(1, 4); SELECT count(*) FROM holds"
    )
    fed = 'until [ "$(psql -XAtqd shithub -c "$0")" != 0 ]; do sleep 1; done'
    host.run("systemd-run", "--quiet", "--collect", "--uid=postgres", f"--unit={FEEDER}", "sh", "-c", fed, feed)


@scene()
def never_ends(host: Host, kind: str) -> None:
    """A worker runs a job that does not end."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    in_flight(host, kind, until="door")


@scene()
def the_job_ends(host: Host) -> None:
    """The job that did not end comes to its end."""
    open_door(host)


@scene()
def queued(host: Host, kind: str, count: str) -> None:
    """Jobs wait, and no worker is there."""
    empty(host)
    for _ in range(int(count)):
        enqueue(host, kind)


@scene(gives={"job-id"})
def orphan(host: Host, kind: str, on: str) -> dict[str, str]:
    """A worker on another host has leased a job, and has been silent for ten minutes."""
    empty(host)
    number = enqueue(host, kind)
    _lease_to_the_dead(host, number, kind, on, "now() + interval '4 minutes'")
    return {"job-id": str(number)}


@scene(gives={"job-id"})
def silent(host: Host, kind: str, on: str, seconds: str) -> dict[str, str]:
    """A worker on another host has leased a job, and has been silent for so many seconds. It gives up after 300 s. No
    worker of this host is there to sweep."""
    given = orphan(host, kind, on)
    host.psql(
        "shithub",
        "UPDATE workers SET gives_up = 300",
        f"UPDATE beats SET beat_at = now() - interval '{int(seconds)} seconds'",
    )
    return given


@scene(gives={"audit-id"})
def changed(host: Host) -> dict[str, str]:
    """Somebody has just changed something."""
    [row] = host.sql("shithub", "SELECT max(id) AS id FROM audit")
    return {"audit-id": str(row["id"])}


@scene(gives={"webhook-url"})
def chat(host: Host) -> dict[str, str]:
    """A chat waits for lines. It writes them into a file."""
    host.run("rm", "-f", HEARD)
    host.write("/run/chat.py", CHAT)
    host.run("systemd-run", "--quiet", "--collect", "--unit=chat", "python3", "/run/chat.py")
    eventually(lambda: host.run("cat", HEARD, check=False) == "listening\n", "the chat listens")
    return {"webhook-url": "http://127.0.0.1:8065/services/T0/B0/secret"}


@scene()
def chat_heard(host: Host, kind: str) -> None:
    """The chat has got the line about a pause."""
    line = f": pause kind {kind} until "
    eventually(lambda: line in host.run("cat", HEARD), line)


@scene(gives={"job-id"})
def failed(host: Host, kind: str, count: str) -> dict[str, str]:
    """Jobs have failed for good. The cause is gone now."""
    empty(host)
    numbers = insert(host, kind, int(count))
    host.run("systemctl", "start", UNIT)
    counted = f"SELECT count(*) AS n FROM jobs WHERE state = 'failed' AND kind = '{kind}'"
    eventually(lambda: host.sql("shithub", counted)[0]["n"] == len(numbers), "all failed")
    host.run("touch", RECEIVER)
    return {"job-id": str(numbers[0])}


@scene(gives={"job-id"})
def crashing(host: Host, kind: str) -> dict[str, str]:
    """A job has killed its worker three times, so it is failed."""
    return _after_its_worker(host, kind, {"crash": True}, "SELECT FROM jobs WHERE id = {} AND state = 'failed'")


@scene(gives={"job-id"})
def ends_its_worker(host: Host, kind: str) -> dict[str, str]:
    """A job hung in C, where no interrupt reaches it, so its worker ended its own process."""
    return _after_its_worker(host, kind, {"hang": True}, "SELECT FROM job_history WHERE id = {} AND outcome = 'retry'")


def _after_its_worker(host: Host, kind: str, payload: dict[str, bool], ended: str) -> dict[str, str]:
    """A job and its worker have ended, as the query says, and the next worker is up."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    number = enqueue(host, kind, **payload)
    early = f"UPDATE jobs SET run_at = now() WHERE id = {number} AND crashes = 2 AND run_at > now()"  # by half a minute

    def over() -> bool:
        host.psql("shithub", early)
        return bool(host.sql("shithub", ended.format(number)))

    eventually(over, "the job has ended")
    eventually(lambda: host.show(UNIT, "ActiveState")["ActiveState"] == "active", "the worker is back")
    return {"job-id": str(number)}


@scene(gives={"job-id"})
def holds_the_interpreter(host: Host, kind: str) -> dict[str, str]:
    """A job held the interpreter, so its worker was ended. The job does not run again soon."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    number = enqueue(host, kind)
    crashed = f"SELECT FROM job_history WHERE id = {number} AND outcome = 'crashed'"
    eventually(lambda: host.sql("shithub", crashed), "its worker has ended")
    later = f"UPDATE jobs SET run_at = now() + interval '1 day' WHERE id = {number} AND state = 'queued'"

    def put_off() -> bool:
        host.psql("shithub", later)
        return bool(host.sql("shithub", f"SELECT FROM jobs WHERE id = {number} AND run_at > now() + interval '1 hour'"))

    eventually(put_off, "it is put off")
    eventually(lambda: host.show(UNIT, "ActiveState")["ActiveState"] == "active", "the worker is back")
    return {"job-id": str(number)}


@scene()
def misconfigured(host: Host) -> None:
    """The worker's unit has failed with exit code 78: worker.env has a faulty setting."""
    empty(host)
    host.run("sh", "-c", "echo SHITHUBD_WORKER_GRACE=soon >> /etc/shithub/worker.env")
    host.run("systemctl", "start", UNIT, check=False)
    eventually(lambda: host.show(UNIT, "ActiveState")["ActiveState"] == "failed", "it has failed")


@scene()
def outdated(host: Host) -> None:
    """A worker is up. The release that was installed since needs other tables, and pip finds it."""
    empty(host)
    host.write("/etc/pip.conf", "[install]\nno-index = yes\nfind-links = /mnt/wheels\n")  # in place of PyPI
    host.run("systemctl", "start", UNIT)
    _install_a_migration(host)


@scene()
def ahead(host: Host) -> None:
    """A worker is up, and somebody has migrated the database for a later release."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    host.psql("shithub", f"UPDATE worker_schema SET version = version + {AHEAD}")


@scene(gives={"pid"})
def locked(host: Host, table: str, mode: str, kind: str) -> dict[str, str]:
    """A worker is up and jobs wait, but a session that is idle in its transaction has locked a table."""
    empty(host)
    for _ in range(3):
        enqueue(host, kind)
    if table != "jobs":
        host.run("systemctl", "start", UNIT)
    begin(host, f"BEGIN; LOCK TABLE {table} IN {mode} MODE;")
    held = (
        "SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        f" WHERE l.granted AND a.state = 'idle in transaction' AND l.relation = '{table}'::regclass"
        " AND l.mode IN ('ShareLock', 'AccessExclusiveLock')"
    )
    [row] = eventually(lambda: host.sql("shithub", held), "it is locked")
    if table == "jobs":
        host.run("systemctl", "start", UNIT)
        waits = (
            "SELECT pid FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND application_name LIKE 'shithubd-worker%'"
        )
        eventually(lambda: host.sql("shithub", waits), "a lease waits for it")
    return {"pid": str(row["pid"])}


@scene(gives={"pid"})
def snapshot(host: Host, kind: str, count: str) -> dict[str, str]:
    """Jobs have run. A session that is idle in its transaction could still read their rows."""
    empty(host)
    begin(host, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM jobs;")
    idle = "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction' AND backend_xmin IS NOT NULL"
    [row] = eventually(lambda: host.sql("shithub", idle), "it has its snapshot")
    host.run("systemctl", "start", UNIT)
    for _ in range(int(count)):
        enqueue(host, kind)
    eventually(lambda: not host.sql("shithub", "SELECT FROM jobs"), "they have run")
    return {"pid": str(row["pid"])}


@scene()
def left_behind(host: Host) -> None:
    """A new release was installed, and has migrated, but the worker still runs the one before."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    _install_a_migration(host)
    host.run("runuser", "-u", "shithub-admin", "--", "shithubd-worker", "migrate")


@scene(gives={"job-ids"})
def unhandled(host: Host, kind: str, count: str) -> dict[str, str]:
    """A worker is up. Jobs wait whose kind it does not know."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    return {"job-ids": " ".join(map(str, insert(host, kind, int(count))))}


@scene(gives={"job-id"})
def expired(host: Host, kind: str, on: str) -> dict[str, str]:
    """A job's lease has ended, and its worker on another host is gone. This host's worker is inside a long job."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    in_flight(host, kind, until="door")
    number = enqueue(host, kind)
    _lease_to_the_dead(host, number, kind, on, "now() - interval '5 minutes'")
    return {"job-id": str(number)}


@scene(gives={"job-id"})
def poison(host: Host, kind: str) -> dict[str, str]:
    """A job's payload doesn't fit its handler."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    number = enqueue(host, kind, nobody_knows="this")
    eventually(lambda: state(host, number) == "failed", "it is poison")
    return {"job-id": str(number)}


@scene(gives={"job-id"})
def fenced(host: Host, kind: str) -> dict[str, str]:
    """Somebody forced the release of a job while its worker ran it. Both runs have ended."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    number = in_flight(host, kind, until="door")
    cli(host, "jobs", "release", str(number), "--accept-second-run", "--reason", "a try")
    open_door(host)
    fenced = f"SELECT FROM job_history WHERE id = {number} AND outcome = 'lease_lost'"
    eventually(lambda: host.sql("shithub", fenced), "the first run was refused")
    eventually(lambda: state(host, number) is None, "the second one is through")
    return {"job-id": str(number)}


@scene()
def clock_set_back(host: Host, kind: str, count: str) -> None:
    """The database's clock went an hour ahead and back again. Jobs are left that were enqueued meanwhile. The scene
    changes no clock: it changes what the database tells a worker, and the times of those jobs."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    this = f"_SYSTEMD_INVOCATION_ID={host.show(UNIT, 'InvocationID')['InvocationID']}"
    for way, by in (("ahead", " + interval ''1 hour''"), ("back", "")):
        host.psql(
            "shithub",
            "DO $do$ BEGIN EXECUTE regexp_replace(pg_get_functiondef('lease_v1'::regproc),"
            f" 'v_now := clock_timestamp[^;]*;', 'v_now := clock_timestamp(){by};'); END $do$",
        )
        seen = f"the database's clock went {way}"
        eventually(lambda seen=seen: seen in host.run("journalctl", "-q", this), f"the worker sees it go {way}")
    host.psql(
        "shithub",
        "INSERT INTO jobs (kind, run_at, created_at)"
        f" SELECT '{kind}', now() + interval '1 hour', now() + interval '1 hour' FROM generate_series(1, {count})",
    )


@scene()
def journal_stands_still(host: Host) -> None:
    """A worker is up, and journald on its host stands still."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    host.run("systemctl", "kill", "--signal=STOP", "systemd-journald")


@scene()
def database_down(host: Host) -> None:
    """A worker is up, and PostgreSQL on its host isn't."""
    empty(host)
    start_postgresql(host)
    host.run("systemctl", "start", UNIT)
    host.run("systemctl", "stop", postgresql(host))
    noticed = "curl -sS http://127.0.0.1:8081/metrics | grep '^shithub_worker_db_up 0'"
    eventually(lambda: host.run("sh", "-c", noticed, check=False), "the worker has noticed")


@scene()
def history_short(host: Host, days: str) -> None:
    """No worker is up, and the history's tables were not made for days: there are so many days left."""
    empty(host)
    later = (  # by the names of the tables
        "SELECT format('DROP TABLE %I', c.relname) AS drop FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent IN ('job_history_7d'::regclass, 'job_history_90d'::regclass)"
        f" AND right(c.relname, 8) > to_char((now() AT TIME ZONE 'UTC')::date + {int(days)}, 'YYYYMMDD')"
    )
    host.psql("shithub", *(row["drop"] for row in host.sql("shithub", later)))
