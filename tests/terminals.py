"""Terminals that nobody looks at: a tmux server of one test, with a socket of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from waiting import eventually

WITHIN = 60.0


class Terminal:
    """A shell in a terminal of a given size."""

    def __init__(self, width: int = 80, height: int = 24, env: dict[str, str] | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="shw-tmux-"))
        self._socket = str(self.directory / "socket")
        clean = {
            k: v for k, v in (env or os.environ).items() if k not in ("TMUX", "TERM", "NO_COLOR", "LINES", "COLUMNS")
        }
        self._env = clean | {"LC_ALL": "C.UTF-8", "HISTFILE": ""}
        size = ["-x", str(width), "-y", str(height)]
        self.tmux("-f", "/dev/null", "new-session", "-d", *size, "bash --norc --noprofile")
        self.sees("bash-")

    def tmux(self, *arguments: str) -> str:
        """A command of tmux; its output."""
        command = ["tmux", "-S", self._socket, *arguments]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, check=True, timeout=WITHIN)
        return done.stdout

    def type(self, *keys: str) -> None:
        """Press keys, each by its name in tmux, or a text letter by letter."""
        self.tmux("send-keys", *keys)

    def run(self, command: str) -> None:
        """Type a command into the shell."""
        self.tmux("send-keys", "-l", command)
        self.type("Enter")

    def does(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        """Run a command in the shell: `code N` follows it."""
        settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in (env or {}).items())
        self.run(f"clear; {settings} {shlex.join(arguments)}; echo code $?")

    def screen(self, *, styles: bool = False) -> str:
        """What stands there now."""
        return self.tmux("capture-pane", "-p", *(["-e"] if styles else []))

    def sees(self, *texts: str, without: str | None = None) -> str:
        """Wait until all these texts stand there (and one doesn't), wherever a line ends. Returns the screen."""
        last = ""

        def look() -> bool:
            nonlocal last
            last = self.screen()
            words = " ".join(last.split())
            return all(text in words for text in texts) and (without is None or without not in words)

        try:
            eventually(look, f"{texts} on the screen", within=WITHIN)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{last}") from None
        return last

    def modes(self) -> str:
        """What the terminal is set to: of the kernel, and of tmux."""
        tty = self.tmux("display-message", "-p", "#{pane_tty}").strip()
        kernel = subprocess.run(["stty", "-F", tty, "-a"], capture_output=True, text=True, check=True).stdout
        flags = "alternate_on cursor_flag mouse_any_flag mouse_button_flag mouse_sgr_flag keypad_flag wrap_flag"
        return kernel + self.tmux("display-message", "-p", " ".join(f"{each}=#{{{each}}}" for each in flags.split()))

    def resize(self, width: int, height: int) -> None:
        """Another size."""
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def child(self) -> int:
        """The process that the shell runs."""
        shell = self.tmux("display-message", "-p", "#{pane_pid}").strip()

        def look() -> str:
            return subprocess.run(["pgrep", "-P", shell], capture_output=True, text=True, check=False).stdout.strip()

        return int(eventually(look, "the shell's child", within=WITHIN).split()[0])

    def close(self) -> None:
        """End the server of tmux, and all that runs in it."""
        with suppress(subprocess.CalledProcessError):  # nothing runs in it any more
            self.tmux("kill-server")
        shutil.rmtree(self.directory, ignore_errors=True)
