"""Searches the index that search.reindex keeps. For the command line; no handler needs it.

The index says which files can match. The text of a file decides where the order of words counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shithubd_worker.handlers.excerpt import printable
from shithubd_worker.handlers.search_text import (
    LONGEST_KEY,
    NOT_ALL,
    fold,
    has,
    in_a_row,
    keys,
    parts,
    path_text,
    words,
)

if TYPE_CHECKING:
    import psycopg

MOST_HITS = 1000
LONGEST_LINE = 200
LONGEST_QUERY = 10_000
# One search reads at most so many texts, and so many characters of them, best ones first.
MOST_READ_FILES = 10_000
MOST_READ = 32 * 1024 * 1024
PAGE = 100

# A term, with or without a minus before it: a phrase in quotes, or anything up to the next space.
_TERM = re.compile(r'(?P<minus>-?)(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A file that matches. `line` counts from 1. If only the file's name matches, `line` is None and `text` is empty.

    `path` and `text` have no control characters, so they can be printed on a terminal directly. `partial` says why only
    the name of the file is in the index.
    """

    repo: str
    path: str
    line: int | None
    text: str
    rank: float
    partial: str | None = None


@dataclass(slots=True)
class Found:
    """The hits, best first, and what the search could not tell, in sentences."""

    hits: list[Hit] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Choice:
    """What one file must have, and what it must not have: words in a row."""

    wanted: tuple[Words, ...]
    unwanted: tuple[Words, ...]


@dataclass(frozen=True)
class Query:
    """A search: one of its choices must be true."""

    choices: tuple[Choice, ...]

    @cached_property
    def wanted(self) -> tuple[Words, ...]:
        """What can be shown in a line."""
        return tuple(sequence for choice in self.choices for sequence in choice.wanted)

    @cached_property
    def exact(self) -> bool:
        """Does the index alone decide?"""
        return all(
            len(sequence) == 1 and len(sequence[0]) < LONGEST_KEY
            for choice in self.choices
            for sequence in (*choice.wanted, *choice.unwanted)
        )

    @property
    def narrow(self) -> str:
        """A tsquery that every file that matches obeys."""
        return " | ".join(
            "({})".format(
                " & ".join(
                    [f"'{key}'" for sequence in choice.wanted for key in keys(sequence)]
                    + [f"!'{sequence[0]}'" for sequence in choice.unwanted if _is_key(sequence)]
                )
            )
            for choice in self.choices
        )

    @property
    def rank(self) -> str:
        """A tsquery for ts_rank."""
        return " | ".join(f"'{key}'" for key in dict.fromkeys(key for each in self.wanted for key in keys(each)))

    def matches(self, path: str, content: str) -> bool:
        """Does a file match? Asked only where the index doesn't decide."""

        def there(sequence: Words) -> bool:
            return any(
                has(text, sequence) or (len(sequence) == 1 and sequence[0] in parts(text)) for text in (path, content)
            )

        return any(all(map(there, choice.wanted)) and not any(map(there, choice.unwanted)) for choice in self.choices)


def _is_key(sequence: Words) -> bool:
    return len(sequence) == 1 and len(sequence[0]) < LONGEST_KEY


def search(
    connection: psycopg.Connection[Any], schema: str, text: str, *, repo: str | None = None, limit: int = 20
) -> Found:
    """The best files for a search, best first. Nothing also for a search without any word.

    Words are matched whole and without case, in contents and in paths. foo_bar, foo.bar and "foo bar" find one word
    after the other. getUserName is found as a whole, and by get, user or name. `-word` excludes, `or` is an or. `repo`:
    only this repository, by its path relative to the repository root. `limit`: 1 to 1000.
    """
    query = parse(text)
    found = Found()
    if not query.wanted:
        found.unsure.append("a search needs a word: letters or digits that it wants")
        return found
    limit = min(max(limit, 1), MOST_HITS)
    index = _Index(connection, schema)
    candidates = index.candidates(query, repo)
    cut = len(candidates) == MOST_READ_FILES
    read = 0
    for candidate, content in index.texts(candidates, limit):
        if not candidate.decided:
            if read > MOST_READ:
                cut = True
                break
            read += len(content)
            if not query.matches(path_text(candidate.path), content):
                continue
        line, shown = first_line(content, query.wanted)
        found.hits.append(Hit(candidate.repo, printable(candidate.path), line, shown, candidate.rank, candidate.unread))
        if len(found.hits) == limit:
            return found
    if cut:
        found.unsure.append("more files can match than one search reads: add a word, or --repo")
    found.unsure += index.gaps(repo)
    return found


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A file that can match. `decided`: the index is enough to say that it does."""

    repo_id: int
    repo: str
    path: str
    unread: str | None
    rank: float
    decided: bool


class _Index:
    """The tables of the index."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        from psycopg import sql

        self._connection = connection
        self._tables = {
            "files": sql.Identifier(schema, "search_files"), "repos": sql.Identifier(schema, "search_repos")
        }  # fmt: skip

    def candidates(self, query: Query, repo: str | None) -> list[_Candidate]:
        """The files that can match, best first, without their contents."""
        from psycopg import sql

        statement = sql.SQL(
            "SELECT f.repo_id, r.repo, f.path, f.unread,"
            " pg_catalog.ts_rank(f.tsv, %(rank)s::text::pg_catalog.tsquery) AS rank,"
            " %(exact)s AND NOT f.tsv @@ %(not_all)s::text::pg_catalog.tsquery"
            " FROM {files} f JOIN {repos} r ON r.id = f.repo_id"
            " WHERE f.tsv @@ %(narrow)s::text::pg_catalog.tsquery AND (%(repo)s::text IS NULL OR r.repo = %(repo)s)"
            " ORDER BY rank DESC, r.repo, f.path LIMIT %(most)s"
        ).format(**self._tables)
        rows = self._connection.execute(
            statement,
            {
                "rank": query.rank,
                "exact": query.exact,
                "not_all": f"'{NOT_ALL}'",
                "narrow": f"{query.narrow} | '{NOT_ALL}'",
                "repo": repo,
                "most": MOST_READ_FILES,
            },
        )
        return [_Candidate(*row) for row in rows]

    def texts(self, candidates: Sequence[_Candidate], limit: int) -> Iterator[tuple[_Candidate, str]]:
        """The candidates with their contents, a page at a time. A file that is gone meanwhile is left out."""
        from psycopg import sql

        statement = sql.SQL(
            "SELECT f.repo_id, f.path, f.content FROM {files} f"
            " JOIN ROWS FROM (pg_catalog.unnest(%s::bigint[]), pg_catalog.unnest(%s::text[])) AS wanted (repo_id, path)"
            " ON f.repo_id = wanted.repo_id AND f.path = wanted.path"
        ).format(**self._tables)
        size = min(limit, PAGE)
        for start in range(0, len(candidates), size):
            page = candidates[start : start + size]
            rows = self._connection.execute(statement, ([c.repo_id for c in page], [c.path for c in page]))
            contents = {(repo_id, path): content or "" for repo_id, path, content in rows}
            for candidate in page:
                if (content := contents.get((candidate.repo_id, candidate.path))) is not None:
                    yield candidate, content

    def gaps(self, repo: str | None) -> Iterator[str]:
        """What the index lacks, in sentences."""
        from psycopg import sql

        statement = sql.SQL(
            "SELECT count(*), coalesce(sum(names_only), 0), coalesce(sum(left_out), 0),"
            " count(*) FILTER (WHERE exact_at <> generation)"
            " FROM {repos} WHERE %(repo)s::text IS NULL OR repo = %(repo)s"
        ).format(**self._tables)
        [[repos, names_only, left_out, inexact]] = self._connection.execute(statement, {"repo": repo}).fetchall()
        if repo is not None and not repos:
            yield f"{repo!r} is not in the index: enqueue search.reindex for it"
        if names_only:
            yield f"{names_only} file(s) are found only by name: larger than 1 MiB, or too much text in the repository"
        if left_out:
            yield f"{left_out} file(s) are not in the index: their paths are too long"
        if inexact:
            yield f"{inexact} repositories were indexed by an older release, in part: enqueue search.reindex for each"


def parse(text: str) -> Query:
    """Parse a search as people type it. Every term becomes words in a row. An `or` divides choices."""
    choices: list[tuple[list[Words], list[Words]]] = [([], [])]
    for match in _TERM.finditer(text[:LONGEST_QUERY].replace("\x00", " ")):
        if match["word"] and match["word"].lower() == "or" and not match["minus"]:
            choices.append(([], []))
        elif found := tuple(words(match["phrase"] if match["word"] is None else match["word"])):
            choices[-1][bool(match["minus"])].append(found)
    return Query(tuple(Choice(tuple(wanted), tuple(unwanted)) for wanted, unwanted in choices if wanted))


def first_line(content: str, wanted: tuple[Words, ...]) -> tuple[int | None, str]:
    """The number and the text of the first line with the most of the wanted sequences. If no line has one, the line
    where the first of them begins. None if none does."""
    best, best_count, best_text = None, 0, ""
    heads = {sequence[0] for sequence in wanted}
    lines = content.split("\n")
    for number, line in enumerate(lines, start=1):
        folded = fold(line)
        if not any(head in folded for head in heads):  # a cheap test that excludes nearly every line
            continue
        all_words = words(line)
        pieces = parts(line)
        count = sum(in_a_row(s, all_words) or (len(s) == 1 and s[0] in pieces) for s in wanted)
        if count > best_count:
            best, best_count, best_text = number, count, line
            if count == len(wanted):
                break
    if best is None and (best := _begins(lines, wanted)):
        best_text = lines[best - 1]
    return best, printable(best_text.strip()[:LONGEST_LINE])


def _begins(lines: list[str], wanted: tuple[Words, ...]) -> int | None:
    """The line in which a phrase begins that goes over several lines."""
    phrases = [sequence for sequence in wanted if len(sequence) > 1]
    if not phrases:
        return None
    numbered = [(word, number) for number, line in enumerate(lines, start=1) for word in words(line)]
    for phrase in phrases:
        for at, (word, number) in enumerate(numbered):
            if word == phrase[0] and tuple(w for w, _ in numbered[at : at + len(phrase)]) == phrase:
                return number
    return None
