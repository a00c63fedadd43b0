"""The bundle for a bug report: a tar file that only its maker can read, with a manifest."""

from __future__ import annotations

import gzip
import io
import os
import signal
import socket
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from shithubd_worker.errors import Refused, ShithubdError
from shithubd_worker.plain import json_text

_ABOUT = """\
What `shithubd-worker doctor --bundle` saw. Read it before you send it.

It has names: of hosts, units, kinds of jobs, workers, logins and programs of the database.
It has no payload, no error of a job, no reason that an operator gave, no password, and no value of a setting that is a
text.
A text that is not known to be harmless is "(left out)".
"""


def default_name() -> str:
    """A name that tells the host and the time."""
    host = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "_" for c in socket.gethostname())
    return f"shithubd-doctor-{host}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The new file, with mode 0600. It is made before the command becomes another user. After an error, or a signal
    that ends the command, it is removed; the other user may not do that, and then it is empty. Raises Refused if
    something is there, even a symbolic link that leads nowhere."""
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise Refused(f"{path} exists already: remove it, or name another file") from error
    except OSError as error:
        raise ShithubdError(f"{path} can't be made: {error.strerror}") from error
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with os.fdopen(made, "wb", closefd=False) as file:
            os.fchmod(made, 0o600)
            yield file
    except BaseException as error:
        os.ftruncate(made, 0)
        with suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise ShithubdError(f"{path} can't be written: {error.strerror}; name a file on another disk") from error
        raise
    finally:
        os.close(made)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


class Bundle:
    """What goes in, one file after the other."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[str, bytes]] = {}
        self._left_out: dict[str, tuple[str, str]] = {}

    def add(self, name: str, about: str, make: Callable[[], object]) -> None:
        """A file of JSON. `make` leaves out what must not be in it. If it can't, the manifest says why."""
        try:
            made = make()
        except (ShithubdError, OSError) as error:
            self.leave_out(name, about, str(error))
            return
        self._files[name] = (about, f"{json_text(made, indent=2)}\n".encode())

    def leave_out(self, name: str, about: str, why: str) -> None:
        """A file that can't be made."""
        self._left_out[name] = (about, why.splitlines()[0])

    def write(self, file: BinaryIO, name: str) -> None:
        """Write all files into a directory of this name."""
        packed = io.BytesIO()
        files = {"MANIFEST.txt": self._manifest().encode(), **{each: data for each, (_, data) in self._files.items()}}
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for each, data in files.items():
                member = tarfile.TarInfo(f"{name}/{each}")
                member.size, member.mode, member.mtime = len(data), 0o600, int(time.time())
                tar.addfile(member, io.BytesIO(data))
        file.write(gzip.compress(packed.getvalue()))
        file.flush()
        os.fsync(file.fileno())

    def _manifest(self) -> str:
        inside = [f"{name:<22}{about}" for name, (about, _) in self._files.items()]
        out = [f"{name:<22}{about}: {why}" for name, (about, why) in self._left_out.items()] or ["nothing"]
        return "\n".join((_ABOUT, "Inside:", *inside, "", "Left out:", *out, ""))
