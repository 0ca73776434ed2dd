"""A Python program as a child process: patching is for a whole process, so each test of it has one of its own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

TIMEOUT = 120.0  # seconds; the machine may be busy


def run_program(source: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Python code to its end."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def printed(source: str) -> list[str]:
    """The lines that a program prints, which must exit with 0 and write nothing to standard error."""
    result = run_program(source)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return result.stdout.splitlines()
