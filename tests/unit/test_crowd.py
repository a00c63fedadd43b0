"""However many jobs end, and however often the worker is idle in between, the log has few lines, and each job is in
one."""

from __future__ import annotations

from collections import Counter

import pytest

from shithubd_worker.model import Batch, Finished, How, Lease, Outcome
from shithubd_worker.telemetry import crowd as crowds
from shithubd_worker.telemetry.crowd import FINE_LINES_PER_SECOND, MOST_KINDS, TOLD_EVERY_SECONDS, Crowd

BATCH = Batch("t", 0.0, 0.0)


def ended(number, kind, how=How.OK):
    return Finished(Lease(number, kind, "{}", 1, None, 0, 0, 0.0, BATCH), Outcome(how), "7d", 0.1)


class Log:
    """The lines of a log, by a clock that the test sets."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        self.crowd = Crowd(lambda: self.now)
        self.own: Counter[str] = Counter()
        self.summaries: list[tuple[float, str, int]] = []
        monkeypatch.setattr(crowds.log, "info", self._info)

    def _info(self, text, *arguments, **_):
        named = text.startswith("%s")
        kind, count = (arguments[0], arguments[1]) if named else ("others", arguments[0])
        self.summaries.append((self.now, kind, count))

    def turn(self, *finished):
        """A turn that ended these jobs, and an idle moment after it."""
        counted = Counter((each.lease.kind, each.outcome.how) for each in finished)
        self.own.update(each.lease.kind for each in self.crowd.admit(finished, counted))
        self.crowd.tell()

    def jobs(self):
        return self.own.total() + sum(count for _, _, count in self.summaries)


@pytest.fixture
def log(monkeypatch):
    return Log(monkeypatch)


@pytest.mark.parametrize(("rate", "kinds"), [(60, 1), (500, 1), (5000, 1), (500, 20), (500, 500), (5000, 5000)])
def test_many_jobs_have_few_lines_and_each_is_in_one(log, rate, kinds):
    size = max(1, rate // 500)  # jobs of a turn
    for number in range(0, 25 * rate, size):
        log.now = 100.0 + number / rate
        log.turn(*(ended(each, f"k{each % kinds}") for each in range(number, number + size)))
    log.crowd.flush()
    assert log.own.total() == 25 * FINE_LINES_PER_SECOND
    assert len(log.summaries) <= (25 // TOLD_EVERY_SECONDS + 1) * min(kinds, MOST_KINDS + 1)
    assert log.jobs() == 25 * rate


def test_each_job_has_its_line_at_once_while_there_are_few(log):
    for number in range(600):
        log.now = 100.0 + number / FINE_LINES_PER_SECOND
        log.turn(ended(number, "k"))
        assert log.own.total() == number + 1
    assert log.summaries == []


def test_each_failure_has_a_line_of_its_own(log):
    log.turn(*(ended(number, "k", How.FAILED) for number in range(1000)))
    assert log.own.total() == 1000


def test_a_burst_is_told_ten_seconds_later_though_nothing_more_comes(log):
    log.turn(*(ended(number, "k") for number in range(1000)))
    log.now += TOLD_EVERY_SECONDS - 0.1
    log.crowd.tell()
    assert log.summaries == []
    log.now += 0.2
    log.crowd.tell()
    assert [(kind, count) for _, kind, count in log.summaries] == [("k", 950)]


def test_a_stop_tells_at_once_what_is_left(log):
    log.turn(*(ended(number, "k") for number in range(1000)))
    log.crowd.flush()
    log.crowd.flush()
    assert log.jobs() == 1000
