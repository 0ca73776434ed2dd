"""A WebSocket server and its load (ws_load.c), each on its core, for the length of a with-block."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import accounting
from bench.environments import OUT, ROOT, PeerUnavailable, compiled
from bench.idle import Holder
from bench.server import free_port, pinned
from bench.websocket_peers import Ready

START_SECONDS = 30.0
IN_PYTHON = ("plain", "tls")  # what sio_load.py takes


class Load(Holder):
    """The running ws_load."""

    def order(self, words: str) -> int:
        """Have it do one thing, and read how many messages came back.

        Raises:
            RuntimeError: What came back was wrong, or nothing came.
        """
        self.write(words)
        return self.read("done")


@dataclass(frozen=True)
class Server:
    """A started server, its port on 127.0.0.1, and where its output goes."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    load: str = ""

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def last_line(self) -> str:
        """What it said last."""
        return (self.log.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]


@dataclass(frozen=True)
class Loaded:
    """A running server with all its connections open, and the load that takes the orders of ws_load.c."""

    server: Server
    load: Load


@contextlib.contextmanager
def serving(ready: Ready, mode: str, core: int) -> Iterator[Server]:
    """Start a server. It may not listen yet."""
    port = free_port()
    log = OUT / "logs" / f"ws-{ready.subject.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned(core, ready.command(mode, port)),
            cwd=ROOT,
            env={**os.environ, **ready.environ()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Server(process, port, log, ready.subject.load)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def loading(server: Server, connections: int, core: int) -> Iterator[Load]:
    """Open the connections, as soon as the server listens.

    Raises:
        PeerUnavailable: It did not within START_SECONDS, ended, or refused a handshake.
    """
    words = [str(server.port), str(connections), server.load]
    program = [sys.executable, "-m", "bench.sio_load"] if server.load in IN_PYTHON else [str(compiled("ws_load"))]
    command = pinned(core, [*program, *(word for word in words if word)])
    deadline = time.monotonic() + START_SECONDS
    while True:
        with _started(command) as process:
            load = Load(process)
            try:
                load.read("open")
            except RuntimeError as error:
                if server.process.poll() is not None:
                    raise PeerUnavailable(f"the server ended: {server.last_line()}") from error
                if "refused" not in str(error) or time.monotonic() > deadline:
                    raise PeerUnavailable(str(error)) from error
                time.sleep(0.05)  # it does not listen yet
                continue
            yield load
            return


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        with contextlib.suppress(BrokenPipeError):  # an order that it did not live to read
            process.communicate()


@contextlib.contextmanager
def loaded(ready: Ready, mode: str, connections: int, server_core: int, load_core: int) -> Iterator[Loaded]:
    """A server with all its connections open."""
    with serving(ready, mode, server_core) as server, loading(server, connections, load_core) as load:
        yield Loaded(server, load)


def spent(target: Loaded, order: str) -> tuple[int, accounting.Spent]:
    """One order: the messages that came back, and what the server used meanwhile."""
    before = accounting.usage(target.server.pid)
    count = target.load.order(order)
    return count, accounting.spent(before, accounting.usage(target.server.pid))
