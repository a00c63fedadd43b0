"""A TCP proxy between some workers and the database, whose connections the run cuts or stalls.

    python -m torture.proxy PORT LISTEN_PORT

It is a process of its own. Lines on its standard input are its commands, and it ends with that input:

    drop            close all connections properly, as a load balancer does that restarts
    reset           end them with a RST, as a firewall does that forgot them
    stall N [NAME]  let nothing through for N seconds, in both directions; only on connections with this
                    application_name, and on those that are opened meanwhile
    hold            let nothing through, in both directions, until `flow`
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from torture.records import die_with_parent

CHUNK = 65536
EVERYTHING = ""  # a stall of all connections


class Proxy:
    """The process, seen from the run."""

    def __init__(self, port: int, listen_port: int) -> None:
        self.port = listen_port
        self._process = subprocess.Popen(
            [sys.executable, "-m", "torture.proxy", str(port), str(listen_port)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "listening\n":
            raise RuntimeError("the proxy didn't start")

    def tell(self, order: str) -> None:
        """Make it drop, reset, stall or flow."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()

    def hold(self) -> None:
        """From now on, let nothing through."""
        self.tell("hold")
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "holding\n"

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class _Wire:
    """All connections that pass through."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._stalls: list[str] = []  # the names of the connections that stand still now
        self._moves = asyncio.Condition()
        self._pumps: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        try:
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        named: set[str] = set()  # the name of this connection, as soon as it is known
        for source, target in ((reader, behind_writer), (behind_reader, writer)):
            pump = asyncio.create_task(self._pump(source, target, {writer, behind_writer}, named))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        both: set[asyncio.StreamWriter],
        named: set[str],
    ) -> None:
        self._writers |= both
        with suppress(OSError):
            while data := await source.read(CHUNK):
                if not named and (found := re.search(rb"\0application_name\0([^\0]+)\0", data)):
                    named.add(found[1].decode())
                async with self._moves:
                    await self._moves.wait_for(lambda: not ({EVERYTHING} | named).intersection(self._stalls))
                target.write(data)
                await target.drain()
        self._writers -= both
        for writer in both:
            writer.close()

    async def obey(self, order: str) -> None:
        """One line of standard input."""
        word, *rest = order.split()
        if word == "stall":
            seconds, name = float(rest[0]), " ".join(rest[1:])
            self._stalls.append(name)
            await asyncio.sleep(seconds)
            await self._end_stall(name)
            return
        if word == "hold":
            self._stalls.append(EVERYTHING)
            print("holding", flush=True)
            return
        if word == "flow":
            await self._end_stall(EVERYTHING)
            return
        for writer in tuple(self._writers):
            if word == "reset":
                linger = struct.pack("ii", 1, 0)  # with a linger time of 0 the end of the socket is a RST
                with suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            else:
                writer.close()

    async def _end_stall(self, name: str) -> None:
        async with self._moves:
            self._stalls.remove(name)
            self._moves.notify_all()


async def serve(port: int, listen_port: int) -> None:
    """Until the end of standard input."""
    wire = _Wire(port)
    server = await asyncio.start_server(wire.accept, "127.0.0.1", listen_port)
    print("listening", flush=True)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    tasks = set()
    while line := await orders.readline():
        tasks.add(asyncio.create_task(wire.obey(line.decode())))
    server.close()


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
