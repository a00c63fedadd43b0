"""Each way in which a login is refused: 77 or 78 at once if only a person can fix it, else the program waits.

Each is provoked on a server that speaks German and on one that speaks English.
"""

from __future__ import annotations

import ctypes.util
import os
import pwd
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from conftest import Database, WorkerProcess, eventually
from poolers import PROGRAM, PgBouncer
from servers import Server, deaf_port, debian_bindir

from shithubd_worker.cli import needs
from shithubd_worker.database import failures, schema
from shithubd_worker.database.connection import connector
from shithubd_worker.database.failures import explained
from shithubd_worker.errors import EXIT_CONFIG, EXIT_DATABASE, EXIT_RIGHTS

SETUP = (
    "CREATE ROLE pw LOGIN PASSWORD 'right'",
    "CREATE ROLE peer LOGIN",
    "CREATE ROLE nologin",
    "CREATE ROLE full LOGIN CONNECTION LIMIT 0",
    "CREATE DATABASE shut",
    "REVOKE CONNECT ON DATABASE shut FROM PUBLIC",
    "CREATE DATABASE asleep ALLOW_CONNECTIONS false",
    "CREATE DATABASE shithub",
)
HBA = """
local all peer peer
local all all trust
host all pw 127.0.0.1/32 scram-sha-256
host all rejected 127.0.0.1/32 reject
hostssl all tls 127.0.0.1/32 trust
host all postgres,absent,nologin,full 127.0.0.1/32 trust
"""
ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(scope="module", params=["German", "English"])
def doors(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that treats each login in its own way."""
    german = request.param == "German"
    bindir = debian_bindir()
    if german and bindir is None:
        pytest.skip("no server of Debian here, and the embedded one speaks English alone")
    embedded = request.getfixturevalue("embedded_server").bindir
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGUAGE", "de")
        server = Server(bindir, "lc_messages = 'C.UTF-8'") if german and bindir else Server(embedded)
    try:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            for statement in SETUP:
                connection.execute(statement)
            (server.directory / "data/pg_hba.conf").write_text(HBA)
            connection.execute("SELECT pg_reload_conf()")
            with psycopg.connect(server.url("shithub"), autocommit=True) as queue:
                schema.migrate(queue, "public", roles=True)
        eventually(lambda: "rejected" in _said(server, "user=rejected"), "the new pg_hba.conf is in force")
        server.speaks_german = german  # type: ignore[attr-defined]
        yield server
    finally:
        server.remove()


@pytest.fixture(autouse=True)
def _nobodys_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The machine's own files name no password and no user."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))


def refused(url: str) -> tuple[int, str]:
    """The exit code for a connect that fails, and the message."""
    with pytest.raises(psycopg.Error) as caught:
        connector(url, "test", answer_seconds=5.0)().close()
    told = explained(caught.value)
    assert failures.lost(caught.value) == (told.exit_code == EXIT_DATABASE)
    return told.exit_code, str(told)


def _said(server: Server, words: str) -> str:
    return refused(f"host=127.0.0.1 port={server.port} dbname=postgres {words}")[1]


# Over the loopback, unless the case says otherwise. If a word appears twice, the last one counts.
REFUSED = {
    # PostgreSQL refuses the login.
    "peer": ("host={socket} user=peer", EXIT_RIGHTS, f"the system user {ME!r} asked for the role 'peer'"),
    "no pg_hba line": ("user=unlisted", EXIT_RIGHTS, "pg_hba.conf decides it"),
    "a pg_hba line that rejects": ("user=rejected", EXIT_RIGHTS, "pg_hba.conf decides it"),
    "a pg_hba line for TLS alone": ("user=tls", EXIT_RIGHTS, "pg_hba.conf decides it"),
    "no such role": ("user=absent", EXIT_RIGHTS, "CREATE ROLE absent LOGIN"),
    "a role that may not log in": ("user=nologin", EXIT_RIGHTS, "ALTER ROLE nologin LOGIN"),
    "a wrong password": ("user=pw password=wrong", EXIT_RIGHTS, "its password comes from the URL"),
    "no password": ("user=pw", EXIT_RIGHTS, "there is no passfile"),
    "no right to connect": ("user=pw password=right dbname=shut", EXIT_RIGHTS, "GRANT CONNECT ON DATABASE shut TO pw"),
    "a setting that it may not make": ("user=pw password=right options='-c lc_messages=C'", EXIT_RIGHTS, "lc_messages"),
    # PostgreSQL lacks what the login asks for.
    "no such database": ("dbname=nowhere", EXIT_CONFIG, "`createdb nowhere`"),
    "no such setting": ("options='-c nonsense=1'", EXIT_CONFIG, "nonsense"),
    "no such value": ("options='-c work_mem=much'", EXIT_CONFIG, "work_mem"),
    # libpq demands what the server lacks.
    "no TLS there": ("sslmode=require", EXIT_CONFIG, "ssl = on"),
    "no channel to bind": ("user=pw password=right channel_binding=require", EXIT_CONFIG, "channel binding required"),
    "another way to log in": ("require_auth=scram-sha-256", EXIT_CONFIG, "authentication method requirement"),
    # The refusal may pass.
    "a role's connections are all in use": ("user=full", EXIT_DATABASE, "full"),
    "a database that lets nobody in for a while": ("dbname=asleep", EXIT_DATABASE, "asleep"),
    "a server that can be written to": ("target_session_attrs=read-only", EXIT_DATABASE, "session is not read-only"),
    "no Kerberos ticket": ("gssencmode=require", EXIT_DATABASE, "GSSAPI"),
    "a socket that isn't there": ("host={socket}/none", EXIT_DATABASE, "No such file or directory"),
    "one host of two is away": ("host=127.0.0.1,127.0.0.1 port={deaf},{port} user=absent", EXIT_DATABASE, "absent"),
    "both hosts refuse": ("host=127.0.0.1,127.0.0.1 port={port},{port} user=absent", EXIT_RIGHTS, "CREATE ROLE"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_final_refusal_is_told_apart_from_one_that_may_pass(doors: Server, words: str) -> None:
    template, code, hint = REFUSED[words]
    with deaf_port() as deaf:
        names = {"socket": doors.directory, "port": doors.port, "deaf": deaf}
        url = f"host=127.0.0.1 port={doors.port} dbname=postgres user=postgres {template.format(**names)}"
        exited, told = refused(url)
    assert (exited, hint in told) == (code, True), told
    assert "\n" not in told
    assert "LOCATION" not in told


def test_the_server_speaks_its_own_language_and_is_understood(doors: Server) -> None:
    """This proves that the test above tests what it claims."""
    said = _said(doors, "user=absent")
    assert ("existiert nicht" in said) == doors.speaks_german  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "mode", "hint"),
    [
        (None, 0, "there is no passfile {0}"),
        ("*:*:*:pw:wrong", 0o600, "its password comes from passfile {0}: see `shithubd-worker runbook credentials-rot"),
        ("*:*:*:pw:right", 0o640, "libpq ignores passfile {0} because of its mode 0640: chmod 0600 {0}"),
        ("elsewhere:*:*:pw:right", 0o600, "passfile {0} has no line for 127.0.0.1:{1}:postgres:pw"),
    ],
)
def test_a_wrong_password_is_reported_with_its_file(
    doors: Server, tmp_path: Path, text: str | None, mode: int, hint: str
) -> None:
    passfile = tmp_path / "pgpass"
    if text is not None:
        passfile.write_text(f"{text}\n")
        passfile.chmod(mode)
    code, told = refused(f"host=127.0.0.1 port={doors.port} dbname=postgres user=pw")
    assert code == EXIT_RIGHTS
    assert hint.format(passfile, doors.port) in told
    assert "right" not in told


def test_a_wrong_password_is_reported_with_its_variable_or_service(
    doors: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = f"host=127.0.0.1 port={doors.port} dbname=postgres user=pw"
    (tmp_path / "services").write_text("[ours]\npassword=wrong\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    assert "or from the named service" in refused(f"{at} service=ours")[1]
    monkeypatch.setenv("PGPASSWORD", "wrong")
    assert "its password comes from PGPASSWORD" in refused(at)[1]


@contextmanager
def somebody_else() -> Iterator[None]:
    """Root may read every file: so become nobody for a moment."""
    if os.geteuid() == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


def test_a_file_that_the_user_may_not_read_does_not_count_as_a_missing_database(doors: Server, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make what is closed to somebody else")
    passfile = tmp_path / "pgpass"
    passfile.write_text("*:*:*:pw:right\n")
    passfile.chmod(0o600)
    with somebody_else():
        in_a_directory = refused(f"host={doors.directory} port={doors.port} dbname=postgres user=postgres")
        by_password = refused(f"host=127.0.0.1 port={doors.port} dbname=postgres user=pw")
    path = f"{doors.directory}/.s.PGSQL.{doors.port}"
    assert in_a_directory[0] == by_password[0] == EXIT_RIGHTS
    assert f"{path}: Permission denied: the system user 'nobody' has no access to it" in in_a_directory[1]
    assert f"passfile {passfile} can't be read" in by_password[1]


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on a port of the loopback that is not PostgreSQL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    answer(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
def test_a_web_server_does_not_count_as_a_missing_database(sslmode: str) -> None:
    def http(client: socket.socket) -> None:
        client.recv(1000)
        client.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with listening(http) as port:
        code, told = refused(f"host=127.0.0.1 port={port} user=x dbname=x sslmode={sslmode}")
    assert (code, "no PostgreSQL listens there" in told) == (EXIT_CONFIG, True), told


def test_a_server_that_closes_the_line_silently_may_be_starting() -> None:
    with listening(lambda client: None) as port:
        assert refused(f"host=127.0.0.1 port={port} user=x dbname=x")[0] == EXIT_DATABASE


def test_an_invalid_certificate_does_not_count_as_a_missing_database(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    request = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=elsewhere")
    subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def tls(client: socket.socket) -> None:
        client.recv(8)
        client.sendall(b"S")
        try:
            with context.wrap_socket(client, server_side=True) as talk:
                talk.recv(1)
        except OSError:
            pass

    with listening(tls) as port:
        at = f"host=127.0.0.1 port={port} user=x dbname=x sslmode=verify-full sslrootcert="
        unknown = tmp_path / "unknown"
        unknown.write_text(certificate.read_text().replace("A", "B", 1))
        for url in (f"{at}{certificate}", f"{at}system", f"{at}{tmp_path}/none"):
            code, told = refused(url)
            assert (code, "sslrootcert" in told) == (EXIT_CONFIG, True), told


@pytest.fixture(scope="module")
def pooler(embedded_server: Server) -> Iterator[int]:
    """The port of Debian's PgBouncer, before a server that speaks English."""
    if not PROGRAM.exists():
        pytest.skip("pgbouncer is missing (Debian: pgbouncer)")
    made = PgBouncer(
        embedded_server,
        users={"postgres": "right", "absent": "right"},
        databases={"ok": "postgres", "nowhere": "nowhere"},
        settings=["query_wait_timeout = 1"],
    )
    yield made.port
    made.stop()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("dbname=missing", EXIT_CONFIG),
        ("password=wrong", EXIT_RIGHTS),
        ("user=unknown", EXIT_RIGHTS),
        ("options='-c work_mem=1'", EXIT_CONFIG),
        ("dbname=nowhere", EXIT_CONFIG),  # the server's words, which PgBouncer passes on
        ("user=absent", EXIT_RIGHTS),
    ],
)
def test_a_refusal_by_the_pooler_is_told_apart_from_a_full_pool(pooler: int, words: str, code: int) -> None:
    exited, told = refused(f"host=127.0.0.1 port={pooler} dbname=ok user=postgres password=right {words}")
    assert (exited, "PgBouncer says so" in told) == (code, True), told


def test_the_program_waits_for_a_full_pool(pooler: int) -> None:
    url = f"host=127.0.0.1 port={pooler} dbname=ok user=postgres password=right"
    with psycopg.connect(url, prepare_threshold=None) as takes_it:
        takes_it.execute("SELECT 1")
        with pytest.raises(psycopg.Error, match="query_wait_timeout") as caught:
            connector(url, "test", pooled=True)()
    assert failures.lost(caught.value)
    assert explained(caught.value).exit_code == EXIT_DATABASE


COMMANDS = [
    ("run", "--handlers", "sample_jobs:registry", "--metrics", "off"),
    ("release-dead", "--invocation-id", "x"),
    ("status",),
    ("enqueue", "k"),
    ("migrate",),
    ("history", "drop"),
    ("drain",),
]


def test_every_role_of_a_command_is_tried_here() -> None:
    assert {needs.role(words) for words in COMMANDS} == {needs.OPERATOR, *needs.NEEDS.values()}


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_every_command_ends_at_once_if_only_a_person_can_help(embedded_server: Server, words: tuple[str, ...]) -> None:
    database = Database(embedded_server, "nowhere")
    done = subprocess.run(
        [sys.executable, "-m", "shithubd_worker", *words],
        env=database.environment(),
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (EXIT_CONFIG, ""), done.stderr
    assert "waiting for the database" not in done.stderr
    assert "`createdb nowhere`" in done.stderr


def test_a_worker_waits_for_a_standby_to_be_promoted(doors: Server, tmp_path: Path) -> None:
    doors.stop()
    (doors.directory / "data/standby.signal").touch()
    doors.start()
    database = Database(doors, "shithub")
    worker = WorkerProcess(database, tmp_path, "--handlers", "sample_jobs:registry", "--metrics", "off")
    try:
        worker.wait_for("waiting for the database")
        with psycopg.connect(doors.url("shithub"), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")
        worker.wait_for(" ready\n")
        assert worker.terminate() == 0
    finally:
        worker.end()


def test_the_program_waits_for_a_server_that_shuts_down(doors: Server) -> None:
    with psycopg.connect(doors.url("postgres")):
        doors.stop("smart", wait=False)
        at = f"host=127.0.0.1 port={doors.port} dbname=postgres user=postgres connect_timeout=2"
        eventually(lambda: not _answers(at), "it lets nobody in")
        assert refused(at)[0] == EXIT_DATABASE
    eventually(lambda: not (doors.directory / "data/postmaster.pid").exists(), "it is down")
    doors.start()


@pytest.mark.parametrize("who", ["shithubd-worker", "shithubd-worker control", "a handler"])
def test_a_worker_ends_when_its_login_is_refused_later(database: Database, start_worker, login, who: str) -> None:
    """Any of its connections may find it. Otherwise nobody would beat, or jobs would come back for ever."""
    url = login("shithub_worker")
    name = psycopg.conninfo.conninfo_to_dict(url)["user"]
    worker = start_worker(env={"SHITHUBD_WORKER_DATABASE_URL": url})
    eventually(database.at_rest, "it is at rest")
    database.query(f"ALTER ROLE {name} NOLOGIN")
    if who == "a handler":
        database.query("INSERT INTO jobs (kind) VALUES ('test.effect')")
    else:
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND application_name = %s"
        database.query(end, name, who)
    assert worker.wait() == EXIT_RIGHTS
    assert f"ALTER ROLE {name} LOGIN" in worker.log
    assert set(database.query("SELECT state, attempts FROM jobs")) <= {("queued", 0)}


@pytest.mark.skipif(ctypes.util.find_library("pq") is None, reason="psycopg's implementation in Python needs a libpq")
def test_a_refusal_is_told_apart_with_each_implementation_of_psycopg(database: Database) -> None:
    environment = {**database.environment(), "PSYCOPG_IMPL": "python"}
    words = [sys.executable, "-m", "shithubd_worker", "status"]
    for url, code in ((database.url, 0), (database.server.url("nowhere"), EXIT_CONFIG)):
        environment["SHITHUBD_WORKER_DATABASE_URL"] = url
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
