"""--handlers: what it loads, and the one line that it prints for each thing that is wrong with a module of handlers."""

from __future__ import annotations

import contextlib
import sys
from importlib.metadata import EntryPoint

import pytest

from shithubd_worker.cli import loading
from shithubd_worker.cli.loading import ENTRY_POINTS, installed_with, load
from shithubd_worker.errors import ConfigError

MADE = "from shithubd_worker import Registry\nregistry = Registry()\n"
GOOD = f"{MADE}@registry.handler('a.kind')\ndef run(job): ...\n"
# {here}: the current directory; {python}: that of Python's own modules; {venv}: that of the virtual environment.
START = "Start the worker in the directory of the module, or name that directory in PYTHONPATH"
MALFORMED = "write MODULE:REGISTRY, for example myforge.jobs:registry"
NONE = "no installed handlers have this name (there are: none). Or "

# What is wrong: the files, what is given, and what the line says behind `--handlers GIVEN: `.
FAULTS = {
    # The name.
    "no colon": ({"jobs.py": GOOD}, "jobs", f"{NONE}write jobs:registry for the registry in a module"),
    "empty": ({}, "", f"{NONE}write MODULE:REGISTRY, as myforge.jobs:registry"),
    "no module": ({}, ":registry", MALFORMED),
    "no registry": ({"jobs.py": GOOD}, "jobs:", MALFORMED),
    "a call": ({"jobs.py": GOOD}, "jobs:registry()", MALFORMED),
    "a space": ({"jobs.py": GOOD}, "jobs: registry", MALFORMED),
    "relative": ({"jobs.py": GOOD}, ".jobs:registry", MALFORMED),
    "a comma": (
        {},
        "jobs:registry,more:registry",
        "repeat --handlers for several registries; in the variable, spaces separate them",
    ),
    "a file": ({"jobs.py": GOOD}, "jobs.py", "this is a file. Write its module: jobs:registry"),
    "a file and a name": ({"jobs.py": GOOD}, "jobs.py:mine", "this is a file. Write its module: jobs:mine"),
    "a file in a directory": ({}, "./my/jobs.py:registry", "this is a file. Write its module: my.jobs:registry"),
    "a file elsewhere": (
        {},
        "/srv/my/jobs.py:registry",
        "this is a file. Write its module: jobs:registry, in /srv/my or with PYTHONPATH=/srv/my",
    ),
    # The module is not there.
    "not there": ({}, "nowhere:registry", f"there is no module 'nowhere' in {{here}}. {START}"),
    "misspelt": ({"jobs.py": GOOD}, "jbos:registry", "there is no module 'jbos' in {here}. Did you mean jobs?"),
    "in a package": (
        {"mine/__init__.py": "", "mine/jobs.py": GOOD},
        "jobs:registry",
        "there is no module 'jobs' in {here}. Did you mean mine.jobs?",
    ),
    "in another package": (
        {"mine/jobs.py": GOOD},
        "myn.jobs:registry",
        "there is no module 'myn' in {here}. Did you mean mine.jobs?",
    ),
    "further down": (
        {"src/mine/jobs.py": GOOD},
        "mine.jobs:registry",
        "there is no module 'mine' in {here}. It is in {here}/src: start the worker there,"
        " or set PYTHONPATH={here}/src",
    ),
    "in a module": (
        {"jobs.py": GOOD},
        "jobs.more:registry",
        "'jobs' is the file {here}/jobs.py, so it has no module 'jobs.more' in it",
    ),
    # The module cannot be read, or its code fails.
    "syntax": ({"jobs.py": "def f(:\n"}, "jobs:registry", "SyntaxError: invalid syntax ({here}/jobs.py:1)"),
    "indent": ({"jobs.py": "if 1:\nx"}, "jobs:registry", None),
    "syntax below": (
        {"jobs.py": "import more", "more.py": "\n1 +"},
        "jobs:registry",
        "SyntaxError: invalid syntax ({here}/more.py:2)",
    ),
    "no text": ({"jobs.py": "x = '\0'"}, "jobs:registry", None),
    "latin-1": ({"jobs.py": b"x = '\xe4'"}, "jobs:registry", None),
    "raises": ({"jobs.py": "\nraise RuntimeError('no\\nway')"}, "jobs:registry", "RuntimeError: no ({here}/jobs.py:2)"),
    "asserts": ({"jobs.py": "assert not 1"}, "jobs:registry", "AssertionError ({here}/jobs.py:1)"),
    "no Exception": (
        {"jobs.py": "class Out(BaseException): ...\nraise Out('x')"},
        "jobs:registry",
        "Out: x ({here}/jobs.py:2)",
    ),
    "an error without text": (
        {"jobs.py": "class Bad(Exception):\n def __str__(self): 1 / 0\nraise Bad"},
        "jobs:registry",
        "Bad ({here}/jobs.py:3)",
    ),
    "a library raises": (
        {"jobs.py": "import json\njson.loads('x')"},
        "jobs:registry",
        "JSONDecodeError: Expecting value: line 1 column 1 (char 0) ({here}/jobs.py:2)",
    ),
    "exits": (
        {"jobs.py": "import sys\nsys.exit()"},
        "jobs:registry",
        'it ends the program while it is imported ({here}/jobs.py:2). Put that below `if __name__ == "__main__":`',
    ),
    "code of code": ({"jobs.py": "\nexec('1 +')"}, "jobs:registry", "SyntaxError: invalid syntax (<string>, line 1)"),
    # What it imports.
    "a library is missing": (
        {"jobs.py": "\nimport no_such_library.part"},
        "jobs:registry",
        "{here}/jobs.py:2 imports 'no_such_library', and there is no such module."
        " Install what brings it: {venv}/bin/pip install ...",
    ),
    "a library of its own is missing": (
        {"jobs.py": "import more", "more.py": "import no_such_library"},
        "jobs:registry",
        "{here}/more.py:1 imports 'no_such_library', and there is no such module."
        " Install what brings it: {venv}/bin/pip install ...",
    ),
    "its neighbour": (
        {"mine/jobs.py": "import more", "mine/more.py": ""},
        "mine.jobs:registry",
        "{here}/mine/jobs.py:1 imports 'more', and there is no such module on sys.path."
        " For {here}/mine/more.py write: from . import more",
    ),
    "a missing name": (
        {"jobs.py": "from shithubd_worker.errors import Permanently"},
        "jobs:registry",
        "ImportError: cannot import name 'Permanently' from 'shithubd_worker.errors'",
    ),
    "a circle": (
        {"jobs.py": f"import more\n{MADE}", "more.py": "from jobs import registry"},
        "jobs:registry",
        "({here}/more.py:1). Make the registry in a module that imports none of the others",
    ),
    "no package": (
        {"jobs.py": "from .more import registry", "more.py": GOOD},
        "jobs:registry",
        "ImportError: attempted relative import with no known parent package ({here}/jobs.py:1)."
        " Start the worker in {above}, and write project.jobs:registry",
    ),
    "a module that says of itself that it is missing": (
        {"jobs.py": "raise ModuleNotFoundError('no')"},
        "jobs:registry",
        "ModuleNotFoundError: no ({here}/jobs.py:1)",
    ),
    # What it registers: the place is the author's, not ours.
    "a limit": (
        {"jobs.py": f"{MADE}@registry.handler('a', lease_timeout=0)\ndef run(job): ..."},
        "jobs:registry",
        "not 0 ({here}/jobs.py:3)",
    ),
    "async": ({"jobs.py": f"{MADE}@registry.handler('a')\nasync def run(job): ..."}, "jobs:registry", "jobs.py:3)"),
    "twice": (
        {"jobs.py": f"{GOOD}registry.handler('a.kind')(run)"},
        "jobs:registry",
        "ValueError: kind 'a.kind' is registered twice ({here}/jobs.py:5)",
    ),
    # The registry.
    "misspelt name": (
        {"jobs.py": GOOD},
        "jobs:registri",
        "{here}/jobs.py has no 'registri'. Did you mean jobs:registry?",
    ),
    "no name": (
        {"jobs.py": ""},
        "jobs:registry",
        "{here}/jobs.py has no 'registry'. A registry is made by: registry = Registry()",
    ),
    "a name of a name": (
        {"jobs.py": GOOD},
        "jobs:app.registry",
        "{here}/jobs.py has no 'app.registry'. Did you mean jobs:registry?",
    ),
    "a number": (
        {"jobs.py": "registry = 7"},
        "jobs:registry",
        "'registry' in {here}/jobs.py is of type int, and no Registry. A registry is made by: registry = Registry()",
    ),
    "a handler": (
        {"jobs.py": GOOD},
        "jobs:run",
        "'run' in {here}/jobs.py is of type function, and no Registry. Did you mean jobs:registry?",
    ),
    "the class": (
        {"jobs.py": GOOD},
        "jobs:Registry",
        "'Registry' in {here}/jobs.py is the class Registry, and no Registry. Did you mean jobs:registry?",
    ),
    "a directory": (
        {"mine/jobs.py": GOOD},
        "mine:registry",
        "'mine' is a directory without an __init__.py. Did you mean mine.jobs:registry?",
    ),
    "an empty package": (
        {"mine/__init__.py": "", "mine/jobs.py": GOOD},
        "mine:registry",
        "{here}/mine/__init__.py has no 'registry'. Did you mean mine.jobs:registry?",
    ),
    "Python's own module": (
        {"queue.py": GOOD},
        "queue:registry",
        "Python has a module 'queue' of its own ({python}/queue.py). Rename {here}/queue.py",
    ),
    "a built-in module": (
        {"time.py": GOOD},
        "time:registry",
        "Python has a module 'time' of its own (built in). Rename {here}/time.py",
    ),
    "no module of the author": ({}, "sys:registry", "sys has no 'registry'. A registry is made by: "),
    "its own __getattr__": (
        {"jobs.py": "def __getattr__(name): raise LookupError(name)"},
        "jobs:registry",
        "LookupError: registry ({here}/jobs.py:1)",
    ),
    "nothing in its place": (
        {"jobs.py": "import sys\nsys.modules[__name__] = None"},
        "jobs:registry",
        "module 'jobs' has no registry there (TypeError while looking at it)",
    ),
    "an odd package": (
        {"jobs.py": "__path__ = 3"},
        "jobs:registry",
        "module 'jobs' has no registry there (TypeError while looking at it)",
    ),
    "no handlers": (
        {"jobs.py": MADE},
        "jobs:registry",
        "'registry' in {here}/jobs.py has no handlers."
        ' Register one with @registry.handler("some.kind"), or import the modules that do',
    ),
}


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The entry points of the installed packages: none, unless a test adds some."""
    installed = []
    monkeypatch.setattr(loading, "entry_points", lambda *, group: installed)
    return installed


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Write the files of a project, which is the current directory, and the first place for modules."""
    here = tmp_path / "project"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.syspath_prepend(here)
    before = set(sys.modules)

    def write(**files):
        for name, text in files.items():
            file = here / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return here

    yield write
    for name in set(sys.modules) - before:
        with contextlib.suppress(KeyError):
            del sys.modules[name]


def faults(*specs):
    with pytest.raises(ConfigError) as caught:
        load(specs)
    return list(caught.value.args)


@pytest.mark.parametrize("what", FAULTS)
def test_each_fault_is_one_line_that_names_the_place_and_the_next_step(project, what):
    files, spec, says = FAULTS[what]
    here = project(**files)
    [fault] = faults(spec)
    python = contextlib.__file__.rpartition("/")[0]
    says = (says or "{here}/jobs.py").format(here=here, above=here.parent, python=python, venv=sys.prefix)
    assert fault.startswith(f"--handlers {spec}: ")
    assert "\n" not in fault
    assert says in fault


def test_a_search_starts_above_too_when_the_directory_is_the_package(project, monkeypatch):
    here = project(**{"mine/jobs.py": GOOD})
    monkeypatch.chdir(here / "mine")
    monkeypatch.setattr(sys, "path", [str(here / "mine"), *sys.path[2:]])
    assert faults("mine.jobs:registry") == [
        f"--handlers mine.jobs:registry: there is no module 'mine' in {here}/mine. It is in {here}: start the worker"
        f" there, or set PYTHONPATH={here}"
    ]


def test_a_directory_of_pythonpath_that_is_missing_is_named(project, monkeypatch):
    project()
    monkeypatch.setenv("PYTHONPATH", "/srv/no/such")
    [fault] = faults("jobs:registry")
    assert fault.endswith(", and not in PYTHONPATH=/srv/no/such: there is no such directory")


def test_all_faults_are_told_at_once(project):
    project(**{"one.py": "raise ValueError", "two.py": MADE})
    assert [each.split(": ")[0] for each in faults("one:registry", "two:registry", "three")] == [
        "--handlers one:registry",
        "--handlers two:registry",
        "--handlers three",
    ]


def test_the_same_kind_in_two_registries_is_a_fault_that_names_both_places(project):
    here = project(**{"one.py": GOOD, "two.py": f"{GOOD}\n"})
    assert faults("one:registry", "two:registry") == [
        f"--handlers two:registry: kind 'a.kind' is registered twice: at {here}/one.py:3, and at {here}/two.py:3."
        " Rename one, or leave it out"
    ]


def test_a_handler_that_comes_along_twice_is_the_same_handler(project):
    project(**{"jobs.py": GOOD, "all.py": f"{MADE}import jobs\nregistry.add(jobs.registry.values())"})
    assert list(load(["jobs:registry", "all:registry", "jobs:registry"])) == ["a.kind"]


def test_several_registries_are_loaded_into_one(project):
    project(**{"one.py": GOOD, "two.py": GOOD.replace("a.kind", "b.kind"), "three.py": "import one"})
    assert list(load(["one:registry", "two:registry"])) == ["a.kind", "b.kind"]
    assert list(load(["three:one.registry"])) == ["a.kind"]


@pytest.fixture
def two_installed(project, installed):
    """Two packages with handlers: the first has two kinds. And a module of one's own, with the first of these kinds."""
    both = f"{GOOD}registry.handler('b.kind', max_attempts=2)(run)\n"
    project(**{"forge.py": both, "more.py": GOOD.replace("a.kind", "c.kind"), "jobs.py": GOOD})
    installed += [EntryPoint(name, f"{name}:registry", ENTRY_POINTS) for name in ("forge", "more")]


@pytest.mark.usefixtures("two_installed")
def test_without_a_name_the_handlers_of_all_installed_packages_are_loaded():
    assert list(load([])) == ["a.kind", "b.kind", "c.kind"]


@pytest.mark.usefixtures("two_installed")
def test_with_a_name_no_others_are_loaded():
    assert list(load(["jobs:registry"])) == ["a.kind"]
    assert list(load(["more"])) == ["c.kind"]
    assert installed_with("b.kind") == "forge"
    assert installed_with("d.kind") is None
    assert faults("forg") == [
        "--handlers forg: no installed handlers have this name (there are: forge, more)."
        " Or write forg:registry for the registry in a module"
    ]


@pytest.mark.usefixtures("two_installed")
@pytest.mark.parametrize("specs", [["jobs:registry", "forge"], ["forge", "jobs:registry"]])
def test_a_module_replaces_an_installed_handler_that_is_named_beside_it(specs):
    loaded = load(specs)
    assert sorted(loaded) == ["a.kind", "b.kind"]
    assert loaded["a.kind"].handler.__module__ == "jobs"


def test_an_installed_package_that_is_broken_is_named(project, installed):
    here = project(**{"broken.py": "import no_such_library"})
    installed.append(EntryPoint("forge", "broken:registry", ENTRY_POINTS))
    [fault] = faults()
    assert fault.startswith(f"entry point forge (broken:registry): {here}/broken.py:1 imports 'no_such_library'")
