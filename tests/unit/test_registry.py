"""Kinds and their handlers: what can be registered, what an import refuses, and how a worker loads them."""

from __future__ import annotations

import inspect
from datetime import timedelta
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker import registry as registry_module
from shithubd_worker.errors import ConfigError
from shithubd_worker.registry import ENTRY_POINTS, Registry, check_kind, load


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


@pytest.mark.parametrize("function", [no_arguments, keyword_only, keywords, coroutine])
def test_a_function_that_cannot_take_its_job_is_refused(function):
    registry = Registry()
    with pytest.raises(TypeError, match="some"):
        registry.handler("some.kind")(function)
    assert not registry


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


# The registries that the operator names.


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that can be imported, and return its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry_module, "entry_points", lambda *, group: [])
    count = 0

    def write(text):
        nonlocal count
        count += 1
        name = f"jobs_of_{tmp_path.name.replace('-', '_')}_{count}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


GOOD = """
from shithubd_worker import Registry
registry = Registry()
@registry.handler({kind!r}, max_attempts={attempts})
def run(job): ...
"""


def test_several_registries_are_loaded_into_one(module):
    one, other = module(GOOD.format(kind="a.one", attempts=1)), module(GOOD.format(kind="a.other", attempts=1))
    assert sorted(load([f"{one}:registry", f"{other}:registry"])) == ["a.one", "a.other"]


def test_all_faults_of_the_registries_are_shown_at_once_each_on_one_line(module):
    broken = module("raise RuntimeError('no\\nway')")
    exits = module("import sys\nsys.exit(3)")
    twice = module(GOOD.format(kind="a.kind", attempts=1) + "registry.handler('a.kind')(run)\n")
    empty = module("registry = 7")
    with pytest.raises(ConfigError) as caught:
        load([*(f"{m}:registry" for m in (broken, exits, twice, empty)), f"{empty}:nothing", "no_such:x", "junk"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 7
    for line, part in zip(
        lines,
        [
            "RuntimeError: no",
            "SystemExit: 3",
            "'a.kind' is registered twice",
            "int, not a Registry",
            "nothing",
            "no_such",
            "expected",
        ],
        strict=True,
    ):
        assert line.startswith("--handlers ")
        assert part in line


def test_the_same_kind_in_two_named_registries_is_a_fault(module):
    one, other = module(GOOD.format(kind="a.kind", attempts=1)), module(GOOD.format(kind="a.kind", attempts=2))
    with pytest.raises(ConfigError, match=r"'a\.kind' is registered twice"):
        load([f"{one}:registry", f"{other}:registry"])


def test_a_host_can_replace_the_handler_of_an_installed_package(module, monkeypatch):
    mine = module(GOOD.format(kind="forge.kind", attempts=1))
    package = module(
        GOOD.format(kind="forge.kind", attempts=2) + "registry.handler('forge.other', max_attempts=3)(run)"
    )
    entry_point = EntryPoint("forge", f"{package}:registry", ENTRY_POINTS)
    monkeypatch.setattr(registry_module, "entry_points", lambda *, group: [entry_point])
    loaded = load([f"{mine}:registry"])
    assert {name: kind.max_attempts for name, kind in loaded.items()} == {"forge.kind": 1, "forge.other": 3}


def test_an_installed_package_that_is_broken_is_named(module, monkeypatch):
    broken = module("import no_such_library")
    entry_point = EntryPoint("forge", f"{broken}:registry", ENTRY_POINTS)
    monkeypatch.setattr(registry_module, "entry_points", lambda *, group: [entry_point])
    with pytest.raises(ConfigError, match=r"entry point forge .*no_such_library"):
        load([])


def test_a_wait_objective_is_a_duration_or_nothing():
    assert registered().wait_objective is None
    assert registered(wait_objective=90).wait_objective == 90.0
    assert registered(wait_objective=timedelta(hours=6)).wait_objective == 21_600.0
    for value in (0, -1, 0.5, "60", True, float("nan"), float("inf"), timedelta(days=400)):
        with pytest.raises(ValueError, match="wait_objective must be at least 1 second"):
            registered(wait_objective=value)
