"""The command `queues`, until there are serial queues."""

from __future__ import annotations

from commands import Command, emptied_database, exact_command, one_database  # noqa: F401 (fixtures)


def test_no_release_has_serial_queues_yet_and_the_command_says_so(command):
    for words in (("queues",), ("queues", "list")):
        assert (
            command(*words).stdout == "no serial queues: this release has none. For the kinds: shithubd-worker kinds\n"
        )
        assert command.json(*words) == []
