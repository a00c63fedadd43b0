"""What came out of a handler: as text that can be stored, and what it came from. Pure."""

from __future__ import annotations

import opcode
import traceback
import types
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from shithubd_worker.errors import Interrupted, NotNow, Permanent, RetryAfter

_RESUME = opcode.opmap["RESUME"]
LONGEST_ERROR = 8192  # bytes, as stored
LONGEST_MESSAGE = 4096  # characters
LONGEST_STACK = 2048


@contextmanager
def _entered() -> Iterator[None]:
    yield


@asynccontextmanager
async def _entered_async() -> AsyncIterator[None]:
    yield


# What a call gives in place of running code. Not any iterator: a cursor is one, and its statement has run.
_UNRUN = (types.GeneratorType, types.AsyncGeneratorType, map, filter, type(_entered()), type(_entered_async()))


def refuse_unrun(result: object) -> None:
    """Raise Permanent if a handler's result shows that its code, or a part of it, has not run."""
    if isinstance(result, types.CoroutineType):
        result.close()  # else Python would warn that nobody awaited it
    elif not isinstance(result, _UNRUN) and not hasattr(type(result), "__await__"):
        return
    name = type(result).__name__
    raise Permanent(
        f"the handler returned a {name}, so its code has not run to its end. A handler is a plain function: no yield,"
        " and what is async is run by it, with asyncio.run()"
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, as a traceback shows it."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def came_from_fork(error: BaseException) -> bool:
    """EAGAIN: a process more than allowed, and not a socket that has nothing to say yet?"""
    return any(frame.name == "_execute_child" for frame in traceback.extract_tb(error.__traceback__))


def came_from_interrupt(error: BaseException) -> bool:
    """Is this our interrupt, or was it raised while a handler cleaned up after it?"""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, Interrupted):
        seen = seen.__context__
    return seen is not None


def fell_at_entry(error: Interrupted) -> bool:
    """Did our interrupt meet the handler before its first line? A signal that comes while it is being called is heard
    there, at the instruction by which each function begins."""
    frame = error.__traceback__ and error.__traceback__.tb_next  # the first is our call of the handler
    return frame is not None and frame.tb_frame.f_code.co_code[frame.tb_lasti] == _RESUME


def as_text(error: BaseException, *, trace: bool = False) -> str:
    """What was raised, as text that PostgreSQL can store: no NUL, no lone surrogate, at most 8 KiB.

    Of a long message the beginning is kept, of a long stack the end.
    """
    try:
        expected = isinstance(error, (NotNow, Permanent, RetryAfter))
        said = str(error) if expected else f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 (a __str__ may raise too)
        said = type(error).__name__
    said = said[:LONGEST_MESSAGE]
    if trace:
        frames = traceback.format_tb(error.__traceback__)[1:]  # the first is this module's call of the handler
        said = f"{said}\n{''.join(frames)[-LONGEST_STACK:]}".rstrip()
    clean = said.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()
    return clean.encode()[:LONGEST_ERROR].decode(errors="ignore")
