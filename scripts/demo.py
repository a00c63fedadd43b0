"""`make demo`: the worker's main job, on a real PostgreSQL and a real git repository, in under a minute.

DEMO_REPO=/path/to/any/repo.git runs it on another repository, which the demo only reads. The demo checks every
claim that it prints. It exits with 0 if all are true, with 1 and one line if one is not, and with 2 if DEMO_REPO is not
a repository. It leaves nothing behind.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from contextlib import ExitStack
from types import FrameType
from typing import Any

import psycopg
from demo_props import HOOK, PUSHED, BadRepository, Receiver, Repository, choose_word
from demo_stage import WIDTH, Fault, Stage, tell, tell_command, tell_output

KINDS = ("search.reindex", "repo.maintenance", "webhook.deliver")
MOST_HITS = 1000
LONGEST_INDEXING = 3600.0  # the kind's own limit; a repository of a million files needs it


class Demo:
    """The story. Each step is a method; they stand in their order."""

    def __init__(self, stage: Stage, repository: Repository, receiver: Receiver, secret: bytes) -> None:
        self.stage = stage
        self.repository = repository
        self.receiver = receiver
        self.log = stage.home / "worker.log"
        self.log_shown = 0
        self.enqueued: Counter[str] = Counter()  # what the demo asked for, by kind
        self.secrets = stage.home / "secrets"
        self.secrets.mkdir(mode=0o700)
        (self.secrets / "key").write_bytes(secret)

    def play(self) -> None:
        """Play all steps."""
        print(f"shithubd-worker, end to end, on {self.repository.source}", flush=True)
        self.start_database()
        self.clone_repository()
        self.start_worker()
        self.push_commits()
        self.search()
        self.pause_and_resume()
        self.drain_and_resume()
        self.compare_metrics()
        self.stop_worker()

    def start_database(self) -> None:
        """Step 1."""
        headline("1. PostgreSQL is the queue")
        version = self.stage.start_postgres("shithub")
        tell(f"An embedded PostgreSQL {version}. The PG* variables name it, as for psql.")
        self.stage.show("shithubd-worker", "migrate", "--roles")
        tell("Each login gets the least rights: one for the worker, one for the operator who types what follows.")
        for login, role in (("forge", "shithub_worker"), ("oncall", "shithub_operator")):
            self.stage.query(f"CREATE ROLE {login} LOGIN IN ROLE {role}")
        self.stage.env["PGUSER"] = "oncall"

    def clone_repository(self) -> None:
        """Step 2."""
        headline("2. A bare clone. Its post-receive hook enqueues jobs by a plain INSERT")
        self.stage.env["URL"] = self.receiver.url
        self.repository.set_up()
        if not self.repository.first:
            tell("The repository is empty: its first commit comes with the push.")
        tell_output(HOOK, 99)

    def start_worker(self) -> None:
        """Step 3."""
        headline("3. Start the worker")
        command = (
            *("shithubd-worker", "run", "--repo-root", str(self.repository.root)),
            *("--secrets-dir", str(self.secrets), "--webhook-allow-private"),
            *("--metrics", "127.0.0.1:0", "--log-format", "json"),
        )
        tell_command(*command)
        self.stage.serve("the worker", *command, log=self.log, env={**self.stage.env, "PGUSER": "forge"})
        self.stage.until("the worker's ready line", lambda: any(m.startswith("ready") for m in self.logged()))
        self.tell_log()

    def push_commits(self) -> None:
        """Step 4."""
        headline("4. A push makes three jobs: index the code, tidy the repository, send a webhook")
        self.repository.commit("The lighthouse keeper counts the jobs.")
        self.repository.commit("None is lost, none runs twice.")
        newest = self.push()
        self.done("the jobs of the push")
        self.tell_log()
        delivery = self.receiver.deliveries[-1]
        expect(delivery.genuine, "the receiver could not verify the webhook's signature")
        expect(json.loads(delivery.body) == {"after": newest}, f"the webhook said {delivery.body!r}, not {newest}")
        tell("The receiver verified the signature of what it got:")
        tell_output(
            f"X-Shithub-Event: {delivery.event}\nX-Shithub-Delivery: {delivery.id}\n"
            f"X-Shithub-Signature-256: {delivery.signature}\n{delivery.body.decode()}"
        )

    def search(self) -> None:
        """Step 5: what the index finds is compared with what git has."""
        headline("5. A search over the index")
        texts = self.repository.sample()
        word, holders = choose_word(texts)
        if not word:
            tell("The repository has no text of its own, so the demo searches for what it pushed.")
            texts = {PUSHED: (self.repository.clone / PUSHED).read_text()}
            word, holders = choose_word(texts)
        self.stage.show("shithubd-worker", "search", word, "--limit", "5")
        hits = self.hits(word, MOST_HITS)
        missing = holders - {hit["path"] for hit in hits}
        expect(not missing or len(hits) == MOST_HITS, f"{word!r} is not found in {sorted(missing)}")
        for hit in hits:
            if hit["path"] in texts and hit["line"]:
                line = texts[hit["path"]].split("\n")[hit["line"] - 1]
                expect(word in line.lower(), f"{hit['path']}:{hit['line']} does not hold {word!r}")
        tell(f"Files found: {len(hits)}. Compared with the files in git: {len(holders)}.")

    def pause_and_resume(self) -> None:
        """Step 6."""
        headline("6. Pause one kind of job, and resume it")
        self.stage.show("shithubd-worker", "pause-kind", "search.reindex", "--reason", "index work")
        word = f"puffin{secrets.token_hex(3)}"
        self.repository.commit(f"A {word} lands on the lighthouse.")
        self.push()
        self.done("the other jobs of the push", held="search.reindex")
        self.stage.show("shithubd-worker", "status", lines=16)
        status = json.loads(self.stage.run("shithubd-worker", "status", "--json"))
        held = {kind["kind"]: kind["held"] for kind in status["kinds"] if kind["held"]}
        expect(held == {"search.reindex": 1}, f"one search.reindex should be held, but these are: {held}")
        expect(not self.hits(word), f"{word!r} was found before it was indexed")
        self.stage.show("shithubd-worker", "resume-kind", "search.reindex")
        self.done("the held job")
        self.stage.show("shithubd-worker", "search", word)
        expect([hit["path"] for hit in self.hits(word)] == [PUSHED], f"{word!r} is not found where it was pushed")

    def drain_and_resume(self) -> None:
        """Step 7: a webhook is in flight for as long as the receiver does not answer."""
        headline("7. Drain while a job runs")
        before = len(self.receiver.deliveries)
        self.receiver.hold()
        self.enqueue_webhook()
        self.stage.until("the webhook", lambda: len(self.receiver.deliveries) > before)
        tell("The receiver does not answer yet. Meanwhile, in another terminal:")
        drain = ("shithubd-worker", "drain", "--wait", "--reason", "kernel update")
        tell_command(*drain)
        draining = self.stage.start(*drain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.stage.until("the hold", lambda: self.stage.value("SELECT count(*) FROM holds"))
        self.stage.show("shithubd-worker", "status", "--drained", exits=3)
        expect(draining.poll() is None, "drain --wait returned while a job was running")
        tell("Exit 3: not yet. Now the receiver answers, and the drain returns:")
        self.receiver.release()
        tell_output(self.stage.finish(draining))
        self.stage.show("shithubd-worker", "status", "--drained")
        self.done("the webhook in flight")
        self.enqueue_webhook()
        expect(self.stage.value("SELECT state FROM jobs") == "queued", "a job left the queue during the drain")
        self.stage.show("shithubd-worker", "resume")
        self.done("the job that waited")

    def compare_metrics(self) -> None:
        """Step 8."""
        headline("8. The metrics, and what happened")
        address = next(m.partition("http://")[2] for m in self.logged() if m.startswith("metrics on "))
        tell_command("curl", f"http://{address}/metrics")
        # A counter follows its job's settle by a moment.
        self.stage.until("the last counter", lambda: sum(scrape(address).values()) >= self.enqueued.total())
        counted = scrape(address)
        for (kind, outcome), number in sorted(counted.items()):
            tell_output(f'shithub_worker_jobs_processed_total{{kind="{kind}",outcome="{outcome}"}} {number:g}')
        rows = self.stage.query("SELECT kind, outcome, count(*) FROM job_history GROUP BY kind, outcome")
        history = {(kind, outcome): number for kind, outcome, number in rows}
        wanted = {(kind, "ok"): number for kind, number in self.enqueued.items()}
        tell_output(f"\n{'all ok:':18}  counter  job_history  enqueued")
        for kind in KINDS:
            numbers = (found.get((kind, "ok"), 0) for found in (counted, history, wanted))
            tell_output("{:18}{:9g}{:13}{:10}".format(kind, *numbers))
        expect(counted == history, f"the counters {counted} are not the history {history}")
        expect(history == wanted, f"the history {history} is not what was enqueued {wanted}")
        expect(all(delivery.genuine for delivery in self.receiver.deliveries), "a webhook was not signed well")

    def stop_worker(self) -> None:
        """Step 9."""
        headline("9. SIGTERM, as systemctl stop sends it")
        worker, _ = self.stage.services.pop("the worker")
        tell_command("kill", "-TERM", str(worker.pid))
        worker.send_signal(signal.SIGTERM)
        self.stage.until("the worker's end", lambda: worker.poll() is not None)
        expect(worker.returncode == 0, f"the worker exited {worker.returncode}: {self.logged()[-1]}")
        expect(not self.stage.query("SELECT FROM jobs UNION ALL SELECT FROM workers"), "jobs or workers were left")
        tell("Exit 0. Nothing is processing, and nothing is left in the queue.")

    # What the steps have in common.

    def push(self) -> str:
        """Push, and see that the hook enqueued one job of each kind. The newest commit."""
        either = "SELECT coalesce(max(id), 0) FROM (SELECT id FROM jobs UNION ALL SELECT id FROM job_history) AS ids"
        before = self.stage.value(either)
        tell_command("git", "push", "origin", "main")
        newest = self.repository.push()
        made = self.stage.value(either) - before
        expect(made == len(KINDS), f"the hook enqueued {made} jobs, not {len(KINDS)}")
        self.enqueued.update(KINDS)
        return newest

    def enqueue_webhook(self) -> None:
        """Enqueue one by the command."""
        payload = {"url": self.receiver.url, "event": "ping", "body": {}, "secret_ref": "key"}
        self.stage.show("shithubd-worker", "enqueue", "webhook.deliver", json.dumps(payload, separators=(",", ":")))
        self.enqueued["webhook.deliver"] += 1

    def done(self, what: str, held: str = "") -> None:
        """Wait until all jobs are done, but those of the held kind. A Fault if one did not succeed at once."""

        def look() -> bool:
            for failure in self.stage.query("SELECT kind, outcome, error FROM job_history WHERE outcome <> 'ok'"):
                raise Fault("{} ended as {}: {}".format(*failure))
            return not self.stage.query("SELECT FROM jobs WHERE kind <> %s", held)

        self.stage.until(what, look, within=LONGEST_INDEXING)

    def hits(self, word: str, limit: int = 20) -> list[dict[str, Any]]:
        """What the search finds."""
        found: list[dict[str, Any]] = json.loads(
            self.stage.run("shithubd-worker", "search", word, "--json", "--limit", str(limit))
        )
        return found

    def logged(self) -> list[str]:
        """The messages of the worker's log."""
        return [json.loads(line)["message"] for line in self.log.read_text().split("\n")[:-1]]

    def tell_log(self) -> None:
        """Show what the worker has logged since the last time."""
        ended = self.enqueued.total()  # a job's line follows its settle by a moment
        self.stage.until("the log", lambda: sum(" ok after " in message for message in self.logged()) >= ended)
        messages = self.logged()
        for message in messages[self.log_shown :]:
            tell_output(textwrap.fill(f"worker: {message}", WIDTH - 2, subsequent_indent=" " * 8))
        self.log_shown = len(messages)


def scrape(address: str) -> dict[tuple[str, str], float]:
    """The counters of ended attempts that are not 0, by kind and outcome."""
    from prometheus_client.parser import text_string_to_metric_families

    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {
        (sample.labels["kind"], sample.labels["outcome"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "shithub_worker_jobs_processed_total" and sample.value
    }


def expect(claim: object, otherwise: str) -> None:
    """A Fault unless the claim is true."""
    if not claim:
        raise Fault(otherwise)


def headline(text: str) -> None:
    """The title of a step."""
    print(f"\n{text}", flush=True)


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
            Demo(stage, Repository(stage, os.environ.get("DEMO_REPO")), receiver, secret).play()
    except BadRepository as error:
        return _fail(error, 2)
    except BrokenPipeError:  # nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Fault, OSError, psycopg.Error) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("interrupted; everything that it started is ended and removed", 130)
    print(f"\nEvery claim was checked, in {time.monotonic() - began:.1f} s. No process and no file is left.")
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
