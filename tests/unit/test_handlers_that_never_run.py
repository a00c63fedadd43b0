"""A handler whose code does not run when it is called is refused, or fails its job: such a job is never `ok`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import types
import warnings

import pytest
from test_attempt import Scene

from shithubd_worker.model import How
from shithubd_worker.registry import Registry


async def a_coroutine_function(job):
    pytest.fail("ran")


def a_generator_function(job):
    pytest.fail("ran")
    yield


async def an_async_generator_function(job):
    pytest.fail("ran")
    yield


@types.coroutine
def an_old_coroutine_function(job):
    pytest.fail("ran")
    yield


NEVER = [a_coroutine_function, a_generator_function, an_async_generator_function, an_old_coroutine_function]


def method_of(function):
    """A bound method."""
    return types.MethodType(function, object())


def object_of(function):
    """A callable object."""
    return type("Handler", (), {"__call__": function})()


def static_object_of(function):
    """An object whose __call__ is a static method."""
    return type("Handler", (), {"__call__": staticmethod(function)})()


def decorated(function):
    """The function in a decorator that supports plain functions only."""

    @functools.wraps(function)
    def wrapper(*arguments, **members):
        return function(*arguments, **members)

    return wrapper


def never_with_self():
    """The same functions with one more argument, for methods."""

    async def coroutine(self, job):
        pytest.fail("ran")

    def generator(self, job):
        pytest.fail("ran")
        yield

    async def async_generator(self, job):
        pytest.fail("ran")
        yield

    return [coroutine, generator, async_generator]


SEEN = [
    *NEVER,
    *(functools.partial(function) for function in NEVER),
    *(functools.partial(functools.partial(function)) for function in NEVER),
    *(method_of(function) for function in never_with_self()),
    *(object_of(function) for function in never_with_self()),
    *(functools.partial(object_of(function)) for function in never_with_self()),
    *(static_object_of(function) for function in NEVER),
]


@pytest.mark.parametrize("handler", SEEN)
def test_a_function_that_does_not_run_when_called_is_refused_at_registration(handler):
    with pytest.raises(TypeError, match=r"kind 'some.kind': the handler is an? .*: a call of it runs none of its code"):
        Registry().handler("some.kind")(handler)


@contextlib.contextmanager
def a_context(job):
    pytest.fail("ran")
    yield


@contextlib.asynccontextmanager
async def an_async_context(job):
    pytest.fail("ran")
    yield


class Awaitable:
    def __await__(self):
        return iter(())


NOT_SEEN = [
    *(decorated(function) for function in NEVER),
    *(decorated(decorated(function)) for function in NEVER),
    lambda job: a_coroutine_function(job),  # noqa: PLW0108
    lambda job: map(pytest.fail, [job]),
    lambda job: filter(pytest.fail, [job]),
    lambda job: Awaitable(),
    a_context,
    an_async_context,
]


@pytest.mark.parametrize("handler", NOT_SEEN)
def test_a_result_that_still_has_to_run_fails_the_job_at_once(handler):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        outcome = Scene(handler).run()
        gc.collect()
    assert outcome.how is How.FAILED
    assert "so its code has not run to its end. A handler is a plain function" in outcome.error
    assert not warned  # the warning about a coroutine that nobody awaited


def running(function):
    """A decorator that runs a coroutine."""

    @functools.wraps(function)
    def wrapper(*arguments, **members):
        return asyncio.run(function(*arguments, **members))

    return wrapper


async def asynchronous(job):
    await asyncio.sleep(0)
    return "done"


@pytest.mark.parametrize(
    "handler",
    [
        running(asynchronous),
        lambda job: None,
        lambda job: "text",
        lambda job: [1, 2],
        lambda job: iter([1]),
        lambda job: contextlib.nullcontext(),
        functools.partial(lambda job, other: other, other=1),
        object_of(lambda self, job: None),
        method_of(lambda self, job: None),
    ],
)
def test_any_other_function_and_result_is_ok(handler):
    assert Scene(handler).run().how is How.OK


def test_a_job_that_has_settled_itself_stays_ok_with_any_result():
    def handler(job):
        with job.transaction():
            pass
        return a_coroutine_function(job)

    assert Scene(handler).run().how is How.OK
