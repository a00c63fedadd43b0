"""`make host`: a booted systemd host with PostgreSQL and the worker, and a shell in it. The host ends with the
shell."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from nspawn import Host, why_not
from worker_host import UNIT, build_wheels, configure, install, make_database


def main() -> int:
    """Boot, install, and run the shell."""
    if reason := why_not():
        print(f"can't boot a host here: {reason}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="shw-") as directory:
        wheels = Path(directory, "wheels")
        wheels.mkdir()
        print("building the wheel ...", file=sys.stderr)
        build_wheels(wheels)
        with Host("shw-shell", bind_ro={wheels: "/mnt/wheels"}) as host:
            print("booted; installing ...", file=sys.stderr)
            install(host)
            make_database(host)
            configure(host)
            host.run("systemctl", "start", UNIT)
            print("a host of its own: systemctl, journalctl, shithubd-worker. Its end: exit", file=sys.stderr)
            return host.popen("bash", "--login", stdin=None, cwd="/").wait()


if __name__ == "__main__":
    sys.exit(main())
