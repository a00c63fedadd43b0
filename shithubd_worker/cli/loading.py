"""--handlers: from the names of registries to the kinds of a worker, or to one clear line for each fault."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points

from shithubd_worker.cli import import_faults
from shithubd_worker.errors import ConfigError
from shithubd_worker.registry import Kind, Registry

ENTRY_POINTS = "shithubd_worker.handlers"
_SPEC = re.compile(r"(?P<module>[\w-]+(\.[\w-]+)*):(?P<attribute>[^\W\d]\w*(\.[^\W\d]\w*)*)")


class Unusable(Exception):
    """One name leads to no registry. The text says why, and what to do."""


def load(specs: Iterable[str]) -> Registry:
    """The kinds of a worker: of each `module:registry` and of each name of installed handlers. Without any name, those
    of all installed packages.

    A kind of a module wins over the same kind of an installed package, so a host can replace a handler. Raises
    ConfigError, with all faults, for a name that leads to no registry.
    """
    given = list(dict.fromkeys(specs))
    registry, faults = Registry(), []
    for spec in given:
        try:
            if ":" in spec:
                _take(registry, _named(spec))
        except Unusable as error:
            faults.append(f"--handlers {spec}: {error}")
    for spec in given:
        try:
            if ":" not in spec:
                _take_the_rest(registry, _found_in(*_installed(spec)))
        except Unusable as error:
            faults.append(f"--handlers {spec}: {error}")
    for each in () if given else entry_points(group=ENTRY_POINTS):
        try:
            _take_the_rest(registry, _found_in(each.module, each.attr))
        except Unusable as error:
            faults.append(f"entry point {each.name} ({each.value}): {error}")
    if faults:
        raise ConfigError(*faults)
    return registry


def installed_with(kind: str) -> str | None:
    """The name of the installed handlers that have this kind."""
    for each in entry_points(group=ENTRY_POINTS):
        with contextlib.suppress(Unusable):
            if kind in _found_in(each.module, each.attr):
                return each.name
    return None


def _named(spec: str) -> Registry:
    parts = _SPEC.fullmatch(spec)
    if hint := import_faults.not_a_module(spec, well_formed=parts is not None):
        raise Unusable(hint)
    assert parts is not None  # noqa: S101 (without a hint it is well-formed)
    found = _found_in(parts["module"], parts["attribute"])
    if not found:
        raise Unusable(_told(import_faults.no_handlers, parts["module"], parts["attribute"]))
    return found


def _installed(name: str) -> tuple[str, str]:
    """The module and the attribute of the installed handlers of this name."""
    there_are: list[EntryPoint] = sorted(entry_points(group=ENTRY_POINTS))
    for each in there_are:
        if each.name == name:
            return each.module, each.attr
    names = ", ".join(each.name for each in there_are) or "none"
    raise Unusable(import_faults.not_installed(name, names))


def _found_in(module_name: str, attribute: str) -> Registry:
    try:
        found: object = (module := importlib.import_module(module_name))
        for name in attribute.split("."):
            found = getattr(found, name, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise Unusable(_told(import_faults.not_imported, module_name, error)) from error
    if not isinstance(found, Registry):
        raise Unusable(_told(import_faults.no_registry, module_name, module, attribute, found))
    return found


def _told(explain: Callable[..., str], module_name: str, *more: object) -> str:
    """The explanation. A module can put any object in its own place, so looking at it may fail."""
    try:
        return explain(module_name, *more)
    except Exception as error:  # noqa: BLE001
        return f"module {module_name!r} has no registry there ({type(error).__name__} while looking at it)"


def _take(registry: Registry, found: Registry) -> None:
    for kind in found.values():
        other = registry.get(kind.name)
        if other is None:
            registry.add([kind])
        elif other is not kind:
            raise Unusable(
                f"kind {kind.name!r} is registered twice: at {_where(other)}, and at {_where(kind)}."
                " Rename one, or leave it out"
            )


def _take_the_rest(registry: Registry, found: Registry) -> None:
    registry.add(kind for kind in found.values() if kind.name not in registry)


def _where(kind: Kind) -> str:
    """The place of a handler's code."""
    function = kind.handler
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)
