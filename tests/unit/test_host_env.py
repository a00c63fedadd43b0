"""How a command finds the database of the host on which it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn

from shithubd_worker.cli import host_env
from shithubd_worker.settings import host_files
from shithubd_worker.settings.config import DATABASE_URL

TEXT = "# ours\nPGHOST=/run/postgresql\nPGUSER='shithub'\nSHITHUBD_WORKER_GRACE=5\nSHITHUBD_WORKER_SCHEMA=forge\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose units read these files, with no variables set."""
    for name in list(host_env.os.environ):
        if name.startswith(("PG", "SHITHUBD_WORKER_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(host_files, "ENV_FILE", tmp_path / "worker.env")
    monkeypatch.setattr(host_files, "PASSFILE", tmp_path / "pgpass")
    # The end of the test undoes what adopt sets.
    monkeypatch.setattr(host_env.os, "environ", dict(host_env.os.environ))
    (tmp_path / "worker.env").write_text(TEXT)
    return tmp_path


def adopted(*arguments: str) -> dict[str, str]:
    before = dict(host_env.os.environ)
    host_env.adopt(arguments)
    return {name: value for name, value in host_env.os.environ.items() if before.get(name) != value}


def test_only_the_database_comes_from_the_file_of_the_units(files: Path) -> None:
    wanted = {"PGHOST": "/run/postgresql", "PGUSER": "shithub", "SHITHUBD_WORKER_SCHEMA": "forge"}
    assert adopted("status") == wanted


def test_a_password_that_the_user_may_read_is_used(files: Path) -> None:
    (files / "pgpass").touch()
    assert adopted("status")["PGPASSFILE"] == str(files / "pgpass")


@pytest.mark.parametrize("name", host_env.NAMING)
def test_a_command_that_names_a_database_gets_that_one(files: Path, name: str) -> None:
    host_env.os.environ[name] = "mine"
    assert adopted("status") == {}


@pytest.mark.parametrize("flag", [["--database-url", "dbname=x"], ["--database-url=dbname=x"]])
def test_a_database_named_by_its_flag_is_not_mixed_with_the_file(files: Path, flag: list[str]) -> None:
    assert adopted("status", *flag) == {}


def test_a_variable_that_is_set_already_wins(files: Path) -> None:
    host_env.os.environ["PGUSER"] = "me"
    assert "PGUSER" not in adopted("status")


def test_without_the_file_nothing_changes(files: Path) -> None:
    (files / "worker.env").unlink()
    assert adopted("status") == {}


def test_a_file_that_systemd_ignores_as_a_whole_changes_nothing_and_is_named(files: Path, capsys) -> None:
    (files / "worker.env").write_bytes(b"PGUSER=x\nPGHOST=\xff\n")
    assert adopted("status") == {}
    assert "worker.env: systemd takes nothing from this file: line 2 is not UTF-8" in capsys.readouterr().err


def test_a_misspelt_name_of_the_database_is_kept_for_the_command_to_refuse(files: Path) -> None:
    (files / "operator.env").write_text("SHITHUBD_WORKER_DATABASE_ULR=dbname=other\nSHITHUBD_WORKER_GRACES=3\n")
    assert adopted("status")["SHITHUBD_WORKER_DATABASE_ULR"] == "dbname=other"
    assert "SHITHUBD_WORKER_GRACES" not in host_env.os.environ


def test_people_and_the_owner_of_the_tables_have_logins_of_their_own(files: Path) -> None:
    (files / "operator.env").write_text("PGUSER=oncall\n")
    (files / "owner.env").write_text("PGUSER=admin\n")
    (files / "owner.pgpass").touch()
    (files / "pgpass").touch()
    for words, user, passfile in (
        (["status"], "oncall", "pgpass"),
        (["--schema", "migrate", "drain"], "oncall", "pgpass"),
        (["migrate"], "admin", "owner.pgpass"),
        (["history", "drop"], "admin", "owner.pgpass"),
        (["run"], "shithub", "pgpass"),
    ):
        host_env.os.environ.clear()
        assert adopted(*words)["PGUSER"] == user
        assert host_env.os.environ["PGPASSFILE"] == str(files / passfile)


# What worker.env says; then the login and the password that a person's command uses.
LOGINS = {
    "PGHOST=db\nPGUSER=shithub": ("oncall", "by operator.pgpass"),
    f"{DATABASE_URL.variable}=postgresql://db/shithub": ("oncall", "by operator.pgpass"),
    f"{DATABASE_URL.variable}=postgresql://shithub@db/shithub": ("shithub", "by operator.pgpass"),
    f"{DATABASE_URL.variable}=postgresql://shithub:url@db/shithub": ("shithub", "url"),
    f"{DATABASE_URL.variable}=postgresql://:url@db/shithub": ("oncall", "url"),
    "PGSERVICE=ours\nPGSERVICEFILE={files}/services": ("shithub", "service"),
    "PGHOST=db\nPGPASSWORD=variable": ("oncall", "variable"),
    "PGHOST=db\nPGPASSFILE={files}/pgpass": ("oncall", "by pgpass"),
}


@pytest.mark.parametrize("text", LOGINS)
@pytest.mark.parametrize("own", [False, True])
def test_a_login_in_worker_env_wins_over_the_files_of_people(files: Path, text: str, own: bool) -> None:
    (files / "worker.env").write_text(text.format(files=files))
    (files / "services").write_text("[ours]\nhost=db\nuser=shithub\npassword=service\n")
    for name in ("pgpass", "operator.pgpass"):
        (files / name).write_text(f"*:*:*:*:by {name}\n")
        (files / name).chmod(0o600)
    (files / "operator.env").write_text(
        f"{DATABASE_URL.variable}=postgresql://me:mine@db/shithub" if own else "PGUSER=oncall"
    )
    taken = adopted("drain")
    url = taken.pop(DATABASE_URL.variable, "")
    nowhere = make_conninfo(url, host="/dev/null")
    for name, value in taken.items():
        host_env.os.putenv(name, value)  # in the variable that libpq reads
    try:
        login = PGconn.connect(nowhere.encode())
    finally:
        for name in taken:
            host_env.os.unsetenv(name)
    assert (login.user.decode(), login.password.decode()) == (("me", "mine") if own else LOGINS[text])
