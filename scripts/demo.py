"""`make demo`: the worker's main job, on a real PostgreSQL and a real git repository, in under a minute.

DEMO_REPO=/path/to/any/repo.git runs it on another repository, which is only read. Every claim on the screen is
checked: exit 0 if all of it was true, 1 with one line if not, 2 if DEMO_REPO is no repository. Nothing stays behind.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import psycopg
from receiver import Receiver
from stage import Fault, Stage, tell, tell_command, tell_output

PROJECT = Path(__file__).resolve().parent.parent
KINDS = ("search.reindex", "repo.maintenance", "webhook.deliver")
DEPTH = "10"  # commits of history to clone: enough for the demo, also of a huge repository
PUSHED = "SHITHUBD-DEMO.md"
SHA256_DIGITS = 64
MOST_HITS = 1000
SAMPLE_FILES, SAMPLE_BYTES = 50, 50_000
NOT_UTF8 = "\N{REPLACEMENT CHARACTER}"

HOOK = """\
#!/bin/sh
# post-receive: a plain INSERT is a complete enqueue.
while read -r old new ref; do
  psql -qX -v ON_ERROR_STOP=1 -v ref="$ref" -v new="$new" -v url="$URL" <<'SQL'
INSERT INTO jobs (kind, payload) VALUES
('search.reindex',   jsonb_build_object('repo', 'demo.git', 'ref', :'ref')),
('repo.maintenance', jsonb_build_object('repo', 'demo.git')),
('webhook.deliver',  jsonb_build_object('url', :'url', 'event', 'push',
    'body', jsonb_build_object('after', :'new'), 'secret_ref', 'key'));
SQL
done
"""


class BadRepository(Exception):
    """DEMO_REPO can't be used. One line."""


class Demo:
    """The story; each step a method, in their order."""

    def __init__(self, stage: Stage, receiver: Receiver, secret: bytes) -> None:
        self.stage = stage
        self.receiver = receiver
        self.bare = stage.home / "repos" / "demo.git"
        self.clone = stage.home / "clone"
        self.log = stage.home / "worker.log"
        self.log_shown = 0
        self.first = ""  # the commit that the repository came with, if any
        self.enqueued: Counter[str] = Counter()  # what the demo asked for, by kind
        (stage.home / "secrets").mkdir(mode=0o700)
        (stage.home / "secrets" / "key").write_bytes(secret)
        stage.env["URL"] = receiver.url

    def play(self) -> None:
        """All of it."""
        source, ref, oid = self.choose_repository()
        self.start_database()
        self.clone_repository(source, ref, oid)
        self.start_worker()
        self.push_commits()
        self.search()
        self.pause_and_resume()
        self.drain_and_resume()
        self.compare_metrics()
        self.stop_worker()

    # The steps.

    def choose_repository(self) -> tuple[Path, str, str]:
        """The repository, and the ref and the id of the commit to begin with, empty if it has none."""
        given = os.environ.get("DEMO_REPO")
        source = Path(given).expanduser().absolute() if given else PROJECT
        if not given and not (PROJECT / ".git").exists():
            source = self.make_repository()
        try:
            listed = self.stage.run("git", "ls-remote", "--", str(source), "HEAD", "refs/heads/*")
        except Fault as fault:
            if not given:
                raise
            raise BadRepository(f"DEMO_REPO={given} is not a git repository that can be read: {fault}") from None
        # HEAD comes first, unless it names a branch that doesn't exist.
        oid, _, ref = listed.partition("\n")[0].partition("\t")
        tell(f"shithubd-worker, end to end. The repository: {source}")
        return source, ref, oid

    def make_repository(self) -> Path:
        """A small one, when the project itself isn't one: a release's tarball, for example."""
        made = self.stage.home / "made"
        shutil.copytree(PROJECT / "shithubd_worker", made, ignore=shutil.ignore_patterns("__pycache__"))
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "The package's source"]):
            self.stage.run("git", "-C", str(made), *words)
        return made

    def start_database(self) -> None:
        """Step 1."""
        headline(1, "PostgreSQL is the queue")
        version = self.stage.start_postgres("shithub")
        tell(f"An embedded PostgreSQL {version} runs, named by PG* variables as for psql.")
        self.stage.show("shithubd-worker", "migrate")

    def clone_repository(self, source: Path, ref: str, oid: str) -> None:
        """Step 2: a bare repository with at most DEPTH commits, all on one branch called main, and the hook."""
        headline(2, "A bare clone, whose post-receive hook enqueues by a plain INSERT")
        self.first = oid
        git = self.stage.run
        names = "sha256" if len(oid) == SHA256_DIGITS else "sha1"
        git("git", "init", "-q", "--bare", f"--object-format={names}", str(self.bare))
        if oid:
            try:
                fetch = ("fetch", "-q", "--no-tags", "--update-shallow", "--depth", DEPTH)
                git("git", "-C", str(self.bare), *fetch, "--", source.as_uri(), f"+{ref}:refs/heads/main")
            except Fault as fault:
                raise BadRepository(f"{source} can't be cloned: {fault}") from None
        else:
            tell("It is empty: the first commit comes with the push.")
        hook = self.bare / "hooks" / "post-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(HOOK)
        hook.chmod(0o755)
        git("git", "-C", str(self.stage.home), "clone", "-q", "--sparse", str(self.bare), str(self.clone))
        (self.clone / PUSHED).unlink(missing_ok=True)  # a link to somewhere else, if it is a mean repository
        tell_output(HOOK, 99)

    def start_worker(self) -> None:
        """Step 3."""
        headline(3, "The worker, as a process of its own")
        command = (
            *("shithubd-worker", "run", "--repo-root", str(self.bare.parent)),
            *("--secrets-dir", str(self.stage.home / "secrets"), "--webhook-allow-private"),
            *("--metrics", "127.0.0.1:0", "--log-format", "json"),
        )
        tell_command(*command)
        self.stage.serve("the worker", *command, log=self.log)
        self.stage.until("the worker's ready line", lambda: any(m.startswith("ready") for m in self.logged()))
        self.tell_log()

    def push_commits(self) -> None:
        """Step 4."""
        headline(4, "A push: the code is indexed, the repository tidied, a webhook delivered")
        self.commit("The lighthouse keeper counts the jobs.")
        self.commit("None is lost, none runs twice.")
        self.push()
        self.done("the jobs of the push")
        self.tell_log()
        delivery = self.receiver.deliveries[-1]
        head = self.stage.run("git", "-C", str(self.clone), "rev-parse", "HEAD").strip()
        expect(delivery.genuine, "the receiver could not verify the webhook's signature")
        expect(json.loads(delivery.body) == {"after": head}, f"the webhook said {delivery.body!r}, not {head}")
        tell("The receiver verified the signature of what it got:")
        tell_output(
            f"X-Shithub-Event: {delivery.event}\nX-Shithub-Delivery: {delivery.id}\n"
            f"X-Shithub-Signature-256: {delivery.signature}\n{delivery.body.decode()}"
        )

    def search(self) -> None:
        """Step 5: what the index finds is compared with what git has."""
        headline(5, "A search over the index")
        texts = self.sample()
        word, holders = choose_word(texts)
        if not word:
            tell("The repository has no text of its own, so this looks for what was pushed.")
            word, holders = "lighthouse", {PUSHED}
        self.stage.show("shithubd-worker", "search", word, "--limit", "5")
        hits = self.hits(word, MOST_HITS)
        found = {hit["path"] for hit in hits}
        expect(holders <= found or len(hits) == MOST_HITS, f"not found: {word!r} in {sorted(holders - found)}")
        for hit in hits:
            if hit["path"] in holders and hit["path"] in texts and hit["line"]:
                line = texts[hit["path"]].split("\n")[hit["line"] - 1]
                expect(word in line.lower(), f"{hit['path']}:{hit['line']} does not hold {word!r}")
        files = "one file" if len(hits) == 1 else f"{'at least ' * (len(hits) == MOST_HITS)}{len(hits)} files"
        tell(f"The word is in {files}; where git was asked too ({len(holders)}), the answers agree.")

    def pause_and_resume(self) -> None:
        """Step 6."""
        headline(6, "Stop one kind, whoever enqueues it, and let it go on")
        self.stage.show("shithubd-worker", "pause-kind", "search.reindex", "--reason", "work on the index")
        word = f"puffin{secrets.token_hex(3)}"
        self.commit(f"A {word} lands on the lighthouse.")
        self.push()
        self.done("the other jobs of the push", held="search.reindex")
        self.stage.show("shithubd-worker", "status", lines=16)
        status = json.loads(self.stage.run("shithubd-worker", "status", "--json"))
        held = {kind["kind"]: kind["held"] for kind in status["kinds"] if kind["held"]}
        expect(held == {"search.reindex": 1}, f"held should be one search.reindex, but is {held}")
        expect(not self.hits(word), f"{word!r} was found before it was indexed")
        self.stage.show("shithubd-worker", "resume-kind", "search.reindex")
        self.done("the held job")
        self.stage.show("shithubd-worker", "search", word)
        expect([hit["path"] for hit in self.hits(word)] == [PUSHED], f"{word!r} is not found where it was pushed")

    def drain_and_resume(self) -> None:
        """Step 7: a webhook is in flight, because the receiver takes its time to answer."""
        headline(7, "A drain while a job is in flight")
        payload = {"url": self.receiver.url, "event": "ping", "body": {}, "secret_ref": "key"}
        enqueue = ("shithubd-worker", "enqueue", "webhook.deliver", json.dumps(payload, separators=(",", ":")))
        before = len(self.receiver.deliveries)
        self.receiver.hold()
        self.show_enqueue(*enqueue)
        self.stage.until("the webhook", lambda: len(self.receiver.deliveries) > before)
        drain = ("shithubd-worker", "drain", "--wait", "--reason", "kernel update")
        tell("The receiver does not answer yet. In a second terminal:")
        tell_command(*drain)
        draining = self.stage.start(*drain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.stage.until("the hold", lambda: self.stage.value("SELECT count(*) FROM holds"))
        self.stage.show("shithubd-worker", "status", "--drained", exits=3)
        expect(draining.poll() is None, "drain --wait returned while a job was running")
        tell("Exit 3: not yet. Now the receiver answers, and the drain returns:")
        self.receiver.release()
        tell_output(self.stage.finish(draining))
        expect(self.stage.value("SELECT count(*) FROM jobs WHERE state = 'processing'") == 0, "a job runs in a drain")
        self.done("the webhook in flight")
        self.stage.show("shithubd-worker", "status", "--drained")
        self.show_enqueue(*enqueue)
        expect(self.stage.value("SELECT state FROM jobs") == "queued", "a job left the queue during the drain")
        self.stage.show("shithubd-worker", "resume")
        self.done("the job that waited")

    def compare_metrics(self) -> None:
        """Step 8."""
        headline(8, "The metrics, and what the history says")
        address = next(m.partition("http://")[2] for m in self.logged() if m.startswith("metrics on "))
        tell_command("curl", f"http://{address}/metrics")
        # A counter follows its job's settle by a moment.
        self.stage.until("the counter of the last job", lambda: sum(scrape(address).values()) >= self.enqueued.total())
        counted = scrape(address)
        rows = self.stage.query("SELECT kind, outcome, count(*) FROM job_history GROUP BY kind, outcome")
        history = {(kind, outcome): number for kind, outcome, number in rows}
        for (kind, outcome), number in sorted(counted.items()):
            label = f'{{kind="{kind}",outcome="{outcome}"}}'
            tell_output(f"shithub_worker_jobs_processed_total{label} {number:g}")
        tell("The counters, job_history, and what this demo enqueued:")
        for kind in KINDS:
            counts = (counted.get((kind, "ok")), history.get((kind, "ok")), self.enqueued[kind])
            tell_output(f"{kind:18}" + "".join(f"{number or 0:6g}" for number in counts))
        expect(counted == history, f"the counters {counted} are not the history {history}")
        wanted = {(kind, "ok"): number for kind, number in self.enqueued.items()}
        expect(history == wanted, f"the history {history} is not what was enqueued {wanted}")
        expect(all(delivery.genuine for delivery in self.receiver.deliveries), "a webhook was not signed well")

    def stop_worker(self) -> None:
        """Step 9."""
        headline(9, "SIGTERM, as systemctl stop sends it")
        worker, _ = self.stage.services.pop("the worker")
        tell_command("kill", "-TERM", str(worker.pid))
        worker.send_signal(signal.SIGTERM)
        self.stage.until("the worker's end", lambda: worker.poll() is not None)
        expect(worker.returncode == 0, f"the worker exited {worker.returncode}: {self.logged()[-1]}")
        left = self.stage.value("SELECT count(*) FROM jobs") + self.stage.value("SELECT count(*) FROM workers")
        expect(left == 0, "jobs or workers were left in the database")
        tell("Exit 0. Nothing is left processing, nothing is left in the queue.")

    # What the steps have in common.

    def commit(self, text: str) -> None:
        """Commit one more line in the working clone."""
        git = ("git", "-C", str(self.clone))
        with (self.clone / PUSHED).open("a") as file:
            file.write(f"{text}\n")
        self.stage.run(*git, "add", "-f", "--sparse", PUSHED)
        self.stage.run(*git, "commit", "-q", "-m", text)

    def push(self) -> None:
        """Push, and see that the hook enqueued one job of each kind."""
        before = self.newest_job()
        tell_command("git", "push", "origin", "main")
        self.stage.run("git", "-C", str(self.clone), "push", "-q", "origin", "HEAD:refs/heads/main")
        self.enqueued.update(KINDS)
        made = self.newest_job() - before
        expect(made == len(KINDS), f"the hook enqueued {made} jobs, not {len(KINDS)}")

    def show_enqueue(self, *command: str) -> None:
        """Enqueue a webhook by the command, on the screen."""
        self.stage.show(*command)
        self.enqueued["webhook.deliver"] += 1

    def newest_job(self) -> int:
        """The highest id so far, also of jobs that are done."""
        both = "SELECT id FROM jobs UNION ALL SELECT id FROM job_history"
        newest: int = self.stage.value(f"SELECT coalesce(max(id), 0) FROM ({both}) AS both_tables")
        return newest

    def done(self, what: str, held: str = "") -> None:
        """Wait until all jobs are done, but those of the held kind. A Fault if one did not succeed at once."""

        def look() -> bool:
            wrong = self.stage.query("SELECT kind, outcome, error FROM job_history WHERE outcome <> 'ok' LIMIT 1")
            expect(not wrong, "{} ended as {}: {}".format(*wrong[0]) if wrong else "")
            return self.stage.value("SELECT count(*) FROM jobs WHERE kind <> %s", held) == 0

        self.stage.until(what, look)

    def hits(self, word: str, limit: int = 20) -> list[dict[str, object]]:
        """What the search finds."""
        found: list[dict[str, object]] = json.loads(
            self.stage.run("shithubd-worker", "search", word, "--json", "--limit", str(limit))
        )
        return found

    def logged(self) -> list[str]:
        """The messages of the worker's log."""
        return [json.loads(line)["message"] for line in self.log.read_text().split("\n")[:-1]]

    def tell_log(self) -> None:
        """Show what the worker logged since the last time."""
        ended = self.enqueued.total()  # a job's line follows its settle by a moment
        self.stage.until("the log", lambda: sum(" ok after " in message for message in self.logged()) >= ended)
        messages = self.logged()
        for message in messages[self.log_shown :]:
            tell_output(textwrap.fill(f"worker: {message}", WIDTH - 2, subsequent_indent=" " * 8))
        self.log_shown = len(messages)

    def sample(self) -> dict[str, str]:
        """Some text files of the first commit, by path, read by git alone."""
        if not self.first:
            return {}
        git = ("git", "-C", str(self.bare))
        listed = self.stage.run(*git, "ls-tree", "-r", "-l", "-z", self.first)
        paths = []
        for facts, _, path in (record.partition("\t") for record in listed.split("\0")[:-1]):
            mode, _, _, size = facts.split()
            if mode in ("100644", "100755") and 0 < int(size) <= SAMPLE_BYTES and path.isprintable():
                paths.append(path)
        texts = {}
        for path in paths[:: len(paths) // SAMPLE_FILES + 1]:
            text = self.stage.run(*git, "cat-file", "blob", f"{self.first}:{path}")
            if "\0" not in text and NOT_UTF8 not in text and NOT_UTF8 not in path:
                texts[path] = text
        return texts


def choose_word(texts: dict[str, str]) -> tuple[str, set[str]]:
    """A word worth a search, and the files that hold it: one of a few files, rather long; empty if there is none."""
    holders = defaultdict(set)
    for path, text in texts.items():
        for word in re.findall(r"[^\W_]+", text):
            if word.lower().isalpha() and 4 <= len(word) <= 12:  # noqa: PLR2004
                holders[word.lower()].add(path)
    best = max(holders, key=lambda w: (w.isascii(), 2 <= len(holders[w]) <= 5, len(w), w), default="")  # noqa: PLR2004
    return best, holders[best]


def scrape(address: str) -> dict[tuple[str, str], float]:
    """The counters of ended attempts that are not 0, by kind and outcome."""
    from prometheus_client.parser import text_string_to_metric_families

    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {
        (sample.labels["kind"], sample.labels["outcome"]): sample.value
        for sample in samples
        if sample.name == "shithub_worker_jobs_processed_total" and sample.value
    }


def expect(claim: object, otherwise: str) -> None:
    """A Fault unless the claim is true."""
    if not claim:
        raise Fault(otherwise)


def headline(number: int, text: str) -> None:
    """The title of a step."""
    print(f"\n{number}. {text}", flush=True)


def main() -> int:
    """Play the demo, and clean up in any case."""
    began = time.monotonic()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with ExitStack() as cleanup:
            stage = Stage()
            cleanup.callback(stage.close)
            secret = secrets.token_hex(16).encode()
            receiver = Receiver(secret)
            cleanup.callback(receiver.close)
            cleanup.callback(_do_not_interrupt)
            Demo(stage, receiver, secret).play()
    except BadRepository as error:
        return _fail(error, 2)
    except BrokenPipeError:  # nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Fault, OSError, psycopg.Error) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("interrupted; everything is stopped and removed", 130)
    print(f"\nAll of it was checked, in {time.monotonic() - began:.1f} s. No process and no file stays behind.")
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _do_not_interrupt() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _fail(error: object, code: int) -> int:
    print(f"demo: {' '.join(str(error).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
