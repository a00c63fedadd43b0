"""webhook.deliver with a real receiver on the loopback, without a database."""

# ruff: noqa: F401, F811 (fixtures)

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from helpers_webhooks import (
    KEY,
    certificates,
    config,
    deliver,
    loopback_alone,
    only_line,
    receiver,
    resolves,
    says,
    secrets,
    secure_receiver,
    speaker,
    strict,
    tls,
)
from servers import deaf_port

from shithubd_worker.errors import Permanent
from shithubd_worker.handlers import webhook_deliver
from shithubd_worker.handlers.webhook_deliver import delivery_id
from shithubd_worker.model import How


def test_an_event_arrives_signed_over_exactly_its_bytes(receiver, config):
    url = f"http://127.0.0.1:{receiver.port}/hook/\u00e4?token=a%20b#part"
    assert deliver(config, url, body={"häßlich": [1, None, "💡"]}).how is How.OK
    ((path, headers, body),) = receiver.got
    assert path == "/hook/%C3%A4?token=a%20b"
    assert json.loads(body) == {"häßlich": [1, None, "💡"]}
    assert headers["x-shithub-signature-256"] == "sha256=" + hmac.new(KEY, body, hashlib.sha256).hexdigest()
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("shithubd-worker/")
    assert headers["x-shithub-event"] == "push"
    assert headers["content-length"] == str(len(body))


@pytest.mark.parametrize("body", [None, True, 0, 1.5, "text", [], {}, [[{"a": 2**70}]]])
def test_a_body_is_any_json_value(receiver, config, body):
    assert deliver(config, f"http://127.0.0.1:{receiver.port}", body=body).how is How.OK
    assert json.loads(receiver.got[0][2]) == body


def test_a_body_may_be_nested_until_python_can_not_write_it(receiver, config):
    def nested(depth: int) -> list:
        body: list = []
        for _ in range(depth - 1):
            body = [body]
        return body

    job = SimpleNamespace(id=1, schema="public", config=config)
    url = f"http://127.0.0.1:{receiver.port}"
    webhook_deliver.deliver(job, url, "push", nested(400), "site-hook")
    assert receiver.got[0][2] == b"[" * 400 + b"]" * 400
    with pytest.raises(Permanent, match=r"^body is not JSON: maximum recursion depth exceeded.*"):
        webhook_deliver.deliver(job, url, "push", nested(100_000), "site-hook")
    assert len(receiver.got) == 1


def test_every_attempt_of_a_job_has_the_same_delivery_id_and_every_job_its_own(receiver, config):
    for job in (1, 1, 2):
        deliver(config, f"http://127.0.0.1:{receiver.port}", job=job)
    first, again, other = [headers["x-shithub-delivery"] for _, headers, _ in receiver.got]
    assert first == again
    assert first != other


def test_a_delivery_id_is_the_same_in_every_release_and_another_in_another_database():
    """An upgrade comes between two attempts. A database that was restored, or another one, counts the same numbers."""
    mine = ("public", 42, "https://example.org/hook", "push", b'{"after":"1f2e3d"}')
    assert delivery_id(*mine) == "07b80510-cebc-5e18-b94d-a2e2caf7c251"
    others = [("forge", *mine[1:]), ("public", 43, *mine[2:]), (*mine[:4], b"{}"), (*mine[:3], "ping", mine[4])]
    assert len({delivery_id(*each) for each in [mine, *others]}) == 5


def test_a_proxy_of_the_environment_is_not_used(receiver, config, monkeypatch):
    with deaf_port() as port:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        assert deliver(config, f"http://127.0.0.1:{receiver.port}").how is How.OK


@pytest.fixture
def trusted(certificates, resolves, monkeypatch):
    """The test's authority is trusted, and all names lead to the loopback."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    for name in ("hooks.example", "hooks.example.", "xn--fa-hia.example", "fass.example", "other.example"):
        resolves[name] = ["127.0.0.1"]


@pytest.mark.parametrize("host", ["hooks.example", "HOOKS.Example", "hooks.example.", "faß.example", "FAẞ.example"])
def test_a_certificate_is_valid_for_the_name_of_the_url(secure_receiver, config, trusted, host):
    assert deliver(config, f"https://{host}:{secure_receiver.port}/").how is How.OK
    ((_, headers, _),) = secure_receiver.got
    assert headers["host"] == f"{host.lower().replace('faß', 'xn--fa-hia')}:{secure_receiver.port}"


@pytest.mark.parametrize(
    ("host", "certificate", "error"),
    [
        ("other.example", "server", "Hostname mismatch, certificate is not valid for 'other.example'"),
        ("fass.example", "server", "Hostname mismatch, certificate is not valid for 'fass.example'"),
        ("127.0.0.1", "server", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("hooks.example", "expired", "certificate has expired"),
    ],
)
def test_another_certificate_is_tried_again_later(config, certificates, trusted, host, certificate, error):
    seen = []
    with speaker(seen.append, context=tls(certificates, certificate)) as port:
        outcome = deliver(config, f"https://{host}:{port}/")
    assert outcome.how is How.RETRY
    assert f"(127.0.0.1): [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {error}" in only_line(outcome)
    assert seen == []  # nothing of the event


def test_an_authority_that_is_not_trusted_is_tried_again_later(secure_receiver, config, resolves):
    resolves["hooks.example"] = ["127.0.0.1"]
    outcome = deliver(config, f"https://hooks.example:{secure_receiver.port}/")
    assert outcome.how is How.RETRY
    assert "CERTIFICATE_VERIFY_FAILED" in only_line(outcome)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"\x15\x03\x03\0\x02\x02\x28", "[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE]"),
        (b"HTTP/1.1 400 This port speaks HTTPS\r\n\r\n", "[SSL: WRONG_VERSION_NUMBER]"),
        (b"\x16\x03\x03\0\x04\x02\0\0\0", "[SSL: "),
        (b"", "UNEXPECTED_EOF_WHILE_READING"),
    ],
    ids=["an alert", "no TLS", "a broken handshake", "nothing"],
)
def test_a_receiver_that_breaks_tls_is_tried_again(config, said, error):
    with speaker(says(said)) as port:
        outcome = deliver(config, f"https://127.0.0.1:{port}/")
    assert outcome.how is How.RETRY
    assert error in only_line(outcome)


def test_a_receiver_that_breaks_tls_after_the_handshake_is_tried_again(config, certificates, trusted):
    def alert(connection: socket.socket) -> None:
        os.write(connection.fileno(), b"\x15\x03\x03\0\x02\x02\x28")  # not encrypted, so nobody can trust it
        says(b"")(connection)

    with speaker(alert, context=tls(certificates)) as port:
        outcome = deliver(config, f"https://hooks.example:{port}/")
    assert outcome.how is How.RETRY
    assert f"https://hooks.example:{port} (127.0.0.1): [SSL: " in only_line(outcome)


def test_a_large_body_arrives_whole_and_a_large_answer_is_cut_also_with_tls(receiver, secure_receiver, config, trusted):
    for scheme, each in (("http", receiver), ("https", secure_receiver)):
        each.status, each.body = 404, b"no " * 1_000_000
        outcome = deliver(config, f"{scheme}://hooks.example:{each.port}/", body="x" * 3_000_000)
        assert outcome.how is How.FAILED
        assert outcome.error
        assert outcome.error.startswith(f"{scheme}://hooks.example:{each.port} answered 404: no no no")
        assert len(each.got[0][2]) == 3_000_002


def test_a_receiver_that_never_answers_is_given_up(config, monkeypatch):
    monkeypatch.setattr(webhook_deliver, "DELIVERY_TIMEOUT", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        outcome = deliver(config, f"http://127.0.0.1:{listening.getsockname()[1]}")
    assert outcome.how is How.RETRY
    assert "timed out" in only_line(outcome)


@pytest.mark.parametrize("event", ["", "a b", "push\r\nX-Evil: 1", "é", "x" * 101, None, 7])
def test_an_event_must_fit_a_header(strict, event):
    outcome = deliver(strict, "https://example.org/", event=event)
    assert (outcome.how, outcome.error) == (
        How.FAILED, "event must be 1 to 100 of the characters A-Z a-z 0-9 _ . : -",
    )  # fmt: skip


def test_no_secret_and_no_path_of_a_url_is_in_an_error(receiver, config):
    receiver.status, receiver.body = 500, b"broken"
    with deaf_port() as deaf:
        for port in (receiver.port, deaf):
            outcome = deliver(config, f"http://127.0.0.1:{port}/services/hidden?token=hidden")
            assert outcome.error
            assert "hidden" not in outcome.error
            assert KEY.decode() not in outcome.error


def test_a_receiver_that_repeats_the_path_shows_no_token_of_it(receiver, config):
    receiver.status, receiver.body = (
        404,
        b"Cannot POST /services/webhooks/T024-be/aB3%2Bx9Lq77?token=00c4ffee (aB3+x9Lq77)",
    )
    outcome = deliver(config, f"http://127.0.0.1:{receiver.port}/services/webhooks/T024-be/aB3%2Bx9Lq77?token=00c4ffee")
    assert only_line(outcome).endswith("answered 404: Cannot POST /services/webhooks/T024-be/…?token=… (…)")


def test_an_import_of_the_handlers_loads_none_of_their_libraries():
    code = (
        "import sys, shithubd_worker.handlers\n"
        "print({'http', 'idna', 'psycopg', 'ssl'} & {name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
