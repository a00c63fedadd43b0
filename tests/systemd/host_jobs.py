"""The kinds that the booted host runs. The tests copy this file there as a module of its own."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from shithubd_worker import Registry

registry = Registry()
STATE = Path("/var/lib/shithub")


@registry.handler("test.touch")
def touch(job, name):
    """Leave a file in the tests' directory."""
    (STATE / name).touch()


@registry.handler("test.waits")
@registry.handler("test.waits.briefly-leased", lease_timeout=5)
def waits(job, door):
    """Wait until the test opens the door: a file that the test makes."""
    while not (STATE / door).exists():
        time.sleep(0.01)


@registry.handler("test.marks", lease_timeout=5)
def marks(job):
    """Record when this run began. The database of the host has the same clock."""
    began = time.time()
    with (STATE / "starts").open("a") as file:
        file.write(f"{began!r}\n")


@registry.handler("test.child", max_attempts=1)
def child(job, door):
    """The same in a program, as git does it. Fails permanently if somebody kills the program."""
    process = job.popen(["sh", "-c", 'until [ -e "$1" ]; do sleep 0.05; done', "sh", str(STATE / door)])
    if process.wait() != 0:
        raise RuntimeError(f"the child ended with {process.returncode}")


@registry.handler("test.says")
def says(job, lines):
    """This many lines of its own."""
    for number in range(lines):
        job.log.info("line %d", number)


def _segfault():
    ctypes.string_at(0)


DEATHS = {
    "by a segfault": _segfault,
    "by os._exit(3)": lambda: os._exit(3),
    "by os._exit(0)": lambda: os._exit(0),
}


@registry.handler("test.litters")
def litters(job, door):
    """Leave two children when the door opens, one of them in a session of its own."""
    child = job.popen(["sh", "-c", "setsid sleep infinity & echo here; exec sleep infinity"], stdout=subprocess.PIPE)
    child.stdout.readline()
    waits(job, door)


@registry.handler("test.dies")
def dies(job, how, door):
    """The same, and end the worker with it."""
    litters(job, door)
    DEATHS[how]()


@registry.handler("test.hoards")
def hoards(job, door):
    """Take 400 MB at once when the door opens."""
    waits(job, door)
    bytearray(b"x") * 400_000_000


@registry.handler("test.hangs", lease_timeout=3)
def hangs(job):
    """In a call of C that keeps the interpreter, for longer than any limit."""
    sum(range(10**18))


@registry.handler("test.deaf", max_attempts=1)
def deaf(job, may_run):
    """Hears no signal, and does not end."""
    job.extend(may_run)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        time.sleep(3600)


@registry.handler("test.fails", max_attempts=1)
def fails(job):
    """With a message of two lines."""
    raise RuntimeError("it can't work:\nthere is a reason")


def _new_user_namespace(job):
    if job.popen(["unshare", "--user", "true"], stderr=subprocess.DEVNULL).wait():
        raise PermissionError("unshare")


def _other_personality(job):
    no_random_addresses = 0x0040000  # of <sys/personality.h>
    if ctypes.CDLL(None).personality(no_random_addresses) == -1:
        raise PermissionError("personality")


def _set_user_id(job):
    file = STATE / "set-user-id"
    file.touch()
    file.chmod(0o4755)


# What every process may do, unless something forbids it.
FORBIDDEN = {
    "a new user namespace": _new_user_namespace,
    "another personality": _other_personality,
    "a file that sets the user id": _set_user_id,
    "memory to write and execute": lambda job: mmap.mmap(
        -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ),
    "a netlink socket": lambda job: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "to see the processes of others": lambda job: Path("/proc/1/status").read_text(),
}


@registry.handler("test.probe", max_attempts=1)
def probe(job):
    """What a job can do inside the unit and what it cannot, as one JSON object in probe.json."""
    repository = job.config.repo_root / f"{job.id}.git"
    shared = job.config.repo_root / f"{job.id}-shared.git"

    def git(*arguments):
        run = job.popen(["git", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return [run.communicate()[0], run.returncode]

    def tried(action, *arguments):
        try:
            action(*arguments)
        except OSError as error:
            return type(error).__name__
        return True

    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    found = {
        "git init": git("init", "--quiet", "--bare", str(repository))[1],
        "git init --shared": git("init", "--quiet", "--bare", "--shared=group", str(shared))[1],
        "git gc": git("-C", str(repository), "gc", "--quiet")[1],
        "environment": git("-c", "alias.show-env=!env", "show-env")[0],
        "no_new_privs": status["NoNewPrivs"].strip(),
        "capabilities": int(status["CapBnd"].strip(), 16),
        "seccomp": status["Seccomp"].strip(),
        "writable": {
            path: tried(Path(path).touch)
            for path in ("/etc/probe", "/opt/probe", "/home/probe", "/root/probe", "/tmp/probe")
        },
        "forbidden": {name: tried(action, job) for name, action in FORBIDDEN.items()},
    }
    (STATE / "probe.json").write_text(json.dumps(found))
