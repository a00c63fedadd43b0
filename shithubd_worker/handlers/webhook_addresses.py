"""Which addresses belong to the public internet.

The lists follow IANA's registries of special-purpose addresses (IPv4 and IPv6, as of 2025). They are written down here,
because what Python's `ipaddress` calls global differs between releases, and includes addresses that a stranger must not
choose.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# Whole blocks, even if the registry calls an address in them global: no receiver of webhooks lives there.
NOT_PUBLIC_4 = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT; some clouds' metadata
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; a cloud's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        # In no registry, but clouds answer their own machines there: Azure's host, IBM's services.
        "168.63.129.16/32",
        "161.26.0.0/16",
        "166.8.0.0/14",
    )
)
# Of IPv6 only this block is public, without these parts:
UNICAST_6 = IPv6Network("2000::/3")
NOT_PUBLIC_6 = tuple(
    IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, AMT, AS112, ORCHID and others
        "2001:db8::/32",  # documentation
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
# Packets to these addresses end at the IPv4 address in their last 32 bits: IPv4-mapped, NAT64.
IPV4_AT_THE_END = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
_6TO4 = IPv6Network("2002::/16")
_ISATAP = (0x00005EFE, 0x02005EFE)


def is_public(address: str) -> bool:
    """Is this an address of the public internet, and not another address in a different notation?"""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return _public_4(ip) if isinstance(ip, IPv4Address) else _public_6(ip)


def _public_4(ip: IPv4Address) -> bool:
    return not any(ip in block for block in NOT_PUBLIC_4)


def _public_6(ip: IPv6Address) -> bool:
    if ip.scope_id is not None:  # an address of one interface of this host
        return False
    number = int(ip)
    last = IPv4Address(number & 0xFFFFFFFF)
    if any(ip in block for block in IPV4_AT_THE_END):
        return _public_4(last)
    if ip in _6TO4 and not _public_4(IPv4Address(number >> 80 & 0xFFFFFFFF)):
        return False
    if number >> 32 & 0xFFFFFFFF in _ISATAP and not _public_4(last):
        return False
    return ip in UNICAST_6 and not any(ip in block for block in NOT_PUBLIC_6)
