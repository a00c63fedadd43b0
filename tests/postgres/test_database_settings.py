"""A setting that libpq cannot use gives one clear line and exit code 78 in each command, before anything is tried."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo
from test_commands_by_role import COMMANDS

from shithubd_worker import cli as program
from shithubd_worker.database import conninfo
from shithubd_worker.errors import EXIT_CONFIG, ConfigError

URL = "SHITHUBD_WORKER_DATABASE_URL"
LONG = "a" * 64
# Each setting, and the message about it.
FAULTS: list[tuple[dict[str, str], str]] = [
    ({"PGHOST": "a..b"}, "host 'a..b' can't be a name"),
    ({URL: "postgresql://a..b/x"}, "host 'a..b' can't be a name"),
    ({"PGHOST": LONG}, f"host '{LONG}' can't be a name"),
    ({"PGHOST": f"localhost,x.{LONG}.y"}, f"host 'x.{LONG}.y' can't be a name"),
    ({"PGHOST": "h\udcff"}, "can't be a name"),
    ({URL: "host=h\udcff"}, "not UTF-8"),
    ({URL: "postgresql://h/%00"}, "forbidden value %00"),
    ({URL: "unknown=1"}, "invalid connection option"),
    ({URL: "postgresql://h/x?unknown=1"}, "invalid URI query parameter"),
    ({URL: "postgresql://[::1/x"}, "end of string"),
    ({URL: "host='"}, "unterminated quoted string"),
    ({URL: "postgresql://h:abc/x"}, "port 'abc' is not a number"),
    ({"PGPORT": "abc"}, "port 'abc' is not a number"),
    ({"PGPORT": "0"}, "port '0' is not a number from 1 to 65535"),
    ({"PGPORT": "65536"}, "port '65536' is not a number from 1 to 65535"),
    ({"PGPORT": "1,2"}, "0 host(s), but 2 ports"),
    ({"PGHOST": "a,b", "PGPORT": "1,2,3"}, "2 host(s), but 3 ports"),
    ({"PGHOST": "a", "PGHOSTADDR": "127.0.0.1,127.0.0.2"}, "1 host(s), but 2 hostaddr"),
    ({"PGSERVICE": "nope"}, 'definition of service "nope" not found'),
    ({URL: "service=nope"}, 'definition of service "nope" not found'),
    ({"PGSERVICE": "nope", "PGSERVICEFILE": "/nonexistent"}, 'service file "/nonexistent" not found'),
    ({"PGSSLMODE": "x"}, 'invalid sslmode value: "x"'),
    ({URL: "sslmode=x"}, 'invalid sslmode value: "x"'),
    ({"PGTARGETSESSIONATTRS": "x"}, 'invalid target_session_attrs value: "x"'),
    ({"PGCONNECT_TIMEOUT": "x"}, "connect_timeout 'x' is not a number"),
    ({URL: "keepalives_idle=x"}, "keepalives_idle 'x' is not a number"),
]


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """No variables are set."""
    for name in list(os.environ):
        if name.startswith(("PG", "SHITHUBD_WORKER_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(("variables", "says"), FAULTS)
def test_a_fault_is_reported_before_anything_is_tried(monkeypatch, variables, says):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as raised:
        conninfo.check(variables.get(URL))
    [line] = raised.value.args
    assert says in line


@pytest.mark.parametrize("variables", [FAULTS[0][0], {"PGSERVICE": "nope"}, {URL: "postgresql://h:abc/x"}])
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "run"])
def test_each_command_reports_it_in_one_line(monkeypatch, capfd, name, variables):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    words = re.sub("<.*>", "1", COMMANDS[name][0]).split()
    monkeypatch.setattr(sys, "argv", ["shithubd-worker", *name.split(), *words])
    assert program._main() == EXIT_CONFIG
    out, err = capfd.readouterr()
    if name != "doctor":  # it says what it found on this host, and what it could not check
        assert out == ""
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", ["run", "check-config"])
def test_a_worker_reports_all_faults_and_does_not_wait_for_a_database(command, name):
    done = command(name, "--handlers", "no_such_jobs:registry", env={URL: "host=a..b port=x sslmode=y"})
    assert done.returncode == EXIT_CONFIG
    for fault in ("host 'a..b'", "port 'x'", 'sslmode value: "y"', "no_such_jobs"):
        assert fault in done.stderr
    assert "Traceback" not in done.stderr


def test_no_password_is_shown():
    with pytest.raises(ConfigError) as raised:
        conninfo.check("postgresql://me:hush@a..b:x/y?sslmode=z&connect_timeout=w")
    assert len(raised.value.args) == 4
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    "good",
    [
        "",
        "host=/run/postgresql",
        "host=localhost port=5432",
        "postgresql://a:1,b:2/x",
        "host=a,b port=5433",
        "host=a,,b",
        "hostaddr=127.0.0.1,::1 port=1,2",
        "host=::1",
        "postgresql://[::1]:5432/x?connect_timeout=0&keepalives=1&tcp_user_timeout=0",
        "host=xn--bcher-kva.example",
        "host=bücher.example",
        "host=db.example. connect_timeout=' 3 ' sslmode=verify-full sslrootcert=/nonexistent",
        "target_session_attrs=prefer-standby host=a",
    ],
)
def test_a_setting_that_can_work_is_accepted(good):
    conninfo.check(good)


def test_a_service_that_names_several_servers_is_accepted(monkeypatch, tmp_path):
    (tmp_path / "services").write_text("[ours]\nhost=a,b\nport=1,2\ndbname=x\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    conninfo.check("service=ours")


@given(st.dictionaries(st.sampled_from(["host", "hostaddr", "port", "sslmode", "user", "dbname"]), st.text()))
def test_no_setting_causes_another_error(given):
    try:
        text = make_conninfo("", **given)
    except (ValueError, psycopg.ProgrammingError):
        return  # it cannot even be printed
    with suppress(ConfigError):
        conninfo.check(text)
