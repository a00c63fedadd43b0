"""A reload: what a running worker takes over from the files that its unit reads, and what takes a restart."""

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
    """Made at the start of a worker; called for each reload.

    `by_flag`: the variables that flags stand over. `check` makes a Config of the variables, and raises ConfigError with
    all faults, those that it is given among them.
    """

    def __init__(self, unit: str, by_flag: Set[str], check: Callable[[Mapping[str, str], list[str]], Config]) -> None:
        self._unit = unit
        self._by_flag = by_flag
        self._check = check
        self._now = dict(os.environ)
        # All that the files have ever said. What is wrong with them is told when somebody asks for a reload.
        self._ever_said = host_files.said_to(unit, faults=[])

    def __call__(self) -> Config:
        """The configuration with what the files say now; what of it a running worker can take over is config.LIVE.

        A variable that they don't name any more stays as it is: what the unit itself says of it, only a restart tells.
        Sets the log level, and logs what has changed. Raises ConfigError with the faults; then nothing was changed.
        """
        faults: list[str] = []
        said = host_files.said_to(self._unit, faults)
        config = self._check(self._now | said, [*faults, *misnamed(said)])
        changed = {name for name, value in said.items() if self._now.get(name) != value} - self._by_flag
        gone = self._ever_said.keys() - said.keys() - self._by_flag
        live, later = changed & _LIVE, changed - _LIVE | gone
        logging.getLogger().setLevel(config.log_level.upper())
        self._ever_said |= said
        self._now |= {name: said[name] for name in live}
        log.info(
            "reloaded: %s",
            ", ".join(f"{name}={said[name]}" for name in sorted(live)) or "nothing that changes a running worker",
        )
        if later:
            log.warning("only a restart changes %s", ", ".join(sorted(later)))
        return config
