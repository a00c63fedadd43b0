"""Kinds and their handlers: what can be registered, and what an import refuses."""

from __future__ import annotations

import functools
import inspect
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.model import check_kind
from shithubd_worker.payload import RESERVED
from shithubd_worker.registry import Registry


def registered(**settings):
    registry = Registry()

    @registry.handler("some.kind", **settings)
    def handler(job, repo, ref="HEAD"):
        return repo, ref

    return registry["some.kind"]


def test_a_kind_has_the_documented_limits_by_default():
    kind = registered()
    assert (kind.lease_timeout, kind.max_runtime, kind.max_attempts, kind.retention) == (300, 300, 10, "7d")
    assert [kind.backoff(n) for n in (1, 2, 3, 50)] == [30, 60, 120, 3600]


def test_a_registered_handler_stays_the_same_function():
    registry = Registry()

    @registry.handler("some.kind")
    def handler(job, repo):
        return job, repo

    assert handler(1, 2) == (1, 2)
    assert registry["some.kind"].handler is handler
    assert registry["some.kind"].signature == inspect.signature(handler)


def test_max_runtime_follows_the_lease_timeout_unless_it_is_given():
    assert registered(lease_timeout=60).max_runtime == 60
    assert registered(lease_timeout=60, max_runtime=3600).max_runtime == 3600
    assert registered(lease_timeout=60, max_runtime=5).lease_timeout == 60


def test_durations_are_seconds_or_timedeltas():
    kind = registered(lease_timeout=timedelta(minutes=2), max_runtime=1.5)
    assert (kind.lease_timeout, kind.max_runtime) == (120.0, 1.5)


@pytest.mark.parametrize(
    "value", [0, 0.99, -1, timedelta(milliseconds=999), float("nan"), float("inf"), 1e9, True, "60", None]
)
def test_a_duration_that_cannot_work_is_refused_when_the_kind_is_registered(value):
    with pytest.raises(ValueError, match="lease_timeout"):
        registered(lease_timeout=value)
    if value is not None:
        with pytest.raises(ValueError, match="max_runtime"):
            registered(max_runtime=value)


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", None])
def test_attempts_are_a_whole_number_from_one(value):
    with pytest.raises(ValueError, match="max_attempts"):
        registered(max_attempts=value)


@pytest.mark.parametrize("value", ["", "1d", "90", 7, None])
def test_only_the_three_retention_classes_exist(value):
    with pytest.raises(ValueError, match="none, 7d, 90d"):
        registered(retention=value)


def test_a_backoff_is_a_number_or_a_function_of_the_attempt():
    assert [registered(backoff=7).backoff(n) for n in (1, 5)] == [7.0, 7.0]
    assert registered(backoff=0).backoff(1) == 0
    assert registered(backoff=lambda attempt: attempt * 10).backoff(3) == 30


@pytest.mark.parametrize("value", [-1, float("nan"), True, "30", timedelta(seconds=1)])
def test_any_other_backoff_is_refused(value):
    with pytest.raises(ValueError, match="backoff"):
        registered(backoff=value)


def test_a_kind_registered_twice_is_refused_by_its_name():
    registry = Registry()
    registry.handler("some.kind")(lambda job: None)
    with pytest.raises(ValueError, match=r"'some\.kind' is registered twice"):
        registry.handler("some.kind")(lambda job: None)
    other = Registry()
    other.handler("some.kind")(lambda job: None)
    with pytest.raises(ValueError, match=r"'some\.kind' is registered twice"):
        registry.add(other.values())


def no_arguments():
    pass


def keyword_only(*, job):
    pass


def keywords(**members):
    pass


async def coroutine(job):
    pass


class Handlers:
    def method(self, job):
        pass

    @classmethod
    def of_the_class(cls, job):
        pass

    @staticmethod
    def of_nobody(job):
        pass

    def __call__(self, job):
        pass


BAD = [no_arguments, keyword_only, keywords, coroutine, Handlers, Handlers.method, Handlers.__dict__["of_the_class"]]


@pytest.mark.parametrize("function", [*BAD, dict.update, int, max, None, 5])
def test_what_cannot_take_its_job_is_refused_by_its_kind(function):
    registry = Registry()
    with pytest.raises(TypeError, match=r"^kind 'some\.kind': "):
        registry.handler("some.kind")(function)
    assert not registry


def handler_with(parameters):
    made = {}
    exec(f"def f({parameters}): ...", made)
    return made["f"]


@pytest.mark.parametrize(
    ("parameters", "name", "says"),
    [
        *((f"job, {name}", name, "Give the parameter another name") for name in sorted(RESERVED)),
        ("job, repo, priority=0", "priority", "priority= is an argument of enqueue() itself"),
        ("job, *, delay=1", "delay", "delay= is an argument of enqueue() itself"),
        ("job, schema, **members", "schema", "schema= is an argument of enqueue() itself"),
        ("job, repo, /", "repo", "it is positional only"),
        ("job, repo=1, /, ref=2", "repo", "Move the / in front of it"),
        ("job, *names", "names", "Name the parameter, or take **members"),
        ("job, repo, *delay", "delay", "Give the parameter another name"),
    ],
)
def test_a_parameter_that_enqueue_cannot_pass_is_refused_with_its_place(parameters, name, says):
    function = handler_with(parameters)
    here = f"{function.__code__.co_filename}:1: "

    @functools.wraps(function)
    def decorated(*arguments, **members):
        return function(*arguments, **members)

    for each in (function, functools.partial(function), decorated):
        with pytest.raises(TypeError) as caught:
            Registry().handler("some.kind")(each)
        told = str(caught.value)
        assert told.startswith(f"kind 'some.kind': {here}enqueue() can't pass the parameter {name!r}: ")
        assert says in told


@pytest.mark.parametrize(
    "function",
    [
        handler_with("job, /, repo, *, ref=1"),
        handler_with("job, connection, kind"),  # positional only in enqueue()
        handler_with("job, *args, **kwargs"),  # what a decorator without functools.wraps() is
        handler_with("*args, **kwargs"),
        handler_with("job, **delay"),
        functools.partial(handler_with("job, repo, delay"), delay=3),
        *(Handlers().method, Handlers.of_the_class, Handlers.of_nobody, Handlers.__dict__["of_nobody"], Handlers()),
    ],
)
def test_a_parameter_that_enqueue_can_pass_or_need_not_pass_is_accepted(function):
    registry = Registry()
    assert registry.handler("some.kind")(function) is function


@pytest.mark.parametrize("function", [lambda job: 0, lambda job, /: 0, lambda *all_of_it: 0, lambda job, **more: 0])
def test_any_function_whose_first_argument_can_be_the_job_is_accepted(function):
    registry = Registry()
    registry.handler("some.kind")(function)
    assert list(registry) == ["some.kind"]


@pytest.mark.parametrize("name", ["", "a" * 201, "a\nb", "a\x00", "\x7f", "a\x85", "\ud800"])
def test_a_name_that_no_row_of_jobs_can_have_is_refused(name):
    with pytest.raises(ValueError, match="1 to 200 characters"):
        check_kind(name)
    with pytest.raises(ValueError, match="1 to 200 characters"):
        Registry().handler(name)


@pytest.mark.parametrize("name", [None, 7, b"kind", ["kind"]])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(TypeError, match="string"):
        check_kind(name)


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=200))
def test_any_other_name_is_accepted(name):
    check_kind(name)


def test_a_decorator_without_its_kind_is_refused_with_what_to_write():
    with pytest.raises(TypeError, match=r'@registry.handler\("some.kind"\)'):
        Registry().handler(lambda job: None)


def test_a_wait_objective_is_a_duration_or_nothing():
    assert registered().wait_objective is None
    assert registered(wait_objective=90).wait_objective == 90.0
    assert registered(wait_objective=timedelta(hours=6)).wait_objective == 21_600.0
    for value in (0, -1, 0.5, "60", True, float("nan"), float("inf"), timedelta(days=400)):
        with pytest.raises(ValueError, match="wait_objective must be at least 1 second"):
            registered(wait_objective=value)
