"""Debian's PgBouncer before a server of the tests, on a loopback port, with its own defaults."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from psycopg.conninfo import make_conninfo
from servers import Server, free_port, system_user

PROGRAM = Path("/usr/sbin/pgbouncer")


class PgBouncer:
    """One PgBouncer. It runs as an unprivileged user, because it refuses root.

    `mode`: transaction, session or statement. `users` have passwords, if any. `settings` are lines of pgbouncer.ini.
    `databases` maps the pooler's names to the server's databases; by default it has all, by their own names.
    """

    def __init__(
        self,
        server: Server,
        *,
        mode: str = "transaction",
        pool: int = 1,
        users: Mapping[str, str] | Sequence[str] = ("postgres",),
        settings: Sequence[str] = (),
        databases: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="shw-pgb-"))
        passwords = users if isinstance(users, Mapping) else dict.fromkeys(users, "")
        (self.directory / "users").write_text("".join(f'"{name}" "{word}"\n' for name, word in passwords.items()))
        names = {"*": ""} if databases is None else {name: f" dbname={its}" for name, its in databases.items()}
        lines = (
            "[databases]",
            *(f"{name} = host=127.0.0.1 port={server.port}{its}" for name, its in names.items()),
            "[pgbouncer]",
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =",
            f"auth_type = {'plain' if isinstance(users, Mapping) else 'trust'}\nauth_file = {self.directory}/users",
            f"pool_mode = {mode}\ndefault_pool_size = {pool}\nreserve_pool_size = 0",
            *settings,
        )
        ini = self.directory / "pgbouncer.ini"
        ini.write_text("\n".join(lines) + "\n")
        as_user = []
        if os.geteuid() == 0:
            as_user = ["setpriv", f"--reuid={system_user()}", f"--regid={system_user()}", "--clear-groups"]
            for path in (self.directory, *self.directory.iterdir()):
                shutil.chown(path, system_user())
        self.log_path = self.directory / "log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*as_user, str(PROGRAM), str(ini)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
            )
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.01)
        log = self.log_path.read_text()
        self.stop()
        raise RuntimeError(f"pgbouncer doesn't start: {log}")

    def url(self, database: str) -> str:
        """A URL of a database behind it."""
        return make_conninfo("", host="127.0.0.1", port=self.port, user="postgres", dbname=database)

    def stop(self) -> None:
        """End it, and remove its files."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)  # at once: it does not wait for clients
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
