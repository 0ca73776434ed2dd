"""The `streamserve` command as a child process: started, waited for by its log, stopped by its pid."""

import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

START_TIMEOUT = 60.0  # seconds; the machine may be busy
STOP_TIMEOUT = 60.0
SERVING = re.compile(r" serving \S.* on (\S+) \(pid [0-9]+, ")


def command(*arguments: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end, as a user in `cwd` would, with these environment variables on top."""
    return subprocess.run(
        _command_line(arguments),
        cwd=cwd,
        env=_environment(environ),
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT,
        check=False,
    )


class ServedCommand:
    """A running server; as a context manager it is stopped at the end and must have exited with 0.

    Args:
        arguments: The command line, without the program's name. `--bind 127.0.0.1:0` is added if no --bind is there.
        cwd: Where it is started.
        pass_fds: Descriptors that the child inherits.
        environ: Environment variables on top of ours.
    """

    def __init__(
        self, *arguments: str, cwd: Path | None = None, pass_fds: tuple[int, ...] = (), **environ: str
    ) -> None:
        bind = () if "--bind" in arguments or arguments[:1] == ("run",) else ("--bind", "127.0.0.1:0")
        self.lines: list[str] = []
        self._unseen: queue.Queue[str | None] = queue.Queue()
        self._stdout = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed in __exit__; a pipe that nobody reads would fill and stop the server
        self.process = subprocess.Popen(
            _command_line((*arguments, *bind)),
            cwd=cwd,
            env=_environment(environ),
            pass_fds=pass_fds,
            process_group=0,
            stdout=self._stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.url = self.wait_for(SERVING)[1]
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def wait_for(self, pattern: "re.Pattern[str]") -> "re.Match[str]":
        """Waits for a line on standard error that no earlier call has consumed."""
        while True:
            try:
                line = self._unseen.get(timeout=START_TIMEOUT)
            except queue.Empty:
                raise AssertionError(f"no line matches {pattern.pattern!r} in:\n{self.stderr}") from None
            if line is None:
                raise AssertionError(f"it exited before a line matched {pattern.pattern!r}:\n{self.stderr}")
            if match := pattern.search(line):
                return match

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return "".join(self.lines)

    @property
    def stdout(self) -> str:
        """What it has written to standard output so far."""
        file = self._stdout.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Waits for its end; afterwards stderr is complete."""
        code = self.process.wait(STOP_TIMEOUT)
        self._reader.join(STOP_TIMEOUT)
        return code

    def stop(self) -> str:
        """Stops it with SIGTERM, checks that it exited with 0, and returns what it wrote to standard output."""
        self.signal(signal.SIGTERM)
        try:
            code = self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"SIGTERM did not stop it within {STOP_TIMEOUT} s:\n{self.stderr}") from None
        assert code == 0, f"exit code {code}:\n{self.stderr}"
        self._stdout.seek(0)
        return self._stdout.read()

    def __enter__(self) -> "ServedCommand":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.process.poll() is None:
                if error is None:
                    self.stop()
                else:
                    self.process.kill()
                    self.process.wait()
        finally:
            self._stdout.close()
            self._end_children()
            if self.process.stderr is not None:
                self.process.stderr.close()

    def _end_children(self) -> None:
        """One that it forked and that outlives it holds its standard error."""
        self._reader.join(1)
        if self._reader.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self._reader.join()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            self._unseen.put(line)
        self._unseen.put(None)


def _command_line(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "streamserve", *arguments]


def _environment(extra: dict[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STREAMSERVE_")}
    root = str(Path(__file__).parents[2])
    return {**clean, "PYTHONPATH": root, "PYTHONUNBUFFERED": "1", **extra}
