"""Who a command is: the user that its process becomes, and the person that it is recorded as."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shithubd_worker.cli import as_whom, host_env
from shithubd_worker.database import operations
from shithubd_worker.errors import ConfigError
from shithubd_worker.settings import host_files
from shithubd_worker.settings.names import RUN_AS

HOST = socket.gethostname()
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files of a host, with no variables set."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "SHITHUBD_WORKER_"))}
    monkeypatch.setattr(os, "environ", clean)
    monkeypatch.setattr(host_files, "ENV_FILE", tmp_path / "worker.env")
    monkeypatch.setattr(as_whom, "_named", [])
    monkeypatch.setattr(host_env, "_taken_from", [])
    (tmp_path / "worker.env").write_text("PGHOST=/run/postgresql\n")
    operations.actor.cache_clear()
    yield tmp_path
    operations.actor.cache_clear()


def in_a_child(do: Callable[[], object]) -> object:
    """What a function returns in a process of its own."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, json.dumps(do()).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return json.loads(said)


def gone_on(*words: str) -> object:
    """The user that a command of root's is when it connects: its ids, groups and home, and the person that is
    recorded."""

    def go() -> object:
        host_env.adopt(words)
        as_whom.go_on()
        return [*os.getresuid(), *os.getresgid()], os.getgroups(), os.environ["HOME"], operations.actor()

    return in_a_child(go)


@ROOT
def test_root_becomes_the_user_that_the_file_of_the_command_names(files: Path) -> None:
    (files / "operator.env").write_text(f"{RUN_AS}=nobody\n")
    (files / "owner.env").write_text("PGUSER=admin\n")
    os.environ["SUDO_USER"] = "alice"
    ids, groups, home, actor = gone_on("drain")  # type: ignore[misc]
    assert (ids, home, actor) == ([NOBODY.pw_uid] * 3 + [NOBODY.pw_gid] * 3, NOBODY.pw_dir, f"alice@{HOST}")
    assert groups == os.getgrouplist("nobody", NOBODY.pw_gid)
    for others in ("migrate", "run"):
        assert gone_on(others)[0] == [0] * 6  # type: ignore[index]


@ROOT
def test_a_later_file_overrides_the_user_of_an_earlier_one(files: Path) -> None:
    (files / "worker.env").write_text(f"PGHOST=/run/postgresql\n{RUN_AS}=nobody\n")
    (files / "operator.env").write_text(f"{RUN_AS}=\n")
    assert gone_on("drain")[0] == [0] * 6  # type: ignore[index]
    assert gone_on("migrate")[0] != [0] * 6  # type: ignore[index]


@ROOT
def test_a_variable_or_a_database_given_by_flag_leaves_root_as_root(files: Path) -> None:
    os.environ[RUN_AS] = "nobody"
    assert gone_on("drain")[0] == [0] * 6  # type: ignore[index]
    (files / "operator.env").write_text(f"{RUN_AS}=nobody\n")
    assert gone_on("drain", "--database-url", "dbname=mine")[0] == [0] * 6  # type: ignore[index]


@ROOT
@pytest.mark.parametrize("spoilt", ["operator.env", "."])
@pytest.mark.parametrize("how", ["owner", "group", "others"])
def test_a_file_that_others_may_write_is_refused(files: Path, spoilt: str, how: str) -> None:
    (files / "operator.env").write_text(f"{RUN_AS}=nobody\n")
    path = files / spoilt
    if how == "owner":
        os.chown(path, NOBODY.pw_uid, -1)
    else:
        path.chmod(path.stat().st_mode | (0o020 if how == "group" else 0o002))
    host_env.adopt(["drain"])
    with pytest.raises(ConfigError, match=r"only root may have the right to write .*: chown root .*; chmod go-w "):
        as_whom.go_on()
    assert os.geteuid() == 0


@ROOT
def test_root_is_recorded_as_the_person_that_it_was_before(files: Path) -> None:
    """Afterwards the process can no longer tell that it was root, and so whose word to believe."""
    (files / "operator.env").write_text(f"{RUN_AS}=nobody\n")
    os.environ.pop("SUDO_USER", None)
    operations.LOGINUID, kept = files / "none", operations.LOGINUID
    try:
        *_, actor = gone_on("drain")  # type: ignore[misc]
    finally:
        operations.LOGINUID = kept
    assert actor == f"root@{HOST}"


@ROOT
def test_a_file_that_names_a_missing_user_is_refused(files: Path) -> None:
    (files / "operator.env").write_text(f"{RUN_AS}=nobody-here\n")
    host_env.adopt(["drain"])
    with pytest.raises(ConfigError, match=r"operator.env: SHITHUBD_WORKER_RUN_AS: this host has no user 'nobody-here'"):
        as_whom.go_on()


@ROOT
def test_a_user_other_than_root_stays_that_user(files: Path) -> None:
    (files / "operator.env").write_text(f"{RUN_AS}=root\n")
    files.chmod(0o755)

    def go() -> object:
        host_env.adopt(["drain"])
        os.setresuid(NOBODY.pw_uid, NOBODY.pw_uid, NOBODY.pw_uid)
        as_whom.go_on()
        return os.getresuid()

    assert in_a_child(go) == [NOBODY.pw_uid] * 3


# Who a process is recorded as. Of root's processes: the user that sudo names. Else the user who logged in, by the
# kernel.
PERSONS = [
    (True, "alice", None, "alice"),
    (True, "alice", "games", "alice"),
    (True, None, "games", "games"),
    (True, None, None, "root"),
    (False, "alice", "games", "games"),  # every user can claim to come by sudo
    (False, "alice", None, "alice"),
    (False, None, "games", "games"),
    (False, None, None, "nobody"),
]


@ROOT
@pytest.mark.parametrize(("root", "sudo", "logged_in", "recorded"), PERSONS)
def test_the_person_behind_a_process_is_recorded(
    files: Path, root: bool, sudo: str | None, logged_in: str | None, recorded: str
) -> None:
    def go() -> object:
        os.environ.update({"USER": "mallory", "LOGNAME": "mallory"} | ({"SUDO_USER": sudo} if sudo else {}))
        uid = pwd.getpwnam(logged_in).pw_uid if logged_in else operations.NO_LOGIN
        try:
            operations.LOGINUID.write_text(str(uid))
        except OSError:  # a container, or a kernel that records no login
            loginuid = files / "loginuid"
            loginuid.write_text(str(uid))
            operations.LOGINUID = loginuid
        if not root:
            files.chmod(0o755)
            os.setresuid(NOBODY.pw_uid, NOBODY.pw_uid, NOBODY.pw_uid)
        return operations.actor()

    os.environ.pop("SUDO_USER", None)
    assert in_a_child(go) == f"{recorded}@{HOST}"


@ROOT
@pytest.mark.parametrize("command", ["run", "check-config"])
def test_root_never_loads_code_from_the_current_directory(files: Path, command: str) -> None:
    """The directory comes first on Python's path, for the handlers. Root may be in the directory of any user."""
    (files / "worker.env").write_text(f"PGHOST=/run/postgresql\n{RUN_AS}=nobody\n")
    (here := files / "here").mkdir()
    loaded = files / "loaded"
    for module in ("psycopg", "prometheus_client", "sdnotify"):
        (here / f"{module}.py").write_text(f"import os\nif os.geteuid() == 0: open({str(loaded)!r}, 'w')\n")
    program = (
        "import sys; from pathlib import Path; from shithubd_worker.cli import main;"
        "from shithubd_worker.settings import host_files;"
        "host_files.ENV_FILE = Path(sys.argv.pop()); main()"
    )
    words = [sys.executable, "-P", "-c", program, command, str(files / "worker.env")]
    subprocess.run(words, cwd=here, env=dict(os.environ), capture_output=True, timeout=60, check=False)
    assert not loaded.exists()
