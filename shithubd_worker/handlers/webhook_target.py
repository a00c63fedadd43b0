"""Where a webhook goes: a URL that a stranger wrote, read strictly.

No error quotes a part of the URL, because path, query, user and password may hold a receiver's secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from socket import inet_aton, inet_ntoa
from urllib.parse import quote, urlsplit

from shithubd_worker.errors import Permanent

PORTS = {"https": 443, "http": 80}
LONGEST_NAME = 253

_AUTHORITY = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<name>[^\[\]:]+))(?::(?P<port>[0-9]{0,5}))?")
# Some machines have an underscore in their names, though the standard does not allow it.
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
# Every way to write an IPv4 address that the C library understands: 127.0.0.1, 127.1, 2130706433, 0x7f000001.
_NUMBERS = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*")
# Two invisible characters belong to words of Persian and of languages of India. The rules of names say where.
_JOINERS = dict.fromkeys((0x200C, 0x200D))
# The characters that a path and a query may have unchanged (RFC 3986). A % already begins an escape.
_OF_A_PATH = "/:@!$&'()*+,;=~-._%"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to deliver. `host` is ASCII, as in DNS, or an address. `path` is the path with the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """Scheme, host and port. Only these are shown."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def read_target(url: object, *, insecure: bool) -> Target:
    """Read a URL. `insecure` allows http. Raises Permanent, with one line that says what is wrong."""
    if not isinstance(url, str) or not url.translate(_JOINERS).isprintable() or " " in url or "\\" in url:
        raise Permanent("url must be a text without spaces, backslashes or control characters")
    if not url.lower().startswith(("https://", "http://") if insecure else "https://"):
        raise Permanent("url must begin with https://")
    needed = Permanent("url needs a host, and a port from 1 to 65535 if any")
    try:
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise Permanent("url must not hold a user name or password")
        found = _AUTHORITY.fullmatch(parts.netloc)
        port = int(found["port"] or PORTS[parts.scheme]) if found else 0
        if not found or not 0 < port < 1 << 16:
            raise needed
        host = _name(found["name"]) if found["name"] else _ipv6(found["ipv6"])
    except ValueError:
        raise needed from None
    path = quote(parts.path or "/", _OF_A_PATH) + (f"?{quote(parts.query, _OF_A_PATH + '?')}" if parts.query else "")
    return Target(parts.scheme, host, port, path)


def _ipv6(host: str) -> str:
    address = IPv6Address(host)
    if address.scope_id is not None:
        raise Permanent("the host of url is an address of one interface of this machine")
    return str(address)


def _name(host: str) -> str:
    name = (host if host.isascii() else _in_ascii(host)).lower()
    without_root = name.removesuffix(".")
    if _NUMBERS.fullmatch(without_root):
        try:
            return inet_ntoa(inet_aton(without_root))
        except OSError:
            raise Permanent("the host of url is not an IPv4 address") from None
    if len(without_root) > LONGEST_NAME or not all(map(_LABEL.fullmatch, without_root.split("."))):
        raise Permanent("the host of url is not a domain name")
    return name


def _in_ascii(host: str) -> str:
    """An international name as in DNS, by the rules of browsers (UTS 46, not transitional): faß is not fass."""
    import idna

    try:
        labels = idna.uts46_remap(host, std3_rules=False).split(".")
        return ".".join(label if label.isascii() else idna.alabel(label).decode() for label in labels)
    except idna.IDNAError:
        raise Permanent(
            "the host of url is not an international domain name (IDNA 2008); if DNS has it, write its xn-- form"
        ) from None
