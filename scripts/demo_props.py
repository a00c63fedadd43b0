"""What the demo plays with: a forge's repository with its hook, and the receiver of its webhooks."""

from __future__ import annotations

import hashlib
import hmac
import re
import shutil
import threading
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer

from demo_stage import Fault, Stage

PROJECT = Path(__file__).resolve().parent.parent
DEPTH = "10"  # commits of history to clone: enough for the demo, also of a huge repository
PUSHED = "SHITHUBD-DEMO.md"  # the file that the demo's commits write
SAMPLE_FILES, SAMPLE_BYTES = 50, 50_000
SHA256_DIGITS = 64
NOT_UTF8 = "\N{REPLACEMENT CHARACTER}"

HOOK = """\
#!/bin/sh
# post-receive: a plain INSERT is a complete enqueue.
while read -r old new ref; do
  psql -qX -v ON_ERROR_STOP=1 \\
    -v ref="$ref" -v new="$new" -v url="$URL" <<'SQL'
INSERT INTO jobs (kind, payload) VALUES
('search.reindex',   jsonb_build_object('repo', 'demo.git', 'ref', :'ref')),
('repo.maintenance', jsonb_build_object('repo', 'demo.git')),
('webhook.deliver',  jsonb_build_object('url', :'url', 'event', 'push',
    'body', jsonb_build_object('after', :'new'), 'secret_ref', 'key'));
SQL
done
"""


class BadRepository(Exception):
    """The repository can't be used. One line."""


class Repository:
    """A bare clone in the root of the forge, and a working clone of it.

    All commits are on one branch, main. The source may call its branch otherwise, and its HEAD may be on none.
    """

    def __init__(self, stage: Stage, given: str | None) -> None:
        self._stage = stage
        self.root = stage.home / "repos"
        self.bare = self.root / "demo.git"
        self.clone = stage.home / "clone"
        self.source = Path(given).expanduser().absolute() if given else PROJECT
        if not given and not (PROJECT / ".git").exists():
            self.source = self._make()
        try:
            listed = stage.run("git", "ls-remote", "--", str(self.source), "HEAD", "refs/heads/*")
        except Fault as fault:
            raise BadRepository(f"{self.source} is no git repository that can be read: {fault}") from None
        # HEAD comes first, unless it names a branch that isn't there.
        self.first, _, self._ref = listed.partition("\n")[0].partition("\t")  # empty: it has no commits

    def _make(self) -> Path:
        """A small one, because a release's tarball of this project is not a repository."""
        made = self._stage.home / "made"
        shutil.copytree(PROJECT / "shithubd_worker", made, ignore=shutil.ignore_patterns("__pycache__"))
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "The package's source"]):
            self._stage.run("git", "-C", str(made), *words)
        return made

    def set_up(self) -> None:
        """Make the clones, and the hook."""
        names = "sha256" if len(self.first) == SHA256_DIGITS else "sha1"
        self._stage.run("git", "init", "-q", "--bare", f"--object-format={names}", str(self.bare))
        if self.first:
            fetch = ("fetch", "-q", "--no-tags", "--depth", DEPTH)
            try:
                self.git(self.bare, *fetch, "--", self.source.as_uri(), f"+{self._ref}:refs/heads/main")
            except Fault as fault:
                raise BadRepository(f"{self.source} can't be cloned: {fault}") from None
        hook = self.bare / "hooks" / "post-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(HOOK)
        hook.chmod(0o755)
        # Sparse: of a huge repository, only the files at the top.
        self._stage.run("git", "clone", "-q", "--sparse", str(self.bare), str(self.clone))
        (self.clone / PUSHED).unlink(missing_ok=True)  # in a mean repository it might be a link to somewhere else

    def commit(self, text: str) -> None:
        """Commit one more line in the working clone."""
        with (self.clone / PUSHED).open("a") as file:
            file.write(f"{text}\n")
        self.git(self.clone, "add", "-f", "--sparse", PUSHED)
        self.git(self.clone, "commit", "-q", "-m", text)

    def push(self) -> str:
        """Push; the id of the newest commit."""
        self.git(self.clone, "push", "-q", "origin", "HEAD:refs/heads/main")
        return self.git(self.clone, "rev-parse", "HEAD").strip()

    def sample(self) -> dict[str, str]:
        """Some text files of the first commit, by path, as git alone has them."""
        if not self.first:
            return {}
        paths = []
        for record in self.git(self.bare, "ls-tree", "-r", "-l", "-z", self.first).split("\0")[:-1]:
            facts, _, path = record.partition("\t")
            mode, _, _, size = facts.split()
            if mode in ("100644", "100755") and 0 < int(size) <= SAMPLE_BYTES and path.isprintable():
                paths.append(path)
        texts = {}
        for path in paths[:: len(paths) // SAMPLE_FILES + 1]:
            text = self.git(self.bare, "cat-file", "blob", f"{self.first}:{path}") if NOT_UTF8 not in path else NOT_UTF8
            if "\0" not in text and NOT_UTF8 not in text:
                texts[path] = text
        return texts

    def git(self, directory: Path, *words: str) -> str:
        """What git prints."""
        return self._stage.run("git", "-C", str(directory), *words)


def choose_word(texts: dict[str, str]) -> tuple[str, set[str]]:
    """A word worth a search and the files that hold it: a few files, a long word. Empty if there is no word."""
    holders = defaultdict(set)
    for path, text in texts.items():
        for word in re.findall(r"[^\W_]+", text):
            if 4 <= len(word) <= 12 and word.lower().isalpha():  # noqa: PLR2004
                holders[word.lower()].add(path)
    best = max(holders, key=lambda w: (w.isascii(), 2 <= len(holders[w]) <= 5, len(w), w), default="")  # noqa: PLR2004
    return best, holders[best]


@dataclass(frozen=True)
class Delivery:
    """One POST, as it came in."""

    event: str
    id: str
    signature: str
    body: bytes
    genuine: bool  # the signature is that of the body, by the secret that only the worker has too


class Receiver:
    """Answers 204 to what is signed and 401 to all else; while held, nobody. On the loopback, in a thread."""

    LONGEST_HOLD_SECONDS = 9.0  # the worker gives up after 10 without an answer

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
        self._released.wait(self.LONGEST_HOLD_SECONDS)
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
