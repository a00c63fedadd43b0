"""The HTTP endpoint: the metrics of this process and of the queue, and whether the process lives and is ready."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.registry import Collector

from shithubd_worker.errors import ConfigError
from shithubd_worker.host.forks import keep_private
from shithubd_worker.host.signals import signals_elsewhere
from shithubd_worker.model import WorkerState
from shithubd_worker.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

READY = (WorkerState.IDLE, WorkerState.RUNNING, WorkerState.HELD)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    # wsgiref would look up the name of the address, and so might wait for a DNS server.
    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()
        keep_private(self.socket)

    def get_request(self) -> tuple[socket.socket, Any]:
        request, address = super().get_request()
        keep_private(request)
        return request, address


class _Quiet(WSGIRequestHandler):
    timeout = 10  # for a client that connects and sends nothing

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (wsgiref's own name)
        log.debug(format, *args)


def serve(
    metrics: Metrics, queue: Collector, state: Callable[[], WorkerState], host: str, port: int, *, chosen: bool
) -> tuple[str, int]:
    """Serve /metrics, /healthz and /readyz from a thread of their own. Returns the address.

    /healthz: the process answers. /readyz: 200 while it can lease or is held, else 503. If the port is busy, it is a
    ConfigError if an operator chose it; else a free port is taken, with a warning.
    """
    metrics.registry.register(queue)
    exposition = make_wsgi_app(metrics.registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            body: Iterable[bytes] = exposition(environ, start_response)
            return body
        now = state()
        ready = now in READY
        status, text = {
            "/healthz": ("200 OK", "ok"),
            "/readyz": ("200 OK" if ready else "503 Service Unavailable", now),
            "/": ("200 OK", "shithubd-worker: /metrics /healthz /readyz"),
        }.get(path, ("404 Not Found", "not found: try /metrics, /healthz or /readyz"))
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{text}\n".encode()]

    try:
        server = _listen(host, port, app)
    except OSError as error:
        if chosen:
            raise ConfigError(f"--metrics (SHITHUBD_WORKER_METRICS): can't listen on {host}:{port}: {error}") from error
        server = _listen(host, 0, app)
        log.warning("metrics: %s:%d is busy, using port %d instead", host, port, server.server_port)
    with signals_elsewhere():
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return str(server.server_name), server.server_port


def _listen(host: str, port: int, app: Any) -> WSGIServer:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server_class = type("_FamilyServer", (_Server,), {"address_family": family})
    return make_server(host, port, app, server_class=server_class, handler_class=_Quiet)
