"""Who stands in the way: the session whose lock others wait for, in words that an operator can act on.

pg_blocking_pids() and pg_locks show everybody who holds a lock. pg_stat_activity shows everybody the session's login
and program. Only the session's own login and members of pg_read_all_stats see what it does, and since when.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shithubd_worker.database.rights import grants, in_pg_catalog
from shithubd_worker.plain import lasting

if TYPE_CHECKING:
    import psycopg

LONGEST_QUERY = 60

# Behind a pooler the pid that the client knows is not the server's. Then all our sessions of the same name count.
_OF_SESSION = """
    SELECT b.pid, (SELECT coalesce(max(c.relname) FILTER (WHERE l.locktype = 'relation' AND NOT l.granted),
                                   'a row of ' || max(c.relname) FILTER (WHERE l.locktype = 'tuple'))
                     FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE l.pid = o.pid) AS what
      FROM (SELECT a.pid, bool_or(a.pid = %(pid)s) OVER () AS known FROM pg_stat_activity a
             WHERE a.application_name = %(name)s AND a.datname = current_database() AND a.pid <> pg_backend_pid()
               AND a.usesysid = (SELECT me.usesysid FROM pg_stat_activity me WHERE me.pid = pg_backend_pid())) o,
           unnest(pg_blocking_pids(o.pid)) AS b (pid)
     WHERE o.pid = %(pid)s OR NOT o.known"""

# Sessions that hold a lock, or wait for one, that keeps others from writing. Others queue behind a waiting one, too.
_ON_TABLES = """
    SELECT l.pid, c.relname AS what
      FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE l.locktype = 'relation' AND n.nspname = %(schema)s
       AND (c.relname = ANY (%(tables)s) OR c.relname ~ '^job_history')
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
       AND l.pid <> pg_backend_pid()"""

# These sessions, the ones that they wait for, and what can be seen of each.
_CHAIN = """
WITH RECURSIVE direct AS ({direct}), chain (pid, depth) AS (
    SELECT pid, 1 FROM direct
    UNION
    SELECT b.pid, c.depth + 1 FROM chain c, unnest(pg_blocking_pids(c.pid)) AS b (pid) WHERE c.depth < 4 AND c.pid <> 0
)
SELECT c.pid, a.usename, a.application_name, host(a.client_addr), a.state,
       date_part('epoch', clock_timestamp()) - date_part('epoch', a.xact_start), a.query, a.backend_type,
       (SELECT min(what) FROM direct d WHERE d.pid = c.pid)
  FROM chain c LEFT JOIN pg_stat_activity a ON a.pid = c.pid
 ORDER BY c.depth, a.xact_start, c.pid"""


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session that blocks our access to `what`. If this login may not look at it, `state`, `seconds` and `query` are
    None. `behind` is the session that it waits for, if it waits."""

    pid: int  # 0: a prepared transaction, which belongs to no session
    login: str | None
    program: str | None
    address: str | None
    state: str | None
    seconds: float | None  # how long its transaction has run
    query: str | None
    kind: str | None  # the type of its backend
    what: str | None
    behind: Blocker | None = None

    @property
    def name(self) -> str:
        """`pid 4711 (alice, psql, 10.0.0.3)`."""
        if self.pid == 0:
            return "a prepared transaction"
        told = [each for each in (self.login or self.kind, self.program, self.address) if each]
        return f"pid {self.pid} ({', '.join(told)})" if told else f"pid {self.pid}"

    @property
    def doing(self) -> str:
        """`, idle in transaction for 12 min; its last query: ALTER TABLE ...`, as far as this login may see it."""
        if self.state is None:
            return ""
        since = f" for {lasting(self.seconds)}" if self.seconds is not None else ""
        said = " ".join((self.query or "").split())
        more = "..." if len(said) > LONGEST_QUERY else ""
        verb = "its query" if self.state == "active" else "its last query"
        return f", {self.state}{since}" + (f"; {verb}: {said[:LONGEST_QUERY]}{more}" if said else "")

    def __str__(self) -> str:
        what = f"a lock on {self.what}" if self.what else "a lock"
        if self.behind is not None:
            return (
                f"{self.name} waits for {what}, and we wait behind it; {self.behind.name} blocks it{self.behind.doing}"
            )
        return f"{self.name} holds {what}{self.doing}"

    @property
    def way_out(self) -> str:
        """What ends the lock. If the session itself waits, the end of either session helps: then we get our turn, or it
        gets its own."""
        if self.pid == 0 or (self.behind is not None and self.behind.pid == 0):
            return (
                "a superuser, or the login that prepared it, can end it: see pg_prepared_xacts, then ROLLBACK PREPARED"
            )
        either = [each for each in (self.behind, self) if each is not None]
        ends = " or ".join(f"SELECT pg_terminate_backend({each.pid})" for each in either)
        whose = "".join(f"{login}, or " for login in dict.fromkeys(each.login for each in either) if login)
        return f"to end it: {ends}, as {whose}a superuser"


def of_session(connection: psycopg.Connection, pid: int, name: str) -> Blocker | None:
    """The session that blocks a session of ours now. `pid` and `name` (its application_name) are ours. None if nothing
    does."""
    return _first(connection, _OF_SESSION, {"pid": pid, "name": name})


def on_tables(connection: psycopg.Connection, schema: str) -> Blocker | None:
    """The session that holds a lock on a table of the queue, so that nothing can be written there. It is asked after a
    wait for such a lock. None if there is none."""
    tables = sorted({grant.object for grant in grants() if grant.privilege != "EXECUTE"})
    return _first(connection, _ON_TABLES, {"schema": schema, "tables": tables})


def _first(connection: psycopg.Connection, direct: str, arguments: dict[str, object]) -> Blocker | None:
    with in_pg_catalog(connection):
        rows = connection.execute(_CHAIN.format(direct=direct).encode(), arguments).fetchall()
    if not rows:
        return None
    first = Blocker(*rows[0])
    behind = [Blocker(*row) for row in rows if row[0] != first.pid and row[-1] is None]
    return replace(first, behind=behind[-1]) if behind else first  # the last one waits for no other
