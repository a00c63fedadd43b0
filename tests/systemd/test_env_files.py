"""Files of variables are read as the systemd of a real host reads them."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nspawn import Host

from shithubd_worker.errors import ConfigError
from shithubd_worker.settings.env_file import parse

pytestmark = pytest.mark.timeout(900)  # the first test boots the host and installs everything

# A unit of its own reads each file, and all units start at once. A file without output was refused.
UNIT = """
[Service]
Type=oneshot
EnvironmentFile=/run/env-files/%i
ExecStart=/usr/bin/env -0
StandardOutput=truncate:/run/env-files/%i.out
"""
ASK = """
import base64, json, pathlib, subprocess, sys
files = json.load(sys.stdin)
where = pathlib.Path("/run/env-files")
for number, file in enumerate(files):
    (where / str(number)).write_bytes(base64.b64decode(file))
    (where / f"{number}.out").unlink(missing_ok=True)
units = [f"env-file@{number}.service" for number in range(len(files))]
subprocess.run(["systemctl", "start", "--quiet", *units], capture_output=True)
subprocess.run(["systemctl", "reset-failed", "env-file@*"], capture_output=True)
outs = [where / f"{number}.out" for number in range(len(files))]
read = [out.read_bytes() if out.exists() else b"" for out in outs]
json.dump([base64.b64encode(each).decode() for each in read], sys.stdout)
"""
SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}

# The characters that are special to a reader of such files, more often than others.
PIECES = st.one_of(
    st.sampled_from(["A", "B", "AB_1", "1", "export ", "=", "=", " = ", "\n", "\n", "\\\n", "\r\n", "\r", "\\"]),
    st.sampled_from(['"', "'", "#", ";", " ", "\t", "$", "`", "\\n", "\\\\", '\\"', "\\'", "\\$", "\ufeff", "\xa0"]),
    st.sampled_from(["x", "y z", "\x0b", "\x7f", "\x85", "\u2028", "\ufffe", "\ufdd0", "ä", "😀"]),
)
BYTES = st.one_of(
    st.lists(PIECES, max_size=14).map(lambda pieces: "".join(pieces).encode()),
    st.lists(PIECES, max_size=8).map(lambda pieces: b"A=" + "".join(pieces).encode()),
    st.lists(st.tuples(st.sampled_from("ABC"), st.lists(PIECES, max_size=6)), max_size=4).map(
        lambda lines: "\n".join(f"{name}={''.join(value)}" for name, value in lines).encode()
    ),
    st.binary(max_size=12).map(lambda data: b"A=1\nB=" + data),
)


@pytest.fixture(scope="module")
def reader(booted: Host) -> Host:
    booted.write("/run/systemd/system/env-file@.service", UNIT)
    booted.run("mkdir", "-p", "/run/env-files")
    booted.run("systemctl", "daemon-reload")
    return booted


def read_by_systemd(host: Host, files: list[bytes]) -> list[dict[bytes, bytes] | None]:
    """The variables that each file gives a service; None if systemd does not start the service with the file."""
    asked = json.dumps([base64.b64encode(file).decode() for file in [b"", *files]])
    outputs = [base64.b64decode(each) for each in json.loads(host.run("python3", "-c", ASK, stdin=asked))]
    environments = [dict(line.split(b"=", 1) for line in output.split(b"\0") if line) for output in outputs]
    without, *rest = environments  # what systemd sets for an empty file, too
    assert without
    return [{name: value for name, value in each.items() if name not in without} if each else None for each in rest]


def read_by_us(file: bytes) -> dict[bytes, bytes] | None:
    try:
        return {name.encode(): value.encode() for name, value in parse(file).variables.items()}
    except ConfigError:
        return None


@settings(max_examples=6, **SETTINGS)
@given(st.lists(BYTES, min_size=50, max_size=50))
def test_any_file_is_read_as_systemd_reads_it(reader: Host, files: list[bytes]) -> None:
    for file, theirs in zip(files, read_by_systemd(reader, files), strict=True):
        assert read_by_us(file) == theirs, file


@pytest.mark.long
@settings(max_examples=100, **SETTINGS)
@given(st.lists(BYTES, min_size=50, max_size=50))
def test_thousands_of_files_are_read_as_systemd_reads_them(reader: Host, files: list[bytes]) -> None:
    for file, theirs in zip(files, read_by_systemd(reader, files), strict=True):
        assert read_by_us(file) == theirs, file
