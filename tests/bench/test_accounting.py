"""CPU and memory of a process tree, from /proc."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import accounting

CHILD = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"])
for line in sys.stdin:
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    print("spun", flush=True)
grandchild.kill()
"""


@contextmanager
def family() -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


def test_the_tree_holds_descendants_and_cpu_is_what_they_used() -> None:
    with family() as process:
        assert process.stdin is not None and process.stdout is not None
        assert len(accounting.tree(process.pid)) == 2
        before = accounting.usage(process.pid)
        process.stdin.write("spin\n")
        process.stdin.flush()
        assert process.stdout.readline() == "spun\n"
        used = accounting.spent(before, accounting.usage(process.pid))
        assert used.cpu == pytest.approx(0.2e9, rel=0.2)
        assert abs(used.cpu - used.ticks) <= 3 * accounting.TICK_NS
        assert accounting.resident(process.pid) > 2_000_000


def test_a_thread_that_ends_between_readings_is_left_to_the_ticks() -> None:
    before = accounting.Usage({(1, 1): 100, (1, 2): 50}, {}, 0)
    after = accounting.Usage({(1, 1): 300, (1, 3): 40}, {}, 500)
    assert accounting.spent(before, after) == accounting.Spent(cpu=240, waited=0, ticks=500)
