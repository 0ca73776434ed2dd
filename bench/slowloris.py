"""`python -m bench slowloris`: what thousands of slow clients cost the good ones in latency, the server in memory."""

from __future__ import annotations

import contextlib
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import accounting
from bench.environments import ROOT, prepare
from bench.idle import Holder
from bench.peers import PEERS
from bench.probe import check, read_answer, request_bytes
from bench.server import Server, pinned, running

CONNECTIONS = 5000  # of one kind that drips, or what the limit of open files leaves
BOTH = 2000  # of those that drip heads and bodies, beside the others
UNREAD = 100  # of those that do not read: they cost the kernel more than the server
GOOD_CONNECTIONS = 16
PACE = 0.002  # seconds between two requests of the good clients
SETTLE_SECONDS = 1.0
QUIET_SECONDS = 5.0  # at most, until the attack has arrived
QUIET_SHARE = 0.1  # of its core, for the server
SPARE_FILES = 500  # of the server and of the attacker, beside the attack's connections
ALL = "all"
MOST_LATENCY = 1.2
MOST_BYTES = 5120.0


@dataclass(frozen=True)
class Outcome:
    """One attack: latencies of good clients in microseconds, alone and under it; RSS in bytes per slow connection."""

    kinds: str
    connections: int
    alone_median: float
    alone_p99: float
    attacked_median: float
    attacked_p99: float
    rss: float
    ended: int

    def met(self) -> bool:
        """Whether both goals are: the median latency at most a fifth higher, and at most 5 KiB a connection.

        The second is that of all kinds together: who does not read holds the rest of a response, whatever its size.
        """
        return self.attacked_median <= MOST_LATENCY * self.alone_median and (
            self.rss <= MOST_BYTES or self.kinds not in ("heads", "bodies", ALL)
        )


def attacks() -> dict[str, dict[str, int]]:
    """How many connections of which kinds, by the attack's name."""
    dripping = min(CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES)
    both = min(BOTH, dripping - UNREAD) // 2
    return {
        "heads": {"heads": dripping},
        "bodies": {"bodies": dripping},
        "reads": {"reads": UNREAD},
        "pages": {"pages": UNREAD},
        "streams": {"streams": UNREAD},
        ALL: {"heads": both, "bodies": both, "pages": UNREAD // 2, "streams": UNREAD // 2},
    }


def measure(seconds: float, python: Path, server_core: int, load_core: int) -> list[Outcome]:
    """Attack with each kind alone, then with all at once; each on a server started afresh.

    Args:
        seconds: of good requests in each window; an attack has one under it and two beside it.
        python: the interpreter that has streamserve.
        server_core: where the server runs.
        load_core: where good and slow clients run, the slow ones when nothing else does.

    Raises:
        PeerUnavailable: The server did not start.
        RuntimeError: An answer was wrong, or the attack could not be made.
    """
    peer = PEERS["streamserve"]
    environment = prepare(peer, python)
    outcomes = []
    for name, kinds in attacks().items():
        with running(peer, environment, "bench.apps.pages:app", server_core) as server:
            outcomes.append(_attack(server, name, kinds, seconds, load_core))
        print(f"slowloris {name}: {outcomes[-1]}", file=sys.stderr, flush=True)
    return outcomes


def _attack(server: Server, name: str, kinds: dict[str, int], seconds: float, core: int) -> Outcome:
    count = sum(kinds.values())
    few = {kind: max(1, each // 20) for kind, each in kinds.items()}
    with _good_clients(server.port) as clients:
        with _attackers(server.port, few, core):  # what the server allocates once
            latencies(clients, server.port, seconds / 4)
        time.sleep(SETTLE_SECONDS)
        alone = latencies(clients, server.port, seconds)
        before = accounting.resident(server.pid)
        with _attackers(server.port, kinds, core) as attackers:
            _wait_until_quiet(server.pid)
            attacked = latencies(clients, server.port, seconds)
            after = accounting.resident(server.pid)
            ended = attackers.ask("ended")
        time.sleep(SETTLE_SECONDS)
        alone += latencies(clients, server.port, seconds)
    return Outcome(name, count, *_summary(alone), *_summary(attacked), (after - before) / count, ended)


def latencies(clients: list[socket.socket], port: int, seconds: float) -> list[float]:
    """Ask one client after another, every PACE seconds, and return the time of each checked answer in microseconds."""
    request = request_bytes(port)
    found: list[float] = []
    end = time.perf_counter() + seconds
    due = time.perf_counter()
    while due < end:
        client = clients[len(found) % len(clients)]
        began = time.perf_counter()
        client.sendall(request)
        answer = read_answer(client)
        found.append((time.perf_counter() - began) * 1e6)
        check(answer)
        due = max(due + PACE, time.perf_counter())
        time.sleep(max(0.0, due - time.perf_counter()))
    return found


def _wait_until_quiet(pid: int) -> None:
    """The arrival of the attack is load like any other: what is measured begins when it only drips."""
    end = time.monotonic() + QUIET_SECONDS
    used = 1.0
    while used > QUIET_SHARE and time.monotonic() < end:
        before = accounting.usage(pid)
        time.sleep(SETTLE_SECONDS / 2)
        used = accounting.spent(before, accounting.usage(pid)).cpu / 1e9 / (SETTLE_SECONDS / 2)


def _summary(found: list[float]) -> tuple[float, float]:
    return statistics.median(found), statistics.quantiles(found, n=100)[98]


@contextlib.contextmanager
def _good_clients(port: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", port)
        yield [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(GOOD_CONNECTIONS)]


@contextlib.contextmanager
def _attackers(port: int, kinds: dict[str, int], core: int) -> Iterator[Holder]:
    """The slow clients, in a process of their own."""
    words = [f"{kind}={count}" for kind, count in kinds.items()]
    command = [sys.executable, "-m", "bench.attack", str(port), *words]
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
    head = f"{'attack':<20} {'conns':>5}  {'median us':>17}  {'p99 us':>17}  {'RSS/conn':>8}  {'ended':>5}  goal"
    rows = [head]
    for one in outcomes:
        medians = f"{one.alone_median:6.0f} -> {one.attacked_median:6.0f}"
        tails = f"{one.alone_p99:6.0f} -> {one.attacked_p99:6.0f}"
        verdict = "met" if one.met() else "MISSED"
        row = f"{one.kinds:<20} {one.connections:>5}  {medians:>17}  {tails:>17}"
        rows.append(f"{row}  {one.rss:>8.0f}  {one.ended:>5}  {verdict}")
    goal = f"goal: median at most {MOST_LATENCY:g} times that without the attack, at most {MOST_BYTES:.0f} bytes"
    return "\n".join([*rows, goal])


def as_json(outcomes: list[Outcome]) -> list[dict[str, object]]:
    """The outcomes for --json."""
    return [asdict(one) | {"met": one.met()} for one in outcomes]
