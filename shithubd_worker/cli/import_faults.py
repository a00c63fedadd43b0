"""Why a name of --handlers leads to no registry: one line with the place in the author's code, and what to do."""

from __future__ import annotations

import difflib
import importlib.util
import itertools
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from shithubd_worker.registry import Registry

EXAMPLE = "myforge.jobs:registry"
_OURS = Path(__file__).parents[1]
_LONGEST = 300
# How far to look for the file that was meant. It must not take long in the home of somebody with a million files.
_DEEPEST, _MOST_FILES = 3, 2000
_NOT_THEIRS = {"__pycache__", "site-packages", "node_modules", "venv"}


def not_a_module(spec: str, *, well_formed: bool) -> str | None:
    """Why a text with a colon can't name a module and its registry; None if it can."""
    module, _, attribute = spec.partition(":")
    if "," in spec:
        return "repeat --handlers for several registries; in the variable, spaces separate them"
    if "/" in module or (module.endswith(".py") and Path(module).is_file()):
        return _of_a_file(module, attribute)
    return None if well_formed else f"write MODULE:REGISTRY, for example {EXAMPLE}"


def not_installed(name: str, there_are: str) -> str:
    """No installed handlers have this name, which has no colon."""
    if "/" in name or name.endswith(".py"):
        return _of_a_file(name, "")
    meant = f"write {name}:registry for the registry in a module" if name else f"write MODULE:REGISTRY, as {EXAMPLE}"
    return f"no installed handlers have this name (there are: {there_are}). Or {meant}"


def not_imported(module_name: str, error: BaseException) -> str:
    """The import of a module raised this."""
    frame = _of_the_author(error)
    if frame is None:
        if isinstance(error, ModuleNotFoundError):
            return _not_found(module_name, error)
        return _unread(module_name, error)
    place = f"{frame.filename}:{frame.lineno}"
    if isinstance(error, SystemExit):
        return f'it ends the program while it is imported ({place}). Put that below `if __name__ == "__main__":`'
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _imports_nothing(error.name, Path(frame.filename), place)
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        return _unread(module_name, error)
    said = _said(error)
    return f"{said} ({place}){_advice(said, frame.filename)}"


def no_registry(name: str, module: ModuleType, attribute: str, found: object) -> str:
    """The module has no registry of this name, but this, or nothing."""
    file = getattr(module, "__file__", None)
    own = Path(f"{name.replace('.', '/')}.py")
    if found is not None:
        what = f"the class {found.__name__}" if isinstance(found, type) else f"of type {type(found).__name__}"
        wrong = f"{attribute!r} in {file} is {what}, and no Registry"
    elif own.is_file() and (not own.samefile(file) if file else name in sys.builtin_module_names):
        return f"Python has a module {name!r} of its own ({file or 'built in'}). Rename {own.absolute()}"
    elif file is None and hasattr(module, "__path__"):
        wrong = f"{name!r} is a directory without an __init__.py"
    else:
        wrong = f"{file or name} has no {attribute!r}"
    there_are = [each for each, value in vars(module).items() if isinstance(value, Registry)]
    near = difflib.get_close_matches(attribute, there_are, n=1, cutoff=0) or there_are[:1]
    below = [each for directory in getattr(module, "__path__", ()) for each in _with_a_registry(Path(directory))]
    if near:
        return f"{wrong}. Did you mean {name}:{near[0]}?"
    if below:
        return f"{wrong}. Did you mean {name}.{below[0]}:registry?"
    return f"{wrong}. A registry is made by: registry = Registry()"


def no_handlers(name: str, attribute: str) -> str:
    """The registry is empty."""
    return (
        f"{attribute!r} in {getattr(sys.modules[name], '__file__', name)} has no handlers."
        ' Register one with @registry.handler("some.kind"), or import the modules that do'
    )


def _of_a_file(path: str, attribute: str) -> str:
    here, file = Path.cwd(), Path(os.path.normpath(Path(path).absolute()))  # norm: no module has `..`
    root = here if file.is_relative_to(here) else file.parent
    module = ".".join(file.relative_to(root).with_suffix("").parts)
    where = "" if root == here else f", in {root} or with PYTHONPATH={root}"
    return f"this is a file. Write its module: {module}:{attribute or 'registry'}{where}"


def _not_found(module_name: str, error: ModuleNotFoundError) -> str:
    parent = str(error.name or "").rpartition(".")[0]
    if parent in sys.modules and not hasattr(sys.modules[parent], "__path__"):
        return f"{parent!r} is the file {sys.modules[parent].__file__}, so it has no module {module_name!r} in it"
    wanted = f"there is no module {error.name or module_name!r} in {Path.cwd()}"
    paths = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    for each in paths:
        if not os.access(each, os.R_OK | os.X_OK):
            missing = "this user cannot read it" if os.path.lexists(each) else "there is no such directory"
            return f"{wanted}, and not in PYTHONPATH={each}: {missing}"
    return f"{wanted}{''.join(f' or {each}' for each in paths)}. {_meant(module_name)}"


def _meant(module_name: str) -> str:
    """Where the module may be, or how its name may be spelled."""
    here = Path.cwd()
    tail = Path(*module_name.split("."))
    files = list(_modules_below(here))
    roots = [each for each in here.parents[:_DEEPEST] if each.joinpath(tail).with_suffix(".py").is_file()]
    for file in files:
        root = file.parents[len(tail.parts) - 1]
        if file.with_suffix("").relative_to(root) == tail and not root.joinpath("__init__.py").exists():
            roots.append(root)
    if roots:
        return f"It is in {roots[0]}: start the worker there, or set PYTHONPATH={roots[0]}"
    names = [".".join(each.relative_to(here).with_suffix("").parts).removesuffix(".__init__") for each in files]
    same = [each for each in names if each.rpartition(".")[2] == tail.name]
    if close := same or difflib.get_close_matches(module_name, names, n=1):
        return f"Did you mean {close[0]}?"
    return "Start the worker in the directory of the module, or name that directory in PYTHONPATH"


def _unread(module_name: str, error: BaseException) -> str:
    """Python could not read the code of a file."""
    file, number = getattr(error, "filename", None), getattr(error, "lineno", None)
    if file is None:
        with_file = importlib.util.find_spec(module_name)
        file = with_file.origin if with_file else module_name
    said = getattr(error, "msg", None) or getattr(error, "strerror", None) or error
    return f"{type(error).__name__}: {said} ({file}{f':{number}' if number else ''})"


def _imports_nothing(name: str, file: Path, place: str) -> str:
    told = f"{place} imports {name!r}, and there is no such module"
    beside = file.with_name(f"{name.partition('.')[0]}.py")
    if beside.is_file():
        return f"{told} on sys.path. For {beside} write: from . import {beside.stem}"
    return f"{told}. Install what brings it: {sys.prefix}/bin/pip install ..."


def _advice(said: str, file: str) -> str:
    if "partially initialized module" in said:
        return ". Make the registry in a module that imports none of the others"
    if "no known parent package" in said:
        above = Path(file).parent
        return f". Start the worker in {above.parent}, and write {above.name}.{Path(file).stem}:registry"
    return ""


def _of_the_author(error: BaseException) -> traceback.FrameSummary | None:
    """The last frame in the code of the module's author: the place to change. None if no code of the module ran."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _may_be_theirs(each.filename)]
    if not frames:
        return None
    # The first frame is the module itself. What it calls may be a library, beside it in site-packages or elsewhere.
    package = Path(frames[0].filename).parent
    libraries = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]

    def library(path: Path) -> Path | None:
        return next((each for each in reversed(libraries) if path.is_relative_to(each)), None)

    theirs = [each for each in frames if library(Path(each.filename)) == library(package)]
    return theirs[-1]


def _may_be_theirs(filename: str) -> bool:
    path = Path(filename)
    ours = path.is_relative_to(_OURS) and not path.is_relative_to(_OURS / "handlers")
    return not (ours or filename.startswith("<") or path.parent.name == "importlib")


def _said(error: BaseException) -> str:
    """The type and the first line of the text."""
    try:
        text = str(error).strip()
    except Exception:  # noqa: BLE001 (it is a stranger's)
        text = ""
    line = next(iter(text.splitlines()), "")[:_LONGEST]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _modules_below(directory: Path) -> Iterator[Path]:
    """The files of Python in a directory and a few levels below it."""

    def walk() -> Iterator[Path]:
        for parent, directories, files in os.walk(directory):
            depth = len(Path(parent).relative_to(directory).parts)
            hidden = [each for each in directories if each.startswith(".") or each in _NOT_THEIRS]
            directories[:] = sorted(set(directories) - set(hidden)) if depth < _DEEPEST else []
            yield from (Path(parent, each) for each in ("", *sorted(files)))  # a directory counts, too

    return (each for each in itertools.islice(walk(), _MOST_FILES) if each.suffix == ".py" and each.is_file())


def _with_a_registry(directory: Path) -> Iterator[str]:
    """The names of the modules directly in a package that seem to make a registry."""
    for each in sorted(directory.glob("*.py"))[:_MOST_FILES]:
        if "registry = Registry(" in each.read_text(errors="replace") and each.stem != "__init__":
            yield each.stem
