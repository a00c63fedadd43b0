"""A torture run of the whole product: real workers, a real PostgreSQL, faults all the time, an independent verdict.

The parts:

    enqueuers.py    processes that add jobs: enqueue(), plain and bulk INSERT, rolled back, COMMIT without an answer
    handlers.py     what the workers run; each run writes a line when it begins and one when it ends
    supervisor.py   starts the workers, restarts dead ones as systemd would, and records each exit code
    faults.py       carries out what schedule.py drew from the seed: kills, stops, stalls, cut lines, a dead database,
                    workers that fall silent in the middle of a job
    operators.py    pause and drain with their barrier, resume at once or in steps, release, retry, discard: by calls
                    and by commands
    administrator.py  changes several jobs at once in SQL; plans, undo, sweeps, the jobs of dead workers, clean-up
    proxy.py        between a worker and the database: drops, resets and stalls its connections, or one of them
    sampler.py      once a second: which jobs are due or expired, and whether a worker is idle
    stage.py        sets a run up, runs it, and ends all that it started
    gather.py       reads only the logs and the tables: evidence.py
    checker.py      evidence in, verdict out (check_jobs.py, check_changes.py, check_holds.py, check_ramps.py,
                    check_workers.py); pure, and tested with small logs that break each promise (test_checker.py,
                    test_checker_recovery.py)
    allowed.py      what the checker allows, and why
    report.py       the verdict in plain words

Each process appends lines of JSON to a file of its own (records.py). Each line is one write(), so a SIGKILL loses
nothing that happened before it. The times in the lines are of the machine's CLOCK_MONOTONIC, which all processes here
share, so the lines of different processes can be ordered. The checker has no code of the product. It reads those files
and the tables `jobs`, `job_history`, `audit`, `audit_chunks` and `torture_effects`.

A run with a clean verdict proves:

    - no committed job is lost, and no job that was rolled back ran
    - no effect of job.transaction() is missing or there twice
    - the end of the run before it explains each further run of a job, inside the windows of allowed.py
    - the audit record explains each end of a job by an operator, and no such job ran; an undo brings jobs back
    - nothing started after a barrier; beside a ramp no more than it lets through; nothing after a ramp stopped
    - a sweep took the jobs of silent workers only, and no handler went on while its job ran again elsewhere
    - nothing stayed stuck for longer than its lease, or the silence of its worker, and some seconds
    - every process left with the exit code that docs/exit-codes.md gives for the case
    - all jobs came to their end

The seed repeats the schedule of faults, but not the interleaving of the processes. So the same seed makes a similar bad
day, and not the same run. The speed of the machine does not matter: rates adapt, waits are on conditions, and a slow
machine makes fewer jobs.

The database runs with fsync off and synchronous_commit at its default. A fault kills only the postmaster, never the
machine. What PostgreSQL has written stays with the operating system, so a crash of the database is a real one.

    cd tests && ../.venv/bin/python -m torture --seconds 300 --seed 7 --postgres 18
"""
