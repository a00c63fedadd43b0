"""What all scenes need: how one is named, played, and set on a clean host. The pages' comments name the scenes."""

from __future__ import annotations

from collections.abc import Callable

from nspawn import Host
from worker_host import DOOR, UNIT, open_door

Scene = Callable[..., dict[str, str] | None]
_SCENES: dict[str, tuple[Scene, set[str]]] = {}
_UNDO: list[Callable[[Host], object]] = []
RECEIVER = "/var/lib/shithub/receiver"
SESSION = "forgotten-session.service"  # that somebody left idle in a transaction
FEEDER = "feeder.service"  # that enqueues faster than one worker can work, until somebody pauses a kind
AHEAD = 1000  # so many versions later is the schema of a release that nobody has written yet


def scene(*, gives: set[str] | None = None) -> Callable[[Scene], Scene]:
    """Make a function a scene; `gives`: the placeholders that it fills in."""

    def register(function: Scene) -> Scene:
        _SCENES[function.__name__] = (function, gives or set())
        return function

    return register


def gives(name: str) -> set[str]:
    """The placeholders that a scene fills in. Raises KeyError for an unknown scene."""
    return _SCENES[name][1]


def play(name: str, host: Host, arguments: dict[str, str]) -> dict[str, str]:
    """Set a scene; the values of its placeholders."""
    return _SCENES[name][0](host, **arguments) or {}


def afterwards(undo: Callable[[Host], object]) -> None:
    """A scene changes what the next page needs. So `tidy` puts it back, even if this page fails before it does."""
    _UNDO.append(undo)


def tidy(host: Host) -> None:
    """Put back what the scenes of a page have changed."""
    while _UNDO:
        _UNDO.pop()(host)


def empty(host: Host) -> None:
    """No job, no hold and no worker is there."""
    open_door(host)
    host.run("systemctl", "stop", SESSION, FEEDER, check=False)  # its transaction may be in the way
    host.run("systemctl", "stop", UNIT)
    host.psql(
        "shithub",
        "TRUNCATE jobs, job_history, workers, beats, holds, ramps, ramp_ends, kind_stats",
        f"UPDATE worker_schema SET version = version % {AHEAD}",
    )
    host.run("rm", "-f", DOOR, RECEIVER)


def begin(host: Host, statements: str) -> None:
    """A session of the superuser begins a transaction, and idles in it until somebody ends the session."""
    afterwards(lambda host: host.run("systemctl", "stop", SESSION, check=False))
    forgotten = f"(echo '{statements}'; exec sleep infinity) | psql -XAtqd shithub"
    host.run("systemd-run", "--quiet", "--collect", "--uid=postgres", f"--unit={SESSION}", "sh", "-c", forgotten)


def insert(host: Host, kind: str, count: int) -> list[int]:
    """Enqueue many jobs at once, as any program may. Returns their ids."""
    host.psql("shithub", f"INSERT INTO jobs (kind) SELECT '{kind}' FROM generate_series(1, {count})")
    return [row["id"] for row in host.sql("shithub", f"SELECT id FROM jobs WHERE kind = '{kind}' ORDER BY id")]
