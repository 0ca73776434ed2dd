"""`python -m bench socketio`: server CPU per event and memory per client of Socket.IO servers.

Echo, burst and broadcast are measured as those of WebSocket are, with the same load. A client connects by WebSocket
and joins the default namespace and a room; connecting and leaving are counted over thousands of clients, one server
after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import accounting
from bench.environments import PeerUnavailable
from bench.report import Result
from bench.samples import Sample
from bench.websocket import Case, Place, collected, idle_connections, loaded_samples, prepared, result
from bench.websocket_load import Loaded, Server, loaded, loading, serving, spent
from bench.websocket_peers import Ready, Subject

FIRST_CLIENTS = 100
SETTLE_SECONDS = 1.0
QUIET_SECONDS = 0.3
BEATING_CLIENTS = 1000
BEAT_SECONDS = 10
MOST_LEAVING = 10_000
LEAVE_SECONDS = 60.0

_SINGLE = "echo 40 1 100 1"
_EVENT = "us CPU/event"
CASES = {
    "sio-echo": Case("1,000 clients, 100 bytes of text, acknowledged", _EVENT, "app", _SINGLE, 40_000),
    "sio-burst": Case(
        "16 events in a segment, acknowledged, per event", _EVENT, "app", "echo 10 16 100 1", 160_000, beside=_SINGLE
    ),
    "sio-broadcast": Case(
        "to a room of 1,000, 100 bytes of text, per delivery", "us CPU/delivery", "app", "broadcast 40 100", 40_000
    ),
    "sio-idle": Case("10,000 idle clients in a room", "RSS bytes/client", "app"),
    "sio-connect": Case("handshake and CONNECT, 1,000 clients", "us CPU/client", "app"),
    "sio-disconnect": Case("10,000 clients leave at once", "us CPU/client", "app"),
    "sio-heartbeat": Case("a ping and its answer, 1,000 clients", "us CPU/cycle", "beating"),
}


def measure(name: str, subjects: list[Subject], rounds: int, python: Path, place: Place) -> Result:
    """Measure one case: in each round each subject, on a server started afresh; see websocket.measure."""
    case = CASES[name]
    ready, unavailable = prepared(name, subjects, python)

    def take(number: int) -> Iterator[Sample]:
        one = _ALONE.get(name)
        if one is None:
            return loaded_samples(case, ready, place, number)
        return (_guarded(one, case, each, place, number) for each in ready)

    return result(name, case, subjects, ready, unavailable, collected(name, case, rounds, take))


def _guarded(one: Callable[..., Sample], case: Case, ready: Ready, place: Place, number: int) -> Sample:
    try:
        return one(case, ready, place, number)
    except (PeerUnavailable, RuntimeError, OSError) as error:
        return Sample(ready.subject.name, number, float("nan"), {}, (str(error),))


def _warm(server: Server, place: Place) -> None:
    with loading(server, FIRST_CLIENTS, place.load_core) as load:
        load.order("echo 1 1 100 1")
    _until_quiet(server)


def _until_quiet(server: Server) -> accounting.Usage:
    """Waits until the server has nothing left to do; returns what it has used."""
    deadline = time.monotonic() + LEAVE_SECONDS
    used = accounting.usage(server.pid)
    while time.monotonic() < deadline:
        time.sleep(QUIET_SECONDS)
        now = accounting.usage(server.pid)
        if accounting.spent(used, now).cpu < QUIET_SECONDS * 1e7:  # under 1 % of a core
            return now
        used = now
    raise RuntimeError(f"the server was still busy {LEAVE_SECONDS:.0f} s after its clients had left")


def _idle(case: Case, ready: Ready, place: Place, number: int) -> Sample:
    clients = min(MOST_LEAVING, idle_connections())
    with serving(ready, case.mode, place.server_core) as server:
        _warm(server, place)
        time.sleep(SETTLE_SECONDS)
        before = accounting.resident(server.pid)
        with loading(server, clients, place.load_core) as load:
            load.order("echo 1 1 100 1")
            time.sleep(SETTLE_SECONDS)
            after = accounting.resident(server.pid)
            alive = load.alive()
    problems = () if alive == clients else (f"only {alive} of {clients} idle clients were still there",)
    details = {"rss_before": before, "rss_after": after, "alive": alive}
    return Sample(ready.subject.name, number, (after - before) / clients, details, problems)


def _connect(case: Case, ready: Ready, place: Place, number: int) -> Sample:
    with serving(ready, case.mode, place.server_core) as server:
        _warm(server, place)
        before = accounting.usage(server.pid)
        with loading(server, case.connections, place.load_core):
            used = accounting.spent(before, accounting.usage(server.pid))
    return Sample(ready.subject.name, number, used.cpu / 1000 / case.connections, {"cpu_ns": used.cpu})


def _disconnect(case: Case, ready: Ready, place: Place, number: int) -> Sample:
    clients = min(MOST_LEAVING, idle_connections())
    with serving(ready, case.mode, place.server_core) as server:
        _warm(server, place)
        with loading(server, clients, place.load_core):
            before = _until_quiet(server)
        used = accounting.spent(before, _until_quiet(server))
    return Sample(ready.subject.name, number, used.cpu / 1000 / clients, {"cpu_ns": used.cpu, "clients": clients})


def _heartbeat(case: Case, ready: Ready, place: Place, number: int) -> Sample:
    with loaded(ready, case.mode, BEATING_CLIENTS, place.server_core, place.load_core) as target:
        target.load.order("answer 2")
        count, used = spent(target, f"answer {BEAT_SECONDS}")
    problems = () if _beats(target, count) else (f"{count} pings came in {BEAT_SECONDS} s",)
    return Sample(ready.subject.name, number, used.cpu / 1000 / max(count, 1), {"pings": count}, problems)


def _beats(target: Loaded, count: int) -> bool:
    """Whether nearly each client was asked each second."""
    return 0.8 * BEATING_CLIENTS * BEAT_SECONDS <= count <= 1.1 * BEATING_CLIENTS * BEAT_SECONDS


_ALONE = {"sio-idle": _idle, "sio-connect": _connect, "sio-disconnect": _disconnect, "sio-heartbeat": _heartbeat}
