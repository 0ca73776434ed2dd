"""`python -m bench greenlets`: what greenlets cost, and what they wait with, against gevent.

Each sample is a fresh process, A B A B.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import echo
from bench.environments import ROOT, Environment, PeerUnavailable, prepare
from bench.peers import PEERS
from bench.redis_server import redis_py, redis_server
from bench.report import Result
from bench.samples import Sample
from bench.server import pinned

LIBRARIES = ("streamserve", "gevent")
GREENLET, WAIT, ECHO = "bench.greenlet_worker", "bench.wait_worker", ""
CASES = {
    "spawn": ("spawn and join of a Python function, one at a time", "ns CPU", GREENLET),
    "batch": ("spawn and join in batches of 1,000", "ns CPU each", GREENLET),
    "sleep0": ("sleep(0) in the only greenlet", "ns CPU", GREENLET),
    "sleep0-100": ("sleep(0) in a hundred greenlets", "ns CPU", GREENLET),
    "parked": ("20,000 greenlets parked in sleep", "RSS bytes each", GREENLET),
    "socketpair": ("64 bytes there and back between two greenlets", "ns CPU", WAIT),
    "socketpair-timeout": ("the same on sockets with a timeout", "ns CPU", WAIT),
    "event": ("an Event set for another greenlet that waits", "ns CPU", WAIT),
    "queue": ("an item put for another greenlet that waits", "ns CPU", WAIT),
    "pool-map": ("Pool(100).map of a Python function over 1,000", "ns CPU each", WAIT),
    "redis": ("GET by redis-py, patched, 100 greenlets over 20 connections", "ns CPU", WAIT),
    "recv-ready": ("recv of 64 bytes that are there, over the plain socket's", "ratio of CPU", WAIT),
    "send-ready": ("send of 64 bytes for which there is room, over the plain socket's", "ratio of CPU", WAIT),
    "getaddrinfo": ("getaddrinfo of a numeric host", "us CPU", WAIT),
    "semaphore": ("acquire and release of a free Semaphore", "ns CPU", WAIT),
    "rlock": ("acquire and release of a free RLock", "ns CPU", WAIT),
    "queue-free": ("put and get of a Queue that nobody waits for", "ns CPU", WAIT),
    "echo": ("an echo StreamServer, 1,000 busy connections, 64 bytes", "us CPU/message", ECHO),
}
"""By name: what happens, the unit of its value, and the module that measures it."""

WORKER_SECONDS = 120


@dataclass(frozen=True)
class Cores:
    """Where the measured process and what it talks to run."""

    measured: int
    load: int


def measure(cases: list[str], rounds: int, streamserve_python: Path, cores: Cores) -> list[Result]:
    """Measure some cases.

    Args:
        cases: Their names, from CASES.
        rounds: Samples of each library and case.
        streamserve_python: The interpreter that can import streamserve.
        cores: Where to measure.
    """
    environments: dict[str, Environment] = {}
    unavailable: dict[str, str] = {}
    for library in LIBRARIES:
        try:
            environments[library] = prepare(PEERS[library], streamserve_python)
        except PeerUnavailable as error:
            unavailable[library] = str(error)
    versions = {name: environments[name].version if name in environments else "" for name in LIBRARIES}
    results = []
    for case in cases:
        title, unit, _ = CASES[case]
        result = Result(case, title, unit, versions, [], dict(unavailable))
        try:
            with _surroundings(case, streamserve_python, cores) as variables:
                for number in range(rounds):
                    for library, environment in environments.items():
                        result.samples.append(_sample(library, case, environment, number, cores, variables))
        except PeerUnavailable as error:
            result.unavailable.update(dict.fromkeys(LIBRARIES, str(error)))
        results.append(result)
    return results


@contextlib.contextmanager
def _surroundings(case: str, python: Path, cores: Cores) -> Iterator[dict[str, str]]:
    """What the case needs beside the library, and the environment variables that tell of it."""
    if case == "redis":
        with redis_server(cores.load) as port:
            yield {"REDIS_PORT": str(port), "PYTHONPATH": str(redis_py(python))}
    else:
        yield {}


def _sample(
    library: str, case: str, environment: Environment, number: int, cores: Cores, variables: dict[str, str]
) -> Sample:
    module = CASES[case][2]
    if module == ECHO:
        sample = echo.sample(library, environment, number, cores.measured, cores.load)
    else:
        command = pinned(cores.measured, [str(environment.python), "-m", module, library, case])
        sample = _worked(library, command, number, variables)
    if not sample.problems:
        print(f"{case} round {number + 1} {library}: {sample.value:.5g}", file=sys.stderr, flush=True)
    return sample


def _worked(library: str, command: list[str], number: int, variables: dict[str, str]) -> Sample:
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=WORKER_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return Sample(library, number, float("nan"), {}, (f"not done after {WORKER_SECONDS} s",))
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or ["ended without a word"]
        return Sample(library, number, float("nan"), {}, tuple(last))
    report = json.loads(done.stdout)
    wrong = report["count"] != report["expected"]
    problems = (f"{report['count']} of {report['expected']} operations happened",) if wrong else ()
    return Sample(library, number, report["value"], report, problems)
