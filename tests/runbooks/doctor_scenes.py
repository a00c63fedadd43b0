"""The scenes of what the doctor finds: what holds back vacuum, and a database or a host that is not as it should be."""

from __future__ import annotations

from nspawn import Host, eventually
from stage import RECEIVER, afterwards, begin, empty, insert, scene
from worker_host import LOGINS, PASSWORD, UNIT

POOLER = """
[databases]
shithub = host=127.0.0.1
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 6432
auth_type = md5
auth_file = /etc/pgbouncer/userlist.txt
pool_mode = transaction
logfile = /var/log/postgresql/pgbouncer.log
pidfile = /run/postgresql/pgbouncer.pid
"""
PRELOAD = "/etc/ld.so.preload"
UNIT_FILE = f"/usr/local/lib/systemd/system/{UNIT}"


@scene()
def prepared(host: Host, gid: str) -> None:
    """A worker is up. A program has prepared a two-phase transaction, and never ended it."""

    def end(host: Host) -> None:
        for row in host.sql("shithub", "SELECT gid FROM pg_prepared_xacts"):
            host.psql("shithub", f"ROLLBACK PREPARED '{row['gid']}'")

    empty(host)
    afterwards(end)
    host.psql("shithub", "CREATE TABLE IF NOT EXISTS orders ()")
    host.psql("shithub", "BEGIN", "INSERT INTO orders DEFAULT VALUES", f"PREPARE TRANSACTION '{gid}'")
    host.run("systemctl", "start", UNIT)


@scene()
def left_slot(host: Host, slot: str) -> None:
    """A worker is up. A standby is gone, and has left its replication slot."""
    drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
    empty(host)
    host.psql("shithub", drop, f"SELECT pg_create_physical_replication_slot('{slot}', true)")
    afterwards(lambda host: host.psql("shithub", drop))
    host.run("systemctl", "start", UNIT)


@scene(gives={"pid"})
def deaf(host: Host) -> dict[str, str]:
    """A worker is up. A program listens, but idles in a transaction, so it takes no notification. Others sent many."""
    empty(host)
    begin(host, "LISTEN news; BEGIN; SELECT;")
    idle = "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction'"
    [row] = eventually(lambda: host.sql("shithub", idle), "it idles")
    host.psql("shithub", "SELECT count(pg_notify('news', i || repeat('x', 7900))) FROM generate_series(1, 12000) i")
    host.run("systemctl", "start", UNIT)
    return {"pid": str(row["pid"])}


@scene()
def unvacuumed(host: Host, kind: str, count: str) -> None:
    """A worker is up. Many jobs have come, and somebody has switched autovacuum off for their table."""
    empty(host)
    host.psql("shithub", "ALTER TABLE jobs SET (autovacuum_enabled = off)")
    afterwards(lambda host: host.psql("shithub", "ALTER TABLE jobs RESET (autovacuum_enabled)"))
    insert(host, kind, int(count))
    host.run("touch", RECEIVER)
    host.run("systemctl", "start", UNIT)


@scene()
def pooled(host: Host, kind: str, count: str) -> None:
    """Jobs wait. Somebody has put PgBouncer in transaction mode between the workers and the database, so the worker of
    this host does not start."""
    empty(host)
    insert(host, kind, int(count))
    afterwards(lambda host: host.run("systemctl", "stop", UNIT, "pgbouncer"))
    users = "".join(f'"{name}" "{PASSWORD}"\n' for name in LOGINS)
    host.write("/etc/pgbouncer/userlist.txt", users)
    host.write("/etc/pgbouncer/pgbouncer.ini", POOLER)
    host.run("systemctl", "restart", "pgbouncer")
    host.run("sh", "-c", "echo PGPORT=6432 >> /etc/shithub/worker.env")
    host.run("systemctl", "start", UNIT, check=False)
    eventually(lambda: host.show(UNIT, "ActiveState")["ActiveState"] == "failed", "it has failed")


@scene(gives={"login"})
def few_connections(host: Host) -> dict[str, str]:
    """A worker is up. Its login may have hardly more connections than it has."""
    login = "shithub"
    empty(host)
    host.run("systemctl", "start", UNIT)
    afterwards(lambda host: host.psql("shithub", f'ALTER ROLE "{login}" CONNECTION LIMIT -1'))
    host.psql("shithub", f'ALTER ROLE "{login}" CONNECTION LIMIT 2')
    return {"login": login}


@scene()
def clock_ahead(host: Host, by: str) -> None:
    """Each program that starts on this host from now on sees a clock that is ahead. PostgreSQL runs already."""
    empty(host)
    [library] = host.run("sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1").split()
    afterwards(clock_right)
    host.write("/etc/faketimerc", f"{by}\n")
    host.write(PRELOAD, f"{library}\n")


@scene()
def clock_right(host: Host) -> None:
    """Somebody has corrected the clock."""
    host.run("rm", "-f", PRELOAD)


@scene()
def damaged(host: Host, lost: str, changed: str, hidden: str) -> None:
    """Somebody has dropped one function of the queue, has changed another one, and has taken a right away."""
    empty(host)
    of = "(SELECT p.oid::regprocedure FROM pg_proc p WHERE p.proname = '{}')"
    host.psql(
        "shithub",
        f"DO $do$ BEGIN EXECUTE 'DROP FUNCTION ' || {of.format(lost)};"
        f" EXECUTE replace(pg_get_functiondef({of.format(changed)}), ';', ' ; '); END $do$",
        f"REVOKE ALL ON {hidden} FROM shithub_operator",
    )
    afterwards(_migrate_anew)


@scene()
def damaged_index(host: Host, index: str) -> None:
    """Somebody has dropped an index of the queue."""
    empty(host)
    [row] = host.sql("shithub", f"SELECT pg_get_indexdef('{index}'::regclass) AS made")
    anew = row["made"].replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS")
    afterwards(lambda host: host.psql("shithub", anew))
    host.psql("shithub", f"DROP INDEX {index}")


def _migrate_anew(host: Host) -> None:
    host.psql("shithub", "UPDATE worker_schema SET functions = ''")
    host.run("runuser", "-u", "shithub-admin", "--", "shithubd-worker", "migrate")


@scene()
def edited(host: Host, directive: str, value: str) -> None:
    """A worker is up. Somebody has edited the unit that was installed, in place of a drop-in."""
    empty(host)
    afterwards(lambda host: host.run("shithubd-worker", "units", "install"))
    host.run("sed", "-i", f"s/^{directive}=.*/{directive}={value}/", UNIT_FILE)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "start", UNIT)
