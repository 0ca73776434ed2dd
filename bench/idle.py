"""Many idle connections for the length of a with-block, held by bench/holder.py in a process of its own."""

from __future__ import annotations

import contextlib
import resource
import select
import subprocess
import sys
from collections.abc import Iterator

from bench.environments import ROOT
from bench.server import pinned

OPEN_SECONDS = 60.0


class Holder:
    """The running client; `alive()` asks it how many of its connections still idle."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Wrap the process, whose standard input and output are pipes."""
        self._process = process

    def alive(self) -> int:
        """Connections that the server has neither closed nor written to."""
        return self.ask("alive")

    def ask(self, word: str) -> int:
        """Have it count, and read its answer `WORD N`."""
        self.write("count")
        return self.read(word)

    def write(self, order: str) -> None:
        """Give it one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()

    def read(self, word: str) -> int:
        """Read the line `WORD N`.

        Raises:
            RuntimeError: The client said something else, nothing for OPEN_SECONDS, or died.
        """
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], OPEN_SECONDS)[0]:
            raise RuntimeError(f"the client that holds connections was silent for {OPEN_SECONDS:.0f} s")
        line = self._process.stdout.readline().split()
        if len(line) != 2 or line[0] != word:
            raise RuntimeError("the client that holds connections failed: " + self._complaint())
        return int(line[1])

    def _complaint(self) -> str:
        assert self._process.stderr is not None
        self._process.kill()
        return (self._process.stderr.read().strip().splitlines() or ["no message"])[-1]


def raise_file_limit() -> None:
    """Let this process and all that it starts open as many files as the system's hard limit says."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def held(port: int, count: int, core: int) -> Iterator[Holder]:
    """Hold `count` connections that have each been answered once.

    Raises:
        RuntimeError: They could not all be opened, or an answer was wrong.
    """
    command = pinned(core, [sys.executable, "-m", "bench.holder", str(port), str(count)])
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    with process:
        try:
            holder = Holder(process)
            holder.read("open")
            yield holder
        finally:
            process.kill()
