"""What a receiver's answer means: the status line decides, not what comes before or after it.

Each row is said by a real receiver on the loopback.
"""

# ruff: noqa: F401, F811 (fixtures)

from __future__ import annotations

import re
import socket
import struct
import threading
from datetime import UTC, datetime, timedelta

import pytest
from helpers_webhooks import (
    OK,
    certificates,
    config,
    deliver,
    loopback_alone,
    only_line,
    receiver,
    resolves,
    says,
    secrets,
    speaker,
    tls,
)
from hypothesis import given as drawn
from hypothesis import strategies as st

from shithubd_worker.handlers import webhook_deliver
from shithubd_worker.handlers.webhook_answer import MOST_INTERIM, post, wait
from shithubd_worker.handlers.webhook_wire import Deadline, Wire
from shithubd_worker.model import How, Outcome

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
GONE = b"HTTP/1.1 410 Gone\r\nContent-Length: 2\r\n\r\nno"
BUSY = b"HTTP/1.1 503 Busy\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
NO_ANSWER = "closed the connection without an answer"

# The answer, and: OK; or how it fails, and the end of the error; or how many seconds later it is tried again.
BEFORE_THE_ANSWER = {
    "100": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, OK),
    "102 twice": (b"HTTP/1.1 102 Processing\r\n\r\n" * 2 + OK, OK),
    "103": (HINT + OK, OK),
    "103 as often as allowed": (HINT * MOST_INTERIM + OK, OK),
    "103 once too often": (HINT * (MOST_INTERIM + 1) + OK, (How.RETRY, "more than 100 interim answers")),
    "103 with many headers": (HINT[:-2] + b"X: y\r\n" * 5000 + b"\r\n" + OK, OK),
    "103 with long headers": (HINT[:-2] + b"X: " + b"y" * 100_000 + b"\r\n\r\n" + OK, OK),
    # A piece of a long line is not the empty line that ends the headers.
    "103 with lines as long as a piece": (HINT[:-2] + (b"X" * 1024 + b"\r\n") * 2 + b"\r\n" + OK, OK),
    "103 with a reason as long as a piece": (b"HTTP/1.1 103 " + b"x" * 1011 + b"\r\n\r\n" + OK, OK),
    "103 with a body's headers": (HINT[:-2] + b"Content-Length: 9\r\n" + CHUNKED + OK, OK),
    "199": (b"HTTP/1.1 199 Odd\r\n\r\n" + OK, OK),
    "all of them": (HINT + b"HTTP/1.1 100\r\n\r\nHTTP/1.1 102 P\n\n" + HINT + GONE, (How.FAILED, "answered 410: no")),
    "103 and a wait": (HINT[:-2] + b"Retry-After: 5\r\n\r\n" + BUSY + b"Retry-After: 77\r\n\r\n", 77),
    "103 alone": (HINT, (How.RETRY, NO_ANSWER)),
    "101": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", (How.RETRY, "answered 101")),
    "101 and another": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK, (How.RETRY, "answered 101")),
}
HEADERS = {
    "101 headers": (OK[:-2] + b"X: y\r\n" * 101 + b"\r\n", OK),
    "200 KiB of them": (OK[:-2] + (b"X: " + b"y" * 996 + b"\r\n") * 200 + b"\r\n", OK),
    "more than is read": (OK[:-2] + b"X: " + b"y" * 300_000 + b"\r\n\r\n", OK),
    "a refusal with many": (b"HTTP/1.1 404 No\r\n" + b"X: y\r\n" * 500 + b"\r\n", (How.FAILED, "answered 404")),
    "a refusal with too many": (b"HTTP/1.1 404 No\r\n" + b"X: y\r\n" * 90_000, (How.FAILED, "answered 404")),
    "the wait after 1,000 others": (BUSY + b"X: y\r\n" * 1000 + b"retry-AFTER:77\r\n\r\n", 77),
    "the wait before too many": (BUSY + b"Retry-After: 77\r\n" + b"X: y\r\n" * 90_000, 77),
    "cut off": (b"HTTP/1.1 200 OK\r\nX:", OK),
    "cut off after the wait": (BUSY + b"Retry-After: 77\r\nX", 77),
    "no colon": (BUSY + b"nocolon\r\nRetry-After: 77\r\n\r\n", 77),
    "spaces in a name": (BUSY + b"X Y : z\r\nRetry-After : 77\r\n\r\n", 77),
    "folded": (BUSY + b"Retry-After:\r\n\t77\r\n\r\n", 77),
    "folded at first": (BUSY + b" X: 5\r\nRetry-After: 77\r\n\r\n", 77),
    "another is folded": (BUSY + b"X:\r\n Retry-After: 5\r\nRetry-After: 77\r\n\r\n", 77),
    "zero bytes": (BUSY + b"X\0: \0\r\nRetry-After: 77\r\n\r\n", 77),
    "only line feeds": (BUSY.replace(b"\r", b"") + b"X: y\nRetry-After: 77\n\n", 77),
    "a wait after the headers": (
        BUSY + b"Content-Length: 0\r\n\r\nRetry-After: 77\r\n\r\n",
        (How.RETRY, "answered 503"),
    ),
}
STATUS_LINES = {
    **{line: (line.encode() + b"\r\n\r\n", OK) for line in (
        "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1  200  OK", "HTTP/1.1\t200\tOK", "HTTP/1.0 299 \0", "HTTP/1.9 204 No",
        "http/1.1 200 ok", "HTTP/2.0 200 OK", "HTTP/2 200", "HTTP/1 200 OK", "HTTP/1.1 205 Reset",
    )},
    **{line: (line.encode() + b"\r\n\r\n", (How.RETRY, f"the answer is not HTTP: {line}".rstrip())) for line in (
        "HTTP/1.1 000 OK", "HTTP/1.1 99 OK", "HTTP/1.1 1000 OK", "HTTP/1.1 20", "HTTP/1.1 200OK", "HTTP/1.1 +200 OK",
        "HTTP/1.1 2_00 OK", "HTTP/1.1 0200 OK", "HTTP/1.1 -200 OK", "HTTP/11.11 200 OK", "HTTP/ 200 OK", "HTTP/1.1",
        "ICY 200 OK", "200 OK", "<html>200</html>", "SSH-2.0-OpenSSH_9.2", "220 mail ESMTP", "+OK", "",
    )},
    "600": (b"HTTP/1.1 600 Odd\r\n\r\n", (How.RETRY, "answered 600")),
    "999": (b"HTTP/1.1 999 Odd\r\n\r\n", (How.RETRY, "answered 999")),
    "unicode digits": (b"HTTP/1.1 \xb200 OK\r\n\r\n", (How.RETRY, "the answer is not HTTP: HTTP/1.1 �00 OK")),
    "every byte": (bytes(range(256)), (How.RETRY, "the answer is not HTTP: " + "�" * 9)),
    "HTTP/2's first frame": (b"\0\0\x12\x04" + b"\0" * 23, (How.RETRY, "the answer is not HTTP: " + "�" * 27)),
    "no line's end": (b"x" * 300_000, (How.RETRY, "the answer is not HTTP: " + "x" * 176)),
    "nothing": (b"", (How.RETRY, NO_ANSWER)),
    "cut in the status": (b"HTTP/1.1 20", (How.RETRY, "the answer is not HTTP: HTTP/1.1 20")),
    "cut after the status": (b"HTTP/1.1 200", OK),
    "an endless reason": (b"HTTP/1.1 200 " + b"x" * 300_000, OK),
    "a refusal's endless reason": (b"HTTP/1.1 404 " + b"x" * 300_000, (How.FAILED, "answered 404")),
    "only carriage returns": (b"HTTP/1.1 200 OK\rX: y\r\r", OK),
}  # fmt: skip
BODIES = {
    "204 with one": (b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", OK),
    "304 with one": (b"HTTP/1.1 304 Not Modified\r\n\r\nhello", (How.FAILED, "answered 304")),
    "none": (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n" + OK, (How.RETRY, "answered 500")),
    "no length": (b"HTTP/1.1 500 No\r\n\r\nhello", (How.RETRY, "answered 500: hello")),
    "longer than its length": (b"HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\nnono", (How.FAILED, "answered 400: no")),
    "shorter than its length": (b"HTTP/1.1 400 No\r\nContent-Length: 9\r\n\r\nno", (How.FAILED, "answered 400: no")),
    **{f"a length of {length[:20].decode()}": (
        b"HTTP/1.1 400 No\r\nContent-Length: " + length + b"\r\n\r\nno", (How.FAILED, "answered 400: no")
    ) for length in (b"-5", b"abc", b"2_0", b"", b"9" * 23, b"9" * 5000, b"5\r\nContent-Length: 1")},
    "two chunks and a trailer": (
        b"HTTP/1.1 500 No\r\n" + CHUNKED + b"4;x=y\r\nlate\r\n1\r\nx\r\n0\r\nX: y\r\n\r\n",
        (How.RETRY, "answered 500: late"),
    ),
    **{f"a chunk of {size[:20].decode()}": (
        b"HTTP/1.1 400 No\r\n" + CHUNKED + size + b"\r\nlate", (How.FAILED, "answered 400" + said)
    ) for size, said in (
        (b"zz", ""), (b"-5", ""), (b"", ""), (b"0", ""), (b"F" * 20, ": late"), (b"f" * 5000, ": late"),
    )},
    "chunks that end with their size": (b"HTTP/1.1 400 No\r\n" + CHUNKED, (How.FAILED, "answered 400")),
    "compressed": (b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\0", (How.RETRY, "answered 500: ���")),
    "an escape sequence": (b"HTTP/1.1 400 No\r\n\r\n\x1b]0;x\x07\r\n\tno\0", (How.FAILED, "answered 400: �]0;x� no�")),
}  # fmt: skip
ANSWERS = {
    f"{what}: {name}": row
    for what, rows in {"before": BEFORE_THE_ANSWER, "headers": HEADERS, "status": STATUS_LINES, "body": BODIES}.items()
    for name, row in rows.items()
}


def judged(outcome, expected):
    """Is this the outcome that the row expects, with one clear line?"""
    if expected is OK:
        assert outcome == Outcome(How.OK)
    elif isinstance(expected, int):
        assert (outcome.how, outcome.delay_seconds) == (How.RETRY, expected)
        assert only_line(outcome).endswith("answered 503")
    else:
        assert outcome.how is expected[0]
        assert re.fullmatch(
            r"https?://(127\.0\.0\.1|hooks\.example):\d+ (\(127\.0\.0\.1\): )?" + re.escape(expected[1]),
            only_line(outcome),
        )
        assert (outcome.delay_seconds > 0) == (outcome.how is How.RETRY)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_status_line_decides(config, name):
    said, expected = ANSWERS[name]
    with speaker(says(said)) as port:
        judged(deliver(config, f"http://127.0.0.1:{port}"), expected)


@pytest.mark.parametrize(
    "name", ["before: 103", "before: all of them", "headers: 200 KiB of them", "status: every byte"]
)
def test_it_decides_below_tls_too(config, certificates, resolves, monkeypatch, name):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    resolves["hooks.example"] = ["127.0.0.1"]
    said, expected = ANSWERS[name]
    with speaker(says(said), context=tls(certificates)) as port:
        judged(deliver(config, f"https://hooks.example:{port}"), expected)


def in_pieces(connection):
    for at in range(len(HINT + OK)):
        connection.sendall((HINT + OK)[at : at + 1])
    says(b"")(connection)


def and_resets(connection):
    connection.sendall(OK)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("answer", [in_pieces, and_resets])
def test_an_answer_in_pieces_or_before_a_reset_counts(config, answer):
    with speaker(answer) as port:
        assert deliver(config, f"http://127.0.0.1:{port}").how is How.OK


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("then", ["hangs up", "reads no more"])
def test_an_answer_before_the_request_was_read_counts_and_ends_the_delivery(
    config, certificates, resolves, monkeypatch, scheme, then
):
    """The body is larger than all buffers on its way. Without a look at what arrives, the worker would send until its
    deadline, or until the receiver resets the connection."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    resolves["hooks.example"] = ["127.0.0.1"]
    over = threading.Event()

    def answer(connection):
        connection.sendall(HINT + b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        if then == "reads no more":
            over.wait()

    with speaker(answer, context=tls(certificates) if scheme == "https" else None) as port:
        outcome = deliver(config, f"{scheme}://hooks.example:{port}", body="x" * 16_000_000)
        over.set()
    judged(outcome, (How.FAILED, "answered 413: big"))


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("first", "last"), [(HINT, OK), (OK, b"")], ids=["a hint", "a success"])
def test_a_receiver_that_answers_first_and_reads_afterwards_gets_the_whole_event(
    config, certificates, resolves, monkeypatch, scheme, first, last
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    resolves["hooks.example"] = ["127.0.0.1"]
    read = [b"?"]

    def answer(connection):
        connection.sendall(first)
        if first is OK and scheme == "http":
            connection.shutdown(socket.SHUT_WR)
        while read[-1] and not read[-1].endswith(b'"'):
            read.append(connection.recv(1 << 20))
        if last:
            connection.sendall(last)

    with speaker(answer, context=tls(certificates) if scheme == "https" else None) as port:
        assert deliver(config, f"{scheme}://hooks.example:{port}", body="x" * 16_000_000).how is How.OK
    assert read[-1].endswith(b'"')
    assert sum(map(len, read)) > 15_900_000


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("size", [100, 10_000_000])
def test_a_receiver_that_says_much_before_it_reads_gets_the_whole_event(
    config, certificates, resolves, monkeypatch, scheme, size
):
    """It reads only once its whole answer is gone. And a close with a part of that unread would be a reset, which
    throws away what is on its way."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    resolves["hooks.example"] = ["127.0.0.1"]
    last = b"?"

    def answer(connection):
        nonlocal last
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        connection.sendall(b"y" * size)
        while not last.endswith(b'"') and (read := connection.recv(4096)):
            last = read

    with speaker(answer, context=tls(certificates) if scheme == "https" else None) as port:
        assert deliver(config, f"{scheme}://hooks.example:{port}", body="x" * 16_000_000).how is How.OK
    assert last.endswith(b'"')


@pytest.mark.parametrize("then", ["hangs up", "reads no more"])
def test_a_success_counts_even_if_the_receiver_did_not_want_the_rest(config, monkeypatch, then):
    monkeypatch.setattr(webhook_deliver, "DELIVERY_TIMEOUT", 1.0)
    over = threading.Event()

    def answer(connection):
        connection.sendall(OK)
        if then == "reads no more":
            over.wait()

    with speaker(answer) as port:
        outcome = deliver(config, f"http://127.0.0.1:{port}", body="x" * 16_000_000)
        over.set()
    assert outcome.how is How.OK


def test_an_answer_and_a_reset_between_the_look_at_the_wire_and_the_next_send_count():
    class Late(Wire):
        looked = False

        def _arrived(self) -> bool:
            first, self.looked = not self.looked, True
            return not first and super()._arrived()

    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(OK)
        theirs.close()
        assert post(Late(ours, Deadline(60)), "/", {}, b"x").status == 200


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
def test_a_receiver_that_hangs_up_is_tried_again(config, reset):
    def answer(connection):
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with speaker(answer) as port:
        outcome = deliver(config, f"http://127.0.0.1:{port}")
    assert outcome.how is How.RETRY
    # A close is a reset too if the receiver had not read the whole request.
    assert re.search(f"{NO_ANSWER}|Connection reset by peer", only_line(outcome))


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_is_done(receiver, config, status):
    receiver.status, receiver.headers = status, {"Retry-After": "77"}
    assert deliver(config, f"http://127.0.0.1:{receiver.port}") == Outcome(How.OK)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 421, 422, 451, 499])
def test_a_refusal_of_the_receiver_is_final(receiver, config, status):
    receiver.status, receiver.headers = status, {"Retry-After": "77"}
    receiver.body = b"no\n  such\x1b[31m hook " + b"x" * 5000
    outcome = deliver(config, f"http://127.0.0.1:{receiver.port}/secret-path")
    assert (outcome.how, outcome.delay_seconds) == (How.FAILED, 0)
    assert only_line(outcome).startswith(f"http://127.0.0.1:{receiver.port} answered {status}: no such�[31m hook xxx")
    assert len(only_line(outcome)) < 300


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_a_redirect_is_not_followed(receiver, config, status):
    receiver.status, receiver.headers = status, {"Location": f"http://127.0.0.1:{receiver.port}/other"}
    outcome = deliver(config, f"http://127.0.0.1:{receiver.port}")
    assert outcome.how is How.FAILED
    why = ": redirects are not followed" if status in (301, 302, 303, 307, 308) else ""
    assert only_line(outcome) == f"http://127.0.0.1:{receiver.port} answered {status}{why}"
    assert len(receiver.got) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_temporary_error_is_tried_again_when_the_receiver_says_or_after_the_backoff_of_the_kind(
    receiver, config, status
):
    receiver.status, receiver.body = status, b"later"
    for said in ({}, {"Retry-After": "7777"}):
        receiver.headers = said
        outcome = deliver(config, f"http://127.0.0.1:{receiver.port}")
        assert outcome.how is How.RETRY
        assert only_line(outcome) == f"http://127.0.0.1:{receiver.port} answered {status}: later"
        assert (outcome.delay_seconds == 7777) == bool(said)


DAY = 86_400
WAITS = {  # a time with % is in six hours, by strftime
    "120": 120, " 120\t": 120, "0": 1, "000": 1, "0.2": 1, "1.5": 1.5, "77.": 77,
    "86400": DAY, "86401": DAY, "9" * 20: DAY, "9" * 5000: DAY, "9" * 400 + ".5": DAY,
    "%a, %d %b %Y %H:%M:%S GMT": 6 * 3600, "%A, %d-%b-%y %H:%M:%S GMT": 6 * 3600, "%a %b %d %H:%M:%S %Y": 6 * 3600,
    "Wed, 21 Oct 2015 07:28:00 GMT": 1, "Mon, 01 Jan 0001 00:00:00 GMT": 1, "Fri, 31 Dec 9999 23:59:59 GMT": DAY,
    "Fri, 31 Dec 9999 23:59:59 -1200": DAY,
}  # fmt: skip
NO_WAITS = (
    "", "soon", "-5", "-0", "+5", ".5", "1e3", "0x10", "inf", "nan", "5 s", "5;x", "5, 6", "1_0", "²", "७७", "1.2.3",
    "Wed, 99 Oct 2015 07:28:00 GMT", "Fri, 31 Dec 2030 99:99:99 GMT", "2030-01-01T00:00:00Z", "Wed", "a,", "::", "(((",
    f"Wed, {'9' * 20} Oct 2015 07:28:00 GMT", f"Wed, 21 Oct {'9' * 11} 07:28:00 GMT", "Fri, 31 Dec 10000 00:00:00 GMT",
    f"Wed, 21 Oct 2015 07:28:00 +{'9' * 20}", "Wed, 21 Oct 2015 07:28:00 +2400", "x " * 3000,
)  # fmt: skip


@pytest.mark.parametrize("given", WAITS, ids=lambda given: given[:40])
def test_a_wait_that_the_receiver_asks_for_is_1_second_to_1_day(given):
    said = (datetime.now(UTC) + timedelta(hours=6)).strftime(given) if "%" in given else given
    assert wait([said]) == pytest.approx(WAITS[given], abs=300 if ":" in given else 0)


@pytest.mark.parametrize("given", NO_WAITS, ids=lambda given: repr(given)[:40])
def test_a_wait_that_makes_no_sense_is_none(given):
    assert wait([given]) is None
    assert wait([given, "77"]) == 77


def test_the_longest_of_several_waits_counts():
    assert wait(["5", "500", "50"]) == 500
    assert wait([]) is None


@drawn(st.lists(st.text("0123456789 ,:+-GMTWedOct²\0", max_size=40), max_size=2))
def test_no_text_is_a_wait_out_of_bounds_or_an_error(given):
    seconds = wait(given)
    assert seconds is None or 1 <= seconds <= DAY
