"""What a payload may be: a fault is reported before anything is sent to the database."""

from __future__ import annotations

import inspect
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.client import enqueue
from shithubd_worker.payload import RESERVED, payload_text

text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=10,
)


@given(st.dictionaries(text, values))
def test_every_json_value_comes_back_unchanged(members):
    assert json.loads(payload_text(members)) == members


def test_text_is_sent_without_escapes():
    assert payload_text({"name": "Größe 🚀"}) == '{"name": "Größe 🚀"}'


def nested(levels, leaf):
    value = leaf
    for _ in range(levels):
        value = [value]
    return value


def circular():
    value = {}
    value["itself"] = value
    return value


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"a": "x\x00y"}, "NUL"),
        ({"a": {"b": ["\x00"]}}, "NUL"),
        ({"\x00": 1}, "NUL"),
        ({"a": "\\\x00"}, "NUL"),
        ({"a": "\\\\\x00"}, "NUL"),
        ({"a": ("\x00",)}, "NUL"),
        ({"a": "\ud800"}, "lone surrogate"),
        ({"\udcff": 1}, "lone surrogate"),
        ({"a": float("nan")}, "not JSON"),
        ({"a": float("inf")}, "not JSON"),
        ({"a": float("-inf")}, "not JSON"),
        ({"a": nested(100_000, 1)}, "nested too deeply"),
        (circular(), "Circular reference"),
        ({"a": {1, 2}}, "not JSON"),
        ({"a": b"bytes"}, "not JSON"),
        ({"a": datetime.now(UTC)}, "not JSON"),
        ({("tuple",): 1}, "not JSON"),
        ({"a": object()}, "not JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_that_json_or_postgresql_cannot_hold_is_named(members, says):
    with pytest.raises(ValueError, match=says) as caught:
        payload_text(members)
    assert str(caught.value).startswith("the payload ")
    assert "\n" not in str(caught.value)


def test_the_letters_of_an_escaped_nul_are_accepted():
    assert json.loads(payload_text({"a": "\\u0000", "b": "\\\\u0000"})) == {"a": "\\u0000", "b": "\\\\u0000"}


@pytest.mark.parametrize("levels", [100, 300, 500, 700, 900])
def test_a_nul_is_found_at_any_depth_that_json_can_reach(levels):
    members = {"a": nested(levels, "\\u0000")}
    assert json.loads(payload_text(members)) == members
    with pytest.raises(ValueError, match="NUL"):
        payload_text({"a": nested(levels, "\x00")})


def test_the_reserved_names_are_the_arguments_of_enqueue():
    assert set(inspect.getfullargspec(enqueue).kwonlyargs) == RESERVED


class NoConnection:
    """It fails on any use. The payload and the times must be refused before."""

    def __getattr__(self, name):
        raise AssertionError("the connection was used")


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"delay": 1, "run_at": datetime.now(UTC)}, "not both"),
        ({"run_at": datetime(2026, 11, 22)}, "time zone"),  # noqa: DTZ001 (a naive time is the point)
        ({"name": "\x00"}, "NUL"),
        ({"name": object()}, "not JSON"),
    ],
)
def test_enqueue_refuses_before_it_uses_the_connection(members, says):
    with pytest.raises(ValueError, match=says):
        enqueue(NoConnection(), "some.kind", **members)
