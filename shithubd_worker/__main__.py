"""The program `shithubd-worker`, which is also `python -m shithubd_worker`."""

import gc


def main() -> None:
    """Run it."""
    # To import a module makes objects, and no garbage: the search for garbage would be a tenth of the start.
    # cli.common.collect_again switches it on again.
    gc.disable()
    from shithubd_worker.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
