"""An incident on a booted host, and its record: what the operator sees and when, what the operator does, and the cost.

The tests write times down, and never judge them. They go to build/incidents.md, which `make test-long` names.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from follow import answer, steps
from incident_report import in_one_line, write_report
from monitoring import Monitoring
from nspawn import Host, NspawnError, eventually
from page import RUNBOOKS, Block, Page, filled, prints
from worker_host import UNIT, configure, drop_in, open_door, runs

LOAD = "forge.service"
OTHER = "shithubd-worker@2.service"
ENQUEUED = "/var/lib/forge-enqueued"
HERE = Path(__file__).parent
# From the journal: the warnings of a worker, and what systemd says about its unit.
TOLD = "journalctl -q --no-pager -o json --since=@{:.3f} -u 'shithubd-worker*'"
SYSTEMD = re.compile(r"Main process exited|Failed with|Watchdog timeout|Scheduled restart|^Reload|Started|Stopped")
WARNING = 4  # and above it the numbers are lower
STATE = "systemctl show {} --property=ActiveState,SubState,Result,ExecMainStatus,NRestarts,StatusText"


class Incident:
    """One incident. Use `with incident(...) as it`."""

    def __init__(self, name: str, host: Host, monitoring: Monitoring) -> None:
        self.name, self.host, self.monitoring = name, host, monitoring
        self.began = self.over = 0.0
        self.recovered = "work went on"
        self.account = ""
        self.waited = ""
        self.asides: list[str] = []
        self._seen: list[tuple[float, str, str]] = []  # when, what sort, what
        self._shown: set[str] = set()
        self._quiet = threading.Event()

    # What happens.

    def begins(self, what: str) -> None:
        """The fault begins now."""
        self.began = time.time()
        self._note("fault", what)

    def ends(self, what: str) -> None:
        """The fault is over: since the operator began the last step, or else since now."""
        deeds = [at for at, sort, _ in self._seen if sort == "does"]
        self.over = max(deeds, default=time.time())
        self._note("over", what, self.over)

    def works_again(self) -> None:
        """Wait until a job of the usual work ends after the end of the fault."""
        first = (
            "SELECT extract(epoch FROM min(finished_at))::float AS at FROM job_history WHERE kind = 'forge.tick'"
            f" AND outcome = 'ok' AND finished_at > to_timestamp({self.over!r})"
            " AND finished_at <= clock_timestamp()"  # not one of a clock that was ahead
        )
        at = eventually(lambda: self.host.sql("shithub", first)[0]["at"], "the usual work goes on")
        self.recovered = f"{at - self.over:.1f} s"
        self._note("sees", "the usual work goes on", at)

    # What the operator sees and does.

    def alert(self, name: str, speed: str | None = None) -> str:
        """Wait until the alert fires, sixty times as fast or at its own speed. Returns the page that it links to."""
        [fired, *_] = eventually(lambda: self.monitoring.firing(name, speed), f"{name} fires")
        page: str = fired["annotations"]["runbook_url"].partition("/runbooks/")[2]
        assert (RUNBOOKS / page).is_file()
        self._note("led", f"{name} ({speed or 'x60'}): {fired['annotations']['summary']}")
        return page

    def alert_of(self, *names: str) -> str:
        """Wait until the first of these alerts fires. Returns the page that it links to."""
        first = eventually(lambda: next(filter(self.monitoring.firing, names), None), f"one of {names} fires")
        return self.alert(first)

    def index(self, page: str) -> str:
        """No alert fires. The operator finds the page in the list of pages, or in incidents.md."""
        name = Path(page).stem
        assert name in self.types("shithubd-worker runbook", quiet=True)[1]
        assert f"({page})" in (RUNBOOKS / "incidents.md").read_text()
        self._note("led", f"{name} (incidents.md)")
        return page

    def link(self, page: str, to: str, when: str) -> str:
        """The page links to another page, in the item that says when."""
        said = self.says(page, when)
        assert f"{Path(to).name}" in said, said
        return to

    def says(self, page: str, when: str) -> str:
        """The page's decision for what the operator sees. There must be one."""
        bullets = re.findall(r"^- (?:[^\n]|\n(?=  ))+", Page(RUNBOOKS / page).prose, re.MULTILINE)
        [said, *_] = [bullet for bullet in bullets if when in bullet] or [""]
        assert said, f"{page} says nothing of {when!r}"
        self._note("reads", f"{page}: {' '.join(said[2:].split())}")
        return said

    def follow(self, page: str, *sections: str, values: dict[str, str] | None = None, like: bool = True) -> list[str]:
        """Do what these sections of the page say, block by block. Returns what each block printed. `like`: it must be
        what the page shows. A page shows one of several faults, so not every output can match."""
        blocks = [block for block in steps(RUNBOOKS / page) if not sections or block.section in sections]
        assert {block.section for block in blocks} >= set(sections), sections
        return [self._follow(block, values or {}, like) for block in blocks]

    def _follow(self, block: Block, values: dict[str, str], like: bool) -> str:
        text = filled(block.text, values)
        at = time.time()
        code, said = answer(self.host, block, text)
        told = in_one_line(text, 2)
        ended = f" [{code}]" if code else ""
        self._note("does", f"{block.page.stem}: {told} → {in_one_line(said, 4) or 'no output'}{ended}", at)
        if like:
            assert code == int(block.options.get("rc", "0")), f"{block}\n{text}\n{said}"
            shown = filled(block.prints or said, values)
            assert block.prints is None or prints(shown, said), f"{block} shows\n{shown}\nbut prints\n{said}"
        return said

    def types(self, command: str, rc: int | None = 0, quiet: bool = False) -> tuple[int, str]:
        """Run a command that no page gives, or that the operator has already. Returns its exit code and its output."""
        at = time.time()
        process = self.host.popen("bash", "-c", command, stdout=-1, stderr=-2)
        said, _ = process.communicate(timeout=300)
        if not quiet:
            ended = f" [{process.returncode}]" if process.returncode else ""
            self._note("does", f"{command} → {in_one_line(said, 4) or 'no output'}{ended}", at)
        assert rc in (None, process.returncode), f"{command}: {process.returncode}\n{said}"
        return process.returncode, said

    def deed(self, what: str) -> None:
        """The operator does something without a command here."""
        self._note("does", what)

    def aside(self, text: str) -> None:
        """Add a line to the record."""
        self.asides.append(text)

    def shown(self) -> str:
        """All that the units and the journal have shown until now."""
        self.read_journal()
        return "\n".join(what for _, sort, what in self._seen if sort in ("unit", "journal"))

    # The record.

    def _note(self, sort: str, what: str, at: float | None = None) -> None:
        self._seen.append((at or time.time(), sort, what))

    def watch(self) -> None:
        """Note what the units and the alerts show, each thing once."""
        while not self._quiet.wait(0.5):
            try:
                known = dict(line.split("=", 1) for line in self.host.run("sh", "-c", STATE.format(UNIT)).splitlines())
                alerts = self.monitoring.states()
            except (NspawnError, ValueError, LookupError, OSError):
                self._once("unit", "the host doesn't answer")
                continue
            text = re.sub(r"^(running [^;]*|idle)(; lease [\d.]+ s)?(; )?", "", known["StatusText"])
            for alert in sorted(alerts):
                if not alert.endswith("pending (x60)"):
                    self._once("alert", alert)
            self._once(
                "unit",
                f"{known['ActiveState']} ({known['SubState']})"
                + (f", {known['Result']} {known['ExecMainStatus']}" if known["Result"] != "success" else "")
                + f": {text}" * bool(text),
            )

    def _once(self, sort: str, what: str) -> None:
        key = re.sub(r"\d+(\.\d+)?", "#", what)
        if self.began and key not in self._shown:
            self._shown.add(key)
            self._note(sort, what)

    def close(self) -> None:
        """Stop watching."""
        self._quiet.set()

    def check_account(self) -> None:
        """Check that each enqueued job is done, no effect happened twice, and the history has each run."""
        host = self.host
        host.run("systemctl", "stop", LOAD, check=False)
        left = "SELECT FROM jobs"
        eventually(lambda: not host.sql("shithub", left), "all is done")
        enqueued = Counter(host.run("cat", ENQUEUED).split())
        runs = Counter(host.run("sh", "-c", "cat /var/lib/shithub/runs || true").split())
        ended: dict[str, Counter[str]] = {}
        for row in host.sql("shithub", "SELECT id, outcome FROM job_history"):
            ended.setdefault(str(row["id"]), Counter())[row["outcome"]] += 1
        effects = Counter(str(row["id"]) for row in host.sql("shithub", "SELECT id FROM effects"))
        lost = [number for number in enqueued if ended.get(number, Counter())["ok"] != 1]
        assert not lost, f"lost: {lost}"
        assert not [number for number in enqueued if effects[number] != 1], "an effect that is missing, or there twice"
        twice = {number: ended[number] for number, times in runs.items() if times > 1}
        unexplained = [number for number in twice if runs[number] > twice[number].total()]
        assert not unexplained, f"ran more often than the history says: {unexplained}"
        [waited] = host.sql(
            "shithub",
            "SELECT extract(epoch FROM percentile_disc(0.5) WITHIN GROUP (ORDER BY waited))::float AS half,"
            " extract(epoch FROM max(waited))::float AS most FROM effects",
        )
        self.waited = f"{waited['most']:.1f} s, half of it {waited['half']:.2f} s"
        why = sum(twice.values(), Counter[str]())
        self.account = f"lost 0 of {len(enqueued) + len(runs - enqueued)}; twice {len(twice)}" + (
            f" ({', '.join(f'{outcome} {n}' for outcome, n in sorted(why.items()))})" if twice else ""
        )

    def read_journal(self) -> None:
        """Note the journal's lines for the operator, each thing once."""
        told = self.host.run("sh", "-c", TOLD.format(self.began), check=False)
        self._seen = [each for each in self._seen if each[1] != "journal"]
        known: set[str] = set()
        for line in told.splitlines():
            entry = json.loads(line)
            text = entry["MESSAGE"] if isinstance(entry["MESSAGE"], str) else "(bytes)"
            by_systemd = entry.get("SYSLOG_IDENTIFIER") == "systemd"
            first = text.splitlines()[0] if text else ""
            key = re.sub(r"[0-9a-f-]{36}|\d+(\.\d+)?", "#", first)
            warns = int(entry.get("PRIORITY", 6)) <= WARNING or first.startswith("shithubd-worker: ")
            if key in known or not (SYSTEMD.search(first) if by_systemd else warns):
                continue
            known.add(key)
            at = int(entry.get("_SOURCE_REALTIME_TIMESTAMP", entry["__REALTIME_TIMESTAMP"])) / 1e6
            self._note("journal", first[:220], at)

    def write(self, passed: bool) -> None:
        """Write the record into its file, and all records into the report."""
        told = [each for each in sorted(self._seen) if each[0] >= self.began - 1] if self.began else []
        seen = [(round(at - self.began, 1), sort, what) for at, sort, what in told]
        record = {
            "name": self.name,
            "passed": passed,
            "seen": seen,
            "recovered": self.recovered,
            "account": self.account,
            "waited": self.waited,
            "asides": self.asides,
        }
        write_report(record)


@contextmanager
def incident(name: str, host: Host, second: str | None = None) -> Iterator[Incident]:
    """A host at work: a worker, its monitoring, and five jobs a second. Afterwards the account is checked.

    `second`: the drop-in of a second worker, if the incident needs one.
    """
    configure(host, "incident_jobs:registry")
    bring(host)
    if second is not None:
        start_other(host, second)
    with Monitoring(host, own_speed=True, more=(8083,) * (second is not None)) as monitoring:
        yield from _acted_out(Incident(name, host, monitoring))


def _acted_out(it: Incident) -> Iterator[Incident]:
    host = it.host
    watching = threading.Thread(target=it.watch, daemon=True)
    passed = False
    try:
        at_work(host)
        eventually(lambda: not it.monitoring.states(), "no alert is up")
        watching.start()
        yield it
        it.check_account()
        passed = True
    finally:
        it.close()
        if watching.ident:
            watching.join()
        open_door(host)
        host.run("systemctl", "stop", LOAD, check=False)
        it.read_journal()
        it.write(passed)


def bring(host: Host) -> None:
    """Copy the incidents' modules, and make a table for the effects of jobs. Removes what an earlier incident left."""
    for name in ("incident_jobs.py", "incident_load.py"):
        host.write(f"/srv/forge/{name}", (HERE / name).read_text())
    host.run("sh", "-c", f"rm -f /var/lib/shithub/mended /var/lib/shithub/runs {ENQUEUED}; touch {ENQUEUED}")
    host.psql(
        "shithub",
        "DROP TABLE IF EXISTS effects",
        "CREATE TABLE effects (id bigint, waited interval)",
        "GRANT INSERT ON effects TO shithub",
    )


def at_work(host: Host) -> None:
    """Start the worker, and wait until it runs the usual work."""
    host.run("systemctl", "start", UNIT)
    start_load(host)
    done = "SELECT FROM job_history WHERE kind = 'forge.tick' AND outcome = 'ok'"
    eventually(lambda: host.sql("shithub", done), "the usual work is done")


def start_load(host: Host) -> None:
    """Five jobs a second."""
    start(host, LOAD, "/opt/shithubd-worker/bin/python", "/srv/forge/incident_load.py", ENQUEUED)


def start(host: Host, unit: str, *command: str) -> None:
    """Start a program of the forge, as a unit that `systemctl stop` ends."""
    host.run("systemd-run", "--quiet", "--collect", f"--unit={unit}", *command)


def put(host: Host, kind: str, payload: str = "{}", count: int = 1) -> list[int]:
    """Enqueue jobs by plain INSERT. Returns their ids."""
    values = f"SELECT '{kind}', '{payload}' FROM generate_series(1, {count})"
    rows = host.psql("shithub", f"INSERT INTO jobs (kind, payload) {values} RETURNING id")
    return [int(number) for number in rows.split()]


def ends_of(host: Host, *numbers: int) -> list[str]:
    """How the leases of jobs ended, in order."""
    listed = ", ".join(map(str, numbers))
    rows = host.sql("shithub", f"SELECT outcome FROM job_history WHERE id IN ({listed}) ORDER BY finished_at")
    return [row["outcome"] for row in rows]


def in_flight(host: Host, kind: str, payload: str = "{}") -> int:
    """Enqueue a job by plain INSERT, and wait until it runs."""
    [number] = put(host, kind, payload)
    eventually(lambda: runs(host, number), f"job {number} runs")
    return number


def start_other(host: Host, text: str) -> None:
    """Start a second worker on the host. Its metrics are on port 8083."""
    drop_in(host, OTHER, text)
    host.run("systemctl", "start", OTHER)


def owner(host: Host, number: int) -> str | None:
    """The unit whose worker runs a job."""
    unit = f"SELECT w.unit FROM jobs j JOIN workers w ON w.id = j.worker_id WHERE j.id = {number}"
    return next((row["unit"] for row in host.sql("shithub", unit)), None)
