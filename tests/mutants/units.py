"""The units and their drop-ins: what systemd does with a worker, and what a worker may do."""

from __future__ import annotations

from mutants.mutant import UNIT, Mutant

LONG_DRAIN = ("test_the_long_drain_drop_in_lasts_as_long_as_it_says",)
OFFLINE = ("test_the_offline_drop_in_allows_no_address",)
HISTORY = ("test_the_owner_drops_the_history_once_a_day_also_after_a_night_without_power",)
ORDER = ("test_the_target_is_stopped_after_its_workers_and_the_database_before_them",)


def _says(name: str, old: str, new: str) -> Mutant:
    test = "test_a_directive_on_which_a_promise_rests_has_its_value"
    return Mutant(name, UNIT, f"\n{old}\n", f"\n{new}\n", (f"{test}[{old.partition('=')[0]}]",))


MUTANTS = (
    _says("a git without memory stops the worker", "OOMPolicy=continue", "OOMPolicy=stop"),
    _says("the password stays after the process", "RuntimeDirectoryPreserve=no", "RuntimeDirectoryPreserve=yes"),
    Mutant("a long drain ends after 90 s", "units/drop-ins/long-drain.conf", "GRACE=900", "GRACE=90", LONG_DRAIN),
    Mutant(
        "the offline drop-in leaves the metrics",
        "units/drop-ins/offline.conf",
        "Environment=SHITHUBD_WORKER_METRICS=off\n",
        "",
        OFFLINE,
    ),
    Mutant(
        "the offline drop-in adds to what the unit allows",
        "units/drop-ins/offline.conf",
        "RestrictAddressFamilies=none\n",
        "",
        OFFLINE,
    ),
    _says("others read the password", "RuntimeDirectoryMode=0700", "RuntimeDirectoryMode=0755"),
    _says("others read the repositories", "StateDirectoryMode=0750", "StateDirectoryMode=0755"),
    _says("others read the files of a job", "UMask=0027", "UMask=0022"),
    _says("a job may write outside of its place", "ProtectSystem=strict", "ProtectSystem=full"),
    _says("a job may gain privileges", "NoNewPrivileges=yes", "NoNewPrivileges=no"),
    _says("a job sees the temporary files of others", "PrivateTmp=yes", "PrivateTmp=no"),
    _says(
        "no git is confined", "SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self", ""
    ),
    _says("a refused system call kills the worker", "SystemCallErrorNumber=EPERM", ""),
    _says("systemd gives up on a worker", "StartLimitIntervalSec=0", "StartLimitIntervalSec=60"),
    _says("a stop that takes too long shows no stack", "TimeoutStopFailureMode=abort", "TimeoutStopFailureMode=kill"),
    _says("the target stops no worker", "PartOf=shithubd-worker.target", ""),
    _says("any process of a job may notify systemd", "NotifyAccess=main", "NotifyAccess=all"),
    Mutant("the target is down before its workers", UNIT, "After=shithubd-worker.target\n", "", ORDER),
    Mutant(
        "a worker stops with its database",
        UNIT,
        "Wants=network-online.target",
        "Wants=network-online.target\nRequires=postgresql.service",
        ORDER,
    ),
    Mutant(
        "the workers' user drops the history",
        "units/shithub-history.service",
        "User=shithub-admin",
        "User=shithub",
        HISTORY,
    ),
    Mutant(
        "after a night without power no history is dropped",
        "units/shithub-history.timer",
        "Persistent=yes\n",
        "",
        HISTORY,
    ),
)
