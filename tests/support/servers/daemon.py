"""A server program of Debian's, started on a free port of 127.0.0.1 in a temporary folder, stopped by its pid.

PostgreSQL and MariaDB refuse to run as root, so under root every server runs as `nobody`. The kernel ends a server
whose tests are killed: `setpriv --pdeathsig`.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, NoReturn, Self

import pytest

START_TIMEOUT = 120.0  # seconds; the machine may be busy
STOP_TIMEOUT = 60.0
ATTEMPTS = 5  # someone else may take a free port before the server does
REQUIRED = "TEST_SERVERS"  # set to "required", a missing program is a failure: .ci/run does


def missing(reason: str) -> NoReturn:
    """Skips the test for want of something, or fails it where that is required."""
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(reason)
    pytest.skip(reason)


class Program(NamedTuple):
    """Where a server program may be, and the Debian package that has it."""

    name: str
    package: str
    folders: tuple[str, ...] = ("/usr/local/bin", "/usr/bin", "/usr/sbin")

    def path(self) -> Path:
        """The newest one there is; without any, the test is skipped, or fails where servers are required."""
        found = [path for folder in self.folders for path in sorted(Path("/").glob(f"{folder[1:]}/{self.name}"))]
        if found:
            return found[-1]
        missing(f"{self.name} is missing: apt-get install {self.package}")


class Daemon:
    """A server that accepts connections; as a context manager it is stopped, and its folder removed, at the end.

    A subclass says how it is started. Whoever reads `port` may connect at once.
    """

    program: Program
    stop_signal = signal.SIGTERM
    gives_up_root = True

    def __init__(self) -> None:
        self.executable = self.program.path()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.program.name}-"))
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        try:
            if self._as_nobody:
                nobody = pwd.getpwnam("nobody")
                os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self.prepare()
            self._start()
        except BaseException:
            self.stop()
            raise

    # ---- what a subclass says

    def prepare(self) -> None:
        """Makes what must be in the folder before the start."""

    def command(self) -> Sequence[str]:
        """The command line that serves `self.port` and `self.folder`, in the foreground."""
        raise NotImplementedError

    # ---- the rest

    def run(self, *command: str | Path) -> None:
        """Runs a program to its end as the user of the server."""
        with open(self.log_path, "ab") as log:
            arguments = [*self._leash(signal.SIGKILL), *map(str, command)]
            code = subprocess.call(arguments, stdout=log, stderr=log, cwd=self.folder, timeout=START_TIMEOUT)
        if code != 0:
            raise RuntimeError(f"{command[0]} exited with {code}:\n{self.log}")

    @property
    def log_path(self) -> Path:
        return self.folder / "server.log"

    @property
    def log(self) -> str:
        """What the server has written."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def _as_nobody(self) -> bool:
        return self.gives_up_root and os.geteuid() == 0

    def _leash(self, death: signal.Signals) -> list[str]:
        """The words before a command that make it end with this process and, where asked for, run as nobody."""
        words = ["setpriv", "--pdeathsig", death.name.removeprefix("SIG")]
        if self._as_nobody:
            nobody = pwd.getpwnam("nobody")
            words += ["--reuid", str(nobody.pw_uid), "--regid", str(nobody.pw_gid), "--clear-groups"]
        return [*words, "--"]

    def _start(self) -> None:
        for _ in range(ATTEMPTS):
            self.port = _free_port()
            with open(self.log_path, "ab") as log:
                command = [*self._leash(self.stop_signal), *self.command()]
                self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
            if self._accepts():
                return
        raise RuntimeError(f"{self.program.name} did not start in {ATTEMPTS} attempts:\n{self.log}")

    def _accepts(self) -> bool:
        """True once it accepts connections, False when it exited."""
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT
        while self.process.poll() is None:
            if self.ready():
                return True
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.program.name} is not ready after {START_TIMEOUT} s:\n{self.log}")
            time.sleep(0.02)
        return False

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=START_TIMEOUT).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Ends the process and removes the folder."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(self.stop_signal)
                try:
                    self.process.wait(STOP_TIMEOUT)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
