"""A webhook receiver for the demo: on the loopback, in a thread, checking the signature of what it is sent."""

from __future__ import annotations

import hashlib
import hmac
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer

# The worker gives up after 10 s without an answer.
LONGEST_HOLD_SECONDS = 9.0


@dataclass(frozen=True)
class Delivery:
    """One POST, as it came in."""

    event: str
    id: str
    signature: str
    body: bytes
    genuine: bool  # the signature is that of the body, with the secret that only the worker has too


class Receiver:
    """Answers 204 to what is signed and 401 to all else; while held, it answers only when it is released."""

    def __init__(self, secret: bytes) -> None:
        self.deliveries: list[Delivery] = []
        self._secret = secret
        self._released = threading.Event()
        self._released.set()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"receiver": self}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="receiver", daemon=True).start()

    def hold(self) -> None:
        """From now on, let senders wait."""
        self._released.clear()

    def release(self) -> None:
        """Answer, also those who wait."""
        self._released.set()

    def close(self) -> None:
        """Stop listening."""
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def take(self, event: str, delivery: str, signature: str, body: bytes) -> bool:
        """Note a delivery; is it genuine?"""
        wanted = f"sha256={hmac.new(self._secret, body, hashlib.sha256).hexdigest()}"
        genuine = hmac.compare_digest(wanted.encode(), signature.encode())
        self.deliveries.append(Delivery(event, delivery, signature, body, genuine))
        self._released.wait(LONGEST_HOLD_SECONDS)
        return genuine


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver
    timeout = 10

    def do_POST(self) -> None:
        """A delivery."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        event, delivery, signature = (
            self.headers.get(f"X-Shithub-{name}", "") for name in ("Event", "Delivery", "Signature-256")
        )
        self.send_response(204 if self.receiver.take(event, delivery, signature, body) else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the demo tells what came."""
