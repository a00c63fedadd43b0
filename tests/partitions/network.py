"""Hosts as network namespaces, with a router between them that can drop their packets.

A namespace lives as long as a process of ours, and the kernel ends that process together with us. So nothing is left
when the tests die, however they die.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from waiting import eventually

SERVER = "10.61.0.2"
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
PROGRAMS = ("ip", "nft", "nsenter", "setpriv", "unshare")

# What the router does with packets of one worker. {A}: its address; {P}: the port of its control connection.
CUTS = {
    "both": ["drop"],
    "to the server": ["ip saddr {A} drop"],
    "from the server": ["ip daddr {A} drop"],
    "new connections": ["ip saddr {A} tcp flags & (syn | ack) == syn drop"],
    "control": ["tcp sport {P} drop", "tcp dport {P} drop"],
    "control and new": ["tcp sport {P} drop", "tcp dport {P} drop", "ip saddr {A} tcp flags & (syn | ack) == syn drop"],
    "reset": ["meta l4proto tcp reject with tcp reset"],
    "flapping": ["drop"],
}


def why_not() -> str | None:
    """Why this machine cannot cut networks, or None if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        return f"no {', '.join(missing)} here: make test as root installs it"
    tried = subprocess.run(["unshare", "--net", "nft", "add table inet t"], capture_output=True, text=True, check=False)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else None


class Namespace:
    """A host: a network, a name and processes of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        command = [*DIES_WITH_US, "unshare", "--net", "--uts", "--pid", "--fork", "--kill-child", "sleep", "infinity"]
        self._holder = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self.pid = int(eventually(lambda: children.read_text().split(), f"the namespace {name}")[0])
        self.run("hostname", name)
        self.run("ip", "link", "set", "lo", "up")

    def enter(self, *flags: str) -> list[str]:
        """The words before a command that runs on this host."""
        return ["nsenter", "-t", str(self.pid), "-n", "-u", *flags]

    def run(self, *command: str, stdin: str = "") -> None:
        """Run a command on it."""
        done = subprocess.run([*self.enter(), *command], input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{self.name}: {' '.join(command)}: {done.stderr}{stdin}"

    def end(self) -> None:
        """End it with all of its processes."""
        self._holder.kill()
        self._holder.wait()


class Network:
    """A server, workers, and the router between them."""

    def __init__(self, workers: int) -> None:
        self.router = Namespace("router")
        self.server = Namespace("server")
        self.hosts = [Namespace(f"web{number}") for number in range(workers)]
        self._cable(self.server, SERVER)
        rules = ["table inet cuts {"]
        for number, host in enumerate(self.hosts):
            self._cable(host, self.address(number))
            rules.append(f"chain w{number} {{ }}")
        rules += ["chain forward { type filter hook forward priority 0;"]
        for number in range(workers):
            rules += [f"ip {way} {self.address(number)} jump w{number};" for way in ("saddr", "daddr")]
        self.router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self.router.run("nft", "-f", "-", stdin="\n".join([*rules, "}", "}"]))

    @staticmethod
    def address(number: int) -> str:
        """The address of a worker."""
        return f"10.60.{number}.2"

    def cut(self, number: int, sort: str, control_port: int = 0) -> None:
        """Cut one worker off. `control_port`: of its control connection."""
        rules = [rule.format(A=self.address(number), P=control_port) for rule in CUTS[sort]]
        self._set(number, rules)

    def heal(self, number: int) -> None:
        """Let its packets through again."""
        self._set(number, [])

    def end(self) -> None:
        """End all hosts, with their processes."""
        ends: list[Callable[[], None]] = [each.end for each in (*self.hosts, self.server, self.router)]
        for end in ends:
            end()

    def _set(self, number: int, rules: list[str]) -> None:
        lines = [f"flush chain inet cuts w{number}", *(f"add rule inet cuts w{number} {rule}" for rule in rules)]
        self.router.run("nft", "-f", "-", stdin="\n".join(lines) + "\n")

    def _cable(self, host: Namespace, address: str) -> None:
        """Connect a host with the router, which has the first address of the host's network."""
        gateway = address.rpartition(".")[0] + ".1"
        port = f"to-{host.name}"
        ends = ["link", "add", port, "netns", str(self.router.pid), "type", "veth", "peer", "name", "lan"]
        subprocess.run(["ip", *ends, "netns", str(host.pid)], check=True)
        for where, device, own in ((self.router, port, gateway), (host, "lan", address)):
            where.run("ip", "address", "add", f"{own}/24", "dev", device)
            where.run("ip", "link", "set", device, "up")
        host.run("ip", "route", "add", "default", "via", gateway)
