"""The Debian package on a booted host of its own: installed, at work, upgraded in the middle of a job, purged."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from nspawn import PATIENCE, Host, NspawnError, eventually
from worker_host import (
    REPOSITORY,
    UNIT,
    configure,
    empty,
    enqueue,
    in_flight,
    make_database,
    open_door,
    outcomes,
    reset,
    runs,
    start_postgresql,
)

from shithubd_worker.database.schema import newest_version

pytestmark = pytest.mark.timeout(900)  # the first one builds the package and boots the host
NAME = "shithubd-worker"
NEXT, LATER = "99.0", "100.0"
INSTANCE = f"{NAME}@impatient.service"
VENV = f"/usr/lib/{NAME}"
LOCAL_UNIT = f"/usr/local/lib/systemd/system/{UNIT}"


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def packages(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with this.deb, next.deb of a higher version, and later.deb, which has a migration of its own."""
    for tool in ("dpkg-buildpackage", "dh"):
        if shutil.which(tool) is None:
            reason = f"{tool} is missing (Debian: dpkg-dev, debhelper)"
            assert os.environ.get("CI") != "true", reason
            pytest.skip(reason)
    directory = tmp_path_factory.mktemp("packages")
    built = Path(_run(REPOSITORY / "scripts/deb", directory, wheels).strip())
    built = built.rename(directory / "this.deb")

    tree = directory / "tree"
    _run("dpkg-deb", "--raw-extract", built, tree)
    _release(tree, NEXT, directory / "next.deb")
    [migrations] = tree.glob("usr/lib/*/lib/*/site-packages/shithubd_worker/sql/migrations")
    (migrations / "0999_later.sql").write_text("-- expand\nSELECT 1;\n")
    _release(tree, LATER, directory / "later.deb")
    shutil.rmtree(tree)
    return directory


def _release(tree: Path, version: str, package: Path) -> None:
    """Another release of the same files, but for its number, and for what it says of the settings."""
    control = tree / "DEBIAN/control"
    control.write_text(re.sub("(?m)^Version: .*", f"Version: {version}-1", control.read_text()))
    for settings in tree.rglob("worker.env"):
        settings.write_text(f"{settings.read_text()}# release {version}\n")
    [module] = tree.glob("usr/lib/*/lib/*/site-packages/shithubd_worker/__init__.py")
    module.write_text(re.sub("(?m)^__version__ = .*", f'__version__ = "{version}"', module.read_text()))
    _run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, package)


@pytest.fixture(scope="module")
def new_host(packages: Path) -> Iterator[Host]:
    """A booted host with PostgreSQL, on which the worker never was."""
    with Host("shw-deb", bind_ro={packages: "/mnt/packages"}) as host:
        host.run("rm", "-f", "/usr/sbin/policy-rc.d")  # images forbid packages to start anything; hosts don't
        # Otherwise apt indexes all manual pages after each change, for two seconds of a processor. man finds a page
        # without an index, too.
        host.run("rm", "-f", "/var/lib/man-db/auto-update")
        # All that the package wants is here. So apt need not read what Debian's archive has, for most of a second each
        # time.
        host.run("sh", "-c", "rm -rf /var/lib/apt/lists/*")
        start_postgresql(host)
        apt(host, "install", "/mnt/packages/this.deb")
        make_database(host)
        yield host


@pytest.fixture
def host(new_host: Host) -> Iterator[Host]:
    """The same for one test: this package installed and configured, no worker running, no job left."""
    apt(new_host, "install", "--allow-downgrades", "/mnt/packages/this.deb")
    configure(new_host)
    began = time.time()
    yield new_host
    print(new_host.run("journalctl", f"--since=@{began:.6f}", "--no-pager"))  # shown for a test that failed
    reset(new_host)
    empty(new_host)


def apt(host: Host, *arguments: str) -> str:
    """apt-get, without a network; what it said."""
    return told(host, "apt-get", "-qy", "--no-install-recommends", *arguments)


def told(host: Host, *command: str) -> str:
    """Run a command; what it said, on stderr too."""
    return host.run("env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", '"$@" 2>&1', "sh", *command)


def fragment(host: Host) -> str:
    """The file that systemd has the unit from. /lib is /usr/lib."""
    return host.show(UNIT, "FragmentPath")["FragmentPath"].removeprefix("/usr")


def test_the_wheel_and_the_package_say_that_they_have_types(wheels: Path, packages: Path) -> None:
    [wheel] = wheels.glob("shithubd_worker-*.whl")
    with zipfile.ZipFile(wheel) as files:
        assert "shithubd_worker/py.typed" in files.namelist()
    assert "/site-packages/shithubd_worker/py.typed" in _run("dpkg-deb", "--contents", packages / "this.deb")


def test_the_package_says_what_it_consists_of_so_that_a_scanner_can_read_it(wheels: Path, packages: Path) -> None:
    # Not at the top, where each of the processes that share the tests would take two seconds to import them.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    shown = ("sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -xO "$2"', "sh")
    text = _run(*shown, packages / "this.deb", f"./usr/share/doc/{NAME}/sbom.cdx.json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    parts = [bill["metadata"]["component"], *bill["components"]]
    digests = {each["name"].replace("-", "_").lower(): each["hashes"][0]["content"] for each in parts}
    assert digests == {
        path.name.split("-")[0]: hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels.glob("*.whl")
    }
    libraries = [inner["name"] for each in parts for inner in each.get("components", ())]
    assert any("libssl" in name for name in libraries)


@pytest.mark.long
def test_lintian_finds_nothing_in_the_package(packages: Path) -> None:
    assert _run("lintian", "--allow-root", "--info", "--display-info", "--pedantic", packages / "this.deb") == ""


def test_the_package_brings_all_that_a_host_needs_and_starts_nothing(host: Host) -> None:
    user = host.run("getent", "passwd", "shithub").strip().split(":")
    assert user[4:] == ["Git forge", "/var/lib/shithub", "/usr/sbin/nologin"]
    assert host.run("stat", "--format=%U:%G %a", "/etc/shithub").split() == ["root:shithub", "750"]
    assert host.show(UNIT, "ActiveState", "UnitFileState") == {"ActiveState": "inactive", "UnitFileState": "disabled"}
    assert fragment(host) == f"/lib/systemd/system/{UNIT}"
    assert host.show(f"{NAME}.target", "UnitFileState") == {"UnitFileState": "enabled"}
    assert "failed for good" in host.run("journalctl", "--list-catalog", "14582a87720a4110b4ee85da0b3f504c")
    assert host.run("realpath", f"/usr/bin/{NAME}").strip() == f"{VENV}/bin/{NAME}"
    completion = f". /usr/share/bash-completion/completions/{NAME}; complete -p {NAME}"
    assert "_completion" in host.run("bash", "-c", completion)
    for shell, file in (("zsh", f"zsh/vendor-completions/_{NAME}"), ("fish", f"fish/vendor_completions.d/{NAME}.fish")):
        assert f"_COMPLETE={shell}_complete" in host.run("cat", f"/usr/share/{file}")
    assert "--wait" in host.run("cat", f"/usr/share/doc/{NAME}/runbooks/tasks/drain-workers.md")


def test_man_finds_the_page_of_each_command(host: Host) -> None:
    page = host.run("env", "MANWIDTH=80", "man", NAME)
    assert "run the background jobs of a git forge" in page
    assert host.run("man", NAME, "drain") == host.run("man", f"{NAME}-drain")
    named = re.findall(rf"{NAME}-[a-z-]+(?=\(1\))", page)
    where = host.run("man", "--where", *dict.fromkeys(named)).split()
    assert where == [f"/usr/share/man/man1/{each}.1.gz" for each in dict.fromkeys(named)]
    assert len(where) > 10
    assert host.run("man", "--where", f"{NAME}.env").strip() == f"/usr/share/man/man5/{NAME}.env.5.gz"


def test_the_program_knows_nothing_of_its_build_and_has_nothing_left_to_compile(host: Host) -> None:
    assert host.run("grep", "-rl", "/source/debian/", VENV, check=False) == ""
    as_the_service = ("runuser", "-u", "shithub", "--", f"{VENV}/bin/python3", "-v")  # -v: it tells what it loads
    loaded = told(
        host, *as_the_service, "-c", "import shithubd_worker.process.worker, shithubd_worker.handlers"
    ).splitlines()
    ours = [line for line in loaded if "# code object from" in line and VENV in line]
    assert len(ours) > 100
    assert [line for line in ours if ".pyc" not in line] == []


def test_units_install_is_refused_beside_the_package(host: Host) -> None:
    for command in ("install", "diff"):
        with pytest.raises(NspawnError, match="exit code 5") as refused:
            host.run(NAME, "units", command)
        assert "a package has brought the units" in str(refused.value)
    assert host.run(NAME, "units", "uninstall").strip() == "nothing to do"


def test_units_of_a_former_install_are_named_and_can_be_taken_away(host: Host) -> None:
    """They win over those of the package: without a word, the former program would go on."""
    host.run("systemctl", "enable", "--quiet", UNIT)
    host.write(LOCAL_UNIT, "[Service]\nExecStart=/bin/true\n")
    said = told(host, "dpkg-reconfigure", NAME)
    assert "units of a former install in /usr/local/lib hide those of this package" in said
    assert fragment(host) == LOCAL_UNIT.removeprefix("/usr")
    host.run(NAME, "units", "uninstall")
    assert fragment(host) == f"/lib/systemd/system/{UNIT}"
    assert host.show(UNIT, "UnitFileState") == {"UnitFileState": "enabled"}


def test_an_upgrade_in_the_middle_of_jobs_loses_none_and_brings_the_new_release(host: Host) -> None:
    host.write(f"/etc/shithub/{NAME}.env", "SHITHUBD_WORKER_GRACE=600\n")
    host.write(f"/etc/shithub/{NAME}@impatient.env", "SHITHUBD_WORKER_GRACE=1\nSHITHUBD_WORKER_METRICS=off\n")
    host.run("systemctl", "start", UNIT)
    finished = in_flight(host, "test.waits", door="door")
    assert host.run("stat", "--format=%U", f"/proc/{host.show(UNIT, 'MainPID')['MainPID']}").strip() == "shithub"
    host.run("systemctl", "start", INSTANCE)
    released = in_flight(host, "test.waits", door="later")

    with host.popen("apt-get", "-qy", "install", "/mnt/packages/next.deb", stdout=subprocess.DEVNULL) as upgrade:
        eventually(lambda: outcomes(host, released) == ["released"], "the job that outlasts its worker's grace is back")
        eventually(lambda: runs(host, released), "it runs again")
        assert outcomes(host, finished) == []
        late = enqueue(host, "test.touch", name="late")
        open_door(host)
        assert upgrade.wait(PATIENCE) == 0
    host.run("touch", "/var/lib/shithub/later")
    eventually(lambda: host.sql("shithub", "SELECT id FROM jobs") == [], "all are done")
    assert outcomes(host, finished) == ["ok"]
    assert outcomes(host, released) == ["released", "ok"]
    assert outcomes(host, late) == ["ok"]
    assert host.sql("shithub", "SELECT unit, version FROM workers ORDER BY unit") == [
        {"unit": UNIT, "version": NEXT},
        {"unit": INSTANCE, "version": NEXT},
    ]
    settings = host.run("cat", "/etc/shithub/worker.env")
    assert "PGHOST=127.0.0.1" in settings
    assert "release" not in settings, "nobody was asked, and nothing was changed"


def test_an_upgrade_that_needs_a_migration_leaves_the_workers_at_work_until_it_was_made(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    [before] = host.sql("shithub", "SELECT pid, version FROM workers")
    said = apt(host, "install", "/mnt/packages/later.deb")
    assert "running workers go on with the former release: the database is at schema version" in said
    assert host.sql("shithub", "SELECT pid, version FROM workers") == [before]
    assert "applied 0999_later" in host.run("runuser", "-u", "shithub-admin", "--", NAME, "migrate")
    try:
        host.run("systemctl", "restart", UNIT)
        assert host.sql("shithub", "SELECT version FROM workers") == [{"version": LATER}]
    finally:
        host.psql("shithub", f"UPDATE worker_schema SET version = {newest_version()}")


def test_an_upgrade_leaves_the_workers_at_work_if_a_unit_of_theirs_could_not_start_again(host: Host) -> None:
    host.run("systemctl", "start", UNIT)
    [before] = host.sql("shithub", "SELECT pid, version FROM workers")
    host.write(f"/etc/shithub/{NAME}.env", "SHITHUBD_WORKER_PREFETCHES=1\n")
    said = apt(host, "install", "/mnt/packages/next.deb")
    assert f"go on with the former release: {UNIT}: SHITHUBD_WORKER_PREFETCHES is not a setting" in said
    assert host.sql("shithub", "SELECT pid, version FROM workers") == [before]
    host.run("rm", f"/etc/shithub/{NAME}.env")
    host.run("systemctl", "try-restart", UNIT)
    assert host.sql("shithub", "SELECT version FROM workers") == [{"version": NEXT}]


def check_that_it_comes_back(host: Host) -> None:
    """Installed again, the package starts the workers that are enabled, and no others."""
    apt(host, "install", "/mnt/packages/this.deb")
    up = "SELECT unit FROM workers ORDER BY unit"
    eventually(lambda: len(host.sql("shithub", up)) == 2, "the enabled workers are up")
    assert [row["unit"] for row in host.sql("shithub", up)] == [UNIT, f"{NAME}@second.service"]
    assert host.show("shithub-history.timer", "ActiveState") == {"ActiveState": "inactive"}, "it is not enabled"


def test_remove_stops_the_workers_and_purge_leaves_what_is_not_the_packages(host: Host) -> None:
    theirs = f"/etc/shithub/{NAME}@second.env"
    host.write(theirs, "SHITHUBD_WORKER_METRICS=off\nSHITHUBD_WORKER_GRACE=600\n")
    host.run("systemctl", "enable", "--quiet", "--now", f"{NAME}@second.service")
    number = in_flight(host, "test.waits", door="door")
    host.run("systemctl", "enable", "--quiet", "--now", UNIT)
    host.run("runuser", "-u", "shithub", "--", "git", "init", "--quiet", "--bare", "/var/lib/shithub/repos/site.git")

    with host.popen("apt-get", "-qy", "remove", NAME, stdout=subprocess.DEVNULL) as remove:
        eventually(lambda: len(host.sql("shithub", "SELECT id FROM workers")) == 1, "the idle one is down")
        open_door(host)
        assert remove.wait(PATIENCE) == 0
    assert outcomes(host, number) == ["ok"]
    assert host.sql("shithub", "SELECT id FROM workers") == []
    check_that_it_comes_back(host)
    apt(host, "remove", NAME)
    assert host.show(UNIT, "LoadState", "ActiveState") == {"LoadState": "not-found", "ActiveState": "inactive"}
    assert "PGHOST=127.0.0.1" in host.run("cat", "/etc/shithub/worker.env")

    assert "stays: the database, /var/lib/shithub with the repositories" in apt(host, "purge", NAME)
    assert host.run("systemctl", "list-units", "--all", "--plain", "--no-legend", f"{NAME}*") == ""
    left = host.run("find", "/etc", "/usr", "/run", "/var/lib/systemd", "-name", f"*{NAME}*").split()
    assert left == [theirs]
    logins = ["operator.env", "operator.pgpass", "owner.env", "owner.pgpass", "pgpass"]
    assert host.run("ls", "/etc/shithub").split() == [*logins, Path(theirs).name]
    assert "HEAD" in host.run("ls", "/var/lib/shithub/repos/site.git").split()
    assert outcomes(host, number) == ["ok"], "the database is as it was"
    apt(host, "install", "/mnt/packages/this.deb")
    assert host.run("cat", "/etc/shithub/worker.env") == (REPOSITORY / "debian/worker.env").read_text()
