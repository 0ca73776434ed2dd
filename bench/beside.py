"""`python -m bench beside`: what a generator of 10 MB costs a hundred quick requests beside it in latency."""

from __future__ import annotations

import contextlib
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.environments import ROOT, prepare
from bench.idle import Holder
from bench.peers import PEERS
from bench.probe import check, read_answer, request_bytes
from bench.server import pinned, running

QUICK = 100  # requests that are made at once
PAUSE = 0.005  # seconds between two hundreds
SLICE_SECONDS = 0.5
MOST = 1.2


@dataclass(frozen=True)
class Outcome:
    """Latencies of quick requests in microseconds, alone and beside the generator, and how much of it came.

    Each is the lower quartile of those of all slices: what shares the machine only ever adds time.
    """

    alone_median: float
    alone_p99: float
    beside_median: float
    beside_p99: float
    megabytes: float

    def met(self) -> bool:
        """Whether the goal is: p99 at most a fifth higher."""
        return self.megabytes > 0 and self.beside_p99 <= MOST * self.alone_p99


def measure(rounds: int, seconds: float, python: Path, server_core: int, load_core: int) -> list[Outcome]:
    """Alone and beside it in turn, in slices of half a second; a server started afresh for each round.

    Args:
        rounds: outcomes.
        seconds: of quick requests in each, for each side.
        python: the interpreter that has streamserve.
        server_core: where the server runs.
        load_core: where all clients run, the one that downloads when the others wait.

    Raises:
        PeerUnavailable: The server did not start.
        RuntimeError: An answer was wrong.
    """
    peer = PEERS["streamserve"]
    environment = prepare(peer, python)
    outcomes = []
    for _ in range(rounds):
        with running(peer, environment, "bench.apps.table:app", server_core) as server:
            outcomes.append(_compare(server.port, seconds, load_core))
        print(f"beside: {outcomes[-1]}", file=sys.stderr, flush=True)
    return outcomes


def _compare(port: int, seconds: float, core: int) -> Outcome:
    alone: list[list[float]] = []
    beside: list[list[float]] = []
    megabytes = 0
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", port)
        clients = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(QUICK)]
        latencies(clients, port, SLICE_SECONDS)  # what the server allocates once
        for _ in range(max(4, round(seconds / SLICE_SECONDS))):
            alone.append(latencies(clients, port, SLICE_SECONDS))
            with _download(port, core) as download:
                download.ask("megabytes")
                beside.append(latencies(clients, port, SLICE_SECONDS))
                megabytes += download.ask("megabytes")
    return Outcome(*_summary(alone), *_summary(beside), megabytes / SLICE_SECONDS / len(beside))


def latencies(clients: list[socket.socket], port: int, seconds: float) -> list[float]:
    """Ask on all connections at once, again and again, and return the time of each checked answer in microseconds."""
    request = request_bytes(port)
    found: list[float] = []
    began: dict[int, float] = {}
    by_number = {client.fileno(): client for client in clients}
    with select.epoll() as poller:
        for number in by_number:
            poller.register(number, select.EPOLLIN)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for number, client in by_number.items():
                began[number] = time.perf_counter()
                client.sendall(request)
            while began:
                for number, _ in poller.poll(10):
                    answer = read_answer(by_number[number])
                    found.append((time.perf_counter() - began.pop(number)) * 1e6)
                    check(answer)
            time.sleep(PAUSE)
    return found


def _summary(slices: list[list[float]]) -> tuple[float, float]:
    medians = [statistics.median(found) for found in slices]
    tails = [statistics.quantiles(found, n=100)[98] for found in slices]
    return statistics.quantiles(medians)[0], statistics.quantiles(tails)[0]


@contextlib.contextmanager
def _download(port: int, core: int) -> Iterator[Holder]:
    """The client of the generator, in a process of its own."""
    command = [sys.executable, "-m", "bench.download", str(port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(pinned(core, command), cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            holder = Holder(process)
            holder.read("open")
            yield holder
        finally:
            process.kill()


def table(outcomes: list[Outcome]) -> str:
    """The outcomes for a terminal."""
    rows = [f"{QUICK} quick requests  {'median us':>17}  {'p99 us':>17}  {'ratio':>5}  {'MB/s beside':>11}  goal"]
    for one in outcomes:
        medians = f"{one.alone_median:6.0f} -> {one.beside_median:6.0f}"
        tails = f"{one.alone_p99:6.0f} -> {one.beside_p99:6.0f}"
        ratio = one.beside_p99 / one.alone_p99
        verdict = "met" if one.met() else "MISSED"
        rows.append(f"{'':<18}  {medians:>17}  {tails:>17}  {ratio:>5.2f}  {one.megabytes:>11.0f}  {verdict}")
    return "\n".join([*rows, f"goal: p99 at most {MOST:g} times that without the generator"])


def as_json(outcomes: list[Outcome]) -> list[dict[str, object]]:
    """The outcomes for --json."""
    return [asdict(one) | {"met": one.met()} for one in outcomes]
