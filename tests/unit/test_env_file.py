"""How a file of variables is read. tests/systemd/test_env_files.py compares all of it with systemd."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.errors import ConfigError
from shithubd_worker.settings.env_file import parse


@pytest.mark.parametrize(
    ("line", "variables"),
    [
        ("A=b", {"A": "b"}),
        (" A = b c ", {"A": "b c"}),
        ('A="b c"', {"A": "b c"}),
        ("A='b \"c\\'", {"A": 'b "c\\'}),
        ('A=\'b\' "c" d"e" ', {"A": 'bcd"e"'}),
        ("A=C:\\new\\\\file", {"A": "C:new\\file"}),
        ('A="\\$x \\y \\"z\\""', {"A": '$x \\y "z"'}),
        ("A=b\\\nc", {"A": "bc"}),
        ('A="b\\\nc\nd"', {"A": "bc\nd"}),
        ("A=b \\  ", {"A": "b  "}),
        ("A=b # c", {"A": "b # c"}),
        ("A=", {"A": ""}),
        ("A=b=c", {"A": "b=c"}),
        ("A=1\nA=2\r\nB=3\rC=4", {"A": "2", "B": "3", "C": "4"}),
        ("; A=b", {}),
        (" #A=b", {}),
        ('A="b', {"A": "b"}),
        ("A=b\\", {"A": "b"}),
        ("A=\x0b", {"A": "\x0b"}),
    ],
)
def test_the_file_is_read_as_systemd_reads_it(line: str, variables: dict[str, str]) -> None:
    found = parse(line.encode())
    assert (found.variables, found.left_out) == (variables, [])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A", "line 1: it is not NAME=value"),
        ("B=1\n\nexport A=b", "line 3: what stands before = is not the name of a variable; write NAME=value without"),
        ("\ufeffA=b", "line 1: what stands before = is not the name of a variable"),
        ("=x", "line 1: it is not NAME=value"),
        ("B='1\n'\nA B=x", "line 3: what stands before ="),
        ("# C:\\\nA=x", "line 1: a comment ends with a backslash, which may hide the next line"),
    ],
)
def test_a_line_that_systemd_ignores_is_named_by_its_number_and_without_its_text(text: str, why: str) -> None:
    found = parse(text.encode())
    assert "A" not in found.variables
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith(why)


@pytest.mark.parametrize("data", [b"B=1\nA=\xff", b"A=\0", b"#\0", "A=\ufffe".encode(), "A=\ufdd0".encode()])
def test_a_file_that_systemd_ignores_as_a_whole_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError, match="systemd takes nothing from this file"):
        parse(data)


@given(st.binary())
def test_no_file_is_too_odd_to_read(data: bytes) -> None:
    try:
        parse(data)
    except ConfigError as error:
        assert "systemd takes nothing" in str(error)  # noqa: PT017
