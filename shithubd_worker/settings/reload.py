"""A reload: what a running worker takes over from the files of its unit, and what needs a restart."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Set

from shithubd_worker.settings import host_files
from shithubd_worker.settings.config import SETTINGS, Config
from shithubd_worker.settings.names import misnamed

log = logging.getLogger(__name__)

_LIVE = {row.variable for row in SETTINGS.values() if row.live}


class Reload:
    """Made when a worker starts, and called for each reload.

    `by_flag` are the variables that a flag overrides. `check` makes a Config from the variables. It raises ConfigError
    with all faults, including those that it is given. `set_level` sets the log level.
    """

    def __init__(
        self,
        unit: str,
        by_flag: Set[str],
        check: Callable[[Mapping[str, str], list[str]], Config],
        set_level: Callable[[str], None],
    ) -> None:
        self._unit = unit
        self._by_flag = by_flag
        self._check = check
        self._set_level = set_level
        self._now = dict(os.environ)
        # All variables that the files have ever had. Their faults are shown when somebody asks for a reload.
        self._ever_said = host_files.said_to(unit, faults=[])

    def __call__(self) -> Config:
        """The configuration with what the files say now. A running worker can take over config.LIVE of it.

        A variable that the files no longer name keeps its value: only a restart shows what the unit itself says about
        it. Sets the log level, and logs what has changed. Raises ConfigError with all faults; then nothing has changed.
        """
        faults: list[str] = []
        said = host_files.said_to(self._unit, faults)
        config = self._check(self._now | said, [*faults, *misnamed(said)])
        changed = {name for name, value in said.items() if self._now.get(name) != value} - self._by_flag
        gone = self._ever_said.keys() - said.keys() - self._by_flag
        live, later = changed & _LIVE, changed - _LIVE | gone
        self._set_level(config.log_level)
        self._ever_said |= said
        self._now |= {name: said[name] for name in live}
        log.info(
            "reloaded: %s",
            ", ".join(f"{name}={said[name]}" for name in sorted(live)) or "nothing that changes a running worker",
        )
        if later:
            log.warning("only a restart changes %s", ", ".join(sorted(later)))
        return config
