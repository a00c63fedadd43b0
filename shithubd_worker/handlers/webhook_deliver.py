"""webhook.deliver: POST an event, signed, to a receiver that somebody else named.

The URL is a stranger's, so it must not become a way into the forge's own network: the name is resolved once, every
address is judged, and the connection goes to an address that was judged, never to the name again. No redirect is
followed, no proxy of the environment is used.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import socket
import threading
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit
from uuid import UUID, uuid5

from shithubd_worker import __version__
from shithubd_worker.errors import NotNow, Permanent, RetryAfter

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

    from shithubd_worker.job import Job

# In seconds; together they stay under the kind's max_runtime of 30, also if the first of two addresses is dead.
RESOLVE_TIMEOUT = 5.0
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
MOST_ADDRESSES = 2
MOST_RESPONSE_BYTES = 4096
LONGEST_EXCERPT = 200
LONGEST_RETRY_AFTER = 86_400.0
MISCONFIGURED_SECONDS = 300

_EVENT = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_SECRET_NAME = re.compile(r"[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]{0,254}")
_DELIVERIES = UUID("6f1f2c1e-8a55-5c0e-9a3e-2d0c5b7b8a11")
_TRY_AGAIN = (408, 425, 429)
_NAT64 = IPv6Network("64:ff9b::/96")
# Global by the registry's letter, but ways to somewhere else: NAT64 of a local network, relays of 6to4.
_DETOURS = (IPv6Network("64:ff9b:1::/48"), IPv4Network("192.88.99.0/24"))


@dataclass(frozen=True, slots=True)
class Target:
    """Where to deliver. `host` is ASCII, as DNS has it; `path` is path and query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """Scheme, host and port: what may be shown, while path and query may hold a receiver's secret."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"https": 443, "http": 80}[self.scheme] else f"{host}:{self.port}"


def deliver(job: Job, url: str, event: str, body: Any, secret_ref: str) -> None:
    """The handler: done when the receiver answers 2xx. `body` is any JSON value.

    X-Shithub-Signature-256 is `sha256=` and the hex HMAC-SHA256 of exactly the bytes of the body, with the secret in
    the file `secret_ref`. X-Shithub-Delivery is the same for every attempt of a job, so a receiver can drop what it
    has seen. Raises Permanent for bad arguments, redirects and other 4xx; NotNow where an operator has to set something
    right; RetryAfter for the rest.
    """
    if not isinstance(event, str) or not _EVENT.fullmatch(event):
        raise Permanent("event must be 1 to 100 of the characters A-Z a-z 0-9 _ . : -")
    target = _target(url, insecure=job.config.webhook_allow_private)
    try:
        payload = json.dumps(body, allow_nan=False, separators=(",", ":")).encode("ascii")
    except ValueError as error:
        raise Permanent(f"body is not JSON: {error}") from None
    headers = {
        "Host": target.authority,
        "Content-Type": "application/json",
        "User-Agent": f"shithubd-worker/{__version__}",
        "X-Shithub-Event": event,
        "X-Shithub-Delivery": delivery_id(job.id, url, event, payload),
        "X-Shithub-Signature-256": f"sha256={hmac.digest(_secret(job, secret_ref), payload, 'sha256').hex()}",
    }
    addresses = _addresses(target, private=job.config.webhook_allow_private)
    _judge(target, *_post(target, addresses, payload, headers))


def delivery_id(job: int, url: str, event: str, payload: bytes) -> str:
    """The same for every attempt of a job. Not from its number alone: two forges' databases count the same numbers."""
    return str(uuid5(_DELIVERIES, f"{job}\n{url}\n{event}\n{hashlib.sha256(payload).hexdigest()}"))


def _target(url: object, *, insecure: bool) -> Target:
    if not isinstance(url, str) or not url.isprintable() or " " in url or "\\" in url:
        raise Permanent("url must be a text without spaces, backslashes or control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = _ascii_host(parts)
    except ValueError as error:  # UnicodeError too
        raise Permanent(f"url can't be read: {error}") from None
    if parts.scheme != "https" and not (insecure and parts.scheme == "http"):
        raise Permanent(f"url must begin with https://, not {parts.scheme[:20]}:")
    if parts.username is not None or parts.password is not None:
        raise Permanent("url must not hold a user name or password")
    if not host or port == 0:
        raise Permanent("url needs a host, and a port from 1 to 65535 if any")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or {"https": 443, "http": 80}[parts.scheme], path)


def _ascii_host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if "%" in host:
        raise ValueError("a zone or an escape in the host")
    return host if ":" in host else host.encode("idna").decode("ascii")


def _secret(job: Job, ref: object) -> bytes:
    if not isinstance(ref, str) or not _SECRET_NAME.fullmatch(ref):
        raise Permanent("secret_ref must be the name of a file: letters, digits and _ . @ + -, no dot first")
    if ref == "pgpass":  # the database's password lies among the unit's credentials: no receiver may guess at it
        raise Permanent("secret_ref 'pgpass' is the worker's own credential")
    directory = job.config.secrets_dir or os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise NotNow(
            MISCONFIGURED_SECONDS, "no secrets directory configured: set --secrets-dir (SHITHUBD_WORKER_SECRETS_DIR)"
        )
    try:
        secret = (Path(directory) / ref).read_bytes().removesuffix(b"\n")
    except OSError as error:
        if not Path(directory).is_dir():  # not mounted, perhaps
            raise NotNow(MISCONFIGURED_SECONDS, f"the secrets directory {directory} is not there") from None
        if isinstance(error, PermissionError):
            raise NotNow(
                MISCONFIGURED_SECONDS, f"secret {ref!r} can't be read from {directory}: {error.strerror}"
            ) from None
        raise RetryAfter(None, f"secret {ref!r} can't be read from {directory}: {error.strerror}") from None
    if not secret:  # anybody could sign with it
        raise RetryAfter(None, f"secret {ref!r} in {directory} is empty")
    return secret


def _addresses(target: Target, *, private: bool) -> list[str]:
    """The addresses to try, in the resolver's order. One that isn't global spoils all: no honest name has both."""
    found = _resolve(target.host, target.port)
    if not private:
        for address in found:
            if not is_global(address):
                raise Permanent(f"{target.host} has the address {address}, which is not a public one")
    return found[:MOST_ADDRESSES]


def is_global(address: str) -> bool:
    """Is this an address of the public internet, and of nothing else by another spelling?"""
    try:
        ip: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:  # a zone: link-local
        return False
    if isinstance(ip, IPv6Address):
        ip = _inner(ip) or ip
    bad = ip.is_multicast or ip.is_reserved or ip.is_unspecified or getattr(ip, "is_site_local", False)
    return ip.is_global and not bad and not any(ip.version == net.version and ip in net for net in _DETOURS)


def _inner(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to this one end at: IPv4-mapped, 6to4, NAT64, Teredo."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


def _resolve(host: str, port: int) -> list[str]:
    """Ask the resolver, in a thread: it can take half a minute, and no signal interrupts it."""
    answer: list[str] = []
    failure: list[OSError] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.extend(dict.fromkeys(str(entry[4][0]) for entry in found))
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=ask, name="resolve", daemon=True)
    thread.start()
    thread.join(RESOLVE_TIMEOUT)
    if answer:
        return answer
    reason = failure[0].strerror if failure else f"no answer in {RESOLVE_TIMEOUT:g} s"
    raise RetryAfter(None, f"{host} can't be resolved: {reason}")


def _post(target: Target, addresses: list[str], payload: bytes, headers: dict[str, str]) -> tuple[int, str | None, str]:
    """Status, Retry-After and the beginning of the response. Only a failure to connect goes on to the next address."""
    from urllib3 import Timeout
    from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

    failure: Exception | None = None
    for address in addresses:
        pool = _pool(target, address)
        try:
            response = pool.urlopen(
                "POST", target.path, payload, headers, retries=False, redirect=False, preload_content=False,
                timeout=Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
            )  # fmt: skip
            with closing(response):
                return response.status, response.headers.get("Retry-After"), _excerpt(response)
        except (NewConnectionError, ConnectTimeoutError) as error:
            failure = error
        except HTTPError as error:
            raise RetryAfter(None, f"{target.origin} ({address}): {_reason(error)}") from None
        finally:
            pool.close()
    raise RetryAfter(None, f"{target.origin} ({', '.join(addresses)}): {_reason(failure)}")


def _pool(target: Target, address: str) -> HTTPConnectionPool:
    import ssl

    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

    if target.scheme == "http":
        return HTTPConnectionPool(address, target.port)
    # The system's authorities, or those that SSL_CERT_FILE and SSL_CERT_DIR name. The context checks the name itself.
    context = ssl.create_default_context()
    return HTTPSConnectionPool(address, target.port, ssl_context=context, server_hostname=target.host)


def _excerpt(response: BaseHTTPResponse) -> str:
    """A little of what the receiver says, in one line. Not of a success: its body is nobody's business."""
    from urllib3.exceptions import HTTPError

    if response.status < 300:  # noqa: PLR2004
        return ""
    try:
        # What is there in one read, undecoded: neither a slow drip nor a bomb of zeros gets far.
        data = response.read1(MOST_RESPONSE_BYTES, decode_content=False)
    except (HTTPError, OSError):
        return ""
    text = " ".join(data.decode(errors="replace").split())
    return "".join(c if c.isprintable() else "�" for c in text)[:LONGEST_EXCERPT]


def _judge(target: Target, status: int, retry_after: str | None, excerpt: str) -> None:
    if 200 <= status < 300:  # noqa: PLR2004
        return
    said = f"{target.origin} answered {status}" + (f": {excerpt}" if excerpt else "")
    if 300 <= status < 400:  # noqa: PLR2004
        raise Permanent(f"{target.origin} answered {status}: redirects are not followed")
    if 400 <= status < 500 and status not in _TRY_AGAIN:  # noqa: PLR2004
        raise Permanent(said)
    wait = _seconds(retry_after) if status in (429, 503) else None
    if wait is not None:
        raise RetryAfter(wait, said)
    raise RetryAfter(None, said)


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After header in seconds from now, 1 second to 1 day; None if there is none that can be read."""
    if retry_after is None:
        return None
    given = retry_after.strip()
    if given.isascii() and given.isdigit():
        seconds = float(given[:10])
    else:
        try:
            moment = parsedate_to_datetime(given)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 1.0), LONGEST_RETRY_AFTER)


def _reason(error: Exception | None) -> str:
    """The innermost cause in one line: urllib3 wraps the one that says something."""
    while error is not None and isinstance(error.__cause__ or error.__context__, Exception):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return (str(error).splitlines() or [type(error).__name__])[0][:LONGEST_EXCERPT]
