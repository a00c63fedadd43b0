"""What a signal does in the main thread: it sets a flag and wakes the loop. Only the alarm raises, inside a handler."""

from __future__ import annotations

from shithubd_worker.host.signals import Alarm, SelfPipe, Stop
from shithubd_worker.process.shared import Progress


def stop_asked(stop: Stop, bell: SelfPipe) -> None:
    """SIGTERM or SIGINT. The first one sets the alarm to the end of the grace. A second one releases the job at
    once."""
    stop.hear(main=True)
    bell.wake()


def alarm_rang(alarm: Alarm, progress: Progress) -> None:
    """SIGALRM, or SIGURG from the control thread: is the running handler over time? Then it is interrupted."""
    alarm.rang()
    if (attempt := progress.attempt) is not None:
        attempt.interrupt_if_due()
