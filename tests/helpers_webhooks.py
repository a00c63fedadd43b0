"""Receivers of webhooks on the loopback: one that behaves, and one that says exactly what a test tells it."""

from __future__ import annotations

import fcntl
import socket
import ssl
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from helpers_handlers import outcome_without_database
from waiting import eventually

from shithubd_worker.handlers import webhook_connect
from shithubd_worker.model import Outcome
from shithubd_worker.settings.config import Config

KEY = b"correct horse"
PUBLIC = "93.184.215.14"
TCP_CLOSE = 7  # a state in Linux's tcp_info
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Receiver:
    """A web server that answers as it is told and remembers its requests."""

    port: int
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


def serve(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            if receiver.status != 204:
                self.send_header("Content-Length", str(len(receiver.body)))
            self.end_headers()
            self.wfile.write(receiver.body)

        def log_message(self, *arguments: object) -> None:
            pass

    class Quiet(HTTPServer):
        def handle_error(self, *arguments: object) -> None:
            pass  # some tests want a client that hangs up in the handshake

    server = Quiet(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver = Receiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield receiver
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def speaker(
    answer: Callable[[socket.socket], object], ends: list[str] | None = None, context: ssl.SSLContext | None = None
) -> Iterator[int]:
    """The port of a server that accepts a connection, reads the beginning of a request, and answers as it is told.
    `ends` gets whether it could send all of its answer, or the worker had hung up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            accepted, _ = listening.accept()
            end = "hung up"
            with suppress(OSError), context.wrap_socket(accepted, server_side=True) if context else accepted as spoken:
                spoken.recv(65536)
                answer(spoken)
                arrived(spoken)
                end = "said all"
            accepted.close()
            if ends is not None:
                ends.append(end)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            with suppress(OSError):  # it may still wait for somebody
                socket.create_connection(listening.getsockname(), 1).close()
            thread.join()


def arrived(connection: socket.socket) -> None:
    """Wait until the worker's side has all that was sent, or has ended the connection.

    A close with bytes unread is a reset. It throws away what still waits to be sent: below TLS, the answer waits until
    the tickets before it are acknowledged.
    """

    def is_there() -> bool:
        unread = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        return not any(unread) or connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE

    eventually(is_there)


def says(data: bytes) -> Callable[[socket.socket], None]:
    """Say this, and hang up once the worker did, or said nothing more. So no reset overtakes the answer."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    return answer


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    yield from serve()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem; server.pem (with its key), which is valid only for hooks.example and faß.example; expired.pem."""
    directory = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    usage = ("-addext", "keyUsage=critical,keyCertSign")
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=test CA", *usage, "-keyout", "ca.key", "-out", "ca.pem")
    openssl(*new, "-subj", "/CN=hooks.example", "-keyout", "server.key", "-out", "server.csr")
    (directory / "ca.cnf").write_text(
        "[ca]\ndefault_ca=test\n[test]\nnew_certs_dir=.\ndatabase=index\nserial=serial\ndefault_md=sha256\npolicy=any\n"
        "x509_extensions=names\n[any]\ncommonName=supplied\n[names]\n"
        "subjectAltName=DNS:hooks.example,DNS:xn--fa-hia.example\n"
        "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )
    (directory / "index.attr").write_text("unique_subject = no\n")
    (directory / "index").touch()
    (directory / "serial").write_text("01\n")
    signed = ("ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key")
    for name, times in {
        "server": ("-days", "2"),
        "expired": ("-startdate", "20200101000000Z", "-enddate", "20210101000000Z"),
    }.items():
        openssl(*signed, *times, "-in", "server.csr", "-out", f"{name}.crt")
        (directory / f"{name}.pem").write_bytes(
            (directory / "server.key").read_bytes() + (directory / f"{name}.crt").read_bytes()
        )
    return directory


def tls(certificates: Path, name: str = "server") -> ssl.SSLContext:
    """What a server with this certificate needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.pem")
    return context


@pytest.fixture
def secure_receiver(certificates: Path) -> Iterator[Receiver]:
    yield from serve(tls(certificates))


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    directory = tmp_path / "secrets"
    directory.mkdir()
    (directory / "site-hook").write_bytes(KEY + b"\n")
    return directory


@pytest.fixture
def config(secrets: Path) -> Config:
    return Config(secrets_dir=secrets, webhook_allow_private=True)


@pytest.fixture
def strict(secrets: Path) -> Config:
    return Config(secrets_dir=secrets)


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names that resolve as they are told. All other names do not exist; an address is its own."""
    names: dict[str, list[str]] = {}

    def resolve(host: str, port: int, *options: Any, **more: Any) -> list[Any]:
        with suppress(ValueError):
            names.setdefault(str(ip_address(host)), [host])
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(family_of(each), socket.SOCK_STREAM, 6, "", (each, port)) for each in names[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return names


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@pytest.fixture(autouse=True)
def loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test connects to anything but the loopback, even if a fault lets an address through."""
    begin = webhook_connect.begin

    def checked(address: webhook_connect.Address) -> socket.socket:
        assert ip_address(address[1][0]).is_loopback, address
        return begin(address)

    monkeypatch.setattr(webhook_connect, "begin", checked)


def deliver(config: Config, url: object, **changed: object) -> Outcome:
    members = {"url": url, "event": "push", "body": {"ref": "refs/heads/main"}, "secret_ref": "site-hook", **changed}
    return outcome_without_database("webhook.deliver", config, **members)  # type: ignore[arg-type]


def first_line(outcome: Outcome) -> str:
    assert outcome.error
    return outcome.error.splitlines()[0]


def only_line(outcome: Outcome) -> str:
    """The error, which is one line that can be shown."""
    assert outcome.error
    assert outcome.error.isprintable(), outcome.error
    return outcome.error
