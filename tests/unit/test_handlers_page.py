"""docs/handlers.md names what the author of a handler can use, with the types and defaults of the code, and no more."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import shithubd_worker
from shithubd_worker import errors, handlers
from shithubd_worker.handlers import (
    git,
    repo_maintenance,
    search_reindex,
    webhook_answer,
    webhook_deliver,
    webhook_secret,
)
from shithubd_worker.job import Job
from shithubd_worker.registry import Kind, Registry
from shithubd_worker.settings.config import Config

TEXT = (Path(__file__).parents[2] / "docs/handlers.md").read_text()


def rows(heading: str, number: int = 0) -> list[dict[str, str]]:
    """A table below a heading, by the names of its columns, without the marks of code; the first one is number 0."""
    section = re.split(rf"^#+ {re.escape(heading)}$", TEXT, flags=re.MULTILINE)[1]
    section = re.split(
        r"^#+ ", re.sub(r"^```.*?^```", "", section, flags=re.DOTALL | re.MULTILINE), flags=re.MULTILINE
    )[0]
    table = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)[number].splitlines()
    names, _, *body = [
        [cell.strip().replace(r"\|", "|").replace("`", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table
    ]
    return [dict(zip(names, cells, strict=True)) for cells in body]


def short(annotation: Any) -> str:
    """A type without the modules that its parts live in, and what they are made of."""
    return re.sub(r"\b[a-z_]+\.|\[(Any|logging\.Logger|Logger)\]", "", str(annotation))


def told(function: Any, *without: str) -> list[tuple[str, str, str]]:
    """Name, type and default of each parameter, as a table has them."""
    parameters = inspect.signature(function).parameters.values()
    return [
        (each.name, short(each.annotation), default(each))
        for each in parameters
        if each.name not in ("self", "job", *without)
    ]


def default(parameter: inspect.Parameter) -> str:
    if parameter.kind is parameter.VAR_KEYWORD:
        return ""
    return "required" if parameter.default is parameter.empty else repr(parameter.default)


def called(name: str, function: Any) -> str:
    """As a call of it is written."""
    signature = inspect.signature(function)
    parameters = [each.replace(annotation=each.empty) for each in signature.parameters.values() if each.name != "self"]
    return f"{name}{signature.replace(parameters=parameters, return_annotation=signature.empty)}"


MEMBERS = [name for name in vars(Job) if not name.startswith("_")]  # what a Job has for its handler


def test_the_page_names_all_that_the_package_exports():
    assert {row["name"] for row in rows("Names")} == set(shithubd_worker.__all__)


def test_the_page_has_each_argument_of_a_registration_with_its_type_and_default():
    written = [(row["argument"], row["type"], row["default"]) for row in rows("Registering")]
    assert written == told(Registry.handler)


def test_the_page_has_each_method_of_a_registry():
    methods = {name for name in vars(Registry) if not name.startswith("_")}
    assert methods == set(re.findall(r"`@?registry\.(\w+)\(", TEXT))


def test_the_page_has_each_member_of_a_job_with_its_type():
    written = {row["member"]: row["type"] for row in rows("The job")}
    expected = {}
    for name in MEMBERS:
        member = vars(Job)[name]
        if isinstance(member, property):
            expected[f"job.{name}"] = short(member.fget.__annotations__["return"])
        else:
            expected[called(f"job.{name}", member)] = short(member.__annotations__["return"])
    assert written == expected


def test_the_page_says_of_each_setting_whether_it_is_a_handlers():
    fields = {field.name: field for field in dataclasses.fields(Config)}
    written = {row["member"].removeprefix("job.config."): row for row in rows("The configuration")}
    for name, row in written.items():
        assert (row["type"], row["default"]) == (short(fields[name].type), repr(fields[name].default))
    package = Path(handlers.__file__).parent
    used = {name for path in package.glob("*.py") for name in re.findall(r"job\.config\.(\w+)", path.read_text())}
    assert set(written) == used


@pytest.mark.parametrize("name", ["Permanent", "RetryAfter", "NotNow"])
def test_the_page_shows_how_an_exception_is_made(name):
    raised = getattr(errors, name)
    shown = called(name, raised.__init__) if "__init__" in vars(raised) else f"{name}(*args)"
    assert shown in [row["raise"] for row in rows("Exceptions")]


def test_the_page_names_no_exception_that_is_not_there():
    for name in re.findall(r"raises? `([A-Z]\w+)`", TEXT):
        assert hasattr(errors, name) or name in ("ValueError", "TypeError", "RuntimeError", "SystemExit"), name


def test_the_page_has_each_argument_of_an_enqueue_with_its_type_and_default():
    written = [(row["argument"], row["type"], row["default"]) for row in rows("Enqueueing")]
    assert written == told(shithubd_worker.enqueue)


def test_the_page_has_the_limits_of_the_kinds_that_come_along():
    columns = ("lease_timeout", "max_runtime", "max_attempts")
    written = {row["kind"]: [float(row[name]) for name in columns] for row in rows("The kinds that come along")}
    assert written == {
        name: [float(getattr(kind, column)) for column in columns] for name, kind in handlers.registry.items()
    }
    assert {kind.retention for kind in handlers.registry.values()} == {"7d"}


def test_the_page_has_each_member_of_the_payloads_of_the_kinds_that_come_along():
    written = [
        (row["kind"], row["member"], row["type"], row["default"]) for row in rows("The kinds that come along", 1)
    ]
    assert written == [(name, *each) for name, kind in handlers.registry.items() for each in told(kind.handler)]


def test_the_page_says_for_how_long_the_kinds_that_come_along_wait():
    waits = {row["the handler meets"]: row["the job"] for row in rows("The kinds that come along", 2)}
    [away] = [job for meets, job in waits.items() if "not mounted" in meets]
    assert git.MISCONFIGURED_SECONDS == webhook_secret.MISCONFIGURED_SECONDS
    assert away == f"released for {git.MISCONFIGURED_SECONDS / 60:g} minutes"
    assert waits["another git gc on the repository"] == (
        f"released for {repo_maintenance.BUSY_AGAIN_SECONDS / 60:g} minutes"
    )
    assert waits["another search.reindex on the repository"] == (
        f"released for {search_reindex.BUSY_AGAIN_SECONDS / 60:g} minutes"
    )
    assert f"git gc that takes longer than {repo_maintenance.TIME_LIMIT / 60:g} minutes" in waits
    assert repo_maintenance.TOO_LONG_AGAIN_SECONDS == webhook_answer.LONGEST_RETRY_AFTER == 86_400
    assert f"no answer within {webhook_deliver.DELIVERY_TIMEOUT:g} s" in TEXT


def test_the_page_names_nothing_of_a_job_a_configuration_or_a_kind_that_is_not_there():
    assert set(re.findall(r"\bjob\.([a-z_]+)\b", TEXT)) <= set(MEMBERS)
    assert set(re.findall(r"\bjob\.config\.([a-z_]+)", TEXT)) <= {field.name for field in dataclasses.fields(Config)}
    assert set(re.findall(r"\bkind\.([a-z_]+)", TEXT)) <= {field.name for field in dataclasses.fields(Kind)}
