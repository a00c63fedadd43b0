"""How easy our words are to read: the sentences of a page, how long they are, the school grade that they take, and the
words that a tired reader stumbles over.

`PYTHONPATH=tests .venv/bin/python -m prose [--long] [FILE ...]` prints it for each page and file. With --long it prints
each sentence that is too long, too.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import textstat
from markdown_it import MarkdownIt
from markdown_it.token import Token

HERE = Path(__file__).parent.parent
PAGES = [
    *(HERE / name for name in ("README.md", "ARCHITECTURE.md", "SECURITY.md")),
    *sorted((HERE / "docs").glob("*.md")),
    *sorted((HERE / "runbooks").rglob("*.md")),
    HERE / "benchmarks" / "README.md",
]

LONGEST = 25  # words in a sentence of a page

# What to look for → what to write.
AVOID = {
    r"\b(who|what|which)ever\b": "name the person or the thing",
    r"\bby (it|him|her|them)sel(f|ves)\b": "name who acts, or leave it out",
    r"\bso (it|he) does\b|\bso do(es)?\b": "repeat the verb",
    r"\bof (which|whom)\b": "begin a new sentence",
    r", for (it|that|they|he|no|there|what|nothing)\b": "because",
    r"(^|[.:;] )(Nor|Neither)\b": "begin a sentence with who acts",
    r"\b(lest|hence|thus|thereof|whereof|therein)\b": "so, because",
    r"\bshall\b": "must, or the present tense",
    r"\bin the midst\b": "while, in the middle of",
    r"\bas it stands\b": "unchanged",
    r"\bcomes? of it\b": "what happens then",
    r"\b(is|are) none of\b": "is not one of",
    r"\bas if nothing (had been|were)\b": "say what happens",
    r"\btakes? the word back\b": "stops asking",
}


def stumbles(text: str) -> Iterator[tuple[int, str, str]]:
    """Lines of a text that have a word to avoid: its number, what was found, what to write."""
    for number, line in enumerate(text.splitlines(), 1):
        for word, better in AVOID.items():
            if found := re.search(word, line, re.IGNORECASE):
                yield number, found[0], better


def files() -> list[Path]:
    """All that has words of ours: what git knows, but for what is drawn, licensed, measured, or the work of others."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=HERE, capture_output=True, text=True, check=True).stdout
    of_words = ("tests/prose.py", "tests/unit/test_plain_words.py")  # they quote the words to avoid
    others = ("LICENSE", "benchmarks/results/", "tests/runbooks/upstream/", *of_words)
    return [
        HERE / name
        for name in listed.split("\0")
        if name and not name.startswith(others) and not name.endswith((".svg", ".json", ".lock"))
    ]


def _said(inline: Token) -> str:
    """Its text. A name in code counts as one short word: a reader recognizes it as a whole, and doesn't spell it."""
    words = {"text": lambda t: t.content, "code_inline": lambda _: "code", "softbreak": lambda _: " "}
    return "".join(words[t.type](t) for t in inline.children or [] if t.type in words)


def sentences(page: str) -> Iterator[str]:
    """What is to be read as text in a page of Markdown: of paragraphs, items of lists and cells of tables. Headings and
    blocks of code are not, and neither is a cell of a word or three."""
    inside: list[str] = []
    for token in MarkdownIt("commonmark").enable("table").parse(page):
        if token.nesting == 1:
            inside.append(token.type)
        elif token.nesting == -1:
            inside.pop()
        elif token.type == "inline" and "heading_open" not in inside:
            for sentence in re.split(r"(?<=[.!?])[)”\"]*\s+(?=\S)", _said(token)):
                if len(sentence.split()) > 3 or not {"td_open", "th_open"} & set(inside):
                    yield sentence.strip()


def median_length(page: str) -> float:
    """The words of its sentence in the middle; 0 without any."""
    return float(median([len(said.split()) for said in sentences(page)] or [0]))


def grade(page: str) -> float:
    """The years of school that a page takes, by Flesch and Kincaid: 0.39 · words a sentence + 11.8 · syllables a word
    - 15.59; 0 for a page without sentences."""
    text = " ".join(f"{said.rstrip('.!?:;')}." for said in sentences(page))
    return float(textstat.flesch_kincaid_grade(text)) if text else 0.0


def main(arguments: list[str]) -> None:
    """Print the figures of the pages given, or of all."""
    with_long = arguments[:1] == ["--long"] and bool(arguments.pop(0))
    given = [Path(name).resolve() for name in arguments]
    print("grade  median  longest  page")
    for path in [path for path in given if path.suffix == ".md"] if given else PAGES:
        page = path.read_text()
        said = list(sentences(page))
        longest = max((len(each.split()) for each in said), default=0)
        print(f"{grade(page):5.1f}  {median_length(page):6.1f}  {longest:7}  {path.relative_to(HERE)}")
        for each in said if with_long else ():
            if len(each.split()) > LONGEST:
                print(f"  {len(each.split()):3}  {each}")
    for path in given or files():
        for number, found, better in stumbles(path.read_text()):
            print(f"{path.relative_to(HERE)}:{number}: {found!r}: {better}")


if __name__ == "__main__":
    main(sys.argv[1:])
