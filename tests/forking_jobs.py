"""Handlers that fork, in every way that Python has, and children that misbehave."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from shithubd_worker import Registry, enqueue

registry = Registry()

CHILDREN = "CREATE TABLE children (job bigint, status integer, said text)"


# What a child does. Its result or its exception comes back into the worker's own frames.


def sockets(pid):
    """The sockets of a process."""
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the socket of the directory itself
            links.append(str(descriptor.readlink()))
    return [link for link in links if link.startswith("socket:")]


def refused(use):
    """The message to a child that uses something of the worker."""
    try:
        use()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "worked"


def in_a_transaction(job):
    with job.transaction() as connection:
        connection.execute("INSERT INTO children VALUES (0, 0, 'by a child')")


def uses(job, connection):
    """Everything of the worker that a handler can reach."""
    return {
        "held connection": lambda: connection.execute("INSERT INTO children VALUES (0, 0, 'by a child')"),
        "held cursor": lambda: connection.cursor().execute("SELECT 1"),
        "job.connection": lambda: job.connection.execute("INSERT INTO children VALUES (0, 0, 'by a child')"),
        "job.transaction": lambda: in_a_transaction(job),
        "enqueue": lambda: enqueue(connection, "fork.nothing"),
        "job.popen": lambda: job.popen(["true"]),
        "job.extend": lambda: job.extend(5),
        "rollback": connection.rollback,
    }


def signal_state():
    """What a signal would do here, and which signals are blocked."""
    ours = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP)
    usual = (signal.SIG_DFL, signal.default_int_handler)
    odd = [number.name for number in ours if signal.getsignal(number) not in usual]
    blocked = [number.name for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
    return odd, blocked, signal.set_wakeup_fd(-1), signal.getitimer(signal.ITIMER_REAL)[0]


CODE = {
    "returns": None,
    "raises": ValueError("raised by the child"),
    "exits": SystemExit(7),
    "exits with a word": SystemExit("a word"),
    "is interrupted": KeyboardInterrupt(),
}


def behave(job, how, said, connection):
    """The child's part."""
    if how in CODE:
        if CODE[how] is not None:
            raise CODE[how]
        return
    if how == "executes nothing":
        os.execvp("/nonexistent/program", ["program"])
    elif how == "uses all":
        Path(said).write_text("\n".join(f"{name}: {refused(use)}" for name, use in uses(job, connection).items()))
    elif how == "closes":
        connection.close()
    elif how == "in a transaction":
        in_a_transaction(job)
    elif how == "looks at itself":
        Path(said).write_text(repr((*signal_state(), sockets(os.getpid()))))
    elif how == "disarms faulthandler":
        faulthandler.cancel_dump_traceback_later()
        faulthandler.dump_traceback_later(3600)
    elif how.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[how])
        time.sleep(3600)


def fork_in_c():
    """As a C library forks: no hook of Python is called. PyDLL keeps the interpreter's lock for the child. No thread
    may have asked for that lock, or the child would wait for this thread for ever, with or without a worker."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    time.sleep(0.05)
    pid = ctypes.PyDLL(None).fork()
    if pid:
        sys.setswitchinterval(usual)
    return pid


@registry.handler("fork.comes_back", lease_timeout=60, max_attempts=1)
def comes_back(job, how, said="", way="os.fork"):
    """Use the connection, fork, and record how the child ended."""
    connection = job.connection
    connection.execute("SELECT 1")
    pid = os.forkpty()[0] if way == "os.forkpty" else fork_in_c() if way == "c" else os.fork()
    if pid == 0:
        return behave(job, how, said, connection)
    _, status = os.waitpid(pid, 0)
    with job.transaction() as own:
        own.execute("INSERT INTO children VALUES (%s, %s, %s)", (job.id, os.waitstatus_to_exitcode(status), how))
    return None


@registry.handler("fork.inside", lease_timeout=60, max_attempts=1)
def inside(job):
    """Fork while the job's own transaction is open. Both processes leave the block."""
    with job.transaction() as connection:
        pid = os.fork()
        if pid:
            _, status = os.waitpid(pid, 0)
            connection.execute("INSERT INTO children VALUES (%s, %s, '')", (job.id, os.waitstatus_to_exitcode(status)))


def run_in_child(path):
    """Write an x, or what is wrong with the signals here."""
    state = signal_state()[:3]
    with open(path, "a") as file:
        file.write("x" if state == ([], [], -1) else repr(state))


# A program that prints which signals are blocked, ignored or caught.
LOOK = ["grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"]
OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP, signal.SIGURG, signal.SIGPIPE)


def through_library(way, path):
    """Run `run_in_child`, or a command, in a child."""
    touch = ["sh", "-c", f"printf x >> {path}"]
    if way.startswith("multiprocessing"):
        context = multiprocessing.get_context(way.split()[1])
        process = context.Process(target=run_in_child, args=(path,))
        process.start()
        process.join()
        assert process.exitcode == 0
    elif way.startswith("pool"):
        context = multiprocessing.get_context(way.split()[1])
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            pool.submit(run_in_child, path).result()
    elif way == "preexec_fn":
        subprocess.run(touch, check=True, preexec_fn=os.getpid)
    elif way == "posix_spawn":
        os.waitpid(os.posix_spawn("/bin/sh", touch, os.environ), 0)
    elif way == "system":
        os.system(touch[2])
    elif way == "daemon":
        daemonize(path)
    elif way == "thread":
        thread = threading.Thread(target=fork_and_wait, args=(path,))
        thread.start()
        thread.join()


def fork_and_wait(path):
    pid = os.fork()
    if pid == 0:
        run_in_child(path)
        return  # the thread ends, and the child with it
    os.waitpid(pid, 0)


def daemonize(path):
    """The classic double fork, in a child that closes all descriptors and opens files of its own in their place."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        while not Path(path).exists():
            time.sleep(0.01)
        return
    os.setsid()
    os.closerange(3, 100)
    files = [os.open(path + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for _ in range(40)]
    if os.fork():
        os._exit(0)
    for file in files:
        os.write(file, b"y")
    run_in_child(path)
    os._exit(0)


@registry.handler("fork.library", lease_timeout=60, max_attempts=1)
def library(job, way, path):
    job.connection.execute("SELECT 1")
    through_library(way, path)
    with job.transaction() as connection:
        connection.execute("INSERT INTO children VALUES (%s, 0, %s)", (job.id, Path(path).read_text()))


@registry.handler("fork.looks", lease_timeout=60, max_attempts=1)
def looks(job, how):
    """How a program that is executed finds its signals."""
    start = job.popen if how == "job.popen" else subprocess.Popen
    child = start(LOOK, stdout=subprocess.PIPE, preexec_fn=os.getpid if how == "preexec_fn" else None, text=True)
    masks = [int(line.split()[1], 16) for line in child.communicate()[0].splitlines()]
    assert len(masks) == 3
    said = [number.name for number in OURS if any(mask >> (number - 1) & 1 for mask in masks)]
    with job.transaction() as connection:
        connection.execute("INSERT INTO children VALUES (%s, %s, %s)", (job.id, child.returncode, repr(said)))


@registry.handler("fork.lives_on", lease_timeout=60, max_attempts=1)
def lives_on(job, pid_path):
    """A child that outlives its handler, and the worker."""
    job.connection.execute("SELECT 1")
    pid = os.fork()
    if pid == 0:
        time.sleep(3600)
        os._exit(0)
    Path(pid_path).write_text(str(pid))


@registry.handler("fork.nothing")
def nothing(job):
    job.log.info("nothing forked")
    sys.stderr.flush()
