"""Cut networks: does a worker that lost the database ever run its job beside the next worker?

Each worker lives in a network namespace of its own, and reaches the database only through a router. The router drops
its packets, so neither side is told. The evidence needs no database: a run holds a lock on a file of its job for
exactly its lifetime. If the next run does not get that lock at once, two runs stood beside each other.

    network.py   hosts, the router, the cuts
    handlers.py  jobs of several sorts, and what each run writes down
    fleet.py     the server and the workers
    trial.py     one cut after the other, many at once
    verdict.py   what happened, and which promises were broken
"""
