"""One measurement of one greenlet library in a fresh process: `python -m bench.greenlet_worker LIBRARY CASE`.

LIBRARY is `gevent` or `streamserve`: both have spawn, sleep and joinall. It prints one JSON object: `value` (CPU
nanoseconds per operation, or bytes per parked greenlet) and `count`, the operations that were checked to have happened.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

SINGLE = 200_000
BATCH, BATCHES = 1_000, 300
SLEEPS = 300_000
PARKED, PARK_SECONDS = 20_000, 30
PAGE = os.sysconf("SC_PAGE_SIZE")

ran = 0


def work() -> None:
    """What each greenlet does: a Python function that counts itself."""
    global ran
    ran += 1


def spawn(library: Any) -> tuple[float, int]:
    """Spawn and join, one at a time."""
    spawn_one = library.spawn
    return _per_operation(lambda count: [spawn_one(work).join() for _ in range(count)], SINGLE)


def batch(library: Any) -> tuple[float, int]:
    """Spawn a thousand, join them all."""
    spawn_one, join_all = library.spawn, library.joinall

    def batches(count: int) -> None:
        for _ in range(count // BATCH):
            join_all([spawn_one(work) for _ in range(BATCH)])

    return _per_operation(batches, BATCH * BATCHES)


def sleep0(library: Any) -> tuple[float, int]:
    """sleep(0) in the one greenlet that there is."""
    sleep = library.sleep

    def sleeps(count: int) -> None:
        for _ in range(count):
            sleep(0)
            work()

    return _per_operation(lambda count: library.spawn(sleeps, count).join(), SLEEPS)


def sleep0_among(library: Any) -> tuple[float, int]:
    """sleep(0) in a hundred greenlets that give way to each other."""
    sleep = library.sleep

    def sleeps(count: int) -> None:
        for _ in range(count):
            sleep(0)
            work()

    return _per_operation(
        lambda count: library.joinall([library.spawn(sleeps, count // 100) for _ in range(100)]), SLEEPS
    )


def parked(library: Any) -> tuple[float, int]:
    """Resident bytes for each greenlet that waits in a long sleep."""
    asleep = 0

    def wait() -> None:
        nonlocal asleep
        asleep += 1
        library.sleep(3600)
        asleep -= 1

    warm = [library.spawn(work) for _ in range(100)]
    library.joinall(warm)
    before = _resident()
    held = [library.spawn(wait) for _ in range(PARKED)]
    deadline = time.monotonic() + PARK_SECONDS
    while asleep < PARKED and time.monotonic() < deadline:
        library.sleep(0.05)
    grown = _resident() - before
    assert len(held) == PARKED
    return grown / PARKED, asleep


def _per_operation(body: Callable[[int], object], count: int) -> tuple[float, int]:
    """CPU nanoseconds per operation after a tenth of them as warm-up, and how many were seen to run."""
    body(count // 10)
    seen = ran
    before = time.process_time_ns()
    body(count)
    return (time.process_time_ns() - before) / count, ran - seen


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE


CASES: dict[str, tuple[Callable[[Any], tuple[float, int]], int]] = {
    "spawn": (spawn, SINGLE),
    "batch": (batch, BATCH * BATCHES),
    "sleep0": (sleep0, SLEEPS),
    "sleep0-100": (sleep0_among, SLEEPS),
    "parked": (parked, PARKED),
}


def main() -> None:
    """Measure and print; the process ends at once, however many greenlets are still parked."""
    run, expected = CASES[sys.argv[2]]
    value, count = run(importlib.import_module(sys.argv[1]))
    print(json.dumps({"value": value, "count": count, "expected": expected}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
