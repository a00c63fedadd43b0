"""The scenes of holds: kinds that are paused or resumed in steps, and drains that somebody forgot."""

from __future__ import annotations

from nspawn import Host, eventually
from stage import RECEIVER, empty, insert, scene
from worker_host import UNIT, cli, enqueue


@scene(gives={"job-id"})
def paused(host: Host, kind: str, count: str, reason: str) -> dict[str, str]:
    """A kind was paused four hours ago, and jobs of it wait."""
    empty(host)
    numbers = [enqueue(host, kind) for _ in range(int(count))]
    cli(host, "pause-kind", kind, "--reason", reason)
    host.psql("shithub", "UPDATE holds SET created = created - interval '4 hours'")
    host.run("systemctl", "start", UNIT)
    return {"job-id": str(numbers[0])}


@scene()
def ramped(host: Host, kind: str, count: str, reason: str) -> None:
    """A kind was paused after its jobs failed. The cause is gone, many jobs wait, and a worker is up."""
    empty(host)
    insert(host, kind, int(count))
    cli(host, "pause-kind", kind, "--reason", reason)
    host.run("touch", RECEIVER)
    host.run("systemctl", "start", UNIT)


@scene(gives={"job-id"})
def ramp_stopped(host: Host, kind: str, count: str, reason: str) -> dict[str, str]:
    """Somebody resumed a kind in steps, but its jobs still fail, so the ramp stopped on its own."""
    empty(host)
    numbers = insert(host, kind, int(count))
    cli(host, "pause-kind", kind, "--reason", reason)
    cli(host, "resume-kind", kind, "--canary", "1", "--ramp", "10,50,100")
    host.run("systemctl", "start", UNIT)
    eventually(lambda: host.sql("shithub", "SELECT FROM ramps WHERE stopped_at IS NOT NULL"), "the ramp has stopped")
    return {"job-id": str(numbers[0])}


@scene()
def ramp_stalled(host: Host, kind: str, count: str) -> None:
    """Somebody resumed a kind in steps two hours ago, but no worker is there."""
    empty(host)
    insert(host, kind, int(count))
    host.psql(
        "shithub",
        f"SELECT FROM ramp_kind_v1('{kind}', 1)",
        "UPDATE ramps SET began = began - interval '2 hours'",
        "UPDATE holds SET created = created - interval '2 hours'",
    )


@scene()
def minutes_later(host: Host, minutes: str) -> None:
    """The steps of a ramp are so many minutes further."""
    eventually(lambda: host.sql("shithub", "SELECT FROM ramps WHERE passed_at IS NOT NULL"), "its steps have begun")
    earlier = ", ".join(f"{column} = {column} - interval '{minutes} minutes'" for column in ("passed_at", "over_at"))
    host.psql("shithub", f"UPDATE ramps SET {earlier}")


@scene()
def the_cause_is_gone(host: Host) -> None:
    """What the jobs need is back."""
    host.run("touch", RECEIVER)


@scene()
def forgotten(host: Host, reason: str) -> None:
    """This host was drained three days ago, and its worker is up."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    cli(host, "drain", "--host", host.name, "--reason", reason)
    host.psql("shithub", "UPDATE holds SET created = created - interval '3 days'")


@scene()
def drained(host: Host, kind: str, count: str, reason: str) -> None:
    """The fleet was drained two hours ago, and jobs wait."""
    empty(host)
    host.run("systemctl", "start", UNIT)
    cli(host, "drain", "--reason", reason)
    host.psql("shithub", "UPDATE holds SET created = created - interval '2 hours'")
    for _ in range(int(count)):
        enqueue(host, kind)
