"""Kinds and their handlers: a developer fills a registry, and a worker loads it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Concatenate, Literal, TypeVar, get_args

from shithubd_worker.backoff import after_attempt
from shithubd_worker.model import Lease, check_kind
from shithubd_worker.payload import RESERVED
from shithubd_worker.timing import SHORTEST_LEASE_SECONDS, margin

if TYPE_CHECKING:
    from shithubd_worker.job import Job

Handler = Callable[..., object]
Backoff = Callable[[int], float]
Retention = Literal["none", "7d", "90d"]
# A handler keeps its own type. A type checker refuses one whose first argument can't be the job.
F = TypeVar("F", bound="Callable[Concatenate[Job, ...], object]")

RETENTIONS: tuple[Retention, ...] = get_args(Retention)
LONGEST_SECONDS = 365 * 86_400
MOST_FITTING = 100


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of job and its limits. Durations are in seconds. `backoff` maps the failed attempt (from 1) to
    seconds."""

    name: str
    handler: Handler
    signature: inspect.Signature
    lease_timeout: float
    # How long a run goes on without a word of the database: no longer than its lease, and than the worker promised to
    # the sweep. Then others may start.
    trusted: float
    # The worker gives a run up so many seconds before: time to stop.
    margin: float
    max_runtime: float
    max_attempts: int
    backoff: Backoff
    retention: str
    wait_objective: float | None = None
    fitting: set[tuple[str, ...]] = field(default_factory=set)  # names of members that fitted before

    def within(self, silence: float) -> Kind:
        """The kind on a worker that gives up after so many seconds without a word of the database. 0: it promises
        nothing beyond the lease."""
        trusted = min(self.lease_timeout, silence or math.inf)
        return dataclasses.replace(self, trusted=trusted, margin=margin(trusted))

    def check(self, job: object, members: object) -> None:
        """Raise TypeError if the handler can't be called with this job and these members of a payload."""
        if not isinstance(members, dict):
            raise TypeError(f"the payload is a {type(members).__name__}, not an object")
        names = tuple(members)
        if names not in self.fitting:  # asking the signature is slow, and its answer depends on the names alone
            self.signature.bind(job, **members)
            if len(self.fitting) < MOST_FITTING:
                self.fitting.add(names)

    def most_attempts(self, lease: Lease) -> int:
        """How many attempts the leased job has: its own number, or else that of the kind."""
        return self.max_attempts if lease.max_attempts is None else lease.max_attempts


class Registry(Mapping[str, Kind]):
    """A mapping of kinds: the kind's name → its handler and limits.

    A handler's first argument is the job. The members of the payload are its keyword arguments. An example:

        registry = Registry()


        @registry.handler("stars.add", lease_timeout=60, max_attempts=5)
        def add_stars(job: Job, repo: str, stars: int = 1) -> None:
            job.log.info("%s has %d more", repo, stars)


        print(registry, registry["stars.add"].max_attempts)
    """

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}

    def __repr__(self) -> str:
        return f"<Registry {reprlib.repr(list(self))}>"

    def handler(
        self,
        kind: str,
        *,
        lease_timeout: float | timedelta = 300,
        max_runtime: float | timedelta | None = None,
        max_attempts: int = 10,
        backoff: float | Backoff | None = None,
        retention: Retention = "7d",
        wait_objective: float | timedelta | None = None,
    ) -> Callable[[F], F]:
        """Register a function as the handler of `kind`.

        - `lease_timeout`: how long the lease of a dead worker blocks the job.
        - `max_runtime`: when the handler is interrupted. The default is the lease timeout. The worker renews the lease
          as long as the handler runs.
        - `max_attempts`: the attempt after which the job is `failed`.
        - `backoff`: a number of seconds, or a function of the failed attempt, in place of 30 s · 2^(n-1).
        - `retention`: how long the history keeps a finished job: none, 7d or 90d.
        - `wait_objective`: how long a due job may wait until it starts. The alerts compare with it; nothing else does.

        Durations are seconds or a timedelta, and at least one second. Raises ValueError or TypeError, at import, for a
        value that can't work and for a kind that is registered twice.
        """
        if callable(kind):
            raise TypeError('name the kind: @registry.handler("some.kind") in place of @registry.handler')
        check_kind(kind)
        if retention not in RETENTIONS:
            raise ValueError(f"kind {kind!r}: retention must be one of {', '.join(RETENTIONS)}, not {retention!r}")
        if not isinstance(max_attempts, int) or max_attempts < 1:
            raise ValueError(f"kind {kind!r}: max_attempts must be a whole number of at least 1, not {max_attempts!r}")
        lease_seconds = _seconds(kind, "lease_timeout", lease_timeout)
        runtime_seconds = lease_seconds if max_runtime is None else _seconds(kind, "max_runtime", max_runtime)
        objective = None if wait_objective is None else _seconds(kind, "wait_objective", wait_objective)

        def register(function: F) -> F:
            if kind in self._kinds:
                raise ValueError(f"kind {kind!r} is registered twice")
            self._kinds[kind] = Kind(
                name=kind,
                handler=function,
                signature=_signature(kind, function),
                lease_timeout=lease_seconds,
                trusted=lease_seconds,
                margin=margin(lease_seconds),
                max_runtime=runtime_seconds,
                max_attempts=max_attempts,
                backoff=_backoff(kind, backoff),
                retention=retention,
                wait_objective=objective,
            )
            return function

        return register

    def add(self, kinds: Iterable[Kind]) -> None:
        """Add kinds of another registry. Raises ValueError if a kind is here already."""
        for kind in kinds:
            if kind.name in self._kinds:
                raise ValueError(f"kind {kind.name!r} is registered twice")
            self._kinds[kind.name] = kind

    def __getitem__(self, name: str) -> Kind:
        return self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)


def _seconds(kind: str, name: str, value: float | timedelta) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not SHORTEST_LEASE_SECONDS <= seconds <= LONGEST_SECONDS:
        raise ValueError(f"kind {kind!r}: {name} must be at least 1 second and at most 365 days, not {value!r}")
    return float(seconds)


def _signature(kind: str, function: Handler) -> inspect.Signature:
    if wrong := _never_run(function):
        raise TypeError(
            f"kind {kind!r}: the handler is {wrong}: a call of it runs none of its code."
            " A handler is a plain function. It runs async code itself, with asyncio.run()"
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"kind {kind!r}: the handler must be a function whose arguments Python can tell: {error}"
        ) from error
    job, *members = signature.parameters.values() or (None,)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if job is None or job.kind not in (*positional, inspect.Parameter.VAR_POSITIONAL):
        raise TypeError(f"kind {kind!r}: the handler's first argument must be the job: def f(job, ...)")
    if job.name in ("self", "cls"):
        raise TypeError(
            f"kind {kind!r}: {_where(function)}the handler is a method of no object: its first argument is {job.name}."
            " Register the method of an object: registry.handler(kind)(OBJECT.METHOD)"
        )
    filled = getattr(function, "keywords", {}) if isinstance(function, functools.partial) else {}
    # A decorator without functools.wraps() hands on all that comes: def f(job, *args, **kwargs).
    hands_on = any(each.kind is each.VAR_KEYWORD for each in members)
    for each in members:
        if wrong := None if each.name in filled else _not_passed(each, hands_on=hands_on):
            passes = f"{_where(function)}enqueue() can't pass the parameter {each.name!r}"
            raise TypeError(f"kind {kind!r}: {passes}: {wrong}")
    return signature


def _not_passed(parameter: inspect.Parameter, *, hands_on: bool) -> str | None:
    """Why no member of a payload becomes this parameter of a handler, and what to do; else None."""
    if parameter.name in RESERVED and parameter.kind is not parameter.VAR_KEYWORD:
        return f"{parameter.name}= is an argument of enqueue() itself. Give the parameter another name"
    if parameter.kind is parameter.POSITIONAL_ONLY:
        return "it is positional only, and members of a payload have names. Move the / in front of it"
    if parameter.kind is parameter.VAR_POSITIONAL and not hands_on:
        return "members of a payload have names. Name the parameter, or take **members"
    return None


def _where(function: Handler) -> str:
    """`file:line: ` of a handler, if it has one."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}: " if code else ""


def _never_run(function: Handler) -> str | None:
    """What kind of function this is, if a call of it runs none of its code; else None.

    The function below a decorator of functools.wraps() is not looked at, because the decorator may run the coroutine.
    If the decorator doesn't, the result of the first call shows it (raised.refuse_unrun).
    """
    while isinstance(function, functools.partial):
        function = function.func
    for called in (function, getattr(type(function), "__call__", None)):  # noqa: B004 (not whether, but which)
        if inspect.iscoroutinefunction(called):
            return "an async function"
        if inspect.isasyncgenfunction(called):
            return "an async generator function"
        if inspect.isgeneratorfunction(called):
            return "a generator function (it has a yield)"
    return None


def _backoff(kind: str, backoff: float | Backoff | None) -> Backoff:
    if backoff is None:
        return after_attempt
    if callable(backoff):
        return backoff
    if isinstance(backoff, bool) or not isinstance(backoff, (int, float)) or not backoff >= 0:
        raise ValueError(f"kind {kind!r}: backoff must be seconds or a function of the attempt, not {backoff!r}")
    return functools.partial(_constant, float(backoff))


def _constant(seconds: float, attempt: int) -> float:
    return seconds
