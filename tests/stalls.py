"""Handlers for a worker whose main thread stands still at times, before any step between a lease and its handler.

A profile function sees each call that these modules make, under any name, and sleeps before one in so many. So there
are stalls between every two steps. The last one is between the look at the clock and the handler's first line.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import shithubd_worker
from shithubd_worker import Registry

LONGEST = float(os.environ.get("STALL_SECONDS", "0.3"))
CHANCE = float(os.environ.get("STALL_CHANCE", "0.05"))
PACKAGE = Path(shithubd_worker.__file__).parent
ROOMS = ("process/runner", "turn/tray", "attempt/attempt", "attempt/deadlines", "job", "host/signals")
STEPS = {str(PACKAGE / f"{room}.py") for room in ROOMS} | {__file__}
dice = random.Random(int(os.environ.get("STALL_SEED", "1")))
registry = Registry()
assert all(Path(each).exists() for each in STEPS), "a step has moved"


@registry.handler("stalls.marks", lease_timeout=60)
def marks(job, path):
    """Record when this run began. The database of the tests has the same clock."""
    began = time.time()
    with open(path, "a") as file:
        file.write(f"{job.id} {began!r}\n")


def _stall(frame, event, _argument):
    if event in ("call", "c_call") and frame.f_code.co_filename in STEPS and dice.random() < CHANCE:
        time.sleep(LONGEST * dice.random())


sys.setprofile(_stall)
