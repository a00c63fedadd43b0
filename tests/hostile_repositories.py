"""Repositories that lead git out of the root, run a program, or never end.

It needs only the standard library and git: on a booted host this file runs as a program, `python3
hostile_repositories.py build ROOT OUTSIDE`. `outside` is what nobody may read or change: a repository, a configuration
and a program, all with CANARY in them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CANARY = "canarium"  # in every text outside of the root, and nowhere else
HARMLESS = "harmless"  # in every repository below the root

Build = Callable[[Path, Path], object]
HOSTILE: dict[str, Build] = {}


def git(directory: Path, *arguments: str, stdin: bytes | None = None) -> str:
    """Run git as a developer would, without any configuration of a user."""
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    for who in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{who}_NAME": "dev", f"GIT_{who}_EMAIL": "dev@example.org"}
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments], env=environment, input=stdin, capture_output=True, check=True
    )
    return done.stdout.decode().strip()


def write_commit(bare: Path, text: str) -> str:
    """A commit with one file, written into a bare repository. No ref names it yet."""
    blob = git(bare, "hash-object", "-w", "--stdin", stdin=f"{text}\n".encode())
    tree = git(bare, "mktree", stdin=f"100644 blob {blob}\tfile.txt\n".encode())
    return git(bare, "commit-tree", tree, "-m", text)


def plain(bare: Path, text: str) -> Path:
    """A usual bare repository: one commit in a pack, one in loose objects."""
    bare.mkdir(parents=True)
    git(bare, "init", "--quiet", "--bare", "--initial-branch=main")
    git(bare, "update-ref", "refs/heads/main", write_commit(bare, text))
    git(bare, "gc", "--quiet")
    git(bare, "update-ref", "refs/heads/topic", write_commit(bare, f"{text} topic"))
    return bare


def lay_out(outside: Path) -> None:
    """What no repository below the root may reach."""
    plain(outside.parent / "template.git", HARMLESS)
    victim = plain(outside / "victim.git", CANARY)
    write_commit(victim, f"{CANARY} unreachable")  # a gc would move this
    (outside / "include.cfg").write_text(f"[core]\n\tpackedGitLimit = {CANARY}\n[gc]\n\tauto = {CANARY}\n")
    (outside / "empty").mkdir()
    program = outside / "program"
    program.write_text(f"#!/bin/sh\necho {CANARY} >>{outside}/ran\n")
    program.chmod(0o755)


def look_at(outside: Path) -> dict[str, tuple[object, ...]]:
    """Every name outside of the root, with what a reader sees of it."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in sorted(outside.rglob("*")):
        facts = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        seen[str(path.relative_to(outside))] = (facts.st_mode, facts.st_size, facts.st_mtime_ns, digest)
    return seen


def build(name: str, root: Path, outside: Path) -> Path:
    """One of HOSTILE, made from a plain repository."""
    bare = copy(root / f"{name}.git", outside)
    HOSTILE[name](bare, outside)
    return bare


def copy(bare: Path, outside: Path) -> Path:
    """A copy of a plain repository."""
    shutil.copytree(outside.parent / "template.git", bare)
    return bare


def _victims_commit(outside: Path) -> str:
    packed = (outside / "victim.git/packed-refs").read_text().split()
    return packed[packed.index("refs/heads/main") - 1]


def _point_main_outside(bare: Path, outside: Path) -> None:
    (bare / "refs/heads").mkdir(parents=True, exist_ok=True)
    (bare / "refs/heads/main").write_text(f"{_victims_commit(outside)}\n")


def _moved(bare: Path, entry: str, outside: Path) -> None:
    """The entry becomes a symbolic link to the victim's entry."""
    path = bare / entry
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(outside / "victim.git" / entry)


def _linked(entry: str) -> Build:
    def make(bare: Path, outside: Path) -> None:
        _moved(bare, entry, outside)
        if entry.startswith("objects"):
            _point_main_outside(bare, outside)

    return make


for _entry in (
    *(
        "HEAD",
        "config",
        "packed-refs",
        "shallow",
        "index",
        "refs",
        "refs/heads",
        "refs/heads/main",
        "logs",
        "worktrees",
    ),
    *("info", "info/attributes", "info/grafts", "objects", "objects/info", "objects/pack", "objects/info/alternates"),
    *("objects/info/commit-graph", "objects/pack/multi-pack-index", "FETCH_HEAD", "gc.pid"),
):
    HOSTILE[f"link-{_entry.replace('/', '-')}"] = _linked(_entry)


def hostile(build: Build) -> Build:
    """Registers one of HOSTILE under the name of its function."""
    HOSTILE[build.__name__.strip("_").replace("_", "-")] = build
    return build


@hostile
def _links_of_all_fan_outs(bare: Path, outside: Path) -> None:
    for number in range(256):
        _moved(bare, f"objects/{number:02x}", outside)
    _moved(bare, "objects/pack", outside)
    _point_main_outside(bare, outside)


@hostile
def _links_of_single_objects(bare: Path, outside: Path) -> None:
    store = outside / "victim.git/objects"
    for path in [*store.glob("??/*"), *store.glob("pack/*")]:
        _moved(bare, f"objects/{path.relative_to(store)}", outside)
    _point_main_outside(bare, outside)


@hostile
def _commondir(bare: Path, outside: Path) -> None:
    (bare / "commondir").write_text(f"{outside}/victim.git\n")


def _borrow(bare: Path, line: str, outside: Path, file: str = "alternates") -> None:
    (bare / "objects/info").mkdir(exist_ok=True)
    (bare / "objects/info" / file).write_text(f"{line}\n")
    _point_main_outside(bare, outside)


@hostile
def _alternates(bare: Path, outside: Path) -> None:
    _borrow(bare, f"{outside}/victim.git/objects", outside)


@hostile
def _alternates_by_a_relative_path(bare: Path, outside: Path) -> None:
    _borrow(bare, os.path.relpath(outside / "victim.git/objects", bare / "objects"), outside)


@hostile
def _alternates_in_quotes(bare: Path, outside: Path) -> None:
    _borrow(bare, f'"{outside}/victim.git/objects"', outside)


@hostile
def _alternates_behind_a_link(bare: Path, outside: Path) -> None:
    (bare.parent / "innocent.git").symlink_to(outside / "victim.git")
    _borrow(bare, f"{bare.parent}/innocent.git/objects", outside)


@hostile
def _alternates_of_alternates(bare: Path, outside: Path) -> None:
    middle = copy(bare.parent / "middle.git", outside)
    _borrow(middle, f"{outside}/victim.git/objects", outside)
    _borrow(bare, f"{middle}/objects", outside)


@hostile
def _http_alternates(bare: Path, outside: Path) -> None:
    _borrow(bare, f"file://{outside}/victim.git/objects", outside, "http-alternates")


@hostile
def _worktree_outside(bare: Path, outside: Path) -> None:
    entry = bare / "worktrees/x"
    entry.mkdir(parents=True)
    (entry / "gitdir").write_text(f"{outside}/empty/.git\n")
    (entry / "commondir").write_text(f"{outside}/victim.git\n")
    (entry / "HEAD").write_text(f"{_victims_commit(outside)}\n")


def _configured(text: str) -> Build:
    def make(bare: Path, outside: Path) -> None:
        with (bare / "config").open("a") as config:
            config.write(text.format(outside=outside, program=f"{outside}/program") + "\n")

    return make


_MISSING_OBJECT = '[extensions]\n\tpartialClone = origin\n[remote "origin"]\n\tpromisor = true\n\turl = {}'
for _name, _text in {
    "include": "[include]\n\tpath = {outside}/include.cfg",
    "include-if": '[INCLUDEIF "gitdir:**"]path={outside}/include.cfg',
    "worktree": "[core]\n\tbare = false\n\tworktree = {outside}/empty",
    "worktree-of-the-extension": "[extensions]\n\tworktreeConfig = true\n[core]\n\trepositoryFormatVersion = 1",
    "attributes-file": "[core]\n\tattributesFile = {outside}/include.cfg",
    "excludes-file": "[core]\n\texcludesFile = {outside}/include.cfg",
    "fsmonitor": "[core]\n\tfsmonitor = {program}",
    "hooks-path": "[core]\n\thooksPath = {outside}",
    "alternate-refs-command": "[core]\n\talternateRefsCommand = {program}",
    "recent-objects-hook": "[gc]\n\trecentObjectsHook = {program}",
    "repack-filter": "[gc]\n\trepackFilter = blob:none\n\trepackFilterTo = {outside}/empty/pack",
    "pack-objects-hook": "[uploadpack]\n\tpackObjectsHook = {program}",
    "programs": "[core]\n\tpager = {program}\n\teditor = {program}\n\tsshCommand = {program}\n\tgitProxy = {program}\n"
    "\taskPass = {program}\n[credential]\n\thelper = !{program}\n[diff]\n\texternal = {program}\n[pager]\n"
    "\tcat-file = {program}\n\tls-tree = {program}\n[gpg]\n\tprogram = {program}\n[alias]\n\tgc = !{program}",
}.items():
    HOSTILE[f"config-{_name}"] = _configured(_text)


@hostile
def _config_of_the_worktree(bare: Path, outside: Path) -> None:
    HOSTILE["config-worktree-of-the-extension"](bare, outside)
    (bare / "config.worktree").write_text(f"[include]\n\tpath = {outside}/include.cfg\n")


def _promisor(url: str) -> Build:
    def make(bare: Path, outside: Path) -> None:
        _configured(f"[core]\n\trepositoryFormatVersion = 1\n{_MISSING_OBJECT.format(url)}")(bare, outside)
        _point_main_outside(bare, outside)

    return make


for _name, _url in {
    "ext": "ext::{program}",
    "file": "{outside}/victim.git",
    "ssh": "ssh://localhost/x\n[core]\n\tsshCommand = {program}",
    "helper": "x\n\tvcs = {program}",
}.items():
    HOSTILE[f"promisor-{_name}"] = _promisor(_url)


def _pipe(entry: str) -> Build:
    def make(bare: Path, _: Path) -> None:
        path = bare / entry
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    return make


for _entry in (
    *("HEAD", "config", "packed-refs", "shallow", "commondir", "refs/heads/main", "info/attributes", "info/grafts"),
    *("objects/info/alternates", "objects/info/commit-graph", f"objects/pack/pack-{'a' * 40}.idx", "index"),
):
    HOSTILE[f"pipe-{_entry.replace('/', '-')[:40]}"] = _pipe(_entry)


@hostile
def _pipes_of_objects(bare: Path, _: Path) -> None:
    tip = (bare / "refs/heads/topic").read_text().strip()
    (bare / "refs/heads/main").write_text(f"{tip}\n")
    path = bare / "objects" / tip[:2] / tip[2:]
    path.unlink()
    os.mkfifo(path)


@hostile
def _a_socket_for_a_head(bare: Path, _: Path) -> None:
    (bare / "HEAD").unlink()
    here = Path.cwd()
    os.chdir(bare)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("HEAD")
    os.chdir(here)


@hostile
def _a_gitdir_file_for_a_repository(bare: Path, outside: Path) -> None:
    shutil.rmtree(bare)
    bare.write_text(f"gitdir: {outside}/victim.git\n")


def main(command: str, root: Path, outside: Path) -> None:
    """`build`: make all of it, and beside it a usual repository and its fork. `look`: print what is outside."""
    if command == "build":
        outside.mkdir()
        lay_out(outside)
        for name in HOSTILE:
            build(name, root, outside)
        base, fork = copy(root / "base.git", outside), plain(root / "fork.git", HARMLESS)
        (fork / "objects/info/alternates").write_text(f"{base}/objects\n")
    print(json.dumps(look_at(outside)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
