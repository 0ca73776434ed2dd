"""`python -m bench websocket`: server CPU per message and memory per connection of WebSocket servers.

In each round all servers are started afresh, each with a load of its own; then they are loaded one after another for a
slice each, over and over, so that a slow phase of the machine falls on all alike.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import accounting
from bench.environments import PeerUnavailable
from bench.measurement import clocks_disagree
from bench.report import Result
from bench.samples import Sample
from bench.websocket_load import Loaded, loaded, loading, serving, spent
from bench.websocket_peers import Ready, Subject, prepare

CONNECTIONS = 1000
LARGE_CONNECTIONS = 4
IDLE_CONNECTIONS = 20_000
FIRST_CONNECTIONS = 100
SPARE_FILES = 300
SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        title: One line for the table's head.
        unit: Of its value.
        mode: What the servers do: echo, receive, broadcast. Only streamserve has two ways to echo.
        order: What ws_load does in a slice.
        messages: How many must come back.
        connections: How many are open.
        beside: Another order, measured of streamserve in the same passes as a subject `single`.
    """

    title: str
    unit: str
    mode: str
    order: str = ""
    messages: int = 0
    connections: int = CONNECTIONS
    beside: str = ""


_ECHO = "us CPU/echo"
_SINGLE = "echo 40 1 100 1"
CASES = {
    "ws-echo": Case("1,000 connections, 100 bytes of text, on_message", _ECHO, "echo", _SINGLE, 40_000),
    "ws-receive": Case("the same, a loop of receive in a greenlet", _ECHO, "receive", _SINGLE, 40_000),
    "ws-burst": Case(
        "16 messages in a segment, per message", _ECHO, "echo", "echo 10 16 100 1", 160_000, beside=_SINGLE
    ),
    "ws-broadcast": Case(
        "one to 1,000, 100 bytes of text, per delivery", "us CPU/delivery", "broadcast", "broadcast 40 100", 40_000
    ),
    "ws-large": Case(
        "4 connections, 1 MB binary", _ECHO, "echo", "echo 25 1 1048576 2", 100, connections=LARGE_CONNECTIONS
    ),
    "ws-idle": Case(
        "20,000 idle connections (or as many as the limit of open files lets in), on_message", "RSS bytes/conn", "echo"
    ),
}


@dataclass(frozen=True)
class Place:
    """Where and how long to measure: cores by number, passes over all servers in a round."""

    server_core: int
    load_core: int
    passes: int


def measure(name: str, subjects: list[Subject], rounds: int, python: Path, place: Place) -> Result:
    """Measure one case: in each round each subject, on a server started afresh.

    Args:
        name: Of the case.
        subjects: The servers, in the order of a round.
        rounds: How many samples of each.
        python: The interpreter that can import streamserve.
        place: Cores and passes.
    """
    case = CASES[name]
    ready, unavailable = prepared(name, subjects, python)

    def take(number: int) -> Iterator[Sample]:
        return _idle(ready, place, number) if name == "ws-idle" else loaded_samples(case, ready, place, number)

    return result(name, case, subjects, ready, unavailable, collected(name, case, rounds, take))


def collected(name: str, case: Case, rounds: int, take: Callable[[int], Iterator[Sample]]) -> list[Sample]:
    """All samples of all rounds, each said as it comes."""
    samples: list[Sample] = []
    for number in range(rounds):
        for sample in take(number):
            samples.append(sample)
            words = f"{name} round {number + 1} {sample.subject}: {sample.value:.3f} {case.unit}"
            print(words, *sample.problems, file=sys.stderr, flush=True)
    return samples


def result(
    name: str,
    case: Case,
    subjects: list[Subject],
    ready: list[Ready],
    unavailable: dict[str, str],
    samples: list[Sample],
) -> Result:
    """What a case came to."""
    versions = {subject.name: "" for subject in subjects} | {each.subject.name: each.version for each in ready}
    if case.beside and "streamserve" in versions:
        versions["single"] = versions["streamserve"]
    return Result(name, case.title, case.unit, versions, samples, unavailable)


def prepared(name: str, subjects: list[Subject], python: Path) -> tuple[list[Ready], dict[str, str]]:
    ready: list[Ready] = []
    unavailable: dict[str, str] = {}
    for subject in subjects:
        if name in subject.left_out:
            unavailable[subject.name] = subject.left_out[name]
            continue
        try:
            ready.append(prepare(subject, python))
        except PeerUnavailable as error:
            unavailable[subject.name] = str(error)
    return ready, unavailable


# ---- CPU


@dataclass(frozen=True)
class Slice:
    """One order on one server: CPU microseconds per message, and why it may not count."""

    cpu_us: float
    cpu_ns: int
    waited_ns: int
    seconds: float
    problems: tuple[str, ...]


def loaded_samples(case: Case, ready: list[Ready], place: Place, number: int) -> Iterator[Sample]:
    """One sample of each server, of as many slices as there are passes."""
    servers: list[tuple[str, Loaded, str]] = []
    seen: dict[str, list[Slice]] = {}
    with contextlib.ExitStack() as stack:
        for each in ready:
            name = each.subject.name
            started = loaded(each, case.mode, case.connections, place.server_core, place.load_core)
            try:
                server = stack.enter_context(started)
                server.load.order(case.order)  # warms it up
            except (PeerUnavailable, RuntimeError, OSError) as error:
                yield Sample(name, number, float("nan"), {}, (str(error),))
                continue
            servers.append((name, server, case.order))
            if case.beside and name == "streamserve":
                servers.append(("single", server, case.beside))
        for _ in range(place.passes):
            for name, server, order in servers:
                expected = case.messages if order == case.order else _messages_of(order)
                seen.setdefault(name, []).append(_slice(server, order, expected))
    for name, slices in seen.items():
        yield _combined(name, number, slices)


def _messages_of(order: str) -> int:
    _, count, burst, _, _ = order.split()
    return int(count) * int(burst) * CONNECTIONS


def _slice(server: Loaded, order: str, expected: int) -> Slice:
    began = time.monotonic()
    try:
        count, used = spent(server, order)
    except (RuntimeError, OSError) as error:
        return Slice(float("nan"), 0, 0, 0.0, (str(error),))
    problems = clocks_disagree(used)
    if count != expected:
        problems.append(f"{count} of {expected} messages came back")
    return Slice(used.cpu / 1000 / expected, used.cpu, used.waited, time.monotonic() - began, tuple(problems))


def _combined(name: str, number: int, slices: list[Slice]) -> Sample:
    """Slices of one server: their mean, all have as many messages."""
    problems = tuple(problem for part in slices for problem in part.problems)
    if problems:
        return Sample(name, number, float("nan"), {}, problems)
    seconds = sum(part.seconds for part in slices)
    details = {
        "slices_us": [part.cpu_us for part in slices],
        "busy": sum(part.cpu_ns for part in slices) / 1e9 / seconds,
        "waited": sum(part.waited_ns for part in slices) / 1e9 / seconds,
    }
    return Sample(name, number, sum(part.cpu_us for part in slices) / len(slices), details)


# ---- memory


def idle_connections() -> int:
    """20,000, or what the limit of open files leaves."""
    return min(IDLE_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE_FILES)


def _idle(ready: list[Ready], place: Place, number: int) -> Iterator[Sample]:
    for each in ready:
        try:
            yield _idle_sample(each, place, number, idle_connections())
        except (PeerUnavailable, RuntimeError, OSError) as error:
            yield Sample(each.subject.name, number, float("nan"), {}, (str(error),))


def _idle_sample(ready: Ready, place: Place, number: int, connections: int) -> Sample:
    """Growth of RSS, one echo on each connection before; a first hundred, closed again, fill what is allocated once."""
    with serving(ready, "echo", place.server_core) as server:
        with loading(server, FIRST_CONNECTIONS, place.load_core) as load:
            load.order("echo 1 1 100 1")
        time.sleep(SETTLE_SECONDS)
        before = accounting.resident(server.pid)
        with loading(server, connections, place.load_core) as load:
            load.order("echo 1 1 100 1")
            time.sleep(SETTLE_SECONDS)
            after = accounting.resident(server.pid)
            alive = load.alive()
    details = {"rss_before": before, "rss_after": after, "alive": alive}
    problems = () if alive == connections else (f"only {alive} of {connections} idle connections were still open",)
    return Sample(ready.subject.name, number, (after - before) / connections, details, problems)
