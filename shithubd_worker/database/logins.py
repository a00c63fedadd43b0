"""Opens a connection. If the login is refused, tells whether waiting helps or a person must act.

A server's messages are in its administrator's language. libpq writes the SQLSTATE of a failed connect only into the
text, and only if it is asked for verbose errors. The calls of psycopg can't ask for them, so this module opens the
connection itself, by psycopg's steps.

Refusals by libpq and by PgBouncer have no SQLSTATE of their own, so only their text tells. The messages of libpq are in
English, because Python leaves LC_MESSAGES at C. PgBouncer's are too, but it passes on messages of its server (all as
08P01), which may be in another language. Such a message counts as a database that is away.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pwd
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import pq
from psycopg.waiting import Wait

from shithubd_worker.database.sqlstates import Login, login
from shithubd_worker.errors import ConfigError, RightsMissing, ShithubdError
from shithubd_worker.plain import shell_word

if TYPE_CHECKING:
    from psycopg.abc import PQGenConn
    from psycopg.pq.abc import PGconn

# What libpq says when server and configuration don't fit. A missing Kerberos ticket is not here: a program may fetch
# it.
_UNFIT = re.compile(
    "server does not support SSL, but SSL was required"
    "|certificate verify failed|server certificate for .* does not match|server did not request an SSL certificate"
    "|(certificate|private key) file .* (does not exist|has group or world access|must be owned by)"
    "|could not (load|read|open) .*(certificate|private key) file"
    "|channel binding (is )?required|authentication method (requirement .* failed|[0-9]+ not supported)"
    "|server doesn't support GSSAPI encryption, but it was required"
    "|received invalid response to (SSL|GSSAPI) negotiation|expected authentication request from server"
)
# What to do about some of them.
_MENDS = {
    re.compile("SSL was required"): "set ssl = on in the server's postgresql.conf, or another sslmode (PGSSLMODE) here",
    re.compile("certificate|private key"): "see sslrootcert, sslcert and sslkey, and the server's ssl_cert_file",
    re.compile("received invalid response|expected authentication request"): "no PostgreSQL listens there: correct the"
    " host and the port (PGHOST, PGPORT)",
}
# What PgBouncer itself says, and what it passes on from an English server.
_OF_POOLER = {
    re.compile("no such database|^database .* does not exist|unsupported startup parameter"): Login.CONFIG,
    re.compile(
        "authentication failed|no such user|login rejected|^no pg_hba.conf entry|^permission denied for database"
        "|^role .* (does not exist|is not permitted to log in)|no authentication method|(SSL|TLS|cert.*) required"
    ): Login.RIGHTS,
}
_SERVERS = re.compile(r"[^:\n]+:  ([0-9A-Z]{5}): (.*)")
_LOCATION = re.compile(r"\n[^:\n]+:  (\w+), [^\n:]+:[0-9]+$", re.MULTILINE)
_SQLSTATE_OF_POOLER = "08P01"
_ASK_POOLER = "PgBouncer says so: see its pgbouncer.ini, its auth_file and its log"
_VERBOSE, _DEFAULT = 2, 1  # PQERRORS_VERBOSE, PQERRORS_DEFAULT

# The verdict on each host of one connect. psycopg tries the hosts one by one, and keeps only a text. None: waiting may
# help.
_verdicts: ContextVar[list[ShithubdError | None] | None] = ContextVar("verdicts", default=None)


class LoginRefused(psycopg.OperationalError):
    """The login is refused, and waiting does not help. `told` is the error to show, with its exit code."""

    def __init__(self, told: ShithubdError) -> None:
        super().__init__(str(told))
        self.told = told


@contextmanager
def judged() -> Iterator[None]:
    """Put this around a connect. It raises LoginRefused if none of the hosts may let us in later."""
    verdicts: list[ShithubdError | None] = []
    token = _verdicts.set(verdicts)
    try:
        yield
    except psycopg.OperationalError as error:
        told = verdicts[-1] if verdicts and None not in verdicts else None
        if told is None:
            raise
        raise LoginRefused(told) from error
    finally:
        _verdicts.reset(token)


def opened(conninfo: str) -> PQGenConn[PGconn]:
    """Open a connection to one host, as psycopg's generators.connect does."""
    verdicts = _verdicts.get()
    if verdicts is not None:
        verdicts.append(None)  # until the verdict is known; a timeout comes from outside
    pgconn = pq.PGconn.connect_start(conninfo.encode())
    _set_verbosity(pgconn, _VERBOSE)
    while pgconn.status != pq.ConnStatus.BAD:
        status = pgconn.connect_poll()
        if status == pq.PollingStatus.OK:
            _set_verbosity(pgconn, _DEFAULT)
            pgconn.nonblocking = 1
            return pgconn
        if status == pq.PollingStatus.FAILED:
            break
        wait = Wait.R if status == pq.PollingStatus.READING else Wait.W
        while not (yield pgconn.socket, wait):
            pass
    said = pgconn.get_error_message("utf-8")
    if verdicts is not None:
        verdicts[-1] = _verdict(pgconn, said)
    pgconn.finish()
    raise psycopg.OperationalError(f"connection failed: {_plain(said)}")


def of_pooler(error: psycopg.Error) -> ShithubdError | None:
    """PgBouncer accepts a client before it has a server for it. It then refuses the login at the first statement."""
    if error.sqlstate != _SQLSTATE_OF_POOLER:
        return None
    said = error.diag.message_primary or ""
    return _as_error(_judge_pooler(said), said, _ASK_POOLER)


@cache
def _libpq() -> ctypes.CDLL:
    # This must be the library that psycopg is linked to: symbols are looked up in the module and in what it needs. The
    # implementation of psycopg in Python (PSYCOPG_IMPL, or where the others can't be loaded) has loaded a library
    # itself.
    if pq.__impl__ == "python":
        libpq: ctypes.CDLL = importlib.import_module("psycopg.pq._pq_ctypes").pq
    else:
        libpq = ctypes.CDLL(importlib.import_module(f"psycopg_{pq.__impl__}.pq").__file__)
    libpq.PQsetErrorVerbosity.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return libpq


def _set_verbosity(pgconn: PGconn, verbosity: int) -> None:
    _libpq().PQsetErrorVerbosity(pgconn.pgconn_ptr, verbosity)  # type: ignore[attr-defined]


def _plain(said: str) -> str:
    """The text as libpq writes it without verbose errors."""
    said = _LOCATION.sub("", said.strip())
    return re.sub(r"(:  )[0-9A-Z]{5}: ", r"\1", said)


def _verdict(pgconn: PGconn, said: str) -> ShithubdError | None:
    """The error to show for a refusal that stays. None if waiting may help."""
    said = said.strip()
    if servers := _SERVERS.findall(said):
        sqlstate, reason = servers[-1]  # a host may have several addresses: the last one gives the reason
        if sqlstate == _SQLSTATE_OF_POOLER:
            return _as_error(_judge_pooler(reason), reason, _ASK_POOLER)
        routine = ["", *_LOCATION.findall(said)][-1]
        return _as_error(login(sqlstate), reason, _hint(pgconn, sqlstate, routine))
    last = _plain(said).splitlines()[-1] if said else ""
    if pgconn.needs_password:
        return _as_error(Login.RIGHTS, f"no password for {_role(pgconn)!r}", _about_password(pgconn))
    if _UNFIT.search(said):
        mend = (what for words, what in _MENDS.items() if words.search(said))
        return _as_error(Login.CONFIG, last, next(mend, "correct it in the URL, or in the PG* variables"))
    if closed := _closed_to_us(pgconn):
        hint = f"the system user {_me()!r} has no access to it: see `namei -l {closed}`"
        return _as_error(Login.RIGHTS, f"{closed}: Permission denied", hint)
    return None


def _judge_pooler(said: str) -> Login:
    return next((how for words, how in _OF_POOLER.items() if words.search(said)), Login.WAIT)


def _as_error(how: Login, said: str, hint: str) -> ShithubdError | None:
    text = f"{said}: {hint}" if hint else said
    if how is Login.RIGHTS:
        return RightsMissing(f"the database refuses this login: {text}")
    return ConfigError(f"the database can't be used as configured: {text}") if how is Login.CONFIG else None


def _hint(pgconn: PGconn, sqlstate: str, routine: str) -> str:
    """What to do about it, in one sentence. The server's routine tells apart refusals with the same SQLSTATE."""
    role, database = _role(pgconn), (pgconn.db or b"").decode("utf-8", "replace")
    if sqlstate == "28P01":
        return _about_password(pgconn)
    if sqlstate == "3D000":
        return f"`createdb {shell_word(database)}`, or correct PGDATABASE (or the URL)"
    if routine == "InitializeSessionUserId":
        return (
            f"as a superuser, CREATE ROLE {_quoted(role)} LOGIN, or ALTER ROLE {_quoted(role)} LOGIN if it is there,"
            " and GRANT it what it needs: see `shithubd-worker runbook day-one`"
        )
    if routine == "ClientAuthentication":
        return "the server's pg_hba.conf decides it: change it, then SELECT pg_reload_conf()"
    if routine == "CheckMyDatabase":
        return f"as a superuser, GRANT CONNECT ON DATABASE {_quoted(database)} TO {_quoted(role)}"
    if routine == "auth_failed" and _socket(pgconn):
        instead = f"run this as that user (runuser -u {shell_word(role)} -- ...), or " if _is_user(role) else ""
        return (
            f"the system user {_me()!r} asked for the role {role!r}, but peer authentication wants equal names:"
            f" {instead}set PGUSER"
        )
    return ""


def _about_password(pgconn: PGconn) -> str:
    """Which password libpq took, or why it took none."""
    options = {option.keyword: option.val for option in pgconn.info}
    if given := options.get(b"password"):
        if given == os.environb.get(b"PGPASSWORD"):
            return "its password comes from PGPASSWORD"
        return "its password comes from the URL, or from the named service"
    passfile = Path(os.fsdecode(options.get(b"passfile") or b""))
    named = f"passfile {passfile}"
    try:
        mode = passfile.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):  # libpq has the same rule
            return (
                f"libpq ignores {named} because of its mode {mode & 0o777:04o}: chmod 0600 {shell_word(str(passfile))}"
            )
        passfile.read_bytes()
    except FileNotFoundError:
        return f"there is no {named}"
    except OSError as error:
        return f"{named} can't be read: {error.strerror}"
    if pgconn.needs_password:
        database = (pgconn.db or b"").decode("utf-8", "replace")
        return f"{named} has no line for {_where(pgconn)}:{database}:{_role(pgconn)}"
    return f"its password comes from {named}: see `shithubd-worker runbook credentials-rotation`"


def _closed_to_us(pgconn: PGconn) -> str | None:
    """The path of the server's socket, if this process may not connect to it. A missing socket may still come."""
    if not (path := _socket(pgconn)):
        return None
    try:
        os.stat(path)  # noqa: PTH116 (like the kernel, which allows a path that is longer than a file's name)
    except PermissionError:
        return path
    except OSError:
        return None
    return None if os.access(path, os.W_OK, effective_ids=True) else path


def _socket(pgconn: PGconn) -> str:
    host, port = (pgconn.host or b"").decode(), (pgconn.port or b"").decode()
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else ""


def _where(pgconn: PGconn) -> str:
    return f"{(pgconn.host or b'').decode('utf-8', 'replace')}:{(pgconn.port or b'').decode()}"


def _role(pgconn: PGconn) -> str:
    return (pgconn.user or b"").decode("utf-8", "replace")


def _quoted(name: str) -> str:
    return name if re.fullmatch("[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def _me() -> str:
    with suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return f"uid {os.geteuid()}"


def _is_user(name: str) -> bool:
    with suppress(KeyError):
        return pwd.getpwnam(name).pw_uid != os.geteuid()
    return False
