"""Load from wrk: how it is run, and what makes a run invalid."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass

from bench.environments import ROOT
from bench.server import pinned


@dataclass(frozen=True)
class Load:
    """What wrk saw in one run: complete responses, seconds, bytes read, latencies in microseconds, errors by kind."""

    requests: int
    seconds: float
    bytes: int
    p50_us: int
    p99_us: int
    errors: dict[str, int]


def run_wrk(port: int, connections: int, seconds: int, headers: tuple[tuple[str, str], ...], core: int) -> Load:
    """Load 127.0.0.1:port from one thread of wrk on one core.

    Raises:
        RuntimeError: wrk failed or printed no report.
    """
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    for name, value in headers:
        command += ["--header", f"{name}: {value}"]
    command += ["--script", str(ROOT / "bench" / "wrk_report.lua"), f"http://127.0.0.1:{port}/"]
    done = subprocess.run(pinned(core, command), capture_output=True, text=True, timeout=seconds + 30, check=False)
    return parse_report(done.stdout, done.stderr)


def parse_report(output: str, complaint: str = "") -> Load:
    """Read the line that wrk_report.lua writes."""
    for line in output.splitlines():
        if line.startswith("REPORT "):
            report = json.loads(line.removeprefix("REPORT "))
            return Load(
                requests=report["requests"],
                seconds=report["microseconds"] / 1e6,
                bytes=report["bytes"],
                p50_us=report["p50_us"],
                p99_us=report["p99_us"],
                errors=report["errors"],
            )
    raise RuntimeError(f"wrk gave no report: {(complaint or output).strip()[:300]}")


def problems(load: Load, connections: int, answer_length: int) -> list[str]:
    """Why a run does not count; empty when it does.

    Every response must be as long as the one that was compared byte for byte: wrk's bytes are the responses that it
    counted, and at most one more for each connection, which the end of the run cut off.
    """
    found = [f"wrk counted {count} {kind} errors" for kind, count in load.errors.items() if count]
    if not load.requests:
        found.append("no response at all")
    extra = load.bytes - load.requests * answer_length
    if not 0 <= extra <= connections * answer_length:
        found.append(f"{load.requests} responses of {answer_length} bytes were expected, wrk read {load.bytes} bytes")
    return found
