"""Whether libpq understands what names the database: its URL and the PG* variables.

This is checked before anything is tried: no name is looked up, no server is asked. A fault that is found here stays, no
matter how long one waits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from ipaddress import ip_address

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Ping

from shithubd_worker.errors import ConfigError

# libpq reads some of these only when it has a server's socket. The variable's name stands here if libpq has one.
_NUMBERS = {
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "keepalives": None,
    "keepalives_idle": None,
    "keepalives_interval": None,
    "keepalives_count": None,
    "tcp_user_timeout": None,
}
# No server is ever there, so libpq says at once whether it understood everything else.
_NOWHERE = {"host": "/dev/null", "hostaddr": "", "port": ""}
_PORTS = range(1, 65536)


def check(database_url: str | None) -> None:
    """Raises ConfigError with all faults of a URL (or key=value string) and of the PG* variables."""
    try:
        given = conninfo_to_dict(database_url or "")
    except (psycopg.ProgrammingError, ValueError) as error:
        # libpq and Python quote what they can't read, and a password may stand in it.
        reason = re.sub(r'"[^"]{2}.*"', '"..."', str(error).strip(), flags=re.DOTALL)
        if isinstance(error, ValueError):
            reason = "a NUL, or what is not UTF-8"
        raise ConfigError(f"--database-url (SHITHUBD_WORKER_DATABASE_URL): {reason}") from None
    if faults := list(_faults({name: str(value) for name, value in given.items()})):
        raise ConfigError(*(f"--database-url or PG*: {fault}" for fault in faults))


def _faults(given: dict[str, str]) -> Iterator[str]:
    hosts = _listed(given, "host", "PGHOST")
    addresses = _listed(given, "hostaddr", "PGHOSTADDR")
    ports = _listed(given, "port", "PGPORT")
    for host in () if addresses else hosts:
        if not host.startswith("/") and not _is_name(host):
            yield f"host {host!r} can't be a name: a part of it is empty, longer than 63 characters, or not UTF-8"
    if hosts and addresses and len(hosts) != len(addresses):
        yield f"{len(hosts)} host(s), but {len(addresses)} hostaddr"
    if len(ports) > 1 and len(ports) != len(addresses or hosts):
        yield f"{len(addresses or hosts)} host(s), but {len(ports)} ports"
    yield from (
        f"port {port!r} is not a number from 1 to 65535" for port in ports if port and _number(port) not in _PORTS
    )
    for name, variable in _NUMBERS.items():
        value = _value(given, name, variable)
        if value and _number(value) is None:
            yield f"{name} {value!r} is not a number"
    text = make_conninfo("", **{**given, **_NOWHERE}).encode("utf-8", "surrogateescape")
    if psycopg.pq.PGconn.ping(text) == Ping.NO_ATTEMPT:
        yield psycopg.pq.PGconn.connect(text).error_message.decode("utf-8", "replace").strip()


def _value(given: dict[str, str], name: str, variable: str | None) -> str:
    return given.get(name) or (os.environ.get(variable, "") if variable else "")


def _listed(given: dict[str, str], name: str, variable: str) -> list[str]:
    """The parts of a list, separated by commas. libpq tries them one after the other."""
    value = _value(given, name, variable)
    return value.split(",") if value else []


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\s*[-+]?[0-9]{1,10}\s*", text) else None


def _is_name(host: str) -> bool:
    """Could the name be looked up? Python does that, for psycopg."""
    try:
        ip_address(host)
    except ValueError:
        try:
            host.encode("idna")
        except UnicodeError:
            return False
    return True
