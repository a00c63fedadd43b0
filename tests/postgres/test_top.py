"""`top` in a real terminal: figures, keys, changes with their record, each end, and a restart of the database."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from conftest import Database
from rows import add_job, add_worker, audit, holds
from servers import Server, debian_bindir
from terminals import Terminal
from waiting import eventually

from shithubd_worker.database import schema
from shithubd_worker.database.connection import connector

PROGRAM = (sys.executable, "-m", "shithubd_worker")
READY = "sorted by queued"
REASON = "INC-42 [red]x[/red]"
# A fault of ours, in place of one that nobody knows yet.
BROKEN = """
import sys
from shithubd_worker.cli import main
from shithubd_worker.cli.top.kinds import KindsView
KindsView.note = lambda self: 1 // 0 if self.found else ""
sys.argv = ["shithubd-worker", "top"]
main()
"""
# The terminal takes nothing any more, so the program hangs in a write.
STUCK = """
import sys, threading
from shithubd_worker.cli import main
from shithubd_worker.cli.top import kinds
kinds.KindsView.note = lambda self: threading.Event().wait() if self.found else ""
sys.argv = ["shithubd-worker", "top"]
main()
"""
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux on this machine (Debian: tmux)")
pytestmark = needs_tmux


@pytest.fixture(name="database")
def with_jobs(database):
    worker = add_worker(database, unit="shithubd-worker@1.service", kinds=["search.reindex", "webhook.deliver"])
    running = add_job(database, "search.reindex", "processing", worker=worker)
    database.query("UPDATE beats SET job_id = %s, job_kind = 'search.reindex', job_since = now()", running)
    database.query("INSERT INTO jobs (kind) SELECT 'search.reindex' FROM generate_series(1, 499)")
    add_job(database, "webhook.deliver", "failed", last_error="\x1b[2J[red]HTTP 500[/red]")
    return database


@pytest.fixture
def open_terminal(database):
    made = []

    def make(width=80, height=24):
        made.append(Terminal(width, height, database.environment()))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def terminal(open_terminal):
    return open_terminal()


def top(terminal, *arguments, env=None):
    terminal.does(*PROGRAM, "top", "--interval", "0.5", *arguments, env=env)
    terminal.sees(READY, "search.reindex")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60)])
def test_the_screen_shows_the_summary_the_kinds_what_runs_and_the_workers(open_terminal, width, height):
    terminal = open_terminal(width, height)
    before = terminal.modes()
    top(terminal)
    screen = terminal.sees("running 1, held 0 (queued 499", "web1:1", "shithubd-worker@1.service", "q quit")
    rows = {line.strip("> ").split()[0]: line.strip("> ").split() for line in screen.splitlines() if line.strip("> ")}
    assert rows["search.reindex"][1:5] == ["499", "1", "0", "0"]
    assert rows["webhook.deliver"][1:5] == ["0", "0", "0", "1"]
    terminal.type("q")
    terminal.sees("code 0", without="search.reindex")
    assert terminal.modes() == before


def test_keys_sort_filter_and_open_a_kind_and_a_job(database, terminal):
    top(terminal)
    terminal.type("s")
    terminal.sees("running*")
    terminal.type("/")
    terminal.type("-l", "hook")
    terminal.sees("> webhook.deliver")
    terminal.type("Enter")
    terminal.sees("only kinds with 'hook'")
    terminal.type("Enter")
    terminal.sees("1 waiting, running and failed job(s) of webhook.deliver", r"\x1b[2J[red]HTTP 500[/red]")
    terminal.type("Enter")
    terminal.sees("of webhook.deliver", "has failed: ", r"\x1b[2J[red]HTTP 500[/red]", "jobs retry")
    terminal.type("End")
    terminal.sees("last_error")
    terminal.type("Escape")
    terminal.sees("attempts last error")
    terminal.type("Tab")
    terminal.sees("no such jobs")
    terminal.type("Escape")
    terminal.sees("only kinds with 'hook'")
    terminal.type("Escape")
    terminal.sees("sorted by running", without="only kinds")
    terminal.type("?")
    terminal.sees("top: the keys", "Ctrl-Z")
    terminal.resize(100, 30)
    terminal.type("Escape")
    terminal.sees("running*", "failed", "failing")


def test_a_pause_asks_for_a_yes_and_a_reason_and_is_recorded(database, terminal, start_worker):
    start_worker("--kind", "test.ok")
    top(terminal)
    terminal.type("p")
    terminal.sees("y/n: pause search.reindex on all hosts?")
    terminal.type("Enter")
    terminal.sees("nothing was changed")
    terminal.type("p", "y")
    terminal.sees("Why?")
    terminal.type("Escape")
    terminal.sees("nothing was changed")
    assert (holds(database), audit(database)) == ([], [])

    terminal.type("p", "y")
    terminal.sees("Why?")
    terminal.type("-l", REASON)
    terminal.type("Enter")
    terminal.sees("search.reindex is held: nothing of it starts any more; 499 waiting job(s) marked paused")
    assert holds(database) == [("kind", "search.reindex", REASON)]
    [(action, target, reason, actor, _)] = audit(database)
    assert (action, target, reason) == ("pause", "kind search.reindex", REASON)
    assert "@" in actor
    terminal.sees("held 499", f"hold: pause of kind search.reindex, by {actor}")

    terminal.type("r", "y")
    terminal.sees("Why?", "resume search.reindex", f"hold: pause of kind search.reindex, by {actor}", REASON)
    terminal.type("Enter")
    terminal.sees("499 paused job(s) back in the queue")
    assert holds(database) == []
    assert [row[0] for row in audit(database)] == ["pause", "resume"]


def test_the_reason_of_the_command_line_is_offered(database, terminal):
    top(terminal, "--reason", "INC-43")
    terminal.type("p", "y")
    terminal.sees("Why?", "INC-43")
    terminal.type("-l", ", second try")
    terminal.type("Enter")
    eventually(lambda: holds(database) == [("kind", "search.reindex", "INC-43, second try")], "the hold")


ENDS = {
    "q": ("q", 0),
    "Ctrl-C": ("C-c", 130),
    "Ctrl-backslash": ("C-\\", 131),
    "SIGINT": (signal.SIGINT, 130),
    "SIGTERM": (signal.SIGTERM, 143),
    "SIGHUP": (signal.SIGHUP, 129),
    "SIGQUIT": (signal.SIGQUIT, 131),
}


def test_every_end_gives_the_terminal_back_as_it_was(terminal):
    terminal.run("ulimit -c 0")
    before = terminal.modes()
    for name, (end, code) in ENDS.items():
        top(terminal)
        assert terminal.modes() != before
        if isinstance(end, str):
            terminal.type(end)
        else:
            os.kill(terminal.child(), end)
        screen = terminal.sees(f"code {code}", without="search.reindex")
        assert terminal.modes() == before, name
        assert len([line for line in screen.splitlines() if line]) <= 3, screen


def test_ctrl_z_leaves_for_the_shell_and_fg_comes_back(terminal):
    before = terminal.modes()
    top(terminal)
    for stop in ("C-z", signal.SIGTSTP):
        if isinstance(stop, str):
            terminal.type(stop)
        else:
            os.kill(terminal.child(), stop)
        terminal.sees("Stopped", without=READY)
        assert terminal.modes() == before
        terminal.run("clear; fg")
        terminal.sees(READY, "search.reindex", "q quit")
    # Nobody hears SIGSTOP, and meanwhile the shell changes the terminal.
    os.kill(terminal.child(), signal.SIGSTOP)
    eventually(lambda: "bash" in terminal.tmux("display-message", "-p", "#{pane_current_command}"), "the shell is back")
    terminal.run("fg")
    terminal.sees(READY, "search.reindex", "q quit")
    terminal.type("q")
    terminal.sees("bash-", without=READY)
    eventually(lambda: terminal.modes() == before, "the terminal is as before")


def test_a_fault_of_ours_is_one_line_and_the_terminal_is_as_before(terminal):
    before = terminal.modes()
    terminal.does(sys.executable, "-c", BROKEN)
    screen = terminal.sees("code 1")
    assert "top has failed, and changed nothing by that: ZeroDivisionError" in screen
    assert "Traceback" not in screen
    assert terminal.modes() == before


def test_a_signal_ends_it_even_while_it_hangs(terminal):
    before = terminal.modes()
    terminal.does(sys.executable, "-c", STUCK)
    eventually(lambda: "alternate_on=1" in terminal.modes(), "the screen is taken")
    os.kill(terminal.child(), signal.SIGTERM)
    terminal.sees("code 143")
    assert terminal.modes() == before


def test_it_ends_when_its_terminal_is_gone(terminal):
    """Also where somebody had SIGHUP ignored, as nohup does."""
    terminal.run("trap '' HUP")
    top(terminal)
    process = terminal.child()
    terminal.tmux("kill-session")
    eventually(lambda: not Path(f"/proc/{process}").exists(), "the process has ended")


def test_without_colours_the_cursor_is_still_seen(terminal):
    top(terminal, env={"NO_COLOR": "1"})
    terminal.sees("> search.reindex 499")
    styles = re.findall(r"\x1b\[([0-9;]*)m", terminal.screen(styles=True))
    assert [style for style in styles if "7" in style.split(";")] != []
    assert [style for style in styles if re.search(r"\b[349][0-8]\b", style)] == []


def test_without_a_terminal_it_says_what_to_use(command, terminal):
    done = command("top")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "shithubd-worker: top needs a terminal: use status --watch or stats --json\n"
    terminal.does(*PROGRAM, "top", env={"TERM": "dumb"})
    terminal.sees("top needs a terminal", "code 2")


def test_its_time_can_be_limited(terminal):
    top(terminal, "--timeout", "2")
    terminal.sees("code 4", without="search.reindex")


@pytest.fixture
def own_server():
    server = Server(debian_bindir())
    yield server
    server.remove()


def test_it_says_that_the_database_is_away_and_goes_on_when_it_is_back(own_server, open_terminal, database):
    with connector(own_server.url("postgres"), "test")() as connection:
        schema.migrate(connection, "public", roles=False)
        connection.execute("INSERT INTO jobs (kind) VALUES ('search.reindex')")
    terminal = open_terminal()
    url = own_server.url("postgres")
    top(terminal, "--database-url", url)
    own_server.stop("immediate")
    terminal.sees("no figures for ", "search.reindex", "q quit")
    terminal.type("p", "y", "Enter")
    terminal.sees("no figures for ", "the pause of search.reindex: the database can't be reached")
    terminal.type("?")
    terminal.sees("top: the keys")
    terminal.type("Escape")
    terminal.sees("no figures for ")
    own_server.start()
    away = Database(own_server, "postgres")
    add_job(away, "webhook.deliver")
    terminal.sees("webhook.deliver", "queued 2", without="no figures for")
    away.close()


def test_what_is_typed_ahead_is_not_lost(database, terminal):
    top(terminal)
    terminal.type("-l", "/hook")
    terminal.sees("> webhook.deliver", "Enter keeps it")
    terminal.type("Enter", "p", "y")
    terminal.type("-l", "in one go")
    terminal.type("Enter")
    eventually(lambda: holds(database) == [("kind", "webhook.deliver", "in one go")], "the hold")


def test_a_change_that_was_typed_is_completed_before_the_end(database, terminal):
    top(terminal)
    terminal.type("p", "y", "Enter", "q")
    terminal.sees("code 0")
    assert holds(database) == [("kind", "search.reindex", None)]
    assert database.value("SELECT count(*) FROM jobs WHERE state = 'paused'") == 499


def test_a_change_that_can_not_be_completed_is_told_at_the_end(database, terminal):
    top(terminal)
    with database.connect() as other, other.transaction():
        other.execute("LOCK TABLE holds IN SHARE MODE")
        terminal.type("p", "y", "Enter")
        terminal.sees("waiting: ")
        terminal.type("q")
        terminal.sees("top ended before this was complete: the pause of search.reindex", "code 4")
    assert holds(database) == []


def test_who_may_only_look_is_told_so_when_he_pauses(database, terminal, login):
    top(terminal, "--database-url", login("shithub_metrics"))
    terminal.type("p", "y", "Enter")
    terminal.sees("the pause of search.reindex: the database role lacks a right")
    assert holds(database) == []
    terminal.type("q")
    terminal.sees("code 0")
