"""The program `shithubd-worker`, which is also `python -m shithubd_worker`."""

import gc
import os
import sys


def main() -> None:
    """Run it."""
    # To import a module makes objects, and no garbage: the search for garbage would be a tenth of the start.
    # cli.common.collect_again switches it on again.
    gc.disable()
    try:
        _speak_utf8()
        from shithubd_worker.cli import main as command_line
    except (OSError, KeyboardInterrupt) as error:  # no descriptor or memory is left for its modules; or Ctrl-C
        if sys.stderr is not None:
            os.write(2, f"shithubd-worker: can't start: {str(error) or 'interrupted'}\n".encode())
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else 1)
    command_line()


def _speak_utf8() -> None:
    """Arguments, variables, files and output are UTF-8 in each locale. Python can choose that only at its start."""
    if sys.getfilesystemencoding() != "utf-8" and sys.executable:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
