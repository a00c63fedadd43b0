"""search find, forget: shows what search.reindex has indexed, and takes an index away."""

from __future__ import annotations

import click

from shithubd_worker.cli.common import GroupWithDefault, Shared, json_option, reason_option, with_database
from shithubd_worker.cli.deadline import CHANGE_SECONDS, LOOK_SECONDS, within
from shithubd_worker.cli.screen import emit, line, say
from shithubd_worker.errors import EXIT_OK

LONGEST_LINE = 60
FIND = "find"


@click.group(cls=GroupWithDefault, default=FIND)
def search() -> None:
    """Search the code that jobs of search.reindex have indexed.

    `search TEXT` is short for `search find TEXT`.

    \b
    Examples:
      shithubd-worker search 'lease token'
      shithubd-worker search find forget
      shithubd-worker search forget alice/old.git --reason "renamed"
    """


@search.command(FIND)
@with_database
@within(LOOK_SECONDS)
@click.argument("text")
@click.option("--repo", metavar="PATH", help="Only in this repository: its path below the workers' --repo-root.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    metavar="NUMBER",
    default=20,
    show_default=True,
    help="Print at most this many files.",
)
@json_option
def find(shared: Shared, text: str, repo: str | None, limit: int, *, as_json: bool) -> int:
    """Search for words and phrases, in contents and in paths.

    The best matches come first, as REPOSITORY:PATH:LINE. Upper and lower case are the same. You can write "a phrase" in
    quotes, -word to exclude a word, and `or`. A word with signs inside, such as self.x or a->b, is a phrase of its
    parts. The parts of getUserName are found, too. In Chinese, Japanese, Korean and Thai, each character is a word. The
    search finds no part of another word, and no sign.

    If nothing matches, the command says so and exits with 0. If it finds fewer files than --limit, it says what the
    index lacks: files larger than 1 MiB are found only by their names. It changes nothing.

    With --json it prints a list, best first. Each hit has repo, path, line, text, rank and partial. If only the file's
    name is indexed, partial says why. What the index lacks is told on the standard error.

    \b
    Exit codes:
      2    TEXT has more than 10,000 characters

    \b
    Examples:
      shithubd-worker search find 'lease token' --repo alice/site.git
      shithubd-worker search find '"lease token" -test' --limit 5
    """
    from dataclasses import asdict

    from shithubd_worker.handlers.search_query import LONGEST_QUERY
    from shithubd_worker.handlers.search_query import search as look_up

    if len(text) > LONGEST_QUERY:
        raise click.UsageError(f"a search has at most {LONGEST_QUERY:,} characters, and this one {len(text):,}")
    operations = shared.operations()
    with operations.connection.transaction():
        found = look_up(operations.connection, operations.schema, text, repo=repo, limit=limit)
    if as_json:
        emit([asdict(hit) for hit in found.hits])
    else:
        for hit in found.hits:
            where = f"{hit.repo}:{hit.path}" + (f":{hit.line}" if hit.line else "")
            told = hit.text[:LONGEST_LINE] or (f"(only its name is indexed: {hit.partial})" if hit.partial else "")
            line(f"{where}: {told}" if told else where)
        if not found.hits:
            say(f"nothing found for {text[:LONGEST_LINE]!r}")
    for each in found.unsure:
        say(f"note: {each}")
    return EXIT_OK


@search.command()
@with_database
@within(CHANGE_SECONDS)
@click.argument("repo", metavar="REPO")
@reason_option
@json_option
def forget(shared: Shared, repo: str, reason: str | None, *, as_json: bool) -> int:
    """Take the index of a repository away.

    REPO is its path below the workers' --repo-root, as `search` prints it. It need not exist. A job of search.reindex
    does the same if it finds that the repository was deleted, renamed or emptied. If nothing is indexed under this
    name, the command says so and exits with 0. It waits for a job that writes this index now. A job that writes the
    first index of a repository is not seen: run the command again after its end. To undo it, enqueue search.reindex;
    the command prints how.

    \b
    Example:
      shithubd-worker search forget alice/old.git --reason "it was renamed"
    """
    from shithubd_worker.plain import json_text

    forgotten = shared.operations().forget_index(repo, reason)
    if as_json:
        emit({"repo": repo, "forgotten": forgotten is not None, **(forgotten or {})})
        return EXIT_OK
    if forgotten is None:
        line(f"nothing is indexed as {repo}")
        return EXIT_OK
    line(f"forgot the index of {repo}: {forgotten['files']} files")
    payload = json_text({"repo": repo, "ref": forgotten["ref"]})
    line(f"undo: {shared.command('enqueue', 'search.reindex', payload)}")
    return EXIT_OK


COMMANDS = (search,)
