"""CI runs again what failed by an assertion, and hides no crash and no hang."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ONCE_MORE = Path(__file__).resolve().parents[2] / ".ci/once_more"
FAILS_ONCE = """
import pathlib
def test_passes(): pass
def test_fails_once():
    pathlib.Path("runs").open("a").write("x")
    assert len(pathlib.Path("runs").read_text()) == 2
"""
PATIENCE = 120  # seconds; only a failing test waits so long
HANGS_END = "-o faulthandler_timeout=1 -o faulthandler_exit_on_timeout=true"


def ran(folder: Path, tests: str, *, by_make: bool, options: str = "") -> subprocess.CompletedProcess[str]:
    """Runs these tests as CI does."""
    (folder / "test_it.py").write_text(tests)
    pytest_line = f"{sys.executable} -m pytest test_it.py {options}"
    (folder / "Makefile").write_text(f"test:\n\t@exec {pytest_line} $(ARGS)\n")
    command = ["make", "test", "ARGS={pytest}"] if by_make else [*pytest_line.split(), "{pytest}"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTEST"))}
    return subprocess.run(
        [sys.executable, ONCE_MORE, "logs", *command],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


either_way = pytest.mark.parametrize("by_make", [False, True])


@either_way
def test_what_failed_by_an_assertion_runs_once_more_and_nothing_else(tmp_path: Path, by_make: bool) -> None:
    done = ran(tmp_path, FAILS_ONCE, by_make=by_make)
    first, again, second = done.stdout.partition("Again, what failed:")
    assert (done.returncode, bool(again)) == (0, True), done
    assert "1 failed, 1 passed" in first
    assert second.splitlines()[-1].startswith("=") and "1 passed" in second.splitlines()[-1]


@pytest.mark.parametrize("line", ["[][0]", "{}['x']", "(one,) = []", "(one,) = [1, 2]", "print.text"])
def test_a_line_of_the_test_that_took_what_is_not_there_is_as_an_assertion(tmp_path: Path, line: str) -> None:
    fails_once = FAILS_ONCE.replace("    assert ", "    if not ") + f": {line}"
    done = ran(tmp_path, fails_once.replace("\n: ", ": "), by_make=False)
    assert (done.returncode, "Again, what failed:" in done.stdout) == (0, True), done


@either_way
def test_what_fails_twice_fails(tmp_path: Path, by_make: bool) -> None:
    done = ran(tmp_path, "def test_fails(): assert 1 == 2", by_make=by_make)
    assert (done.returncode, done.stdout.count("1 failed in ")) == (1, 2), done


ENDS = {
    "a signal": "import os, signal\ndef test_dies(): os.kill(os.getpid(), signal.SIGKILL)",
    "a crash": "import ctypes\ndef test_crashes(): ctypes.string_at(0)",
    "a crash after a failure": "import ctypes\ndef test_fails(): assert 0\ndef test_crashes(): ctypes.string_at(0)",
    "a crash when all is over": """
import atexit, ctypes
def test_fails():
    atexit.register(ctypes.string_at, 0)
    assert 0""",
    "a silent exit": "import os\ndef test_leaves(): os._exit(1)",
    "a hang": "import threading\ndef test_fails(): assert 0\ndef test_hangs(): threading.Event().wait()",
    "an error": "def test_raises(): raise TimeoutError",
    "an error of another kind": "def test_raises(): int('x')",
    "a lookup outside of the test": "import collections\ndef test_raises(): collections.ChainMap()['x']",
    "an error of a fixture": """
import pytest
@pytest.fixture
def broken():
    assert 0
def test_uses_it(broken): pass""",
    "a file that cannot be read": "def test_(:",
    "a process that crashed": """
import subprocess, sys
def test_child():
    child = [sys.executable, "-X", "faulthandler", "-c", "import ctypes; ctypes.string_at(0)"]
    done = subprocess.run(child, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr""",
    "stacks of a process that hung": """
import faulthandler
def test_child():
    faulthandler.dump_traceback(file=2)
    assert 0""",
    "the code of a crash": """
import subprocess, sys
def test_child():
    done = subprocess.run([sys.executable, "-c", "import ctypes; ctypes.string_at(0)"], capture_output=True)
    assert done.returncode == 0""",
}


@either_way
@pytest.mark.parametrize("tests", ENDS.values(), ids=ENDS)
def test_nothing_runs_again_after(tmp_path: Path, tests: str, by_make: bool) -> None:
    done = ran(tmp_path, tests, by_make=by_make, options=HANGS_END)
    assert done.returncode != 0
    assert "Again" not in done.stdout, done
    assert "Nothing runs again: " in done.stderr


@pytest.mark.parametrize("kind", ["a crash", "a hang"])
def test_the_log_has_the_stack(tmp_path: Path, kind: str) -> None:
    done = ran(tmp_path, ENDS[kind], by_make=True, options=HANGS_END)
    assert "most recent call first" in done.stderr and "test_it.py" in done.stderr, done
