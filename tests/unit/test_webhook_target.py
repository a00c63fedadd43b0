"""The URL of a webhook: where it leads, and every form that is refused, with one line that shows no secret."""

# ruff: noqa: F401, F811, RUF001 (fixtures; names that look like others are what is tested)

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers_webhooks import config, deliver, first_line, loopback_alone, only_line, resolves, secrets, strict

from shithubd_worker.errors import Permanent
from shithubd_worker.handlers.webhook_target import Target, read_target
from shithubd_worker.model import How

NEEDED = "url needs a host, and a port from 1 to 65535 if any"
USER = "url must not hold a user name or password"
TEXT = "url must be a text without spaces, backslashes or control characters"
SCHEME = "url must begin with https://"
NAME = "the host of url is not a domain name"
IPV4 = "the host of url is not an IPv4 address"
ZONE = "the host of url is an address of one interface of this machine"
FOREIGN = "the host of url is not an international domain name (IDNA 2008); if DNS has it, write its xn-- form"
LONG = ".".join(["a" * 49] * 5)  # 249 characters

GOOD = {
    "https://example.org": ("example.org", 443, "/"),
    "HTTPS://Example.ORG/A?B#C": ("example.org", 443, "/A?B"),
    "https://example.org./": ("example.org.", 443, "/"),
    "https://example.org:/": ("example.org", 443, "/"),
    "https://example.org:0443?": ("example.org", 443, "/"),
    "https://example.org:65535/": ("example.org", 65535, "/"),
    "https://my_host.example/ä?ö=%20%zz": ("my_host.example", 443, "/%C3%A4?%C3%B6=%20%zz"),
    f"https://{LONG}.abc/": (f"{LONG}.abc", 443, "/"),
    f"https://{LONG}.abc./": (f"{LONG}.abc.", 443, "/"),
    f"https://{'a' * 63}.example/": (f"{'a' * 63}.example", 443, "/"),
    # UTS 46, not transitional: what a browser does, and the registries of these names.
    "https://faß.example/": ("xn--fa-hia.example", 443, "/"),
    "https://FAẞ.example/": ("xn--fa-hia.example", 443, "/"),
    "https://fass.example/": ("fass.example", 443, "/"),
    "https://βόλος.example/": ("xn--nxasmm1c.example", 443, "/"),
    "https://نامه\u200cای.example/\u200d": ("xn--mgba3gch31f060k.example", 443, "/%E2%80%8D"),
    "https://BÜCHER.example.": ("xn--bcher-kva.example.", 443, "/"),
    "https://bu\u0308cher.example": ("xn--bcher-kva.example", 443, "/"),
    "https://my_host.bücher.example": ("my_host.xn--bcher-kva.example", 443, "/"),
    "https://例え。テスト": ("xn--r8jz45g.xn--zckzah", 443, "/"),
    "https://אבג.example/": ("xn--4dbcd.example", 443, "/"),
    "https://ﬁ.example/": ("fi.example", 443, "/"),
    "https://xn--fa-hia.example/": ("xn--fa-hia.example", 443, "/"),
    "https://xn--i-7iq.ws/": ("xn--i-7iq.ws", 443, "/"),
    # Each form of an address is written as its usual one, which is then judged.
    "https://127.1/": ("127.0.0.1", 443, "/"),
    "https://2130706433/": ("127.0.0.1", 443, "/"),
    "https://0x7F000001/": ("127.0.0.1", 443, "/"),
    "https://0177.0.0.1./": ("127.0.0.1", 443, "/"),
    "https://１２７。0.0.①/": ("127.0.0.1", 443, "/"),
    "https://0/": ("0.0.0.0", 443, "/"),
    "https://[::FFFF:127.0.0.1]:8443/": ("::ffff:7f00:1", 8443, "/"),
    "https://[2606:4700:0::1111]/": ("2606:4700::1111", 443, "/"),
}
BAD = {
    "http://example.org/": SCHEME, "ftp://example.org/": SCHEME, "//example.org/": SCHEME, "": SCHEME,
    "https:example.org": SCHEME, "https:/example.org": SCHEME, "file:///etc/passwd": SCHEME, "javascript:x": SCHEME,
    "https:///path": NEEDED, "https://": NEEDED, "https://?x": NEEDED, "https://#x": NEEDED, "https://:443/": NEEDED,
    "https://a:0/": NEEDED, "https://a:65536/": NEEDED, "https://a:99999/": NEEDED, "https://a:-1/": NEEDED,
    "https://a:+80/": NEEDED, "https://a:http/": NEEDED, "https://a:８０/": NEEDED, "https://a:80:80/": NEEDED,
    f"https://a:{'9' * 5000}/": NEEDED, "https://::1/": NEEDED, "https://[::1/": NEEDED, "https://::1]/": NEEDED,
    "https://[::1]evil/": NEEDED, "https://evil[::1]/": NEEDED, "https://[2606:4700::1]evil:443/": NEEDED,
    "https://a／b/": NEEDED, "https://a？b/": NEEDED, "https://a：80/": NEEDED, "https://℀.example/": NEEDED,
    "https://[v1.evil]/": NEEDED, "https://[::1::]/": NEEDED, "https://[1.2.3.4]/": NEEDED,
    "https://[fe80::1%25eth0]/": ZONE, "https://[fe80::1%eth0]/": ZONE, "https://[2606:4700::1%1]/": ZONE,
    "https://me:pw@example.org/": USER, "https://@example.org/": USER, "https://:@a/": USER, "https://a@b@c/": USER,
    "https://example.org/\nX: y": TEXT, "https://exa mple.org/": TEXT, "https://a/\t": TEXT, "https://a/\0": TEXT,
    "https://example.org\\@evil/": TEXT, "https://a\u00a0b/": TEXT, "https://a\u200bb/": TEXT, "https://a/\u2028": TEXT,
    "https://a\u00adb/": TEXT, "https://a/\ud800": TEXT, "https://a\u202eb/": TEXT, " https://a/": TEXT,
    "https://a..b/": NAME, "https://.a/": NAME, "https://./": NAME, "https://a../": NAME, "https://*.a/": NAME,
    "https://ex%61mple.org/": NAME, "https://a%00b/": NAME, "https://a!b/": NAME, "https://a,b/": NAME,
    'https://a"b/': NAME, "https://a<b>/": NAME, "https://a|b/": NAME, "https://a^b/": NAME, "https://{a}/": NAME,
    "https://a;b/": NAME, "https://a=b/": NAME, "https://(a)/": NAME, "https://a`b/": NAME, "https://$a/": NAME,
    f"https://{'a' * 64}.example/": NAME, f"https://{LONG}.abcd/": NAME, f"https://{'a' * 100_000}/": NAME,
    "https://256.256.256.256/": IPV4, "https://1.2.3.4.5/": IPV4, "https://08.1.1.1/": IPV4,
    "https://i❤.ws/": FOREIGN, "https://💡.example/": FOREIGN, "https://aא.example/": FOREIGN,
    "https://١א.example/": FOREIGN, f"https://{'ü' * 60}.example/": FOREIGN, "https://-ü.example/": FOREIGN,
    "https://ab--ü.example/": FOREIGN, "https://\u0301a.example/": FOREIGN, "https://a⒈.example/": FOREIGN,
    "https://a․b/": FOREIGN, f"https://{'ü' * 100_000}/": FOREIGN, "https://ü..example/": NAME, "https://ü%/": FOREIGN,
    "https://a\u200db.example/": FOREIGN, "https://\u200c.example/": FOREIGN,
    **dict.fromkeys((5, None, True, (), b"https://a/"), TEXT),
}  # fmt: skip


@pytest.mark.parametrize(("url", "target"), list(GOOD.items()), ids=str)
def test_a_url_leads_to_one_host_port_and_path(url, target):
    assert read_target(url, insecure=False) == Target("https", *target)


@pytest.mark.parametrize(("url", "error"), list(BAD.items()), ids=lambda of: repr(of)[:60])
def test_a_url_that_is_not_allowed_fails_at_once_with_one_line(url, error):
    with pytest.raises(Permanent) as raised:
        read_target(url, insecure=False)
    assert str(raised.value) == error


def test_http_is_read_where_private_addresses_are_allowed():
    assert read_target("HTTP://Localhost/x", insecure=True) == Target("http", "localhost", 80, "/x")
    assert read_target("http://[::1]:8080", insecure=True).origin == "http://[::1]:8080"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_no_spelling_of_the_loopback_gets_through(strict, host):
    outcome = deliver(strict, f"https://{host}/")
    assert outcome.how is How.FAILED
    assert outcome.error
    assert outcome.error.endswith("which is not a public one")


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@example.org/", "https://me:hunter2@/", "https://me:hunt:er2@example.org", "hunter2://x/",
        "https://me:hunter2?@example.org/", "https://me:hunter2/@example.org/", "https://x:hunter2#/", "hunter2",
        "https://me:hunter2℀@example.org/", "https://me:hunter2@[::1/", "https://[hunter2]/", "https://a..b/hunter2",
        "https://nowhere.example/hunter2?hunter2#hunter2", "https://nowhere.example/\\hunter2", "https://x/ hunter2",
    ],
)  # fmt: skip
def test_no_error_shows_more_of_a_url_than_its_host(strict, resolves, url):
    outcome = deliver(strict, url)
    assert outcome.error
    assert "hunt" not in outcome.error


def test_an_international_name_is_resolved_in_its_dns_form(strict, resolves):
    assert first_line(deliver(strict, "https://faß.example/")).startswith("xn--fa-hia.example can't be resolved")


def test_only_an_international_name_loads_the_tables_of_other_alphabets():
    code = (
        "import sys\n"
        "from shithubd_worker.handlers.webhook_target import read_target\n"
        "for host in ('example.org', 'faß.example'):\n"
        "    read_target(f'https://{host}/', insecure=False)\n"
        "    print('idna' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
