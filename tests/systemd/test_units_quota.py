"""A worker that gets a tenth of a processor: it may stand still between any two of its steps, and a barrier holds."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from nspawn import Host
from worker_host import UNIT, drop_in

pytestmark = pytest.mark.timeout(900)  # the first test boots the host and installs everything
PERCENT = 10
# Some rounds: pause, wait for the barrier, watch for a while, resume. There is always a job to run.
BARRIERS = """
DO $$
DECLARE
    v_began timestamptz;
BEGIN
    FOR n IN 1..{count} LOOP
        INSERT INTO jobs (kind) SELECT 'test.marks' FROM generate_series(1, 500)
         WHERE (SELECT count(*) FROM (SELECT FROM jobs WHERE state = 'queued' LIMIT 500) q) < 500;
        COMMIT;
        PERFORM pg_sleep(random() * 0.3);
        PERFORM pause_kind_v1('test.marks');
        COMMIT;
        PERFORM barrier_v1('kind', 'test.marks');
        v_began := clock_timestamp();
        PERFORM pg_sleep(random() * 0.2);
        INSERT INTO windows VALUES (v_began, clock_timestamp());
        PERFORM resume_kind_v1('test.marks');
        PERFORM count(*) FROM unpause_v1('test.marks');
        COMMIT;
    END LOOP;
END $$
"""


@pytest.mark.parametrize("barriers", [21, pytest.param(2000, marks=[pytest.mark.long, pytest.mark.timeout(7200)])])
def test_under_a_quota_of_the_processor_no_job_starts_after_a_barrier(host: Host, barriers: int) -> None:
    drop_in(host, UNIT, f"[Service]\nCPUQuota={PERCENT}%\nEnvironment=SHITHUBD_WORKER_LOG_LEVEL=warning\n")
    host.run("rm", "-f", "/var/lib/shithub/starts")
    host.run("systemctl", "start", UNIT)
    with host.cpu_limit(host.show(UNIT, "MainPID")["MainPID"], PERCENT):
        host.psql("shithub", "CREATE TABLE windows (began timestamptz, ended timestamptz)")
        try:
            for _ in range(0, barriers, 20):
                host.psql("shithub", BARRIERS.format(count=min(20, barriers)))
            seen = host.sql(
                "shithub", "SELECT extract(epoch FROM began) AS b, extract(epoch FROM ended) AS e FROM windows"
            )
        finally:
            host.run("systemctl", "stop", UNIT)  # the limit lasts as long as this process
            host.psql("shithub", "DROP TABLE windows")
    starts = sorted(map(float, host.run("cat", "/var/lib/shithub/starts").split()))
    late = [
        starts[first] - window["b"]
        for window in seen
        if (first := bisect_left(starts, window["b"])) < len(starts) and starts[first] <= window["e"]
    ]
    assert len(seen) >= barriers
    assert len(starts) > barriers  # jobs ran between the pauses
    assert late == []
