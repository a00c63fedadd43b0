"""`audit timeline`: what an incident's channel needs, in Markdown that nobody's text can break."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from commands import HOST, emptied_database, exact_command, moment, one_database  # noqa: F401 (fixtures)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rows import add_job, add_worker

from shithubd_worker.admin.timeline import while_of
from shithubd_worker.cli import timeline
from shithubd_worker.cli.markup import code, slack
from shithubd_worker.cli.timeline import ALERTS, pages
from shithubd_worker.host import shipped

BASE = "https://github.com/tenseleyFlow/shithubd-worker/blob/main/runbooks/alerts"
TIME = r"\d\d:\d\d:\d\d"
HOSTILE = "x` | [y](https://z) <!channel> @everyone\n\x1b[31m# \u202e"


def ended(database, outcome, at="clock_timestamp()", kind="k", job=1):
    """A lease that ended."""
    database.query(
        "INSERT INTO job_history (id, kind, outcome, attempts, finished_at, retention)"
        f" VALUES (%s, %s, %s, 1, {at}, '7d')",
        job,
        kind,
        outcome,
    )


def page(alert):
    return re.escape(f" [{alert}]({BASE}/{alert}.md)")


def lines(command, *words):
    """The lines of the timeline that are events."""
    return [line for line in command("audit", "timeline", *words).stdout.splitlines() if line.startswith("- ")]


def test_the_timeline_tells_the_incident_line_by_line(database, command):
    at = database.value("SELECT date_trunc('minute', clock_timestamp()) - interval '10 minutes'")
    for job, second in enumerate((1, 2, 30), 1):
        ended(database, "failed", f"'{at + timedelta(seconds=second)}'", "webhook.deliver", job)
    ended(database, "failed", f"'{at + timedelta(seconds=90)}'", "webhook.deliver", 4)
    ended(database, "poison", f"'{at + timedelta(seconds=91)}'", job=5)
    ended(database, "crashed", f"'{at + timedelta(seconds=92)}'", job=6)
    ended(database, "lease_lost", f"'{at + timedelta(seconds=93)}'", job=7)
    for outcome in ("ok", "retry", "released", "discarded", "completed"):
        ended(database, outcome, job=8)
    jobs = [add_job(database) for _ in range(4)]
    command("pause-kind", "k", "--until", "3h", "--reason", "PoisonJobs, see JobsFailedForGoodness")
    database.query("SELECT discard_jobs(%s, reason := 'r', actor := 'ada@web1')", jobs)
    audit = database.value("SELECT max(id) FROM audit")
    command("audit", "undo", audit)
    command("drain", "--host", "web1", "--force", "--reason", "r")
    command("resume", "--host", "web1")
    add_worker(database, "web2", 7, unit="shithubd-worker@1.service", silent=True, started_at=at)
    found = lines(command, "--since", "1h")
    me = rf"`\w+@{HOST}`"
    until = r"20\d\d-\d\d-\d\d \d\d:\d\d"
    assert len(found) == 13
    for line, wanted in zip(
        found,
        (
            rf"{TIME} worker `web2:7` \(`shithubd-worker@1\.service`\) started{page('WorkerCrashLooping')}",
            rf"{TIME} 3 jobs of `webhook\.deliver` failed for good, the last at {TIME}{page('JobsFailedForGood')}",
            rf"{TIME} job 4 of `webhook\.deliver` failed for good{page('JobsFailedForGood')}",
            rf"{TIME} job 5 of `k` failed as poison{page('PoisonJobs')}",
            rf"{TIME} job 6 of `k` returned, because their worker died or did not renew the lease{page('WorkerDown')}",
            rf"{TIME} job 7 of `k` ended after their lease was lost{page('FencedWrites')}",
            rf"{TIME} {me} `pause` `kind k` until {until}:{page('PoisonJobs')} `, see JobsFailedForGoodness`"
            rf" \(audit {audit - 1}\){page('KindPausedTooLong')}",
            rf"{TIME} `ada@web1` `discard` 4 jobs \({jobs[0]}, {jobs[1]}, {jobs[2]}, \.\.\.\): `r`"
            rf" \(audit {audit}, undone by {audit + 1}\){page('JobsFailedForGood')}",
            rf"{TIME} {me} `undo` of {audit}: 4 jobs \(.*\) \(audit {audit + 1}\)",
            rf"{TIME} {me} `drain` `host web1`: `r` \(audit {audit + 2}\){page('HoldTooLong')}",
            rf"{TIME} {me} `resume` `host web1` \(audit {audit + 3}\){page('HoldTooLong')}",
            rf"`kind k` is held since 20.* until {until}:\d\d by {me}: .*{page('KindPausedTooLong')}",
            rf"worker `web2:7` \(`shithubd-worker@1\.service`\) is silent{page('WorkerDown')}",
        ),
        strict=True,
    ):
        assert re.fullmatch(f"- {wanted}", line), line


def test_json_is_an_array_with_the_exact_texts(database, command):
    assert command.json("audit", "timeline") == []
    database.query("SELECT pause_kind_v1('k', %s, NULL, %s)", HOSTILE, "ada")
    change, held = command.json("audit", "timeline")
    assert (change["sort"], held["sort"]) == ("change", "held")
    assert change["reason"] == held["reason"] == HOSTILE
    assert change["alert"] == held["alert"] == "KindPausedTooLong"
    assert change["runbook"] == f"{BASE}/KindPausedTooLong.md"
    assert moment(change["at"]) <= moment(held["at"]) + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("words", "sorts"),
    [
        ((), ["failed", "change", "held"]),
        (("--since", "25m"), ["change", "held"]),
        (("--since", "2h", "--until", "25m"), ["failed"]),
        (("--since", "3h", "--until", "2h"), []),
        (("--until", "0"), ["failed", "change"]),
    ],
    ids=lambda words: " ".join(words) or "default",
)
def test_since_and_until_choose_the_window(database, command, words, sorts):
    ended(database, "failed", "clock_timestamp() - interval '30 minutes'")
    database.query("SELECT drain_v1('fleet', '', 'r', NULL, 'ada')")
    assert [event["sort"] for event in command.json("audit", "timeline", *words)] == sorts


def test_what_is_left_out_is_told(database, command):
    for job in range(3):
        ended(database, "failed", kind=f"k{job}", job=job)
        database.query("SELECT drain_v1('host', %s, NULL, NULL, 'ada')", f"web{job}")
    done = command("audit", "timeline", "--limit", 2)
    assert "*only the newest 2 events of a sort are shown: more with --limit, or with a later --since*" in done.stdout
    assert len(re.findall("`drain` `host web[12]`", done.stdout)) == 2
    assert "`k0`" not in done.stdout
    assert "only the newest 2 events" in command("audit", "timeline", "--limit", 2, "--json").stderr
    assert "newest" not in command("audit", "timeline", "--limit", 3).stdout


@pytest.mark.parametrize("words", [("--since", "1h", "--until", "2h"), ("--since", "soon"), ("--limit", "0")])
def test_a_window_that_makes_no_sense_is_a_usage_error(command, words):
    assert command.refused("audit", "timeline", *words, code=2).startswith("Error: ")


def test_nothing_is_told_as_nothing(command):
    told = command("audit", "timeline").stdout
    assert re.fullmatch(
        rf"## shithubd-worker: 20.* {TIME} to .*{TIME} UTC\n\n- nothing that the database knows of\n\nNow:\n\n"
        "- nothing is held, and no worker is silent\n",
        told,
    )


def test_nobodys_text_breaks_a_line_or_makes_a_link(database, command):
    database.query("SELECT drain_v1('host', %s, %s, NULL, %s)", HOSTILE, HOSTILE, HOSTILE)
    add_worker(database, HOSTILE, 1, unit=HOSTILE, silent=True)
    ended(database, "failed", kind="[x](https://y) `@here`")
    told = command("audit", "timeline").stdout
    found = lines(command)
    assert len(found) == len(told.splitlines()) - 5 == 5
    for line in found:
        outside = re.sub(r"`[^`]*`", "", line)
        assert set(re.findall(r"\[\w*\]\((\S+?)\)", outside)) <= {*pages().values()}, line
        assert not re.search(r"[<>|@\x1b]", outside), line
        assert "<!channel>" not in line
        assert "@everyone" not in line
        assert "@here" not in line


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",))))
@example("`")
@example("``")
@example("a@channel")
@example("x PoisonJobs`y")
def test_any_text_stays_text(text):
    span = code(text)
    assert re.fullmatch(r"`[^`<>]+`", span)
    assert span.isprintable()
    for made in (span, slack(text), timeline.reason(text)):
        assert made.isprintable()
        assert not re.search(r"@(everyone|here|channel|all)\b", made, re.IGNORECASE)
    assert not re.search(r"[<>]|&(?!(amp|lt|gt);)|\]\(", slack(text))
    assert timeline.reason(text).count("`") % 2 == 0


def test_each_alert_of_the_table_has_its_page_and_the_rules_name_it():
    assert {*ALERTS.values()} <= {*pages()}
    for alert, url in pages().items():
        assert url == f"{BASE}/{alert}.md"
        assert (shipped.RUNBOOKS / "alerts" / f"{alert}.md").is_file()
    assert len(pages()) == len(list((shipped.RUNBOOKS / "alerts").glob("*.md")))


def test_a_window_reads_its_days_of_the_history_and_no_other(database):
    """The other days have two thousand pages."""
    database.query(
        "INSERT INTO job_history (id, kind, outcome, attempts, finished_at, error, retention)"
        " SELECT n, 'k', 'failed', 1, clock_timestamp() + interval '2 days', repeat('x', 100), '7d'"
        " FROM generate_series(1, 60000) n"
    )
    ended(database, "failed")
    now = datetime.now(UTC)
    with database.connect() as connection:

        def asked(day):
            """The rows, and how many pages were read."""
            window = (now + timedelta(days=day, hours=-1), now + timedelta(days=day, hours=1))
            call = "SELECT * FROM ended_badly_v1(%s, %s, '1 minute', 100)"
            rows = connection.execute(call, window).fetchall()
            plan = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {call}", window).fetchone()[0][0]
            return rows, plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]

        (today, few), (later, many) = asked(0), asked(2)
    assert [row["jobs"] for (row,) in today] == [1]
    assert sum(row["jobs"] for (row,) in later) == 60000
    assert many > 1000
    assert few < 100


def test_a_long_window_counts_hours_or_days_together():
    now = datetime.now(UTC)
    minutes = {
        hours: while_of(now - timedelta(hours=hours), now).total_seconds() / 60 for hours in (1, 2, 12, 100, 999)
    }
    assert minutes == {1: 1, 2: 1, 12: 15, 100: 60, 999: 1440}


def test_the_window_is_read_only(database, login, command):
    """An operator's login can make it in a read-only transaction, as on a standby."""
    url = login("shithub_operator")
    environment = {"SHITHUBD_WORKER_DATABASE_URL": url, "PGOPTIONS": "-c default_transaction_read_only=on"}
    database.query("SELECT drain_v1('fleet', '', 'r', NULL, 'ada')")
    assert "`drain` `fleet`" in command("audit", "timeline", env=environment).stdout
    assert json.loads(command("audit", "timeline", "--json", env=environment).stdout)
