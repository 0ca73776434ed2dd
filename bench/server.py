"""A peer's server: started on its core, checked, and ended by pid."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench import accounting
from bench.environments import OUT, ROOT, Environment, PeerUnavailable
from bench.peers import Peer
from bench.probe import WrongAnswer, probe

START_SECONDS = 15.0
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Server:
    """A running server: its peer, the pid of its first process, and its port on 127.0.0.1."""

    peer: Peer
    pid: int
    port: int


def pinned(core: int, command: list[str]) -> list[str]:
    """The command, run on one core, and killed should this process die first."""
    return ["taskset", "--cpu-list", str(core), "setpriv", "--pdeathsig", "KILL", *command]


def free_port() -> int:
    """A port below the range that the kernel gives to clients, so that no client connection can take it."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port
    raise PeerUnavailable("no free port between 20000 and 32000 in 100 tries")


@contextlib.contextmanager
def running(
    peer: Peer,
    environment: Environment,
    app: str,
    core: int,
    extra: tuple[str, ...] = (),
    under: tuple[str, ...] = (),
) -> Iterator[Server]:
    """Start a server for the length of a with-block.

    Args:
        peer: Which server.
        environment: Where it is installed.
        app: What it serves.
        core: Where it runs.
        extra: Words added at the end of its command.
        under: A program that runs it, such as valgrind with its options; it then gets longer to start.

    Raises:
        PeerUnavailable: It ended, or did not answer rightly within START_SECONDS.
    """
    port = free_port()
    words = {"python": environment.python, "bin": environment.bin, "floor": OUT / "floor", "port": port, "app": app}
    command = [word.format_map(words) for word in (*under, *peer.argv, *extra)]
    log = OUT / "logs" / f"{peer.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned(core, command), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_ready(process, peer, port, START_SECONDS * (8 if under else 1))
        yield Server(peer, process.pid, port)
    finally:
        _end(process)


def _wait_until_ready(process: subprocess.Popen[bytes], peer: Peer, port: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    reason = "no answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise PeerUnavailable(f"{peer.name}: exited with code {process.returncode}: {_last_line(peer)}")
        try:
            probe(port)
            return
        except (OSError, WrongAnswer) as error:
            reason = str(error)
            time.sleep(0.02)
    raise PeerUnavailable(f"{peer.name}: not ready after {seconds:.0f} s: {reason}")


def _last_line(peer: Peer) -> str:
    lines = (OUT / "logs" / f"{peer.name}.log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL for the process and for every child it had."""
    family = accounting.tree(process.pid) if process.poll() is None else []
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    for pid in accounting.tree(process.pid) if process.poll() is None else family[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
