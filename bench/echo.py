"""The echo case: CPU of a StreamServer per message, with a thousand connections that are all busy."""

from __future__ import annotations

import contextlib
import select
import subprocess
import time
from collections.abc import Iterator

from bench import accounting
from bench.environments import ROOT, Environment, compiled
from bench.samples import Sample
from bench.server import free_port, pinned

CONNECTIONS = 1000
WARM_UP, MESSAGES = 10, 100
"""Messages on each connection."""

SECONDS = 60.0
"""The longest that any step may take."""


def sample(library: str, environment: Environment, number: int, server_core: int, load_core: int) -> Sample:
    """One server, one load."""
    try:
        with _serving(library, environment, server_core) as (pid, port), _load(port, load_core) as load:
            _order(load, WARM_UP)
            before = accounting.usage(pid)
            echoed = _order(load, MESSAGES)
            spent = accounting.spent(before, accounting.usage(pid))
    except (RuntimeError, OSError) as error:
        return Sample(library, number, float("nan"), {}, (str(error),))
    expected = CONNECTIONS * MESSAGES
    problems = () if echoed == expected else (f"{echoed} of {expected} messages came back",)
    return Sample(library, number, spent.cpu / expected / 1000, {"waited_ns": spent.waited}, problems)


@contextlib.contextmanager
def _serving(library: str, environment: Environment, core: int) -> Iterator[tuple[int, int]]:
    port = free_port()
    command = pinned(core, [str(environment.python), "-m", "bench.echo_server", library, str(port)])
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process.pid, port
        finally:
            process.kill()


@contextlib.contextmanager
def _load(port: int, core: int) -> Iterator[subprocess.Popen[str]]:
    """The load's process, with all connections open; the server may still be starting."""
    program = compiled("echo_load")
    command = pinned(core, [str(program), str(port), str(CONNECTIONS)])
    deadline = time.monotonic() + SECONDS
    pipe = subprocess.PIPE
    while True:
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                try:
                    _read(process, "open")
                except RuntimeError as error:
                    if "refused" not in str(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
                    continue
                yield process
                return
            finally:
                process.kill()


def _order(load: subprocess.Popen[str], messages: int) -> int:
    assert load.stdin is not None
    load.stdin.write(f"{messages}\n")
    load.stdin.flush()
    return _read(load, "done")


def _read(load: subprocess.Popen[str], word: str) -> int:
    assert load.stdout is not None and load.stderr is not None
    if not select.select([load.stdout], [], [], SECONDS)[0]:
        raise RuntimeError(f"the load was silent for {SECONDS:.0f} s")
    line = load.stdout.readline().split()
    if len(line) != 2 or line[0] != word:
        load.kill()
        raise RuntimeError("the load failed: " + (load.stderr.read().strip().splitlines() or ["no message"])[-1])
    return int(line[1])
