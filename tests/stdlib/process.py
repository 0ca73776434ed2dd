"""One file of CPython's tests, run in as many processes as it takes to hear of every test."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TEST_SECONDS = 90.0
"""A test that takes longer hangs. The slowest of these files takes 6 s on an idle machine."""

FILE_SECONDS = 300.0
"""All the tests of a file. The slowest, test_socket, takes 40 s on an idle machine."""


@dataclass
class Outcome:
    """What became of a test and why: "passed", "skipped", "failed" (by an assertion), "raised", "hung" or "crashed"."""

    name: str
    kind: str
    text: str
    seconds: float


@dataclass
class FileRun:
    """All outcomes of a file, by test; of set-ups, by class or module."""

    file: str
    found: list[str] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    broken: str = ""
    seconds: float = 0.0

    def of(self, test: str) -> Outcome:
        """The outcome of a test, which may be that of its class or its module."""
        parts = test.split(".")
        names = [".".join(parts[:length]) for length in (len(parts), len(parts) - 1, len(parts) - 2)]
        told = [self.outcomes[name] for name in names if name in self.outcomes]
        return told[0] if told else Outcome(test, "crashed", self.broken or "never ran", 0.0)


@dataclass(frozen=True)
class Setting:
    """How to run: whose `monkey.patch_all()` patches ("" for nobody's), where logs go, seconds for one test."""

    under: str
    logs: Path
    test_seconds: float = TEST_SECONDS
    file_seconds: float = FILE_SECONDS


def run_file(file: str, setting: Setting, skip: Collection[str] = (), only: Collection[str] | None = None) -> FileRun:
    """Runs the tests of a file; after one that hangs or kills its process, another process runs the rest.

    Args:
        file: a module of the interpreter's `test` package, such as "test_socket".
        skip: full names of tests that do not run.
        only: full names of the tests that run; None for all.
    """
    result = FileRun(file)
    start = time.monotonic()
    log = setting.logs / f"{file}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stdlib-") as folder, log.open("ab") as output:
        job = {"file": file, "under": setting.under, "limit": setting.test_seconds, "events": f"{folder}/events"}
        while True:
            job |= {"skip": [*skip, *result.outcomes], "only": None if only is None else list(only)}
            path = Path(folder, "job")
            path.write_text(json.dumps(job))
            left = setting.file_seconds - (time.monotonic() - start)
            ending = _run_child(path, output.fileno(), left)
            if not _goes_on(result, Path(folder, "events"), ending):
                break
    result.seconds = time.monotonic() - start
    return result


def _run_child(job: Path, output: int, seconds: float) -> str:
    """Runs the child in a process group of its own, which is gone afterwards. Gives how it ended."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.stdlib.child", str(job)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        code = child.wait(timeout=max(seconds, 1.0))
        return f"ended with {signal.Signals(-code).name if code < 0 else code}"
    except subprocess.TimeoutExpired:
        return "the file's time was up"
    finally:
        # What a test left running goes with it.
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _goes_on(result: FileRun, path: Path, ending: str) -> bool:
    """Reads what the child told. Gives whether another one has to run the rest."""
    events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    running = ""
    for event in events:
        match event["event"]:
            case "found":
                result.found = event["tests"]
            case "start":
                running = event["test"]
            case "outcome":
                running = ""
                name = event["test"]
                result.outcomes[name] = Outcome(name, event["outcome"], event["text"], event["seconds"])
            case "end":
                if ending != "ended with 0":
                    result.broken = f"after the last test the process {ending}"
                return False
    if not running:
        result.broken = f"outside of tests the process {ending}"
        return False
    kind = "hung" if ending in ("ended with 1", "the file's time was up") else "crashed"
    result.outcomes[running] = Outcome(running, kind, f"the process {ending}", 0.0)
    return ending != "the file's time was up"
