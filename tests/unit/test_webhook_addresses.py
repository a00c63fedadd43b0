"""Which addresses a webhook may go to, compared with IANA's registries and with every way to write one address in
another."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.handlers.webhook_addresses import is_public

# The registries' own blocks, and the addresses that clouds use. They are written independently of the product's table.
SPECIAL_4 = [
    IPv4Network(block)
    for block in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
        *("161.26.0.0/16", "166.8.0.0/14"),
    )
]
SPECIAL_6 = [
    IPv6Network(block)
    for block in (
        *("::/128", "::1/128", "::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23"),
        *(
            "2001::/32",
            "2001:1::1/128",
            "2001:2::/48",
            "2001:3::/32",
            "2001:4:112::/48",
            "2001:10::/28",
            "2001:20::/28",
        ),
        *("2001:30::/28", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20", "4000::/2", "5f00::/16", "8000::/1"),
        *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
]
NAMED = (
    "192.0.0.8", "192.0.0.9", "192.0.0.192", "100.100.100.200", "169.254.169.254", "168.63.129.16", "255.255.255.255",
    "198.19.255.255", "192.88.99.1", "fd00:ec2::254", "fe80::1%eth0", "2606:4700::1111%eth0", "3fff::1", "3fff:fff::1",
    "2001:0:7f00:1::", "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:169.254.169.254", "::ffff:0:8.8.8.8",
    "::8.8.8.8", "64:ff9b:1::808:808", "2002:a9fe:a9fe::", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "", "localhost",
)  # fmt: skip


def inside(block):
    return st.integers(int(block[0]), int(block[-1])).map(type(block[0]))


special_4 = st.sampled_from(SPECIAL_4).flatmap(inside)
public_4 = st.integers(0, 2**32 - 1).map(IPv4Address).filter(lambda ip: not any(ip in block for block in SPECIAL_4))
prefixes = st.integers(int(IPv6Address("2600::")) >> 64, int(IPv6Address("26ff::")) >> 64).filter(
    lambda prefix: IPv6Address(prefix << 64) not in IPv6Network("2620:4f:8000::/48")
)


def isatap(prefix, bit, ip):
    return IPv6Address(prefix << 64 | (0x02005EFE if bit else 0x5EFE) << 32 | int(ip))


def written_in_6(ip):
    """The IPv6 addresses whose packets reach an IPv4 address."""
    number = int(ip)
    yield IPv6Address(0xFFFF << 32 | number)
    yield IPv6Address(int(IPv6Address("64:ff9b::")) | number)
    yield IPv6Address(0x2002 << 112 | number << 80 | 1)


@pytest.mark.parametrize("address", NAMED)
def test_a_dangerous_address_is_refused(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8"]
)
def test_a_public_address_is_accepted_in_every_spelling(address):
    assert is_public(address)


@pytest.mark.parametrize("block", [*SPECIAL_4, *SPECIAL_6], ids=str)
def test_a_special_block_is_refused_from_its_first_address_to_its_last(block):
    assert not is_public(str(block[0]))
    assert not is_public(str(block[-1]))


@given(special_4, prefixes, st.booleans())
def test_no_special_ipv4_address_gets_through_in_any_spelling(ip, prefix, bit):
    assert not is_public(str(ip))
    for other in (*written_in_6(ip), isatap(prefix, bit, ip)):
        assert not is_public(str(other)), other


@given(public_4, prefixes, st.booleans())
def test_every_other_ipv4_address_is_public_and_python_agrees(ip, prefix, bit):
    assert is_public(str(ip))
    assert ip.is_global
    assert all(is_public(str(other)) for other in (*written_in_6(ip), isatap(prefix, bit, ip)))


@given(st.sampled_from(SPECIAL_6).flatmap(inside))
def test_no_special_ipv6_address_gets_through(ip):
    assert not is_public(str(ip))


@given(st.integers(0, 2**128 - 1))
def test_every_public_ipv6_address_is_unicast_and_python_agrees(number):
    ip = IPv6Address(number)
    if is_public(str(ip)):
        assert ip in IPv6Network("2000::/3")
        assert ip_address(str(ip)).is_global
        assert not any(ip in block for block in SPECIAL_6)


@given(prefixes, st.integers(1 << 48, 2**64 - 1).filter(lambda number: number >> 32 not in (0x5EFE, 0x02005EFE)))
def test_an_address_of_a_well_known_provider_is_public(prefix, number):
    assert is_public(str(IPv6Address(prefix << 64 | number)))
