"""A TCP proxy between some workers and the database, whose connections the run cuts or stalls.

    python -m torture.proxy PORT LISTEN_PORT

It is a process of its own. Lines on its standard input are its commands, and it ends with that input:

    drop     close all connections properly, as a load balancer does that restarts
    reset    end them with a RST, as a firewall does that forgot them
    stall N  let nothing through for N seconds, in both directions
    hold     let nothing through, in both directions, until `flow`
"""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from torture.records import die_with_parent

CHUNK = 65536


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
        self._flows = asyncio.Event()
        self._flows.set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        try:
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        for source, target in ((reader, behind_writer), (behind_reader, writer)):
            pump = asyncio.create_task(self._pump(source, target, {writer, behind_writer}))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, both: set[asyncio.StreamWriter]
    ) -> None:
        self._writers |= both
        with suppress(OSError):
            while data := await source.read(CHUNK):
                await self._flows.wait()
                target.write(data)
                await target.drain()
        self._writers -= both
        for writer in both:
            writer.close()

    async def obey(self, order: str) -> None:
        """One line of standard input."""
        word, *rest = order.split()
        if word in ("stall", "hold", "flow"):
            if word != "flow":
                self._flows.clear()
            if word == "hold":
                print("holding", flush=True)
                return
            await asyncio.sleep(float(rest[0]) if rest else 0.0)
            self._flows.set()
            return
        for writer in tuple(self._writers):
            if word == "reset":
                linger = struct.pack("ii", 1, 0)  # with a linger time of 0 the end of the socket is a RST
                with suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            else:
                writer.close()


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
