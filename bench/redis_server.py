"""A redis-server of our own for the redis case, and redis-py for every library's interpreter."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.environments import OUT, PeerUnavailable, run
from bench.server import free_port, pinned

REDIS_PY = "redis==8.1.0"
START_SECONDS = 15.0


def redis_py(python: Path) -> Path:
    """A directory with redis-py, which is pure Python: it stands on PYTHONPATH beside either library.

    Raises:
        PeerUnavailable: It cannot be installed.
    """
    home = OUT / "environments" / REDIS_PY.replace("==", "-")
    stamp = home / "installed.txt"
    if not stamp.exists():
        run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(home), REDIS_PY], "redis-py")
        stamp.write_text(REDIS_PY)
    return home


@contextlib.contextmanager
def redis_server(core: int) -> Iterator[int]:
    """Runs redis-server on its core for the length of a with-block; gives its port.

    Raises:
        PeerUnavailable: There is none, or it does not start.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise PeerUnavailable("redis-server is not installed")
    port = free_port()
    words = f"--port {port} --bind 127.0.0.1 --save --appendonly no --daemonize no".split()
    words.insert(words.index("--save") + 1, "")
    with subprocess.Popen(pinned(core, [program, *words]), stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError as error:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise PeerUnavailable(f"redis-server did not start: {error}") from error
                    time.sleep(0.02)
            yield port
        finally:
            process.kill()
