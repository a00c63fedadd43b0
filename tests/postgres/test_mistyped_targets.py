"""A host or a unit that nobody knows is not drained, because its name was probably mistyped."""

from __future__ import annotations

import pytest
from commands import exact_command  # noqa: F401 (fixtures)
from rows import add_worker, holds

from shithubd_worker.errors import EXIT_OK, EXIT_REFUSED, EXIT_USAGE


@pytest.fixture
def fleet(database):
    for host, unit in (("alpha", "forge@1.service"), ("gamma", "forge@2.service"), ("gamma", "webhooks.service")):
        add_worker(database, host, unit=unit)
    return database


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (("--host", "gama"), "no worker of host 'gama' is known: did you mean gamma?"),
        (("--host", "GAMMA-9"), "no worker of host 'GAMMA-9' is known: did you mean alpha or gamma?"),
        (("--unit", "forge"), "no worker of unit 'forge.service' is known: did you mean forge@"),
        (("--unit", "webhook.service"), "did you mean webhooks.service"),
    ],
)
def test_a_name_that_no_worker_has_is_refused_with_similar_names(fleet, command, target, told):
    err = command.refused("drain", *target, "--wait", "--timeout", "30", code=EXIT_REFUSED)
    assert told in err
    assert "To drain it anyway, add --force" in err
    assert holds(fleet) == []
    assert fleet.query("SELECT FROM audit") == []
    command("drain", *target, "--force", code=EXIT_OK)
    assert len(holds(fleet)) == 1


@pytest.mark.parametrize("option", ["--host", "--unit", "--worker"])
@pytest.mark.parametrize("verb", ["drain", "resume"])
def test_an_empty_name_never_means_all(fleet, command, verb, option):
    command("drain", "--host", "alpha", code=EXIT_OK)
    before = holds(fleet)
    assert f"'{option}': is empty" in command.refused(verb, option, "", code=EXIT_USAGE)
    assert holds(fleet) == before


def test_the_refusal_says_if_there_is_no_worker(database, command):
    assert "no host has a worker" in command.refused("drain", "--host", "web1", code=EXIT_REFUSED)
    command("drain", code=EXIT_OK)
    assert holds(database) == [("fleet", "", None)]


@pytest.mark.parametrize("unit", ["forge@1", "forge@1.service"])
def test_a_unit_may_be_named_without_its_suffix(fleet, command, unit):
    command("drain", "--unit", unit)
    assert holds(fleet) == [("unit", "forge@1.service", None)]
    command("resume", "--unit", unit)
    assert holds(fleet) == []
