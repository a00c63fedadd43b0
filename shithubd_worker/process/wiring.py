"""Builds a worker: gives each part what it needs, and no part knows the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from shithubd_worker.database.clock import Clock
from shithubd_worker.database.control_session import ControlSession
from shithubd_worker.database.handler_session import HandlerSession
from shithubd_worker.database.queue_session import QueueSession
from shithubd_worker.host.dead_man import DeadMan
from shithubd_worker.host.identity import identify
from shithubd_worker.host.process_state import ProcessState
from shithubd_worker.host.signals import Alarm, SelfPipe, Stop
from shithubd_worker.host.systemd import Systemd
from shithubd_worker.model import Registration
from shithubd_worker.process.control import Control
from shithubd_worker.process.duties.asking import Asking
from shithubd_worker.process.duties.clock_look import ClockLook
from shithubd_worker.process.duties.ending import Ending
from shithubd_worker.process.duties.enforcing import Enforcing
from shithubd_worker.process.duties.figures import Figures
from shithubd_worker.process.duties.hearing import Hearing
from shithubd_worker.process.duties.heartbeat import Heartbeat
from shithubd_worker.process.duties.outage import Outage
from shithubd_worker.process.duties.reloading import Reloading
from shithubd_worker.process.duties.renewal import Renewal
from shithubd_worker.process.duties.supervision import Supervision
from shithubd_worker.process.duties.trust import Trust
from shithubd_worker.process.lessons import Lessons
from shithubd_worker.process.live import LiveConfig
from shithubd_worker.process.loop import Loop
from shithubd_worker.process.patience import Patience
from shithubd_worker.process.presence import Presence
from shithubd_worker.process.reconnect import Reconnect
from shithubd_worker.process.runner import Runner
from shithubd_worker.process.shared import Progress
from shithubd_worker.process.shutdown import Shutdown
from shithubd_worker.process.signals import alarm_rang, stop_asked
from shithubd_worker.process.sleep import Sleep
from shithubd_worker.process.startup import Startup
from shithubd_worker.process.work import Work
from shithubd_worker.process.worker import Worker
from shithubd_worker.telemetry import lines, logs
from shithubd_worker.telemetry.metrics import Metrics
from shithubd_worker.timing import CONTROL_ANSWER_SECONDS, HANDLER_ANSWER_SECONDS, MAIN_ANSWER_SECONDS, goes_on
from shithubd_worker.turn.exchange import Exchange
from shithubd_worker.turn.relief import Relief
from shithubd_worker.turn.selection import Selection
from shithubd_worker.turn.settling import Settler
from shithubd_worker.turn.tray import Tray
from shithubd_worker.turn.unstarted import Unstarted
from shithubd_worker.turn.upkeep import Recovery, Upkeep
from shithubd_worker.turn.wire import Wire

if TYPE_CHECKING:
    from shithubd_worker.database.connection import Connect
    from shithubd_worker.registry import Kind
    from shithubd_worker.settings.config import Config


def worker(  # noqa: PLR0915 (a list of what is made, one thing after the other)
    config: Config,
    kinds: Sequence[Kind],
    connect: Callable[[str, float | None, bool], Connect],
    schema: str,
    metrics: Metrics,
    reread: Callable[[], Config] | None = None,
) -> Worker:
    """One worker process. `connect` makes connectors, by name, answer_seconds and ours. `reread` makes the
    configuration anew after a SIGHUP; without it, SIGHUP keeps its default."""
    silence = goes_on(config.sweep_threshold)
    by_name = {kind.name: kind.within(silence) for kind in kinds}
    timeouts = {kind.name: kind.lease_timeout for kind in kinds}
    names = list(by_name)
    identity = identify()
    registration = Registration(identity, names, config.sweep_threshold or None)

    queue = QueueSession(connect("shithubd-worker", MAIN_ANSWER_SECONDS, True), schema, identity.id)
    control_session = ControlSession(connect("shithubd-worker control", CONTROL_ANSWER_SECONDS, True), schema)
    for_handlers = connect("shithubd-worker handler", HANDLER_ANSWER_SECONDS, False)
    handler_session = HandlerSession(for_handlers, schema, pooled=config.pooled)

    stop, alarm, dead_man, systemd = Stop(config.grace), Alarm(), DeadMan(), Systemd()
    bell, ears = SelfPipe(), SelfPipe()  # one ends the main thread's sleep, the other the control thread's
    progress, tray = Progress(stop), Tray()

    # One round trip after the other.
    clock = Clock(partial(_clock_was_set, metrics))
    selection = Selection(names, clock, config.prefetch, until_empty=config.until_empty)
    settler = Settler(identity.leased_by, tray, metrics)
    recovery = Recovery(config.sweep_threshold, config.sweep_interval, config.recovery_delay)
    upkeep = Upkeep(queue, clock, timeouts, recovery, drop=not config.pooled)
    wire = Wire(queue, timeouts, pooled=config.pooled)
    exchange = Exchange(wire, tray, selection, settler, upkeep, stop, metrics)
    unstarted = Unstarted(
        by_name, queue=queue, tray=tray, exchange=exchange, selection=selection, settler=settler, upkeep=upkeep
    )

    # The database, lost and found.
    def listen() -> None:
        if config.pooled:
            queue.value("channel_v1")  # any answer will do
        else:
            queue.listen(heard)  # the lease that follows finds what was enqueued while nobody listened

    def heard(payload: str) -> None:
        metrics.woken("notify")
        selection.heard(payload)

    def drop() -> None:
        queue.close()
        handler_session.close()

    def hang_up() -> None:
        drop()
        control_session.close()

    def found() -> None:
        ears.wake()  # the control thread need not look for the database as well
        metrics.reconnected("main")

    live = LiveConfig(config, reread, stop, selection.pace)
    sleep = Sleep(queue, selection, bell, live, metrics)
    reconnect = Reconnect(queue, exchange, progress, sleep, drop, listen, found)
    patience = Patience(queue, selection.caution, progress, sleep, reconnect, metrics)
    shutdown = Shutdown(exchange, settler, reconnect, patience, progress, sleep)

    # The process.
    process_state = ProcessState(
        on_stop=partial(stop_asked, stop, bell),
        on_alarm=partial(alarm_rang, alarm, progress),
        ears=ears,
        alarm=alarm,
        dead_man=dead_man,
        reload=reread is not None,
    )
    runner = Runner(by_name, live, handler_session, progress, alarm, dead_man, process_state)
    lessons = Lessons(selection, tray, process_state, patience, metrics)
    work = Work(tray, runner, exchange, unstarted, lessons, progress, ears.wake)
    # What goes on while a handler runs. The duties run in this order, and the questions to the database in theirs. Its
    # clock and the lease come first, because the other questions may wait for a lock.
    relief = Relief(control_session, identity.id, tray, settler)
    trust = Trust(progress, dead_man, silence)
    heartbeat = Heartbeat(control_session, registration, progress, settler, trust, clock, config.heartbeat_interval)
    clock_look = ClockLook(control_session, clock, bell.wake)
    outage, supervision = Outage(control_session, progress, bell.wake, metrics), Supervision(systemd, progress)
    renewal = Renewal(control_session, progress, clock, outage, trust, metrics)
    figures = Figures(control_session, metrics)
    ending = Ending(
        control_session, identity.id, relief, strays=lambda: exchange.strays, figures=figures, systemd=systemd
    )
    duties = (
        Hearing(
            ears,
            stop,
            reload=Reloading(live.reload, systemd, supervision, bell.wake),
            wake_main=bell.wake,
            beat_now=heartbeat.hurry,
        ),
        Enforcing(
            progress,
            dead_man,
            lethal=process_state.lethal,
            end=ending,
        ),
        Asking(
            control_session, progress, outage, renewal, heartbeat, (clock_look, renewal, relief, heartbeat, figures)
        ),
        supervision,
    )
    shortest_lease = min(timeouts.values(), default=300.0)
    control = Control(control_session, ears, progress, tray, settler, shortest_lease=shortest_lease, duties=duties)

    startup = Startup(registration, queue, control_session, heartbeat, listen, woken=not config.pooled)
    presence = Presence(startup, control_session, progress, sleep, systemd, figures, hang_up)
    loop = Loop(exchange, work, sleep, patience, shutdown, progress, (control_session, handler_session))
    metrics.watch(progress.state, progress.running, progress.is_up)
    lines.watch(progress.at_work)
    return Worker(process_state, dead_man, presence, control, exchange, loop, shutdown)


def _clock_was_set(metrics: Metrics, seconds: float) -> None:
    """The thread that noticed it calls this."""
    metrics.clock_stepped(seconds)
    logs.clock_stepped(seconds)
