"""A server and its workers, each on a host of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg
from servers import Server, debian_bindir
from waiting import eventually

from partitions.network import DIES_WITH_US, SERVER, Network
from shithubd_worker.database import schema

THRESHOLD = 10.0
FLAGS = ("--sweep-threshold", f"{THRESHOLD:g}", "--sweep-interval", "1", "--heartbeat-interval", "1")
HERE = Path(__file__).parents[1]
# As systemd does it: what a worker leaves behind is ended with it, then the next one starts. Each gets namespaces for
# its pids, as on a host of its own: else a worker could see that a process of another host is dead.
_LOOP = """
while :; do
    {dies} unshare --pid --fork --kill-child --mount-proc sh -c '{worker}; exit $?' >>{log} 2>&1 </dev/null
    echo "$? $(cut -d' ' -f1 /proc/uptime)" >>{ends}
    sleep 0.5
done
"""


class Fleet:
    """Workers on the hosts of a network, and the queue in a database of their own. `handlers`: where they find them."""

    def __init__(self, network: Network, hosts: range, server: Server, evidence: Path, handlers: str) -> None:
        self.network = network
        self.hosts = hosts
        self.evidence = evidence
        evidence.mkdir(parents=True)
        self._name = evidence.name
        self._socket = f"postgresql://postgres@/{self._name}?host={server.directory}&port={server.port}"
        with psycopg.connect(self._socket.replace(f"/{self._name}?", "/postgres?"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{self._name}"')
        self._connection = psycopg.connect(self._socket, autocommit=True)
        self._lock = threading.Lock()
        schema.migrate(self._connection, "public", roles=True)
        self.query("CREATE TABLE ledger (job bigint PRIMARY KEY, effects integer NOT NULL)")
        self._loops = [self._start(number, server.port, handlers) for number in hosts]
        eventually(lambda: len(self.living()) == len(hosts), "all workers live", within=180)

    def query(self, text: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Ask the database on its socket, which no cut reaches."""
        with self._lock:
            cursor = self._connection.execute(text, arguments or None)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def enqueue(self, kind: str) -> int:
        """Add a job."""
        with self._lock, self._connection.transaction():
            row = self._connection.execute("INSERT INTO jobs (kind) VALUES (%s) RETURNING id", (kind,)).fetchone()
            assert row
            self._connection.execute("INSERT INTO ledger VALUES (%s, 0)", row)
        return int(row[0])

    def living(self) -> set[str]:
        """The hosts with a worker that was heard of just now."""
        fresh = "SELECT host FROM workers JOIN beats ON worker_id = id WHERE now() - beat_at < interval '3 s'"
        return {host for (host,) in self.query(f"{fresh} AND state NOT IN ('starting')")}

    def control_port(self, number: int) -> int:
        """The port of a worker's newest control connection, as the server sees it."""
        rows = self.query(
            "SELECT client_port FROM pg_stat_activity WHERE client_addr = %s AND application_name = %s"
            " ORDER BY backend_start DESC LIMIT 1",
            Network.address(number),
            "shithubd-worker control",
        )
        return int(rows[0][0]) if rows else 1

    def pid(self, number: int) -> int:
        """The worker of a host: the last process in the row from the loop down."""
        pid = self._loops[number - self.hosts.start].pid
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = int(children[0])
            if b"shithubd_worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[2:3]:
                return pid
        raise AssertionError(f"no worker on {number}")

    def ends(self, number: int) -> list[tuple[int, float]]:
        """The exit codes of a host's workers, and when each ended, on the monotonic clock."""
        file = self.evidence / f"web{number}.ends"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(int(code), float(at)) for code, at in (line.split() for line in lines)]

    def end(self) -> None:
        """End the workers."""
        for loop in self._loops:
            loop.kill()
            loop.wait()
        self._connection.close()

    def _start(self, number: int, port: int, handlers: str) -> subprocess.Popen[bytes]:
        host = self.network.hosts[number]
        flags = ["--handlers", handlers, "--metrics", "off", *FLAGS]
        script = _LOOP.format(
            dies=shlex.join(DIES_WITH_US),
            worker=shlex.join([sys.executable, "-m", "shithubd_worker", "run", *flags]),
            log=shlex.quote(str(self.evidence / f"{host.name}.log")),
            ends=shlex.quote(str(self.evidence / f"{host.name}.ends")),
        )
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "SHITHUBD_WORKER_"))}
        url = f"postgresql://postgres@{SERVER}:{port}/{self._name}"
        env = {**clean, "SHITHUBD_WORKER_DATABASE_URL": url, "PYTHONPATH": str(HERE)}
        env["PARTITIONS_EVIDENCE"] = str(self.evidence)
        return subprocess.Popen([*DIES_WITH_US, *host.enter(), "sh", "-c", script], env=env, cwd=HERE)


def start_server(network: Network) -> Server:
    """Debian's PostgreSQL on the server's host: over the network, only the workers of this network reach it."""
    bindir = debian_bindir()
    assert bindir, "no PostgreSQL of Debian here: make test as root installs it"
    inside = ["nsenter", "-t", str(network.server.pid), "-n", "-p"]
    server = Server(bindir, "listen_addresses = '*'", "max_connections = 400", inside=inside)
    with (server.directory / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 10.60.0.0/16 trust\n")
    server._run("pg_ctl", "-D", str(server.directory / "data"), "reload")
    return server
