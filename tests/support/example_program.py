"""An example that is a program: `python -m examples.name`, in a process of its own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds; only a failing test waits so long


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", *arguments]


class ExampleProgram:
    """A running example; its first line of output names the port on which it listens.

    Args:
        arguments: the module and what follows it.
    """

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            _command(arguments),
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        found = re.search(r"[0-9.]+:([0-9]+)", first)
        assert found, (first, self.process.communicate())
        self.port = int(found[1])

    @staticmethod
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        """Runs an example to its end."""
        return subprocess.run(_command(arguments), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)

    def interrupt(self) -> tuple[int, str]:
        """Ends it by Ctrl-C; returns its exit code and what it wrote to standard error."""
        self.process.send_signal(signal.SIGINT)
        self.output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors

    def __enter__(self) -> "ExampleProgram":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.communicate()
                raise
            assert self.process.returncode == 0
