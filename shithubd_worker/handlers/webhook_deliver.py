"""webhook.deliver: POST an event, signed, to a receiver that a stranger named.

A stranger chose the URL, so it must not become a way into the forge's own network (webhook_target.py reads the URL,
webhook_connect.py judges its addresses). Redirects are not followed, and proxies of the environment are not used.

The receiver is a stranger too, so it must not keep a worker from other jobs: one deadline ends the whole delivery
(webhook_wire.py).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from shithubd_worker import __version__
from shithubd_worker.errors import Permanent, RetryAfter

if TYPE_CHECKING:
    import socket

    from shithubd_worker.handlers.webhook_answer import Answer
    from shithubd_worker.handlers.webhook_connect import Address
    from shithubd_worker.handlers.webhook_target import Target
    from shithubd_worker.handlers.webhook_wire import Deadline, Wire
    from shithubd_worker.job import Job

# In seconds, from the look-up of the name to the end of the answer. It is half of the kind's max_runtime of 30.
DELIVERY_TIMEOUT = 15.0
NAMED_ADDRESSES = 3

_EVENT = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_DELIVERIES = UUID("6f1f2c1e-8a55-5c0e-9a3e-2d0c5b7b8a11")
_TRY_AGAIN = (408, 425, 429)
_REDIRECTS = (301, 302, 303, 307, 308)


def deliver(job: Job, url: str, event: str, body: Any, secret_ref: str) -> None:
    """The handler. It is done when the receiver answers 2xx. `body` is any JSON value.

    - X-Shithub-Signature-256 is `sha256=` and the hex HMAC-SHA256 of exactly the bytes of the body, with the secret in
      the file `secret_ref`.
    - X-Shithub-Delivery is the same for every attempt of a job, so a receiver can drop what it has already seen.

    The history keeps the payload, and others may read it there. So a token in the URL is no secret; the signature
    replaces it. Raises Permanent for bad arguments, redirects and other 4xx, NotNow for what an operator must put
    right, and RetryAfter for everything else.
    """
    # Imported here: a worker without webhooks, and --help, load no TLS and no names of other alphabets.
    from shithubd_worker.handlers.webhook_connect import resolve
    from shithubd_worker.handlers.webhook_secret import read_secret
    from shithubd_worker.handlers.webhook_target import read_target
    from shithubd_worker.handlers.webhook_wire import Deadline

    if not isinstance(event, str) or not _EVENT.fullmatch(event):
        raise Permanent("event must be 1 to 100 of the characters A-Z a-z 0-9 _ . : -")
    private = job.config.webhook_allow_private
    target = read_target(url, insecure=private)
    try:
        payload = json.dumps(body, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (ValueError, RecursionError) as error:
        raise Permanent(f"body is not JSON: {error}") from None
    secret = read_secret(secret_ref, job.config.secrets_dir or os.environ.get("CREDENTIALS_DIRECTORY"))
    headers = {
        "Host": target.authority,
        "Content-Type": "application/json",
        "User-Agent": f"shithubd-worker/{__version__}",
        "X-Shithub-Event": event,
        "X-Shithub-Delivery": delivery_id(job.schema, job.id, url, event, payload),
        "X-Shithub-Signature-256": f"sha256={hmac.digest(secret, payload, 'sha256').hex()}",
    }
    deadline = Deadline(DELIVERY_TIMEOUT)
    _judge(target, _post(target, resolve(target, deadline, private=private), payload, headers, deadline))


def delivery_id(schema: str, job: int, url: str, event: str, payload: bytes) -> str:
    """The same for every attempt of a job, also by another release of the worker.

    It depends on more than the job's number: two databases count the same numbers, and a database that was restored
    counts them again.
    """
    return str(uuid5(_DELIVERIES, f"{schema}\n{job}\n{url}\n{event}\n{hashlib.sha256(payload).hexdigest()}"))


def _post(
    target: Target, addresses: list[Address], payload: bytes, headers: dict[str, str], deadline: Deadline
) -> Answer:
    """The answer. The next address is tried only if a connection failed."""
    from shithubd_worker.handlers.webhook_answer import one_line, post
    from shithubd_worker.handlers.webhook_connect import connect

    tried = ", ".join(str(where[0]) for _, where in addresses[:NAMED_ADDRESSES])
    if len(addresses) > NAMED_ADDRESSES:
        tried += f" and {len(addresses) - NAMED_ADDRESSES} more"
    try:
        connection, (_, where) = connect(addresses, deadline)
        tried = where[0]
        with connection:
            return post(_wire(target, connection, deadline), target.path, headers, payload)
    except OSError as error:
        reason = one_line(str(error).encode()) or type(error).__name__
        raise RetryAfter(None, f"{target.origin} ({tried}): {reason}") from None


def _wire(target: Target, connection: socket.socket, deadline: Deadline) -> Wire:
    from shithubd_worker.handlers.webhook_wire import TlsWire, Wire

    if target.scheme == "http":
        return Wire(connection, deadline)
    import ssl

    # The system's certificate authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR. The context checks the name. A
    # certificate has it without the dot of the root.
    return TlsWire(connection, deadline, ssl.create_default_context(), target.host.removesuffix("."))


def _judge(target: Target, answer: Answer) -> None:
    status = answer.status
    if 200 <= status < 300:  # noqa: PLR2004
        return
    said = f"{target.origin} answered {status}" + (f": {answer.excerpt}" if answer.excerpt else "")
    if status in _REDIRECTS:
        raise Permanent(f"{said}: redirects are not followed")
    if 300 <= status < 500 and status not in _TRY_AGAIN:  # noqa: PLR2004
        raise Permanent(said)
    raise RetryAfter(answer.retry_after, said)
