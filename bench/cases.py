"""The WSGI cases: what each does to running servers in one round, and what number it takes from them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import accounting
from bench.environments import Environment, PeerUnavailable
from bench.idle import held
from bench.measurement import Target, Window, combined, warm_up, window
from bench.peers import HELLO_APP, Peer
from bench.probe import BROWSER_HEADERS
from bench.samples import Sample
from bench.server import Server, running

IDLE_CONNECTIONS = 10_000
ACTIVE_CONNECTIONS = 100
SETTLE_SECONDS = 0.5


@dataclass(frozen=True)
class Setting:
    """Where and how long to measure: cores by number, seconds of load per sample."""

    server_core: int
    load_core: int
    seconds: int


Subjects = list[tuple[Peer, Environment]]
Round = Callable[[Subjects, Setting, int], Iterator[Sample]]


@dataclass(frozen=True)
class Case:
    """One case: its name, one line for the table's head, the unit of its value, and a round over all peers."""

    name: str
    title: str
    unit: str
    round: Round


def _hello(subjects: Subjects, setting: Setting, number: int) -> Iterator[Sample]:
    target = Target(64, (), setting.load_core)
    return _loaded(subjects, setting, number, target, slices=setting.seconds)


def _browser(subjects: Subjects, setting: Setting, number: int) -> Iterator[Sample]:
    target = Target(64, BROWSER_HEADERS, setting.load_core)
    return _loaded(subjects, setting, number, target, slices=setting.seconds)


def _sleep(subjects: Subjects, setting: Setting, number: int) -> Iterator[Sample]:
    """One slice only: accepting 500 connections must not weigh in a second's few thousand requests."""
    target = Target(500, (), setting.load_core)
    return _loaded(subjects, setting, number, target, slices=1, sleeping=True)


def _loaded(
    subjects: Subjects, setting: Setting, number: int, target: Target, slices: int, sleeping: bool = False
) -> Iterator[Sample]:
    """Start all servers, then load one after another for a slice each, over and over.

    Neighbours on the same host slow this machine for parts of a second to seconds; short slices in turn let that fall
    on all peers alike.
    """
    windows: dict[str, list[Window]] = {}
    servers: list[Server] = []
    with contextlib.ExitStack() as stack:
        for peer, environment in subjects:
            app, extra = (peer.sleep_app, peer.sleep_argv) if sleeping else (HELLO_APP, ())
            try:
                server = stack.enter_context(running(peer, environment, app, setting.server_core, extra))
                warm_up(server, target)
                servers.append(server)
            except (PeerUnavailable, RuntimeError) as error:
                yield Sample(peer.name, number, float("nan"), {}, (str(error),))
        for _ in range(slices):
            for server in servers:
                windows.setdefault(server.peer.name, []).append(window(server, target, setting.seconds // slices))
    for name, seen in windows.items():
        whole = combined(seen)
        yield Sample(name, number, whole.cpu_us, whole.details, whole.problems)


def _one_by_one(take: Callable[[Server, Setting, int], Sample]) -> Round:
    """A round in which each peer is started, measured and ended before the next."""

    def round_(subjects: Subjects, setting: Setting, number: int) -> Iterator[Sample]:
        for peer, environment in subjects:
            try:
                with running(peer, environment, HELLO_APP, setting.server_core) as server:
                    yield take(server, setting, number)
            except (PeerUnavailable, RuntimeError, OSError) as error:
                yield Sample(peer.name, number, float("nan"), {}, (str(error),))

    return round_


def _idle(server: Server, setting: Setting, number: int) -> Sample:
    """Resident bytes per connection; a first hundred, closed again, fill what the server allocates once."""
    with held(server.port, ACTIVE_CONNECTIONS, setting.load_core):
        pass
    time.sleep(SETTLE_SECONDS)
    before = accounting.resident(server.pid)
    with held(server.port, IDLE_CONNECTIONS, setting.load_core) as holder:
        time.sleep(SETTLE_SECONDS)
        after = accounting.resident(server.pid)
        alive = holder.alive()
    details = {"rss_before": before, "rss_after": after, "alive": alive}
    grown = (after - before) / IDLE_CONNECTIONS
    return Sample(server.peer.name, number, grown, details, _lost(alive, IDLE_CONNECTIONS))


def _many(server: Server, setting: Setting, number: int) -> Sample:
    """CPU per request of 100 active connections: alone, beside 9,900 idle ones, alone again, on one server."""
    crowd = IDLE_CONNECTIONS - ACTIVE_CONNECTIONS
    target = Target(ACTIVE_CONNECTIONS, (), setting.load_core)
    warm_up(server, target)
    first = window(server, target, setting.seconds)
    with held(server.port, crowd, setting.load_core) as holder:
        crowded = window(server, target, setting.seconds)
        alive = holder.alive()
    time.sleep(SETTLE_SECONDS)
    last = window(server, target, setting.seconds)
    alone = (first.cpu_us + last.cpu_us) / 2
    details = {
        "alone_us": alone,
        "crowded_us": crowded.cpu_us,
        "alive": alive,
        "windows": [first.details, crowded.details, last.details],
    }
    problems = first.problems + crowded.problems + last.problems + _lost(alive, crowd)
    return Sample(server.peer.name, number, crowded.cpu_us / alone, details, problems)


def _lost(alive: int, wanted: int) -> tuple[str, ...]:
    return () if alive == wanted else (f"only {alive} of {wanted} idle connections were still open",)


_TABLE = (
    Case("hello", "hello world, wrk with 64 keep-alive connections, only Host", "us CPU/request", _hello),
    Case(
        "browser", "hello world, wrk with 64 keep-alive connections, a browser's 14 fields", "us CPU/request", _browser
    ),
    Case("sleep", "the handler sleeps 20 ms, wrk with 500 keep-alive connections", "us CPU/request", _sleep),
    Case("idle", "10,000 idle keep-alive connections after one request each", "RSS bytes/conn", _one_by_one(_idle)),
    Case("many", "100 active beside 9,900 idle connections, against 100 alone", "ratio of CPU", _one_by_one(_many)),
)
CASES = {case.name: case for case in _TABLE}
