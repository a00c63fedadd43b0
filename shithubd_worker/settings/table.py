"""A row of the table of settings, and how its value is read. The rows themselves are the fields of `Config`.

The function that makes a row is named after its type. It returns the type of the field, so mypy checks the field's type
against the row. Values come as text, and all of them are checked together, so all faults are shown at once.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

PREFIX = "SHITHUBD_WORKER_"
# Two days. A longer time was probably meant in another unit.
LONGEST_SECONDS = 172_800.0
LONGEST_DAYS = 36_500
HIGHEST_PORT = 65_535
# The metrics port of a unit without an instance. shithubd-worker@N has N more, for N from 1 to 999.
FIRST_PORT = 8081


def variable(flag: str) -> str:
    """The variable of a flag: --poll-interval is SHITHUBD_WORKER_POLL_INTERVAL."""
    return f"{PREFIX}{flag.strip('-').replace('-', '_').upper()}"


class Setting(NamedTuple):
    """One row. `read` makes a value from what was given, or raises ValueError, which says what is wrong with it.

    `default` and `example` are written as an operator writes them. `unset` says what counts if there is no default.
    """

    flag: str
    help: str
    read: Callable[[Any], Any] = str
    metavar: str = ""  # empty for a switch, and for a choice
    default: str = ""
    unset: str = ""
    least: float = -math.inf  # this and the next: limits of a number, in seconds
    most: float = math.inf
    or_zero: bool = False  # 0 is allowed below the limits, too
    choices: tuple[str, ...] = ()
    repeatable: bool = False
    live: bool = False  # can a running worker take it over?
    example: str = ""

    @property
    def variable(self) -> str:
        """Its variable."""
        return variable(self.flag)

    @property
    def bounds(self) -> str:
        """The limits of a number."""
        return f"{'0, or ' if self.or_zero else ''}{self.least:g} to {self.most:g}"

    @property
    def spelled(self) -> str:
        """Both of its names. A fault begins with them."""
        return f"{self.flag} ({self.variable})"

    @property
    def switch(self) -> bool:
        """Is it on or off?"""
        return not self.metavar and not self.choices


class Address(NamedTuple):
    """Where metrics are served. Without a host nowhere: they are off. Without a port, the unit's name gives it."""

    host: str
    port: int | None

    def in_unit(self, unit: str) -> Address:
        """The address with the port that the name of the unit gives, if there is no other. The port stays None for an
        instance whose name is no number: somebody must choose its port."""
        if not self.host or self.port is not None:
            return self
        instance = re.fullmatch(r"[^@]*(?P<at>@)?(?P<number>[1-9]\d{0,2})?", unit.removesuffix(".service"), re.ASCII)
        if instance is None or bool(instance["at"]) != bool(instance["number"]):
            return self
        return self._replace(port=FIRST_PORT + int(instance["number"] or 0))


def words(flag: str, text: str, *, metavar: str, unset: str = "", example: str = "") -> tuple[str, ...]:
    """A setting that can be given several times. In a variable, its values are separated by spaces."""

    def read(given: Any) -> tuple[str, ...]:
        return tuple(map(str, given)) if isinstance(given, (tuple, list)) else (str(given),) if given else ()

    return _field(Setting(flag, text, read, metavar, unset=unset, repeatable=True, example=example), ())


def seconds(
    flag: str,
    text: str,
    *,
    default: float,
    least: float,
    most: float = LONGEST_SECONDS,
    example: str,
    live: bool = False,
    or_zero: bool = False,
) -> float:
    """A setting that is a number of seconds. With `or_zero`, 0 is allowed as well: it turns something off."""

    def read(given: Any) -> float:
        if given is None or given == "":  # an empty variable counts as not set
            return default
        value = math.nan
        with suppress(ValueError):
            value = float(str(given))
        if not (least <= value <= most or (or_zero and value == 0)):
            neither = "neither 0 nor" if or_zero else "not"
            raise ValueError(f"{given!r} is {neither} a number of seconds from {least:g} to {most:g}")
        return value

    row = Setting(flag, text, read, "SECONDS", f"{default:g}", live=live, example=example)
    return _field(row._replace(least=least, most=most, or_zero=or_zero), default)


def days(flag: str, text: str, *, default: int, example: str) -> Setting:
    """A setting of a command that is a number of days."""

    def read(given: Any) -> int:
        if given is None or given == "":
            return default
        if re.fullmatch(r"[0-9]{1,5}", str(given)) and 1 <= int(given) <= LONGEST_DAYS:
            return int(given)
        raise ValueError(f"{given!r} is not a number of days from 1 to {LONGEST_DAYS}")

    return Setting(flag, text, read, "DAYS", str(default), least=1, most=LONGEST_DAYS, example=example)


def switch(flag: str, text: str, *, live: bool = False) -> bool:
    """A setting that is on or off, and off by default. The command line has already read it."""
    return _field(Setting(flag, text, bool, live=live, example="yes"), False)


def choice(flag: str, text: str, *choices: str, default: str, live: bool = False) -> str:
    """A setting that is one of a few words, in small or capital letters. The command line has already compared them."""

    def read(given: Any) -> str:
        return str(given or default).lower()

    row = Setting(flag, text, read, default=default, choices=choices, live=live, example=choices[-1])
    return _field(row, default)


def directory(flag: str, text: str, *, unset: str = "", example: str = "", live: bool = False) -> Path | None:
    """A setting that is an existing directory. It becomes absolute."""

    def read(given: Any) -> Path | None:
        if not given:
            return None
        with suppress(RuntimeError, OSError, ValueError):  # ~ of an unknown user, a name that is too long, a NUL
            path = Path(str(given)).expanduser()
            if path.is_dir():
                return path.resolve()
        raise ValueError(f"{str(given)!r} is not a directory")

    return _field(Setting(flag, text, read, "DIR", unset=unset, example=example, live=live), None)


def address(flag: str, text: str, *, default: str, example: str) -> Address:
    """A setting that is HOST or HOST:PORT, or off."""

    def read(given: Any) -> Address:
        wanted = str(given or default)
        if wanted == "off":
            return Address("", None)
        match = re.fullmatch(r"(?P<host>[^:\s\[\]]+|\[[0-9a-fA-F:]+\])(:(?P<port>[0-9]{1,5}))?", wanted)
        # A host of digits alone was meant as a port.
        if not match or match["host"].isdigit() or int(match["port"] or 0) > HIGHEST_PORT:
            raise ValueError(f"{wanted!r} is not HOST or HOST:PORT, for example {example}, or off")
        return Address(match["host"].strip("[]"), int(match["port"]) if match["port"] else None)

    return _field(Setting(flag, text, read, "HOST[:PORT]|off", default, example=example), read(None).in_unit(""))


def _field(row: Setting, default: T) -> T:
    return dataclasses.field(default=default, metadata={"row": row})
