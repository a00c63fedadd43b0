"""A reload changes the setting wherever it is used; a refused reload changes nothing."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from shithubd_worker.errors import ConfigError
from shithubd_worker.host.signals import Stop
from shithubd_worker.process.live import LiveConfig
from shithubd_worker.settings.config import LIVE, Config
from shithubd_worker.turn.prefetch import Pace

OLD = Config()
NEW = replace(OLD, grace=7.0, prefetch=0.03, poll_interval=0.7, database_wait=3.0)


@pytest.fixture
def scene():
    """A running worker's configuration, the users of it, and what the next reload reads or raises."""
    stop, pace, reads = Stop(OLD.grace), Pace(OLD.prefetch), []

    def reread():
        found = reads.pop()
        if isinstance(found, Exception):
            raise found
        return found

    return LiveConfig(OLD, reread, stop, pace), stop, pace, reads


def test_a_reload_reaches_every_user_of_a_changed_setting(scene):
    live, stop, pace, reads = scene
    reads.append(NEW)
    live.reload()
    assert (stop.grace, pace.window) == (NEW.grace, NEW.prefetch)
    for field in fields(Config):
        assert getattr(live.now, field.name) == getattr(NEW if field.name in LIVE else OLD, field.name)


def test_a_refused_reload_changes_nothing(scene):
    live, stop, pace, reads = scene
    reads.append(ConfigError("grace: 'x' is no time"))
    with pytest.raises(ConfigError):
        live.reload()
    assert (live.now, stop.grace, pace.window) == (OLD, OLD.grace, OLD.prefetch)
