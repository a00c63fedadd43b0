"""A complete systemd host for the tests: this machine's own files, booted by systemd-nspawn under an overlay.

What the host writes is in memory: it survives a reboot of the host, and is gone with the host. One process of ours
holds all of it: `unshare` keeps the mounts and the processes in namespaces of their own. So the end of that process,
for any reason, ends everything.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from servers import debian_bindir
from waiting import PATIENCE, eventually

TOOLS = ("systemd-nspawn", "nsenter", "unshare", "setpriv", "mount", "ip")
_MEMORY, _CPU = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/cpu")  # of cgroups version 1
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

# setpriv: the kernel ends it with us, even if we are killed. unshare: its end ends all that it started.
_ALONE = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child=KILL"]

# $1: where to mount; $2: a file that exists while the host must be booted again after a shutdown; $3: the host's name;
# $4: its cgroups; the rest: further options of nspawn. nspawn's own overlay (--volatile=) would start empty at each
# boot. A killed nspawn leaves files in /run/systemd/nspawn; here they go with the namespace. A real host has Landlock,
# so this one may use it.
_BOOT = """
set -eu
where=$1 again=$2 name=$3 cgroups=$4
shift 4
for cgroup in $cgroups; do echo 0 >"$cgroup/cgroup.procs"; done
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
mount -t tmpfs tmpfs "$where"
mkdir "$where/upper" "$where/work" "$where/root"
mount -t overlay -o "lowerdir=/,upperdir=$where/upper,workdir=$where/work" overlay "$where/root"
boot() {
    systemd-nspawn --quiet --register=no --keep-unit --directory="$where/root" --private-network \
        --system-call-filter='landlock_create_ruleset landlock_add_rule landlock_restrict_self' \
        --machine="$name" --console=pipe "$@" --boot systemd.hostname="$name"
}
boot "$@" || true
while [ -e "$again" ]; do boot "$@" || true; done
"""


class NspawnError(Exception):
    """The host did not boot, or a command in it failed."""


def why_not() -> str | None:
    """Why this machine cannot boot a host, or None if it can."""
    if os.geteuid() != 0:
        return "booting a systemd host takes root"
    for tool in TOOLS:
        if shutil.which(tool) is None:
            return f"{tool} is missing (Debian: systemd-container, util-linux, iproute2)"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True, check=False, timeout=10
    )
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else None


class Host:
    """One booted host. Use `with Host(...) as host`."""

    def __init__(self, name: str, *, bind_ro: Mapping[Path, str] | None = None) -> None:
        self.name = name
        self._bind_ro = dict(bind_ro or {})
        self._unshare: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __enter__(self) -> Host:
        self._directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        (self._directory / "root").mkdir()
        self._again = self._directory / "again"
        self._cgroups = list(_make_cgroups(self._directory.name))
        try:
            self._boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.pull_the_plug()
        for cgroup in self._cgroups:
            _remove_cgroup(cgroup)
        # Never rmtree: the machine's own root was mounted below this directory, even if only in another namespace.
        for file in self._directory.iterdir():  # the console's text, and nspawn's lock
            if not file.is_dir():
                file.unlink()
        (self._directory / "root").rmdir()
        self._directory.rmdir()

    def pull_the_plug(self) -> None:
        """The host ends without notice."""
        if self._unshare is not None:
            self._unshare.kill()  # its --kill-child ends the host, too; nothing on the host needs an orderly shutdown
            self._unshare.wait()

    def reboot(self) -> None:
        """Reboot as its operator would. Returns when it is up again, with all that it had written."""
        with self._booted_again():
            self.run("systemctl", "reboot", check=False)

    def lose_power(self) -> None:
        """End without notice, and boot again. All that it had written is there, synced or not."""
        with self._booted_again():
            os.kill(self._leader, signal.SIGKILL)  # all processes end with its first one

    @contextmanager
    def _booted_again(self) -> Iterator[None]:
        before = Path(f"/proc/{self._leader}")
        self._again.touch()
        yield
        eventually(lambda: not before.exists(), f"{self.name} is down")
        self._leader = 0
        self._wait_until_it_is_up()
        self._again.unlink()

    @property
    def is_up(self) -> bool:
        """Was it booted, and has it not ended since?"""
        return self._unshare is not None and self._unshare.poll() is None

    def _boot(self) -> None:
        where, console = self._directory / "root", self._directory / "console"
        options = [f"--bind-ro={outside}:{inside}" for outside, inside in self._bind_ro.items()]
        cgroups = " ".join(map(str, self._cgroups))
        with console.open("wb") as output:
            self._unshare = subprocess.Popen(
                [*_ALONE, "sh", "-c", _BOOT, "sh", str(where), str(self._again), self.name, cgroups, *options],
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_it_is_up()

    def _wait_until_it_is_up(self) -> None:
        assert self._unshare is not None
        console = self._directory / "console"
        until = time.monotonic() + PATIENCE
        state = "no process"
        while time.monotonic() < until and self._unshare.poll() is None:
            self._leader = self._leader or _find_child(self._unshare.pid, "systemd") or 0
            if self._leader:
                state = self.run("systemctl", "is-system-running", check=False).strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.1)
        raise NspawnError(f"{self.name} did not boot ({state}):\n{console.read_text(errors='replace')[-4000:]}")

    def cable(self, address: str, other: Host, others_address: str) -> None:
        """A network between two hosts, IPv4 /24, which goes when either of them ends."""
        ends = [(self, address), (other, others_address)]
        pids = [str(host._leader) for host, _ in ends]
        subprocess.run(
            ["ip", "link", "add", "lan", "netns", pids[0], "type", "veth", "peer", "name", "lan", "netns", pids[1]],
            check=True,
        )
        for host, own in ends:
            host.run("ip", "address", "add", f"{own}/24", "dev", "lan")
            host.run("ip", "link", "set", "lan", "up")

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command in the host, as root."""
        return subprocess.Popen(
            ["nsenter", "--target", str(self._leader), "--all", *command],
            env=_ENVIRONMENT,
            text=True,
            **{"stdin": subprocess.DEVNULL, **options},
        )

    def run(self, *command: str, check: bool = True, timeout: float = PATIENCE, stdin: str | None = None) -> str:
        """Run a command in the host, as root. Returns its stdout. Raises NspawnError with all its output."""
        with self.popen(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                out, err = process.communicate(stdin or "", timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise NspawnError(f"{' '.join(command)}: no end after {timeout:g} s") from None
        if check and process.returncode:
            raise NspawnError(f"{' '.join(command)}: exit code {process.returncode}\n{out}{err}")
        return str(out)

    def memory_limit(self, pid: str, size: int) -> AbstractContextManager[None]:
        """From now on a process of the host gets at most `size` bytes, as with MemoryMax=."""
        return self._limit(pid, _MEMORY, {"memory.limit_in_bytes": size})

    def cpu_limit(self, pid: str, percent: int) -> AbstractContextManager[None]:
        """From now on a process of the host gets at most this share of a processor, as with CPUQuota=."""
        return self._limit(pid, _CPU, {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": percent * 1000})

    @contextmanager
    def _limit(self, pid: str, controller: Path, limits: Mapping[str, int]) -> Iterator[None]:
        """From outside of the host. With cgroups of version 1 a host can't limit itself, so its units' limits have no
        effect. With version 2 they have, and this does nothing."""
        if not controller.is_dir():
            yield
            return
        cgroup = controller / self._directory.name
        cgroup.mkdir()
        try:
            for file, limit in limits.items():
                (cgroup / file).write_text(str(limit))
            (cgroup / "cgroup.procs").write_text(str(self._outside(pid)))
            yield
        finally:
            _remove_cgroup(cgroup)

    def _outside(self, pid: str) -> int:
        """Our pid of a process of the host."""
        for status in Path("/proc").glob("[0-9]*/status"):
            with suppress(OSError):
                ids = next(line for line in status.read_text().splitlines() if line.startswith("NSpid:")).split()
                if ids[-1] == pid and (status.parent / "ns/pid").readlink() == self._pid_namespace:
                    return int(status.parent.name)
        raise NspawnError(f"{self.name} has no process {pid}")

    @property
    def _pid_namespace(self) -> Path:
        return Path(f"/proc/{self._leader}/ns/pid").readlink()

    def write(self, path: str, text: str, mode: str = "0644") -> None:
        """Make a file, and the directories above it."""
        self.run("sh", "-c", 'install -D -m "$1" /dev/stdin "$2"', "sh", mode, path, stdin=text)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, as systemd knows them."""
        lines = self.run("systemctl", "show", unit, f"--property={','.join(properties)}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def journal(self, unit: str, since: float = 0.0) -> str:
        """What a unit logged, and systemd about it, since a time in seconds of the epoch."""
        command = ("journalctl", f"--unit={unit}", f"--since=@{since:.6f}", "--no-pager", "--output=short-precise")
        return self.run(*command, check=False)  # for a pattern that no unit matches yet, it says that there is no data

    def sql(self, database: str, query: str) -> list[dict[str, Any]]:
        """The rows of a query, run by the database's superuser."""
        wrapped = f"SELECT coalesce(json_agg(row_to_json(q)), '[]') FROM ({query}) q"
        return list(json.loads(self.psql(database, wrapped)))

    def psql(self, database: str, *commands: str) -> str:
        """Commands of the database's superuser, in order."""
        options = [option for command in commands for option in ("-c", command)]
        return self.run(*superuser_psql(), "-v", "ON_ERROR_STOP=1", "-d", database, *options)


def superuser_psql() -> tuple[str, ...]:
    """psql as the database's superuser. Tests that wait ask often. runuser tells the journal of each session, and the
    psql in PATH is a script that looks for the cluster: with both, a question takes four times the processor time."""
    user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
    return *user, f"{debian_bindir()}/psql", "-XAtq"


def _find_child(pid: int, name: str) -> int | None:
    """The pid of the first descendant with this name."""
    with suppress(OSError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            if Path(f"/proc/{child}/comm").read_text().strip() == name:
                return child
            found = _find_child(child, name)
            if found:
                return found
    return None


def _make_cgroups(name: str) -> Iterator[Path]:
    """A cgroup below ours in each hierarchy that systemd uses. nspawn would make its own beside us, and leave them."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "name=systemd":
            base = Path("/sys/fs/cgroup/systemd")
        elif controllers == "":
            unified = Path("/sys/fs/cgroup/unified")
            base = unified if unified.is_dir() else Path("/sys/fs/cgroup")
        else:
            continue
        if (base / "cgroup.procs").exists():
            cgroup = base / path.lstrip("/") / name
            cgroup.mkdir()
            yield cgroup


def _remove_cgroup(cgroup: Path) -> None:
    """Remove a tree of cgroups once the kernel has removed the last process in it."""

    def gone() -> bool:
        for directory, _, _ in os.walk(cgroup, topdown=False):
            with suppress(OSError):
                Path(directory).rmdir()
        return not cgroup.exists()

    eventually(gone, f"{cgroup} is empty")
