"""The end of CI's log says why it failed, in as much as is kept of it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ci.test_once_more import ENDS, HANGS_END, ran

DIGEST = Path(__file__).resolve().parents[2] / ".ci/digest"
KEPT = 2000  # characters
MANY = """
import pytest
@pytest.mark.parametrize("number", range(500))
def test_fails(number): assert number == 1000"""
DEEP = """
import threading
def waits(depth): return waits(depth - 1) if depth else threading.Event().wait()
def test_hangs():
    threads = [threading.Thread(target=waits, args=(90,), daemon=True) for _ in range(9)]
    for thread in threads: thread.start()
    threads[0].join()"""


def digest(folder: Path, tests: str) -> str:
    done = ran(folder, tests, by_make=True, options=HANGS_END)
    log = folder / "sanitizers"
    log.write_text(done.stdout + done.stderr)
    command = [sys.executable, DIGEST, log]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.startswith("Why sanitizers failed:\n") and len(said) <= KEPT
    return said


@pytest.mark.parametrize(
    ("tests", "told"),
    [
        (ENDS["a hang"], r"Timeout \(0:00:01\)![^!]*Nothing runs again[^!]*\nstack: [^\n]*test_it.py:3 test_hangs"),
        (ENDS["a crash"], r"Fatal Python error: Segmentation fault[^!]*\nstack: [^\n]*test_it.py:2 test_crashes"),
        (ENDS["an error"], r"E   TimeoutError\n[^!]*FAILED test_it.py::test_raises - TimeoutError"),
        (
            DEEP,
            r"Timeout \(0:00:01\)![^!]*\nstack: [^\n]*test_it.py:7 test_hangs[^!]*\nstack: [^\n]*test_it.py:3 waits < ",
        ),
        (MANY, r"FAILED test_it.py::test_fails\[499\] - assert 499 == 1000"),
    ],
    ids=["a hang", "a crash", "an error", "a hang of many deep stacks", "many failures"],
)
def test_it_says_why(tmp_path: Path, tests: str, told: str) -> None:
    said = digest(tmp_path, tests)
    assert re.search(told, said), said


def test_nothing_is_told_of_a_run_that_passed(tmp_path: Path) -> None:
    done = ran(tmp_path, "def test_passes(): pass", by_make=True)
    (tmp_path / "log").write_text(done.stdout + done.stderr)
    assert subprocess.run([sys.executable, DIGEST, tmp_path / "log"], capture_output=True, check=True).stdout == b""
