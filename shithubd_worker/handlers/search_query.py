"""Searches the index that search.reindex keeps. For the command line; no handler needs it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shithubd_worker.handlers.excerpt import printable
from shithubd_worker.handlers.search_text import parts, words

if TYPE_CHECKING:
    import psycopg

MOST_HITS = 1000
LONGEST_LINE = 200
LONGEST_QUERY = 1000

# A term, with or without a minus before it: a phrase in quotes, or anything up to the next space.
_TERM = re.compile(r'(?P<minus>-?)(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')


@dataclass(frozen=True, slots=True)
class Hit:
    """A file that matches. `line` counts from 1. If only the file's name matches, `line` is None and `text` is empty.

    `path` and `text` have no control characters, so they can be printed on a terminal directly.
    """

    repo: str
    path: str
    line: int | None
    text: str
    rank: float


@dataclass(frozen=True, slots=True)
class Query:
    """A search as PostgreSQL's websearch_to_tsquery reads it, and the sequences of words to look for in the lines."""

    websearch: str
    wanted: tuple[tuple[str, ...], ...]


def search(
    connection: psycopg.Connection[Any], schema: str, text: str, *, repo: str | None = None, limit: int = 20
) -> list[Hit]:
    """The best files for a search, best first. [] also for a search without any word.

    Words are matched whole and without case, in contents and in paths. foo_bar, foo.bar and "foo bar" find one word
    after the other. getUserName is found as a whole, and by get, user or name. `-word` excludes, `or` is an or. `repo`:
    only this repository, by its path relative to the repository root. `limit`: 1 to 1000.
    """
    from psycopg import sql

    query = parse(text)
    if not query.wanted:
        return []
    # Rank first, and fetch contents only for the few files that are shown.
    statement = sql.SQL(
        "WITH found AS MATERIALIZED ("
        " SELECT f.repo_id, r.repo, f.path,"
        " pg_catalog.ts_rank(f.tsv, pg_catalog.websearch_to_tsquery('pg_catalog.simple', %(query)s)) AS rank"
        " FROM {files} f JOIN {repos} r ON r.id = f.repo_id"
        " WHERE f.tsv @@ pg_catalog.websearch_to_tsquery('pg_catalog.simple', %(query)s)"
        " AND (%(repo)s::text IS NULL OR r.repo = %(repo)s)"
        " ORDER BY rank DESC, r.repo, f.path LIMIT %(limit)s)"
        " SELECT found.repo, found.path, f.content, found.rank FROM found JOIN {files} f USING (repo_id, path)"
        " ORDER BY found.rank DESC, found.repo, found.path"
    ).format(files=sql.Identifier(schema, "search_files"), repos=sql.Identifier(schema, "search_repos"))
    parameters = {"query": query.websearch, "repo": repo, "limit": min(max(limit, 1), MOST_HITS)}
    hits = []
    with connection.cursor() as cursor:
        for name, path, content, rank in cursor.stream(statement, parameters):
            line, shown = first_line(content or "", query.wanted)
            hits.append(Hit(name, printable(path), line, shown, rank))
    return hits


def parse(text: str) -> Query:
    """Parse a search as people type it. Every term becomes a phrase of plain words, like those in the index."""
    terms: list[str] = []
    wanted: list[tuple[str, ...]] = []
    for match in _TERM.finditer(text[:LONGEST_QUERY].replace("\x00", " ")):
        if match["word"] and match["word"].lower() == "or" and not match["minus"]:
            terms.append("or")
            continue
        found = words(match["phrase"] if match["word"] is None else match["word"])
        if found:
            terms.append(f'{match["minus"]}"{" ".join(found)}"')
            if not match["minus"]:
                wanted.append(tuple(found))
    return Query(" ".join(terms), tuple(wanted))


def first_line(content: str, wanted: tuple[tuple[str, ...], ...]) -> tuple[int | None, str]:
    """The number and the text of the first line with the most of the wanted sequences. None if no line has one."""
    best, best_count, best_text = None, 0, ""
    heads = {sequence[0] for sequence in wanted}
    for number, line in enumerate(content.split("\n"), start=1):
        lowered = line.lower()
        if not any(head in lowered for head in heads):  # a cheap test that excludes nearly every line
            continue
        in_order = f" {' '.join(words(line))} "
        pieces = parts(line)
        count = sum(f" {' '.join(s)} " in in_order or (len(s) == 1 and s[0] in pieces) for s in wanted)
        if count > best_count:
            best, best_count, best_text = number, count, line
            if count == len(wanted):
                break
    return best, printable(best_text.strip()[:LONGEST_LINE])
