"""Pages of docs/ whose facts are made from the code, and whose words are written by hand.

`<!-- made: NAME ARGUMENT -->` in a page stands right above what is made: all lines up to the next empty one. A table of
facts may end with a column of words: those stay as they are. `make pages` makes the facts again; tests compare.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SQL, METRICS, EXIT_CODES = DOCS / "sql.md", DOCS / "metrics.md", DOCS / "exit-codes.md"
DOCTOR = DOCS / "doctor.md"

_MADE = re.compile(r"^<!-- made: (\S+)(?: (\S+))? -->\n((?:(?!<!-- made:).+\n)*)", re.MULTILINE)


@dataclass(frozen=True)
class Facts:
    """A table. `words`: the head of the last column, which is written by hand; None if there is none. A row is known by
    its first cell."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: str | None = None


Makers = Mapping[str, Callable[[str], Facts | str]]


def filled(page: str, makers: Makers) -> str:
    """The page with its facts made anew. A marker that no maker knows raises KeyError."""

    def made(match: re.Match[str]) -> str:
        marker = match[0].partition("\n")[0]
        facts = makers[match[1]](match[2] or "")
        return f"{marker}\n{facts if isinstance(facts, str) else _table(facts, _words(match[3]))}\n"

    return _MADE.sub(made, page)


def markers(page: str) -> list[tuple[str, str]]:
    """What a page asks for: name and argument."""
    return [(match[1], match[2] or "") for match in _MADE.finditer(page)]


def without_words(page: str) -> list[str]:
    """The rows of a page that nobody has written words for."""
    return re.findall(r"^\| (.+?) \|(?: .*\|)?  \|$", page, re.MULTILINE)


def _table(facts: Facts, words: Mapping[str, str]) -> str:
    head = [*facts.head, *([] if facts.words is None else [facts.words])]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in facts.rows:
        cells = [*row, *([] if facts.words is None else [words.get(row[0], "")])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _words(table: str) -> dict[str, str]:
    """The last cell of each row, by its first."""
    rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in table.splitlines() if line.startswith("|")]
    return {row[0].strip(): row[-1].strip() for row in rows}


def write(path: Path, makers: Makers) -> None:
    """Make the facts of a page anew."""
    path.write_text(filled(path.read_text(), makers))


def _databases() -> Iterator[object]:
    from conftest import _server, new_database
    from servers import debian_bindir

    for server in _server(debian_bindir() or sys.exit("no server of Debian's here")):
        yield from new_database(server)


def main() -> None:
    """Write the pages."""
    import doctor_facts
    import exit_code_facts
    import metrics_facts
    import rights_page
    import sql_facts

    write(METRICS, metrics_facts.MAKERS)
    write(EXIT_CODES, exit_code_facts.MAKERS)
    write(DOCTOR, doctor_facts.MAKERS)
    for database in _databases():
        with database.connect() as connection:  # type: ignore[attr-defined]
            write(SQL, sql_facts.makers(connection))
            rights_page.PAGE.write_text(rights_page.page(connection))


if __name__ == "__main__":
    main()
