"""init: a small project to start from. Its files are in project/, and each of them is run by a test."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from shithubd_worker.cli.common import json_option
from shithubd_worker.cli.screen import emit, line
from shithubd_worker.errors import EXIT_OK, Refused, RightsMissing, ShithubdError
from shithubd_worker.host import shipped
from shithubd_worker.plain import shell_word

FILES = ("jobs.py", "test_jobs.py", "worker.env", "README.md")


def _not_empty(_ctx: click.Context, _parameter: click.Parameter, value: str) -> Path:
    if not value:  # from an unset variable of a shell
        raise click.BadParameter("is empty")
    return Path(value)


@click.command()
@click.argument("directory", metavar="DIR", callback=_not_empty)
@json_option
def init(directory: Path, *, as_json: bool) -> int:
    """Write a small project that runs: a handler, and its test.

    The files are jobs.py, test_jobs.py, README.md, and worker.env for a unit of systemd. The command makes the
    directory if it is missing, and overwrites no file. It needs no database. Then it prints the commands that run the
    first job. To undo it, remove the files.

    \b
    Exit codes:
      0    the files are written
      1    the directory cannot be written, for instance because the disk is full
      5    one of the files is there already; nothing is written
      77   you may not write there

    \b
    Example:
      shithubd-worker init first && cd first
    """
    with ExitStack() as undo:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                file = directory / name
                with file.open("x", encoding="utf-8") as made:
                    undo.callback(file.unlink)
                    made.write((shipped.PROJECT / name).read_text(encoding="utf-8"))
        except FileExistsError as error:
            raise Refused(f"{error.filename} is there already, and init overwrites nothing: name another DIR") from None
        except PermissionError as error:
            raise RightsMissing(f"{error.filename} cannot be written: {error.strerror}") from None
        except OSError as error:
            raise ShithubdError(f"{error.filename or directory} cannot be written: {error.strerror}") from None
        undo.pop_all()
    commands = (shipped.PROJECT / "README.md").read_text(encoding="utf-8").split("```sh\n")[1].splitlines()[:3]
    if directory != Path():
        dash = "./" if str(directory).startswith("-") else ""  # else it would be an option of cd
        commands[0] = f"cd {shell_word(f'{dash}{directory}')} && {commands[0]}"
    if as_json:
        emit({"files": [str(directory / name) for name in FILES], "next": commands})
    else:
        line(f"{directory}: {', '.join(FILES)} are written. Type next, with PGDATABASE and the like set as for psql:")
        for command in commands:
            line(f"  {command}")
    return EXIT_OK


COMMANDS = (init,)
