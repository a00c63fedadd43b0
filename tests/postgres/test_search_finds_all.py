"""Every word and every phrase of an indexed file is found, and no phrase that isn't in it. What isn't there is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helpers_handlers import Bench, Repository
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shithubd_worker.handlers import search_index, search_query, search_reindex
from shithubd_worker.handlers.search_index import File
from shithubd_worker.handlers.search_query import Found, search
from shithubd_worker.handlers.search_text import decode, path_shown, words
from shithubd_worker.model import How

Index = Callable[..., None]
ODD = (
    "İı ß SS Σς ﬁ é e\u0301 検索 か\u3099 한국어 ภาษา हिन्दी"
    " a->b C::d x.y_z 1.2.3 ada@example.org getUserName HTTPServer"
)


@pytest.fixture
def index(bench: Bench) -> Index:
    """Puts one file into the index, in place of the one before."""
    [(repo,)] = bench.connection.execute(
        "INSERT INTO search_repos (repo, ref, commit, files, generation, exact_at) VALUES ('r.git', 'x', 'x', 1, 1, 1)"
        " RETURNING id"
    ).fetchall()

    def put(content: str, path: str = "p") -> None:
        bench.connection.execute("DELETE FROM search_files")
        search_index.put(bench.connection, bench.schema, repo, [File(path, "0", content)])

    return put


def finds(bench: Bench, text: str) -> bool:
    return bool(search(bench.connection, bench.schema, text).hits)


tokens = st.one_of(
    st.sampled_from(ODD.split()),
    st.text("abAB01_.-/\\'%:*&|!()", min_size=1, max_size=8),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=4),
    st.integers(1, 3000).map(lambda size: "w" * size),
)
files = st.lists(st.tuples(tokens, st.sampled_from([" ", "\n", "\r\n", "\t", "_", "()", "."])), max_size=30)


def quoted(text: str) -> str:
    return f'"{text}"'


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files, st.data())
def test_each_token_and_each_phrase_of_a_file_is_found(bench, index, file, data):
    content = "".join(token + gap for token, gap in file).replace('"', "'")
    index(content)
    apart = content.split()
    for token in apart[:8]:
        assert not words(token) or finds(bench, quoted(token)), token
    if apart:
        start = data.draw(st.integers(0, len(apart) - 1))
        phrase = " ".join(apart[start : start + data.draw(st.integers(1, 5))])
        assert not words(phrase) or finds(bench, quoted(phrase)), phrase
    other = data.draw(st.lists(st.sampled_from([*words(content), "absent"]), min_size=2, max_size=4))
    really = f" {' '.join(other)} " in f" {' '.join(words(content))} "
    assert finds(bench, quoted(" ".join(other))) is really or len(" ".join(other)) > search_query.LONGEST_QUERY


def test_the_place_of_a_word_and_the_number_of_its_repeats_do_not_matter(bench, index):
    """More than 16,383 words, and more than 256 repeats, are no places of a tsvector."""
    names = [f"name{n}" for n in range(20_000)]
    index("\n".join(f"self.{name} = other.thing_{n}" for n, name in enumerate(names)))
    for at in (0, 255, 256, 300, 9000, 19_999):
        assert finds(bench, f"self.{names[at]}")
        assert finds(bench, f"thing_{at}")
        assert finds(bench, f'"{names[at]} other thing"')
        assert not finds(bench, f'"{names[at]} self"')
        assert not finds(bench, f"self.name{at}x")
    assert not finds(bench, "other.name7")


def test_the_name_the_text_and_the_parts_of_words_are_no_phrase_of_each_other(bench, index):
    index("getUserName first\n", path="src/app.py")
    assert finds(bench, "src/app.py")
    assert not finds(bench, '"py getusername"')
    assert not finds(bench, '"get name"')
    assert finds(bench, "user app first")


def test_a_word_of_any_length_separates_and_is_found(bench, index):
    long = "k" * 5000
    index(f"before {long} after")
    assert finds(bench, long)
    assert finds(bench, f'"before {long} after"')
    assert not finds(bench, '"before after"')
    assert not finds(bench, long[:-1])
    assert not finds(bench, long[:200])
    assert finds(bench, f"before -{long}x")
    assert not finds(bench, f"before -{long}")


def test_a_file_with_more_words_than_a_tsvector_holds_is_found_by_each(bench, index):
    numbers = range(140_000)
    index(" ".join(f"e{n:07d}" for n in numbers) + " aBcd" * 3 + " last.word")
    assert bench.connection.execute("SELECT tsv @@ '''*'''::tsquery FROM search_files").fetchall() == [(True,)]
    for n in (0, 60_000, 139_999):
        assert finds(bench, f"e{n:07d}")
    assert finds(bench, "last.word")
    assert finds(bench, "bcd")
    assert not finds(bench, "e9999999")
    assert not finds(bench, "last -word")
    assert finds(bench, "last -absent")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("検索", True),
        ("全文検索", True),
        ("索検", False),
        ("エンジン", True),
        ("検索 engine", True),
        ("STRASSE", True),
        ("straße", True),
        ("İSTANBUL", True),
        ("istanbul", False),
        ("café", True),
        ("cafe\u0301", True),
        ("cafe", False),
        ("full", True),
        ("국어", True),
        ("100%", True),
        ("'; DROP TABLE jobs --", False),
        ("a\\ & | ! <-> :* ( ) '", False),
        ("straße -検索", False),
        ("straße -索検", True),
        ("-straße", False),
        ("absent or 検索", True),
        ("or or straße or", True),
        ('"unclosed straße', False),
        ("ada@example.org", True),
        ("1.2.3", True),
        ("1.2.4", False),
        ("p->next", True),
        ("std::vector", True),
        ("vector::std", False),
    ],
)
def test_texts_of_many_scripts_and_signs_are_found(bench, index, text, found):
    index(
        "全文検索エンジン engine\r\nStraße İstanbul café \uff26\uff35\uff2c\uff2c 한국어를\r\n"
        "100% ada@example.org v 1.2.3 p->next std::vector\r\n"
    )
    assert finds(bench, text) is found


def test_a_phrase_over_two_lines_is_shown_where_it_begins(bench, index):
    index("x\nlease\ntoken\n")
    (hit,) = search(bench.connection, bench.schema, '"lease token"').hits
    assert (hit.line, hit.text) == (2, "lease")


def test_a_file_that_says_it_more_often_or_in_its_name_comes_first(bench, index):
    [(repo,)] = bench.connection.execute("SELECT id FROM search_repos").fetchall()
    texts = {"a": "token", "b": "token " * 3, "c": "token " * 9, "token": "x"}
    search_index.put(bench.connection, bench.schema, repo, [File(path, "0", text) for path, text in texts.items()])
    assert [hit.path for hit in search(bench.connection, bench.schema, "token").hits] == ["token", "c", "b", "a"]


def test_what_one_search_reads_is_bounded_and_told(bench, index, monkeypatch):
    [(repo,)] = bench.connection.execute("SELECT id FROM search_repos").fetchall()
    search_index.put(bench.connection, bench.schema, repo, [File(f"f{n}", "0", f"a b {n}") for n in range(20)])
    told = "more files can match than one search reads: add a word, or --repo"
    assert search(bench.connection, bench.schema, '"b a"') == Found([], [])
    monkeypatch.setattr(search_query, "MOST_READ", 30)
    assert search(bench.connection, bench.schema, '"b a"') == Found([], [told])
    monkeypatch.setattr(search_query, "MOST_READ_FILES", 5)
    assert told in search(bench.connection, bench.schema, '"a b"').unsure
    assert search(bench.connection, bench.schema, '"a b"', limit=3).unsure == []


def test_a_search_without_a_word_says_what_it_needs(bench):
    for text in ("", "::", "-word", "🎉"):
        assert search(bench.connection, bench.schema, text).unsure == [
            "a search needs a word: letters or digits that it wants"
        ]


def test_what_the_index_lacks_is_told(bench, root, tmp_path, monkeypatch):
    monkeypatch.setattr(search_reindex, "LARGEST_FILE", 1000)
    monkeypatch.setattr(search_reindex, "LONGEST_PATH_BYTES", 30)
    repository = Repository(root, "alice/site.git", tmp_path)
    repository.commit({"large.txt": b"needle " * 400, "x" * 40: b"needle", "logo.png": b"\0", "a": b"hay"})
    assert bench.run("search.reindex", repo=repository.name).how is How.OK
    lacking = [
        "1 file(s) are found only by name: larger than 1 MiB, or too much text in the repository",
        "1 file(s) are not in the index: their paths are too long",
    ]
    for commit in ({"a": b"hay"}, {"b": b"hay"}):
        repository.commit(commit)
        assert bench.run("search.reindex", repo=repository.name).how is How.OK
        assert search(bench.connection, bench.schema, "needle") == Found([], lacking)
    (hit,) = search(bench.connection, bench.schema, "large").hits
    assert (hit.line, hit.partial) == (None, "larger than 1 MiB")
    (hit,) = search(bench.connection, bench.schema, "logo").hits
    assert hit.partial == "binary"
    assert search(bench.connection, bench.schema, "x", repo="bob.git").unsure == [
        "'bob.git' is not in the index: enqueue search.reindex for it"
    ]


def test_an_index_of_an_older_release_is_told_and_written_again(bench, root, tmp_path):
    repository = Repository(root, "alice/site.git", tmp_path)
    repository.commit({"a": "検索\n".encode()})
    assert bench.run("search.reindex", repo=repository.name).how is How.OK
    # As the older release wrote it, and as it writes it while both run.
    bench.connection.execute("UPDATE search_files SET tsv = to_tsvector('simple', '検索')")
    bench.connection.execute("UPDATE search_repos SET generation = generation + 1")
    told = "1 repositories were indexed by an older release, in part: enqueue search.reindex for each"
    assert search(bench.connection, bench.schema, "検") == Found([], [told])
    assert bench.run("search.reindex", repo=repository.name).how is How.OK
    assert len(search(bench.connection, bench.schema, "検").hits) == 1
    assert search(bench.connection, bench.schema, "検").unsure == []


def test_texts_in_any_encoding_are_searched_as_far_as_they_are_text(bench, index):
    for data, word in (
        ("Grüße 検索".encode() + b"\xff", "検索"),
        ("Grüße".encode("latin-1"), "grüße"),
        ("検索 x".encode("utf-16"), "検索"),
        (b"x\r\nlast", "x last"),
        (b"x" * 9000 + b"\0 nul", "nul"),
    ):
        index(decode(data), path=path_shown(b"odd \xff\n\"'name"))
        assert finds(bench, word)
        assert finds(bench, "odd name")
    index("")
    assert finds(bench, "p")
