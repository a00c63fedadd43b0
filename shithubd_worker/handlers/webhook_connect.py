"""From the name of a receiver to a connection: look it up once, judge every address, and connect to one of them.

Nothing is looked up a second time, so the name can't lead elsewhere after it was judged.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from errno import EINPROGRESS
from selectors import EVENT_WRITE, DefaultSelector
from typing import TYPE_CHECKING, Any

from shithubd_worker.errors import Permanent, RetryAfter
from shithubd_worker.handlers.webhook_addresses import is_public

if TYPE_CHECKING:
    from shithubd_worker.handlers.webhook_target import Target
    from shithubd_worker.handlers.webhook_wire import Deadline

# In seconds. All are parts of the delivery's time.
RESOLVE_TIMEOUT = 5.0
CONNECT_TIMEOUT = 5.0
# Each address has this head start before the next one is tried beside it (RFC 8305).
HEAD_START = 0.25
# A stranger's name has as many addresses as the stranger likes.
MOST_ADDRESSES = 32

# What getaddrinfo returns: a family, and an address of it with the port.
Address = tuple[int, tuple[Any, ...]]


def resolve(target: Target, deadline: Deadline, *, private: bool) -> list[Address]:
    """The addresses to try, in the resolver's order. One address that isn't public refuses all: no honest name has
    both."""
    found = _ask(target.host, target.port, deadline.left(RESOLVE_TIMEOUT))
    if not private:
        for _, (address, *_rest) in found:
            if not is_public(address):
                raise Permanent(f"{target.host} has the address {address}, which is not a public one")
    return found[:MOST_ADDRESSES]


def _ask(host: str, port: int, seconds: float) -> list[Address]:
    """Ask the resolver in a thread, because it can take half a minute and no signal interrupts it."""
    answer: list[Address] = []
    failure: list[OSError] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.extend(dict.fromkeys((family, where) for family, _, _, _, where in found))
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=ask, name="resolve", daemon=True)
    thread.start()
    thread.join(seconds)
    if answer:
        return answer
    reason = failure[0].strerror if failure else f"no answer in {seconds:g} s"
    raise RetryAfter(None, f"{host} can't be resolved: {reason}")


def connect(addresses: Sequence[Address], deadline: Deadline) -> tuple[socket.socket, Address]:
    """A connection to the first address that accepts one, and that address. Raises OSError: the last failure.

    The next address is tried once one failed, or after its head start. So a dead address costs a quarter of a second.
    """
    untried = list(addresses)
    failure: OSError = TimeoutError("timed out")
    begun: list[socket.socket] = []
    try:
        with DefaultSelector() as waiting:
            while untried or waiting.get_map():
                if untried:
                    address = untried.pop(0)
                    try:
                        begun.append(begin(address))
                    except OSError as error:
                        failure = error
                        continue
                    waiting.register(begun[-1], EVENT_WRITE, address)
                ready = waiting.select(deadline.left(HEAD_START if untried else CONNECT_TIMEOUT))
                for key, _ in ready:
                    made: socket.socket = key.fileobj  # type: ignore[assignment]  # begin() made it
                    waiting.unregister(made)
                    if not (number := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                        begun.remove(made)
                        return made, key.data
                    failure = OSError(number, os.strerror(number))
                if not ready and not untried:
                    break
    finally:
        for each in begun:
            each.close()
    raise failure


def begin(address: Address) -> socket.socket:
    """Begin to connect to exactly this address. Nothing is looked up."""
    family, where = address
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # send the body at once after the headers
        number = made.connect_ex(where)
        if number not in (0, EINPROGRESS):
            raise OSError(number, os.strerror(number))
    except BaseException:
        made.close()
        raise
    return made
