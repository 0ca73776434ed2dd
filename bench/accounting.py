"""CPU time and memory of a process and all its children, read from /proc.

CPU comes from /proc/PID/task/TID/schedstat: time on a core, in nanoseconds, per thread. /proc/PID/stat counts the same
in ticks of 10 ms but also holds what ended threads used; reading both shows when a thread's end hides time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """What a process tree used up to one moment.

    Attributes:
        on_cpu_ns: Per thread (pid, tid), time on a core.
        waited_ns: Per thread, time ready to run while another had the core: the share that other programs took.
        ticks_ns: utime and stime of all processes, to 10 ms.
    """

    on_cpu_ns: dict[tuple[int, int], int]
    waited_ns: dict[tuple[int, int], int]
    ticks_ns: int


@dataclass(frozen=True)
class Spent:
    """The difference of two readings, in nanoseconds."""

    cpu: int
    waited: int
    ticks: int


def tree(root: int) -> list[int]:
    """The process and its living descendants, by pid."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat(int(entry))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def usage(root: int) -> Usage:
    """Read the counters of a process tree now."""
    on_cpu: dict[tuple[int, int], int] = {}
    waited: dict[tuple[int, int], int] = {}
    ticks = 0
    for pid in tree(root):
        fields = _stat(pid)
        if not fields:
            continue
        ticks += int(fields[11]) + int(fields[12])
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                ran, delayed, _ = (task / "schedstat").read_text().split()
            except OSError:
                continue
            on_cpu[pid, int(task.name)] = int(ran)
            waited[pid, int(task.name)] = int(delayed)
    return Usage(on_cpu, waited, ticks * TICK_NS)


def spent(before: Usage, after: Usage) -> Spent:
    """What was used between two readings; threads that ended in between count in `ticks` only."""
    cpu = sum(value - before.on_cpu_ns.get(key, 0) for key, value in after.on_cpu_ns.items())
    waited = sum(value - before.waited_ns.get(key, 0) for key, value in after.waited_ns.items())
    return Spent(cpu, waited, after.ticks_ns - before.ticks_ns)


def resident(root: int) -> int:
    """Resident memory of a process tree in bytes (pages shared by several of its processes count in each)."""
    total = 0
    for pid in tree(root):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()
