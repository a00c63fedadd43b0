"""The words of files: what is one, how it is compared, and what the index keeps of it."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shithubd_worker.handlers import search_text
from shithubd_worker.handlers.search_text import (
    LONGEST_KEY,
    NOT_ALL,
    decode,
    fold,
    has,
    in_a_row,
    keys,
    parts,
    path_shown,
    path_text,
    vector,
    words,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("self.x = foo_bar(a->b, C::d)", "self x foo bar a b c d"),
        ("ada@example.org v1.2.3 -rc1", "ada example org v1 2 3 rc1"),
        ("src/app.py C:\\dir\\file", "src app py c dir file"),
        ("50% off 'quoted' \"twice\" x'y", "50 off quoted twice x y"),
        ("one\r\ntwo\rthree\u2028four", "one two three four"),
        ("Straße STRASSE ΟΔΟΣ οδός", "strasse strasse οδοσ οδόσ"),
        ("İstanbul", "i\u0307stanbul"),
        ("cafe\u0301 café", "café café"),
        ("\uff26\uff35\uff2c\uff2c\u3000\uff57 ﬁne x²", "full w fine x2"),
        ("हिन्दी", "हिन्दी"),
        ("全文検索 engine", "全 文 検 索 engine"),
        ("関数getName", "関 数 getname"),
        ("한국어를", "한 국 어 를"),
        ("か\u3099ﾊﾟ", "が パ"),
        ("ภาษา", "ภ า ษ า"),
        ("𠀋字", "𠀋 字"),
        ("🎉 -> :: !=", ""),
        ("_\u0301x", "x"),
    ],
)
def test_a_text_has_these_words(text, expected):
    assert " ".join(words(text)) == expected


def test_the_parts_of_a_compound_are_words_too():
    assert parts("getUserName HTTPServer plain") == {"get", "user", "name", "http", "server"}
    assert parts("関数getName") == {"関", "数", "get", "name"}


texts = st.text(
    st.one_of(st.sampled_from("ab AB._-\n検索かﬁßİ\u0301\u0307\u3099가"), st.characters(exclude_categories=["Cs"]))
)


@given(texts)
def test_a_word_alone_is_what_it_is_in_its_text(text):
    """What stands between two white spaces has the same words alone as in the text."""
    apart = [word for token in text.split() for word in words(token)]
    assert apart == words(text)
    assert all(words(word) == [word] for word in apart)


@given(texts)
def test_lines_of_ascii_have_the_words_that_the_patterns_find(text):
    whole = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    assert words(text) == search_text._word().findall(whole)
    assert words(whole) == words(text)


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_told_from_other_signs_as_the_patterns_do(text):
    assert words(text) == re.findall(r"[^\W_]+", text.lower())


def test_marks_without_end_do_not_take_time_without_end():
    """Python's sort of them is quadratic: these would take minutes."""
    for marks in ("\u0301\u0327", "\uff9e\u0327"):
        assert len(words("a" + marks * 200_000)) == 1


@given(texts)
def test_folding_twice_changes_nothing_more(text):
    assert fold(fold(text)) == fold(text)
    assert fold(text).count("\n") == text.count("\n")


@given(texts, st.integers(0, 20), st.integers(1, 20))
def test_a_part_of_the_words_is_found_in_a_row(text, start, length):
    all_words = words(text)
    sequence = tuple(all_words[start : start + length])
    if sequence:
        assert has(text, sequence)
        assert set(keys(sequence)) <= set(keys(all_words))
    assert not has(text, (*all_words, "zzz"))


def test_each_of_many_words_in_a_row_counts():
    assert has("a " * 30 + "b", (*"a" * 20, "b"))
    assert not has("a " * 30 + "b", (*"a" * 20, "b", "a"))


def test_words_in_a_row_are_not_words_that_end_or_begin_so():
    assert not has("myself x", ("self", "x"))
    assert not has("self xy", ("self", "x"))
    assert not has("self and x", ("self", "x"))
    assert has("SELF\n\n->x", ("self", "x"))


@given(
    st.text("ab _-\n\u0301検索"), st.lists(st.sampled_from(["a", "b", "ab", "検"]), min_size=1, max_size=3).map(tuple)
)
def test_the_quick_look_before_leaves_nothing_out(text, sequence):
    assert has(text, sequence) == in_a_row(sequence, words(text))


@given(st.binary(max_size=300))
def test_no_byte_of_a_text_ends_the_reading(data):
    text = decode(data)
    assert text is None or "\x00" not in text


def test_one_odd_byte_does_not_change_the_other_letters():
    assert decode("Grüße ".encode() + b"\xff M\xfcnchen") == "Grüße ÿ München"
    assert decode(b"\xef\xbb\xbfx") == "x"
    assert decode(b"") == ""
    assert decode(b"\x00") is None


@given(st.binary(max_size=60).filter(lambda name: b"\x00" not in name))
@example(rb"\xff")
@example(b"\xff")
@example(b"a\nb\tc\"d'e\\f")
@example("名前".encode())
@example("\u202etxt.exe".encode())
def test_a_path_is_shown_on_one_line_and_can_be_read_again(name):
    shown = path_shown(name)
    assert shown.isprintable()
    assert path_text(shown).encode(errors="surrogateescape") == name.decode(errors="replace").encode()
    again = shown.encode().decode("unicode_escape").encode("latin-1") if shown.isascii() else name
    assert again == name


@given(st.lists(st.binary(max_size=20), min_size=2, max_size=2, unique=True))
@example([b"\xff", rb"\xff"])
@example([rb"\\xff", b"\\\xff"])
def test_two_paths_never_look_alike(names):
    assert len({path_shown(name) for name in names}) == 2


def test_the_words_of_a_path_are_those_of_its_name():
    assert words(path_text(path_shown(b"a\nneedle\\hay\xffstack"))) == ["a", "needle", "hay", "stack"]


def test_a_long_word_is_kept_by_its_beginning():
    assert keys(["x" * 5000]) == ["x" * LONGEST_KEY]
    assert f"'{'x' * LONGEST_KEY}'" in vector("p", "x" * 5000)


def test_a_vector_that_is_full_says_so():
    assert not vector("p", " ".join(f"{n:x}" for n in range(100_000))).endswith(f"'{NOT_ALL}'")
    assert vector("p", " ".join(f"e{n:07d}" for n in range(140_000))).endswith(f"'{NOT_ALL}'")
