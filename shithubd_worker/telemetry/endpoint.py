"""The HTTP endpoint: the metrics of this process and of the queue, and whether the process lives and is ready.

Anybody who reaches the port can connect to it, and a worker has better things to do. So there are few connections at a
time, the newest wins, and no client makes a line in the log.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import MetricsHandler
from prometheus_client.registry import Collector

from shithubd_worker.host.forks import keep_private
from shithubd_worker.host.signals import signals_elsewhere
from shithubd_worker.model import WorkerState
from shithubd_worker.settings.table import Address
from shithubd_worker.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

READY = (WorkerState.IDLE, WorkerState.RUNNING, WorkerState.HELD)
MOST_CLIENTS = 32
PORT_AGAIN_SECONDS = 5.0


def serve(metrics: Metrics, queue: Collector, address: Address) -> None:
    """Serve /metrics, /healthz and /readyz from a thread of their own.

    /healthz: the process answers. /readyz: 200 while it can lease or is held, else 503. A worker whose address can't be
    used now works without metrics, says so once, and tries again until it can.
    """
    metrics.registry.register(queue)
    shown = f"[{address.host}]" if ":" in address.host else address.host

    def listen() -> _Server:
        server = _Server(address, metrics)
        log.info("metrics on http://%s:%d", shown, server.server_address[1])
        return server

    def serve_when_possible(server: _Server | None) -> None:
        while server is None:
            time.sleep(PORT_AGAIN_SECONDS)
            with suppress(OSError):
                server = listen()
        server.serve_forever()

    try:
        first: _Server | None = listen()
    except OSError as error:
        first = None
        log.warning(
            "metrics are not served now: can't listen on %s:%d: %s; the worker works, and tries again every %g s",
            shown,
            address.port,
            error.strerror or error,
            PORT_AGAIN_SECONDS,
        )
    with signals_elsewhere():
        threading.Thread(target=serve_when_possible, args=(first,), name="metrics", daemon=True).start()


class _Server(ThreadingMixIn, TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, address: Address, metrics: Metrics) -> None:
        self.metrics = metrics
        self._clients: dict[socket.socket, bool] = {}  # the oldest first; has it asked already?
        self._lock = threading.Lock()
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except UnicodeError as error:  # a part of the name is longer than DNS allows
            raise OSError(str(error)) from error
        self.address_family, where = found[0][0], found[0][4]
        super().__init__(where, _Handler)  # type: ignore[arg-type]  # of IPv6, it has four parts

    def server_bind(self) -> None:
        super().server_bind()
        keep_private(self.socket)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            request, address = super().get_request()
        except OSError:
            time.sleep(0.1)  # no file descriptor is free: the client still waits, and the next look finds it at once
            raise
        keep_private(request)
        return request, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread. Of too many clients, the oldest that has asked nothing yet has to go, else the oldest."""
        with self._lock:
            if len(self._clients) >= MOST_CLIENTS:
                silent = (client for client, asked in self._clients.items() if not asked)
                oldest = next(silent, next(iter(self._clients)))
                del self._clients[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)  # which wakes its thread
            self._clients[request] = False
        super().process_request(request, client_address)

    def asked(self, request: socket.socket) -> None:
        """This client has sent a whole request."""
        with self._lock:
            if request in self._clients:
                self._clients[request] = True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._clients.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        gone = isinstance(error, OSError)
        log.log(logging.DEBUG if gone else logging.WARNING, "metrics: a client got no answer", exc_info=error)


class _Handler(MetricsHandler):
    server: _Server
    timeout = 10  # for each read and write
    server_version, sys_version = "shithubd-worker", ""

    def do_GET(self) -> None:  # noqa: N802 (http.server's name)
        self.server.asked(self.request)
        if urlsplit(self.path).path == "/metrics":
            self.registry = self.server.metrics.registry
            super().do_GET()
        else:
            self.wfile.write(self._answer())

    def do_HEAD(self) -> None:  # noqa: N802 (http.server's name)
        self._answer()

    def _answer(self) -> bytes:
        """Send the head of the answer. Returns its body."""
        now = self.server.metrics.state()
        status, text = {
            "/metrics": (HTTPStatus.OK, ""),
            "/healthz": (HTTPStatus.OK, "ok"),
            "/readyz": (HTTPStatus.OK if now in READY else HTTPStatus.SERVICE_UNAVAILABLE, str(now)),
            "/": (HTTPStatus.OK, "shithubd-worker: /metrics /healthz /readyz"),
        }.get(urlsplit(self.path).path, (HTTPStatus.NOT_FOUND, "not found: try /metrics, /healthz or /readyz"))
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        return f"{text}\n".encode()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server's own name)
        log.debug(format, *args)
