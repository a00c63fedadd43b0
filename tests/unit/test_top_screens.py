"""What `top` shows at each size: no figure is cut, no text of others is more than text."""

from __future__ import annotations

import asyncio
import re
import threading
from types import SimpleNamespace

import pytest
from canaries import CANARY
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from screens import command

from shithubd_worker.cli.top.app import Top
from shithubd_worker.cli.top.feed import Feed
from shithubd_worker.cli.top.field import Field
from shithubd_worker.cli.top.help import TEXT, HelpView
from shithubd_worker.cli.top.jobs import JobsView, JobView
from shithubd_worker.cli.top.kinds import COLUMNS, KindsView
from shithubd_worker.cli.top.page import Page
from shithubd_worker.cli.top.table import Column, fit, laid_out, window
from shithubd_worker.cli.top.view import View

SIZES = [(80, 24), (200, 60), (40, 8), (132, 43)]


def kind(name="search.reindex", **figures):
    usual = {
        "queued": 5,
        "processing": 1,
        "running": 1,
        "paused": 0,
        "failed": 0,
        "held": 0,
        "retries": 0,
        "runnable": 4,
    }
    return {"kind": name, **usual, "oldest_seconds": 12.0, "workers": 3, "capped": []} | figures


def lease(number, name="search.reindex", worker="w"):
    return {
        **{"id": number, "kind": name, "worker": f"{worker}{number}", "leased_by": f"web1:{number}", "runs": True},
        **{"unit": f"shithubd-worker@{number}.service", "seconds": 61.0},
    }


def worker(number, **columns):
    usual = {"unit": f"shithubd-worker@{number}.service", "silent": False, "state": "running", "leases": 1}
    return {"leased_by": f"web1:{number}", **usual, "job_id": None, "job_kind": None, "beat_seconds": 0.4} | columns


def hold(target="webhook.deliver", reason="INC-42", **columns):
    usual = {"scope": "kind", "mode": "pause", "actor": "ada@web1", "until": None, "ramp": None}
    return {**usual, "target": target, "reason": reason, "created": "2026-11-22T18:00:00+00:00"} | columns


def status(*kinds, leases=(), workers=(), holds=()):
    return {
        **{"at": "2026-11-22T18:00:00.123456+00:00", "states": {"queued": 5, "paused": 0, "failed": 0}},
        **{"running": len(leases), "leased": len(leases), "held": 0, "capped": [], "more_kinds": None},
        **{"kinds": list(kinds), "leases": list(leases), "workers": list(workers), "holds": list(holds)},
    }


def full(name="search.reindex", **figures):
    """A kind with the figures of all windows."""
    ran = {"per_second": 12.345, "failure_ratio": 0.0123, "wait": {"p95": 0.25}, "run": {"p95": 75.0}}
    return kind(name, windows={"5m": ran, "1h": ran, "24h": ran}, backlog=4, backlog_seconds=7200.0, **figures)


def heard(view: View, found) -> View:
    view.heard(found)
    return view


def shown(view: View, width=80, height=20):
    return [line.text for line in view.body(width, height)]


@given(
    st.lists(st.tuples(st.text(st.characters()), st.integers(0, 10**9), st.integers(0, 10**9)), max_size=5),
    st.integers(1, 100),
)
def test_a_figure_is_shown_whole_or_not_at_all(rows, width):
    columns = (Column("kind", 0, text=True), Column("queued", 1), Column("failed", 2))
    cells = [[text, f"{one:,}", f"{other:,}"] for text, one, other in rows]
    head, lines = laid_out(columns, cells, width)
    for row, line in zip(cells, lines, strict=True):
        assert line.isprintable()
        assert cell_len(line) <= width
        figures = [row[number] for number, name in ((1, "queued"), (2, "failed")) if name in head.split()[1:]]
        assert line.endswith("  ".join(figures).split("  ")[-1] if figures else "")
        assert all(figure in line for figure in figures)


@given(st.text(st.characters()), st.integers(1, 40))
def test_a_text_of_others_fills_its_place_and_steers_nothing(text, width):
    made = fit(text, width)
    assert made.isprintable()
    assert cell_len(made) == width


@given(st.integers(0, 100), st.integers(0, 99), st.integers(1, 30))
def test_the_row_of_the_cursor_is_among_those_that_are_shown(count, at, height):
    first, end = window(count, min(at, max(0, count - 1)), height)
    assert end - first == min(count, height)
    assert count == 0 or first <= min(at, count - 1) < end


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_view_keeps_to_the_size_of_the_screen(width, height):
    many = status(
        *(full(f"kind.{number}", queued=100_000, capped=["queued"], failed=number) for number in range(90)),
        leases=[lease(number) for number in range(70)],
        workers=[worker(number) for number in range(80)],
        holds=[hold(f"kind.{number}", "a reason that goes on and on " * 9) for number in range(40)],
    )
    job = {"id": 1, "state": "queued", "run_at": "2026-11-22T18:00:00+00:00", "attempts": 3, "last_error": "x" * 999}
    jobs = heard(JobsView("k", command), ((None, None), [job] * 100, True))
    for view in (heard(KindsView(command), many), jobs, HelpView()):
        view.move(50)
        lines = view.body(width, height)
        assert len(lines) <= height
        assert "reverse" in {line.style for line in lines} or isinstance(view, HelpView)


def test_columns_give_way_on_a_narrow_screen_and_the_most_important_stay():
    view = heard(KindsView(command), status(full()))
    wide = shown(view, 200)[0].split()
    assert {*wide} >= {"kind", "queued*", "running", "held", "failed", "wait", "oldest", "retries", "workers"}
    narrow = shown(view, 80)[0]
    assert [
        each for each in ("kind", "queued", "running", "held", "failed", "per s", "wait p95") if each not in narrow
    ] == []
    assert shown(view, 40)[0].split()[:2] == ["kind", "queued*"]
    row = shown(view, 200)[1]
    for figure in ("12.3", "250 ms", "75 s", "1.2 %", "2 h"):
        assert figure in row


def test_each_key_sorts_and_the_cursor_stays_on_its_kind():
    view = KindsView(command)
    found = status(kind("a", queued=1, failed=7), kind("b", queued=9), kind("c", queued=5))
    heard(view, found)
    names = lambda: [line[2:].split()[0] for line in shown(view)[1:4]]  # noqa: E731
    assert names() == ["b", "c", "a"]
    view.key("down")
    assert view.kind() == "c"
    view.key("i")
    assert names() == ["a", "c", "b"]
    heard(view, status(kind("a", queued=1), kind("c", queued=50), kind("b", queued=9)))
    assert (names(), view.kind()) == (["a", "b", "c"], "c")
    for _ in COLUMNS:
        view.key("s")
        assert view.kind() == "c"


def test_keys_that_come_before_the_next_page_skip_nothing():
    view = JobsView("k", command)
    page = lambda *ids: [{"id": job} for job in ids]  # noqa: E731
    asked = []

    class Jobs:
        def jobs(self, where, _limit, after):
            asked.append((where.get("state"), after))
            return page(*range((after or 0) + 1, (after or 0) + 102))

    heard(view, view.ask(Jobs()))
    view.key("n")
    view.key("n")
    heard(view, view.ask(Jobs()))
    view.key("n")
    view.key("tab")
    view.key("n")
    heard(view, view.ask(Jobs()))
    assert asked == [(None, None), (None, 100), ("queued", None)]


class Asked:
    """Answers as the database would. It counts the questions."""

    def __init__(self, found, stats, like=()):
        self.found, self.told, self.like, self.asked = found, stats, like, []

    def status(self):
        self.asked.append("status")
        return self.found

    def stats(self, kind=None):
        self.asked.append("stats" if kind is None else f"stats {kind}")
        return self.told if kind is None else [full(kind)]

    def kinds_like(self, _prefix):
        return list(self.like)


def test_the_figures_join_the_state_and_are_asked_for_seldom():
    view = KindsView(command)
    state = status(kind("a", queued=1000, capped=["queued"]), kind("b", queued=3))
    asked = Asked(state, [full("a", queued=5000), full("b", queued=9), full("c", queued=0), kind(None)])
    for _ in range(3):
        heard(view, view.ask(asked))
    assert asked.asked == ["status", "stats", "status", "status"]
    rows = {line[2:].split()[0]: line[2:].split()[1] for line in shown(view)[1:4]}
    assert rows == {"a": "5,000", "b": "3", "c": "0"}
    asked = Asked(state, [full("a", queued=5000, capped=["queued"])])
    view = KindsView(command)
    heard(view, view.ask(asked))
    assert "5,000+" in shown(view)[1]
    assert "figures of the last 5m" in view.note()
    view.key("w")
    assert "figures of the last 1h" in view.note()


def test_a_filter_finds_a_kind_that_is_not_among_the_many_that_are_named():
    view = KindsView(command)
    state = status(kind("a")) | {"more_kinds": kind(None, kinds=900)}
    view.filtered("zeb")
    heard(view, view.ask(Asked(state, [], like=["zebra.feed"])))
    assert view.kind() == "zebra.feed"
    assert "and 900 more kinds" in view.note()
    view.filtered("bra")
    heard(view, view.ask(Asked(state, [])))
    said = " ".join(shown(view))
    assert "of the kinds with most jobs none has 'bra' in its name, and no other one begins with it" in said


def test_a_filter_leaves_only_the_kinds_with_the_text():
    view = heard(KindsView(command), status(kind("search.reindex"), kind("webhook.deliver"), kind("Search.forget")))
    view.filtered("search")
    assert {line[2:].split()[0] for line in shown(view)[1:3]} == {"search.reindex", "Search.forget"}
    view.filtered("nothing")
    assert "no kind has 'nothing' in its name" in shown(view)
    assert view.opened() is None


def test_a_short_screen_says_how_much_it_leaves_out():
    leases, workers = [lease(number) for number in range(30)], [worker(number) for number in range(30)]
    lines = shown(heard(KindsView(command), status(kind(), leases=leases, workers=workers)), 80, 20)
    assert len([line for line in lines if re.fullmatch(r"\.\.\. \d+ more", line)]) == 2


def test_nothing_of_a_stranger_is_markup_or_steers_the_terminal():
    page = Page()
    found = status(kind(CANARY), kind("[red]k[/red]"), leases=[lease(1, CANARY)], holds=[hold(CANARY, CANARY)])
    job = {"id": 1, "state": "failed", "run_at": "2026-11-22T18:00:00+00:00", "attempts": 3, "last_error": CANARY}
    whole = job | {"payload": '{"a": "[bold]"}', "history": [], "kind": CANARY}
    why = {"job": {"id": 1, "kind": CANARY, "state": "failed", "last_error": CANARY}, "verdict": "failed"}
    why["checks"] = [{"check": "state", "ok": False, "state": "failed", "since": None, "by": CANARY}]
    views: list[View] = [
        heard(KindsView(command), found),
        heard(JobsView(CANARY, command), ((None, None), [job], False)),
        heard(JobView(1, CANARY, command), (why, whole)),
    ]
    for view in views:
        page.lines = view.body(200, 40)
        for number in range(len(page.lines)):
            assert "".join(segment.text for segment in page.render_line(number)).isprintable()
        assert fit(view.heading(), 200).isprintable()
    assert any("[red]k[/red]" in line for line in shown(views[0], 200))
    assert any("[bold]" in line for line in shown(views[2], 200))


def test_a_line_is_typed_as_in_a_shell():
    field = Field("INC-4")
    for name, letter in [("2", "2"), ("home", None), ("a", "a"), ("right", None), ("delete", None), ("end", None)]:
        field.key(name, letter)
    assert (field.text, field.at) == ("aIC-42", 6)
    for name in ("left", "backspace", "ctrl+u", "f3"):
        field.key(name, None)
    assert (field.text, field.at) == ("2", 0)
    field.insert("x\x1b[2J\u202ey\nsecond line")
    assert field.text == "x[2Jy2"


@given(st.text(st.characters(), max_size=200), st.integers(2, 60), st.integers(0, 200))
def test_the_place_of_the_cursor_is_on_the_screen_while_a_line_is_typed(text, width, back):
    field = Field()
    field.insert(text)
    field.at = max(0, field.at - back)
    line = field.line(width)
    page = Page()
    page.lines = [line]
    assert line.cursor is not None
    assert line.text.isprintable()
    assert line.cursor <= width // 2 or len(line.text) <= width


def test_the_help_and_the_line_of_keys_fit_on_the_smallest_usual_screen():
    assert max(map(len, TEXT)) <= 80
    assert len(TEXT) <= 21
    assert [view.keys for view in (KindsView, JobsView, JobView, HelpView) if len(view.keys) > 80] == []


@pytest.mark.parametrize("cancelled", [False, True])
def test_the_end_completes_a_change_that_waits_for_its_turn_and_names_one_that_fails(cancelled):
    shared = SimpleNamespace(deadline=SimpleNamespace(note=lambda *_: None), announcer=None)
    feed = Feed(shared, SimpleNamespace(schema="public", close=lambda: None), 60)
    began, go, made = threading.Event(), threading.Event(), []

    def change(_operations):
        yield "half of it"
        if cancelled:
            raise ConnectionError
        made.append("all of it")

    feed.ask(lambda _operations: began.set() or go.wait(60))
    feed.start()
    began.wait(60)
    feed.change("the pause of k", change)
    feed.join = lambda seconds: go.set() or threading.Thread.join(feed, seconds)
    assert feed.end() == (["the pause of k"] if cancelled else [])
    assert made == ([] if cancelled else ["all of it"])


def test_an_answer_that_comes_after_the_end_is_no_failure():
    feed = SimpleNamespace(ask=lambda _question: None, start=lambda: None, changes=0, asked_at=None)
    terminal = SimpleNamespace(hear=lambda _call: None, gone=lambda: False)
    shared = SimpleNamespace(command=command, deadline=SimpleNamespace(over=False))

    async def run():
        top = Top(shared, feed, terminal, None)
        async with top.run_test(size=(80, 24)):
            top.exit(0)
        top._guarded(top._said, "an answer")
        return top.crash

    assert asyncio.run(run()) is None
