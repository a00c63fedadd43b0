"""The secret that signs a webhook: one line of text in a file of the operator."""

from __future__ import annotations

import os
import re
from pathlib import Path

from shithubd_worker.errors import NotNow, Permanent, RetryAfter

MISCONFIGURED_SECONDS = 300
LONGEST_SECRET = 4096

_NAME = re.compile(r"[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]{0,254}")
_LINE_END = re.compile(rb"\r?\n\Z")


def read_secret(ref: object, directory: Path | str | None) -> bytes:
    """The secret in the file `ref` of `directory`. One line end after it does not belong to it.

    Raises Permanent for a bad name, NotNow if the whole directory or a right is missing, else RetryAfter. No error
    shows a byte of the secret.
    """
    if not isinstance(ref, str) or not _NAME.fullmatch(ref):
        raise Permanent("secret_ref must be the name of a file: letters, digits and _ . @ + -, no dot first")
    if ref == "pgpass":  # the database's password is among the unit's credentials: no receiver may guess at it
        raise Permanent("secret_ref 'pgpass' is the worker's own credential")
    if not directory:
        raise NotNow(
            MISCONFIGURED_SECONDS, "no secrets directory configured: set --secrets-dir (SHITHUBD_WORKER_SECRETS_DIR)"
        )
    try:
        secret = _LINE_END.sub(b"", _read(Path(directory) / ref))
    except OSError as error:
        if not Path(directory).is_dir():  # perhaps it is not mounted
            raise NotNow(MISCONFIGURED_SECONDS, f"the secrets directory {directory} is not there") from None
        unreadable = f"secret {ref!r} can't be read from {directory}: {error.strerror}"
        if isinstance(error, PermissionError):
            raise NotNow(MISCONFIGURED_SECONDS, unreadable) from None
        raise RetryAfter(None, unreadable) from None
    if fault := _fault(secret):
        raise RetryAfter(None, f"secret {ref!r} in {directory} {fault}")
    return secret


def _read(path: Path) -> bytes:
    # O_NONBLOCK: a pipe without a writer must not hold the worker. The limit: /dev/zero must not fill its memory.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, LONGEST_SECRET + 3)
    finally:
        os.close(descriptor)


def _fault(secret: bytes) -> str | None:
    """Why the receiver probably has another secret than this one."""
    if not secret:
        return "is empty"  # anybody could sign with it
    if len(secret) > LONGEST_SECRET:
        return f"is longer than {LONGEST_SECRET} bytes"
    if secret.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return "begins with a byte order mark: write the file again without it"
    if b"\n" in secret:
        return "has more than one line: a secret is one line, and only one line end may follow it"
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return "is not text in UTF-8: encode it, for example in hexadecimal digits"
    return None if text.isprintable() else "has a control character or another invisible one: write the file again"
