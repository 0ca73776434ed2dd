"""What a reader must know about the machine to judge a number."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from bench.environments import ROOT


def describe() -> dict[str, str]:
    """Processor, kernel, versions of the tools, the commit, the load average and the time."""
    return {
        "processor": _cpu_model(),
        "cores": ",".join(str(core) for core in sorted(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "tcp": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "wrk": _first_line(["wrk", "--version"]),
        "cc": _first_line(["cc", "--version"]),
        "commit": _first_line(["git", "rev-parse", "--short", "HEAD"]),
        "load_average": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cores() -> tuple[int, int]:
    """The server's core and the load generator's.

    Raises:
        RuntimeError: This process may use one core only, so the two would disturb each other.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise RuntimeError("two cores are needed: one for the server, one for the load")
    return usable[0], usable[-1]


def raise_priority(nice: int) -> None:
    """Change the niceness of this process and of all it starts.

    Where the kernel groups processes by terminal session, niceness only orders those of one session; then the session's
    group gets the same value.
    """
    os.nice(nice)
    group = Path("/proc/self/autogroup")
    if nice and group.exists():
        group.write_text(str(nice))


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=10, check=False)
    except OSError as error:
        return str(error)
    return (done.stdout or done.stderr).strip().partition("\n")[0]
