"""Handlers that leave exit functions and pools in the worker's process, as libraries do."""

from __future__ import annotations

import atexit
import logging
import logging.config
import os
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from shithubd_worker import Registry

registry = Registry()
KEPT = []


@registry.handler("exit.leaves")
def leaves(job, path):
    """Everything at once: idle pools, a thread that goes on, an exit function that fails, and one that makes a file."""
    atexit.register(os.mkdir, path)
    atexit.register(int, "no number")
    for pool in (ThreadPoolExecutor(1), ProcessPoolExecutor(1)):
        pool.submit(abs, -1).result()
        KEPT.append(pool)
    threading.Thread(target=time.sleep, args=(1000,), name="forgotten").start()


@registry.handler("exit.hangs")
def hangs(job):
    atexit.register(time.sleep, 1000)


@registry.handler("exit.tells")
def tells(job):
    """Logs in each way."""
    logging.getLogger("myforge").info("own", extra={"repo": "alice/site"})
    warnings.warn("of a library", stacklevel=1)
    thread = threading.Thread(target=lambda: logging.getLogger("myforge").info("thread"), name="author")
    thread.start()
    thread.join()
    job.log.info("job", extra={"repo": "alice/site"})
    print("printed")


LOGGING = {
    "a filter that fails": lambda: [each.addFilter(lambda record: 1 / 0) for each in logging.root.handlers],
    "dictConfig": lambda: logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL", "handlers": []}}),
    "basicConfig": lambda: logging.basicConfig(level="CRITICAL", filename="/dev/null", force=True),
    "disable": logging.disable,
}


@registry.handler("exit.silences")
def silences(job, how):
    """What a library may do to the logging of the whole process."""
    LOGGING[how]()


@registry.handler("exit.quick", retention="none")
def quick(job):
    pass
