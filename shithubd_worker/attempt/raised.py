"""What a handler raised or returned: its causes, and its text as PostgreSQL can store it. Pure."""

from __future__ import annotations

import opcode
import traceback
import types
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import islice, pairwise

from shithubd_worker.errors import Interrupted, NotNow, Permanent, RetryAfter

_RESUME = opcode.opmap["RESUME"]
LONGEST_ERROR = 8192  # bytes, as stored
LONGEST_MESSAGE = 4096  # characters
LONGEST_STACK = 2048
LONGEST_CAUSE = 512
MOST_OTHERS = 4  # causes, and members of a group
_PACKAGE = __file__.removesuffix("attempt/raised.py")


@contextmanager
def _entered() -> Iterator[None]:
    yield


@asynccontextmanager
async def _entered_async() -> AsyncIterator[None]:
    yield


# What a call returns in place of running code. Other iterators are fine: a cursor is one, and its statement has run.
_UNRUN = (types.GeneratorType, types.AsyncGeneratorType, map, filter, type(_entered()), type(_entered_async()))


def refuse_unrun(result: object) -> None:
    """Raise Permanent if a handler's result shows that its code, or a part of it, has not run."""
    if isinstance(result, types.CoroutineType):
        result.close()  # otherwise Python warns that nobody awaited it
    elif not isinstance(result, _UNRUN) and not hasattr(type(result), "__await__"):
        return
    name = type(result).__name__
    raise Permanent(
        f"the handler returned a {name}, so its code has not run to its end. A handler is a plain function without"
        " yield. It runs async code itself, with asyncio.run()"
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes, in the order of a traceback."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def came_from_fork(error: BaseException) -> bool:
    """Is this EAGAIN about too many processes, and not about a socket without data?"""
    return any(frame.name == "_execute_child" for frame in traceback.extract_tb(error.__traceback__))


def interrupt_behind(error: BaseException) -> Interrupted | None:
    """Our interrupt: this error, or the error during whose clean-up this one was raised. None if there is none."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, Interrupted):
        seen = seen.__context__
    return seen


def fell_at_entry(error: Interrupted) -> bool:
    """Did our interrupt meet the handler before its first line? A signal that arrives during the call is handled at the
    instruction with which each function begins."""
    frame = error.__traceback__ and error.__traceback__.tb_next  # the first frame is our call of the handler
    return frame is not None and frame.tb_frame.f_code.co_code[frame.tb_lasti] == _RESUME


def as_text(error: BaseException, *, trace: bool = False) -> str:
    """What was raised, with its causes, as text that PostgreSQL can store: see `storable`.

    Of a long message the beginning is kept, of a long stack (`trace`) the end.
    """
    expected = isinstance(error, (NotNow, Permanent, RetryAfter))
    parts = [_said(error, named=not expected)[:LONGEST_MESSAGE]]
    if trace:
        frames = traceback.format_tb(error.__traceback__)[1:]  # the first frame is this module's call of the handler
        parts.append("".join(frames)[-LONGEST_STACK:].rstrip())
    parts += _members(error)
    for cause in islice(chain(error), 1, 1 + MOST_OTHERS):
        parts += [f"caused by {_with_place(cause)}", *_members(cause)]
    return storable("\n".join(filter(None, parts)))


def storable(text: str) -> str:
    """The text as PostgreSQL can store it: no NUL, no lone surrogate, at most 8 KiB."""
    clean = text.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()
    return clean.encode()[:LONGEST_ERROR].decode(errors="ignore")


def place(error: BaseException) -> str:
    """Where it was raised: file, line and function. '' if that is not known."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""


def stood_at(interrupt: Interrupted) -> str:
    """The stack of a handler at the moment of its interrupt."""
    return _as_stood(traceback.extract_tb(interrupt.__traceback__)[1:])


def stands_at(frame: types.FrameType | None) -> str:
    """The stack of a handler that still runs. `frame` is the main thread's current frame."""
    frames = list(traceback.extract_stack(frame)) if frame else []
    callers = (
        number
        for number, (caller, called) in enumerate(pairwise(frames), start=1)
        if caller.filename == f"{_PACKAGE}attempt/attempt.py" and not _is_ours(called)
    )
    return _as_stood(frames[next(callers, 0) :])


def _as_stood(frames: list[traceback.FrameSummary]) -> str:
    # The last frames may be ours: the signal's handler, or functions of ours that the handler called.
    while frames and _is_ours(frames[-1]):
        frames = frames[:-1]
    return "".join(traceback.format_list(frames))[-LONGEST_STACK:].rstrip()


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_PACKAGE) and not frame.filename.startswith(f"{_PACKAGE}handlers/")  # the forge's


def _said(error: BaseException, *, named: bool = True) -> str:
    try:
        said = f"{type(error).__name__}: {error}" if named else str(error)
    except Exception:  # noqa: BLE001 (a __str__ may raise too)
        said = type(error).__name__
    notes = getattr(error, "__notes__", None)
    return "\n".join([said, *(each for each in notes if isinstance(each, str))] if isinstance(notes, list) else [said])


def _with_place(error: BaseException) -> str:
    return " at ".join(filter(None, (_said(error)[:LONGEST_CAUSE], place(error))))


def _members(error: BaseException) -> list[str]:
    if not isinstance(error, BaseExceptionGroup):
        return []
    shown = [f"one of them: {_with_place(each)}" for each in error.exceptions[:MOST_OTHERS]]
    left = len(error.exceptions) - len(shown)
    return [*shown, f"and {left} more"] if left else shown
