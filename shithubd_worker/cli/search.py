"""search: shows what search.reindex has indexed."""

from __future__ import annotations

import click

from shithubd_worker.cli.common import Shared, json_option, with_database
from shithubd_worker.cli.deadline import LOOK_SECONDS, within
from shithubd_worker.cli.screen import emit, line, say
from shithubd_worker.errors import EXIT_OK

LONGEST_LINE = 60


@click.command()
@with_database
@within(LOOK_SECONDS)
@click.argument("text")
@click.option("--repo", metavar="PATH", help="Only in this repository, by its path below --repo-root of the workers.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Print at most this many files."
)
@json_option
def search(shared: Shared, text: str, repo: str | None, limit: int, *, as_json: bool) -> int:
    """Search the code that jobs of search.reindex have indexed.

    The best matches come first, as REPOSITORY:PATH:LINE. TEXT has whole words; upper and lower case are the same. You
    can write "a phrase" in quotes, -word to exclude a word, and `or`. Only the first 1,000 characters count. If nothing
    matches, the command says so and exits with 0. It changes nothing.

    \b
    Example:
      shithubd-worker search 'lease token' --repo alice/site.git
    """
    from dataclasses import asdict

    from shithubd_worker.handlers.search_query import search as look_up

    operations = shared.operations()
    with operations.connection.transaction():
        hits = look_up(operations.connection, operations.schema, text, repo=repo, limit=limit)
    if as_json:
        emit([asdict(hit) for hit in hits])
        return EXIT_OK
    for hit in hits:
        where = f"{hit.repo}:{hit.path}" + (f":{hit.line}" if hit.line else "")
        line(f"{where}: {hit.text[:LONGEST_LINE]}" if hit.text else where)
    if not hits:
        say(f"nothing found for {text!r}")
    return EXIT_OK


COMMANDS = (search,)
