"""Which process is the worker. Nothing of ours works in a child that was forked from it.

A handler or a library may fork. A fork by Python passes through the hooks below. For a fork by C, only the page of
memory shows it. If a child returns into our frames, it is ended there.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import Protocol
from weakref import WeakSet

from shithubd_worker.errors import NotTheWorker

_WIPE_ON_FORK = getattr(mmap, "MADV_WIPEONFORK", 18)  # Python 3.11 and 3.12 don't name it

# The kernel empties this page in a forked child. Reading it costs 15 ns; os.getpid() is a call of the kernel.
_page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
with suppress(OSError):  # before Linux 4.14: the hooks below empty it
    _page.madvise(_WIPE_ON_FORK)
_page[0] = 1


class HasDescriptor(Protocol):
    """A socket or a connection."""

    def fileno(self) -> int:
        """Its descriptor. If it is closed, a number below 0, or an exception."""


_private: WeakSet[HasDescriptor] = WeakSet()


def keep_private(owner: HasDescriptor) -> None:
    """From now on no forked child gets this object's descriptor."""
    _private.add(owner)


def in_child() -> bool:
    """Is this a forked child of the worker?"""
    return not _page[0]


def not_the_worker(what: str) -> NotTheWorker:
    """The error for a forked child that uses what it inherited from the worker."""
    return NotTheWorker(f"{what} belongs to the worker, but this process is a child that was forked from it")


def refuse_in_child(what: str) -> None:
    """Raise NotTheWorker in a forked child."""
    if not _page[0]:
        raise not_the_worker(what)


def end_child(error: BaseException | None) -> None:
    """In a forked child that returned, with this error or without one, end it. It ends as Python would end it, but
    without the worker's `finally` blocks and exit functions. In the worker, do nothing."""
    if _page[0]:
        return
    code = 0
    try:
        code = _exit_code(error)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)  # noqa: T201 (as Python does)
        return 1
    sys.excepthook(type(error), error, error.__traceback__)
    return 130 if isinstance(error, KeyboardInterrupt) else 1


class Hooks:
    """What happens at each fork by Python in this process. `disown` gives a child its signals back."""

    def __init__(self, disown: Callable[[], None]) -> None:
        _page[0] = 1  # the process that runs a worker is one, forked or not
        self._disown = disown
        self._masks: dict[int, set[int | signal.Signals]] = {}  # by thread: the signals that it blocked before its fork
        self._forked = False

    def install(self) -> None:
        """Install the hooks for the life of this process: Python can't remove them."""
        os.register_at_fork(before=self._before, after_in_parent=self._in_worker, after_in_child=self._in_child)

    def _before(self) -> None:
        if self._forked:  # a child of ours forks: what it has now is its own
            return
        # If a signal reached the child before it has handlers of its own, the worker's handlers would take it.
        self._masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def _in_worker(self) -> None:
        if not self._forked:
            self._unblock()

    def _in_child(self) -> None:
        if self._forked:
            return
        self._forked = True
        _page[0] = 0
        self._disown()
        _empty_descriptors()
        self._unblock()

    def _unblock(self) -> None:
        if (mask := self._masks.pop(get_ident(), None)) is not None:  # an interrupt may have ended `_before`
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _empty_descriptors() -> None:
    """Put /dev/null in the place of each private descriptor.

    If a descriptor were closed, its number would be reused, and libpq would then say goodbye to the server on another
    file.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for owner in list(_private):
        with suppress(Exception):  # it is closed
            if (descriptor := owner.fileno()) >= 0:
                os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)
