"""A window of load on a running server: its CPU per request, and everything that could make that number wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bench import accounting, load
from bench.probe import WrongAnswer, probe
from bench.server import Server

WARM_UP_SECONDS = 1
TICK_TOLERANCE = 0.02


@dataclass(frozen=True)
class Target:
    """What the load is: connections, header fields beside Host, and the core of the load generator."""

    connections: int
    headers: tuple[tuple[str, str], ...]
    core: int


@dataclass(frozen=True)
class Window:
    """CPU microseconds per request over one run of wrk, its details for the JSON, and why it may not count."""

    cpu_us: float
    details: dict[str, Any]
    problems: tuple[str, ...]


def warm_up(server: Server, target: Target) -> None:
    """A second of load that is not measured.

    Raises:
        RuntimeError: wrk failed.
    """
    load.run_wrk(server.port, target.connections, WARM_UP_SECONDS, target.headers, target.core)


def window(server: Server, target: Target, seconds: int) -> Window:
    """Probe, load, probe; the server's CPU is read before and after the load."""
    try:
        length = probe(server.port, target.headers)
        before = accounting.usage(server.pid)
        seen = load.run_wrk(server.port, target.connections, seconds, target.headers, target.core)
        used = accounting.spent(before, accounting.usage(server.pid))
        again = probe(server.port, target.headers)
    except (WrongAnswer, OSError, RuntimeError) as error:
        return Window(float("nan"), {}, (f"{type(error).__name__}: {error}",))
    problems = load.problems(seen, target.connections, length) + clocks_disagree(used)
    if again != length:
        problems.append(f"an answer had {length} bytes before the run and {again} after it")
    cpu_us = used.cpu / 1000 / seen.requests if seen.requests else float("nan")
    details = asdict(seen) | {"cpu_ns": used.cpu, "cpu_ticks_ns": used.ticks, "waited_ns": used.waited}
    return Window(cpu_us, details, tuple(problems))


def combined(windows: list[Window]) -> Window:
    """One window out of several of the same server: all its CPU over all its requests, latencies of the worst.

    The details keep each window's own CPU per request as `slices_us`.
    """
    problems = tuple(problem for window in windows for problem in window.problems)
    if problems:
        return Window(float("nan"), {"windows": [window.details for window in windows]}, problems)
    parts = [window.details for window in windows]
    seconds = sum(part["seconds"] for part in parts)
    requests = sum(part["requests"] for part in parts)
    cpu_ns = sum(part["cpu_ns"] for part in parts)
    details = {
        "requests": requests,
        "seconds": seconds,
        "requests_per_second": requests / seconds,
        "busy": cpu_ns / 1e9 / seconds,
        "waited": sum(part["waited_ns"] for part in parts) / 1e9 / seconds,
        "p50_us": max(part["p50_us"] for part in parts),
        "p99_us": max(part["p99_us"] for part in parts),
        "slices_us": [window.cpu_us for window in windows],
        "windows": parts,
    }
    return Window(cpu_ns / 1000 / requests, details, ())


def clocks_disagree(used: accounting.Spent) -> list[str]:
    """What to complain of, if anything.

    schedstat and stat tell the same story unless a thread ended in the window: two ticks and 2 % are rounding.
    """
    allowed = 2 * accounting.TICK_NS + TICK_TOLERANCE * used.ticks
    if abs(used.cpu - used.ticks) <= allowed:
        return []
    return [f"schedstat says {used.cpu / 1e9:.3f} s of CPU, stat says {used.ticks / 1e9:.3f} s"]
