"""A torture run of the whole product: real workers, a real PostgreSQL, faults all the time, an independent verdict.

In a minute:

    enqueuers.py    processes that add jobs: enqueue(), plain and bulk INSERT, rolled back, COMMIT without an answer
    handlers.py     what the workers run; each run writes a line when it begins and one when it ends
    supervisor.py   starts the workers and starts dead ones again, as systemd would; writes down each exit code
    faults.py       carries out what schedule.py drew from the seed: kills, stops, stalls, cut lines, a dead database
    operators.py    pause and drain with their barrier, resume, release, retry, discard: by calls and by commands
    proxy.py        between some workers and the database: drops, resets and stalls their connections
    sampler.py      once a second: which jobs are due or expired, and whether a worker is idle
    stage.py        sets all of it up, runs it, ends all that it started
    gather.py       reads the logs and the tables, and nothing else: evidence.py
    checker.py      evidence in, verdict out (check_jobs.py, check_holds.py, check_workers.py); pure, and tested against
                    small logs that break each promise (test_checker.py); allowed.py says what it allows, and why
    report.py       the verdict in plain words

Each process appends lines of JSON to a file of its own (records.py): one write() a line, so that a SIGKILL loses
nothing that happened before it. The clock in them is the machine's CLOCK_MONOTONIC, which all processes here share, so
that entries of different processes can be ordered. The checker has no code of the product's: it reads those files and
the tables `jobs`, `job_history` and `torture_effects`.

What is proved for a run whose verdict is clean: no job that was committed is lost, and none that was rolled back ran;
no effect of job.transaction() is missing or there twice; each further run of a job is explained by how the run before
it ended, inside the windows of allowed.py; nothing started behind a barrier; nothing stayed stuck longer than its lease
and 10 s; every process left with the exit code that the README gives for it; and all jobs came to their end.

The seed repeats the schedule of faults, not the interleaving of the processes: the same seed makes the same sort of bad
day, not the same run. The speed of the machine doesn't matter: rates adapt, waits are on conditions, and a slow machine
makes fewer jobs.

The database runs with fsync off and synchronous_commit at its default. Only the postmaster is killed, never the
machine: what PostgreSQL has written stays with the operating system, so that a crash of the database is a real one.

    cd tests && ../.venv/bin/python -m torture --seconds 300 --seed 7 --postgres 18
"""
