"""The public names, as somebody sees them who imports the package: help(), dir(), copies, and what can't be changed."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest
from attempts import Scene
from examples import PUBLIC, example

import shithubd_worker
from shithubd_worker import Interrupted, Job, LeaseLost, NotNow, NotTheWorker, Permanent, Registry, RetryAfter
from shithubd_worker.model import How

PROPERTIES = {name: member for name, member in vars(Job).items() if isinstance(member, property)}
METHODS = [name for name in vars(Job) if name[0] != "_" and name not in PROPERTIES]


def in_a_new_interpreter(program):
    """What it prints, in an interpreter that has imported none of our names."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_help_shows_each_public_name_with_its_types_and_its_example():
    """As at once after `import shithubd_worker`, when no name is loaded yet."""
    printed = in_a_new_interpreter("import shithubd_worker; help(shithubd_worker)").stdout
    shown = "\n".join(line.strip(" |") for line in printed.splitlines())
    for name in PUBLIC:
        public = getattr(shithubd_worker, name)
        assert (f"class {name}(" if inspect.isclass(public) else f"{name}{inspect.signature(public)}") in printed
        assert "\n".join(line.strip() for line in example(name).splitlines()) in shown, name
    for name, member in PROPERTIES.items():
        assert f"{name}\n{member.fget.__annotations__['return']}: " in shown
    for name in METHODS:
        assert f"{name}{inspect.signature(getattr(Job, name))}" in shown
    assert shithubd_worker.__version__ in printed


def test_each_property_of_a_job_begins_its_help_with_its_type():
    for name, member in PROPERTIES.items():
        assert member.__doc__.startswith(f"{member.fget.__annotations__['return']}: "), name


def test_the_package_has_its_public_names_and_no_others():
    before = "import shithubd_worker; print(*dir(shithubd_worker))"
    program = f"{before}; from shithubd_worker import *; print(*dir())"
    listed, imported = in_a_new_interpreter(program).stdout.splitlines()
    assert listed.split() == sorted(shithubd_worker.__all__)
    assert set(imported.split()) - {"shithubd_worker"} >= set(listed.split())


@pytest.mark.parametrize(
    "program", ["import shithubd_worker; shithubd_worker.Registri", "from shithubd_worker import Registri"]
)
def test_a_misspelt_name_is_an_error_that_says_so(program):
    said = in_a_new_interpreter(program).stderr.splitlines()[-1]
    assert "'Registri'" in said
    if "import Registri" not in program or sys.version_info >= (3, 12):
        assert said.endswith("Did you mean: 'Registry'?")


class Busy(NotNow):
    """An exception of a handler's author."""


ERRORS = [
    Permanent("no", 1),
    RetryAfter(60, "busy"),
    RetryAfter(timedelta(minutes=1)),
    RetryAfter(None),
    NotNow(60, "away"),
    NotNow(timedelta(days=1), reason="away"),
    Busy(5, "busy"),
    LeaseLost("lost"),
    NotTheWorker("a child"),
    Interrupted("stop"),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize(
    "copied",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_an_error_survives_a_copy_and_the_way_from_another_process(error, copied):
    error.add_note("a note")
    again = copied(error)
    assert (type(again), str(again), repr(again), vars(again)) == (type(error), str(error), repr(error), vars(error))


@pytest.mark.parametrize("reason", [ValueError("no disk"), None, 3])
def test_a_reason_that_is_no_text_is_shown_as_one(reason):
    assert str(NotNow(60, reason)) == str(reason)
    assert str(RetryAfter(60, reason)) == (str(reason) if reason else "asked to be tried again after 60 s")


def in_a_handler(look, **limits):
    """What look(job) returns in a handler."""
    told = []
    scene = Scene(lambda job, **_: told.append(look(job)), '{"n": [1]}', **limits)
    assert scene.run().how is How.OK, scene.result
    return told[0]


@pytest.mark.parametrize("name", [*PROPERTIES, *METHODS, "something"])
def test_nothing_of_a_job_can_be_set_or_deleted(name):
    def change(job):
        with pytest.raises(AttributeError):
            setattr(job, name, 1)
        with pytest.raises(AttributeError):
            delattr(job, name)

    in_a_handler(change)


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_job_can_not_be_copied_and_says_what_to_pass_instead(copied):
    def look(job):
        with pytest.raises(TypeError, match=r"pass job\.id and job\.payload"):
            copied(job)

    in_a_handler(look)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"attempt": 1, "max_attempts": None}, "<Job 7 of kind 'some.kind', attempt 1 of 10>"),
        ({"attempt": 3, "max_attempts": 3}, "<Job 7 of kind 'some.kind', attempt 3 of 3>"),
    ],
)
def test_a_job_in_a_log_line_is_one_short_text_without_the_payload(limits, told):
    assert in_a_handler(repr, **limits) == told


@pytest.mark.parametrize(
    ("attempt", "most", "last"),
    [(1, None, False), (9, None, False), (10, None, True), (1, 1, True), (2, 3, False), (4, 3, True), (1, 0, True)],
)
def test_the_last_attempt_is_the_one_after_which_a_failure_is_final(attempt, most, last):
    def handler(job):
        told.append(job.is_last_attempt)
        raise ValueError

    told = []
    outcome = Scene(handler, attempt=attempt, max_attempts=most).run()
    assert (told, outcome.how) == ([last], How.FAILED if last else How.RETRY)


def test_a_log_of_a_job_is_one_object():
    assert in_a_handler(lambda job: job.log is job.log)


def a_handler(job, repo): ...


def test_a_registry_tells_its_first_kinds_and_survives_a_copy():
    registry = Registry()
    assert repr(registry) == "<Registry []>"
    for number in range(5000):
        registry.handler(f"k{number}", backoff=number)(a_handler)
    assert repr(registry) == "<Registry ['k0', 'k1', 'k2', 'k3', 'k4', 'k5', ...]>"
    for again in (pickle.loads(pickle.dumps(registry)), copy.deepcopy(registry)):
        assert list(again) == list(registry)
        assert again["k9"].backoff(3) == 9.0
        again["k9"].check(SimpleNamespace(), {"repo": "ada/engine"})
