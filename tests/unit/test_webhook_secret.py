"""The file of a webhook's secret: one line of text, and nothing else that a receiver would not have."""

# ruff: noqa: F401, F811 (fixtures)

from __future__ import annotations

import hashlib
import hmac
import os

import pytest
from helpers_webhooks import KEY, config, deliver, loopback_alone, only_line, receiver, secrets, strict

from shithubd_worker.errors import NotNow
from shithubd_worker.handlers import webhook_secret
from shithubd_worker.handlers.webhook_secret import LONGEST_SECRET, read_secret
from shithubd_worker.model import How
from shithubd_worker.settings.config import Config

GOOD = {
    b"hidden": b"hidden",
    b"hidden\n": b"hidden",
    b"hidden\r\n": b"hidden",
    b"x": b"x",
    b" hidden secret \n": b" hidden secret ",
    "hïdden 💡\n".encode(): "hïdden 💡".encode(),
    b"x" * LONGEST_SECRET + b"\r\n": b"x" * LONGEST_SECRET,
}
LINES = "has more than one line: a secret is one line, and only one line end may follow it"
CONTROL = "has a control character or another invisible one: write the file again"
MARK = "begins with a byte order mark: write the file again without it"
ENCODED = "is not text in UTF-8: encode it, for example in hexadecimal digits"
LONG = f"is longer than {LONGEST_SECRET} bytes"
BAD = {
    b"": "is empty", b"\n": "is empty", b"\r\n": "is empty",
    b"hidden\n\n": LINES, b"hidden\r\n\r\n": LINES, b"hidden\n\r\n": LINES, b"\nhidden\n": LINES, b"hid\nden": LINES,
    b"hidden\r": CONTROL, b"hidden\r\r\n": CONTROL, b"hidden\n\r": LINES, b"\thidden\n": CONTROL, b"hid\0den": CONTROL,
    b"hidden\x1b[0m": CONTROL, b"hidden\x7f\n": CONTROL, "hidden\u00a0\n".encode(): CONTROL,
    "hidden\u200b".encode(): CONTROL, "hidden\u2028\n".encode(): CONTROL, "hid\ufeffden\n".encode(): CONTROL,
    "\ufeffhidden\n".encode(): MARK, "\ufeff".encode(): MARK, "hidden\n".encode("utf-16"): MARK,
    "\ufeffhidden\n".encode("utf-16-be"): MARK,
    "hïdden\n".encode("latin-1"): ENCODED, b"hidden\xff": ENCODED, b"\xed\xa0\x80hidden": ENCODED,
    b"x" * (LONGEST_SECRET + 1) + b"\n": LONG, b"x" * 1_000_000: LONG, b"x" * LONGEST_SECRET + b"\n\n\n": LONG,
}  # fmt: skip


@pytest.mark.parametrize("written", GOOD, ids=lambda written: repr(written)[:40])
def test_one_line_end_after_a_secret_does_not_belong_to_it(receiver, config, secrets, written):
    (secrets / "other").write_bytes(written)
    assert deliver(config, f"http://127.0.0.1:{receiver.port}", secret_ref="other").how is How.OK
    ((_, headers, body),) = receiver.got
    signature = hmac.new(GOOD[written], body, hashlib.sha256).hexdigest()
    assert headers["x-shithub-signature-256"] == f"sha256={signature}"


@pytest.mark.parametrize("written", BAD, ids=lambda written: repr(written)[:40])
def test_a_secret_that_the_receiver_probably_does_not_have_is_refused_and_not_shown(strict, secrets, written):
    (secrets / "other").write_bytes(written)
    outcome = deliver(strict, "https://example.org/", secret_ref="other")
    assert outcome.how is How.RETRY
    assert only_line(outcome) == f"secret 'other' in {secrets} {BAD[written]}"
    assert "hid" not in only_line(outcome).removeprefix(f"secret 'other' in {secrets}")


def test_a_secret_may_be_behind_a_link_and_may_not_be_another_thing_than_a_file(strict, secrets, tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"linked\n")
    (secrets / "link").symlink_to(tmp_path / "elsewhere")
    assert read_secret("link", secrets) == b"linked"
    (secrets / "folder").mkdir()
    (secrets / "dangling").symlink_to("nowhere")
    (secrets / "loop").symlink_to("loop")
    (secrets / "zeros").symlink_to("/dev/zero")
    (secrets / "nothing").symlink_to("/dev/null")
    os.mkfifo(secrets / "pipe")  # nobody writes to it, so a usual open() would wait
    for ref, error in {
        "other": f"can't be read from {secrets}: No such file or directory",
        "folder": f"can't be read from {secrets}: Is a directory",
        "dangling": f"can't be read from {secrets}: No such file or directory",
        "loop": f"can't be read from {secrets}: Too many levels of symbolic links",
        "zeros": f"in {secrets} {LONG}",
        "nothing": f"in {secrets} is empty",
        "pipe": f"in {secrets} is empty",
    }.items():
        outcome = deliver(strict, "https://example.org/", secret_ref=ref)
        assert (outcome.how, only_line(outcome)) == (How.RETRY, f"secret '{ref}' {error}")


@pytest.mark.parametrize(
    "ref", ["", "..", ".hidden", "a/b", "../secret", "/etc/passwd", "a\0b", "a\r\nb", "a\n", "x" * 300, None, 7, [], {}]
)
def test_a_secret_must_be_inside_its_directory(strict, ref):
    outcome = deliver(strict, "https://example.org/", secret_ref=ref)
    assert outcome.how is How.FAILED
    assert outcome.error == "secret_ref must be the name of a file: letters, digits and _ . @ + -, no dot first"


def test_the_workers_own_credential_is_no_secret_of_a_webhook(strict, secrets):
    (secrets / "pgpass").write_bytes(b"*:*:*:*:hidden\n")
    outcome = deliver(strict, "https://example.org/", secret_ref="pgpass")
    assert (outcome.how, outcome.error) == (How.FAILED, "secret_ref 'pgpass' is the worker's own credential")


def test_what_the_operator_must_put_right_uses_up_no_attempt(strict, secrets, monkeypatch):
    def denied(path: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(webhook_secret, "_read", denied)  # root may read everything
        outcome = deliver(strict, "https://example.org/")
    assert (outcome.how, outcome.delay_seconds) == (How.RELEASED, 300)
    assert only_line(outcome) == f"secret 'site-hook' can't be read from {secrets}: Permission denied"
    with pytest.raises(NotNow, match=f"^the secrets directory {secrets}/gone is not there$"):
        read_secret("site-hook", secrets / "gone")


def test_without_a_directory_of_secrets_systemds_credentials_are_used(receiver, secrets, monkeypatch):
    config = Config(webhook_allow_private=True)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    outcome = deliver(config, f"http://127.0.0.1:{receiver.port}")
    assert (outcome.how, outcome.delay_seconds) == (How.RELEASED, 300)
    assert outcome.error == "no secrets directory configured: set --secrets-dir (SHITHUBD_WORKER_SECRETS_DIR)"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secrets))
    assert deliver(config, f"http://127.0.0.1:{receiver.port}").how is How.OK
    assert KEY not in receiver.got[0][2]
