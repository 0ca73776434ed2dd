"""`python -m bench greenlets`: the cost of a greenlet, against gevent, each sample in a fresh process, A B A B."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.environments import ROOT, Environment, PeerUnavailable, prepare
from bench.peers import PEERS
from bench.report import Result
from bench.samples import Sample
from bench.server import pinned

LIBRARIES = ("streamserve", "gevent")
TITLES = {
    "spawn": ("spawn and join of a Python function, one at a time", "ns CPU"),
    "batch": ("spawn and join in batches of 1,000", "ns CPU each"),
    "sleep0": ("sleep(0) in the only greenlet", "ns CPU"),
    "sleep0-100": ("sleep(0) in a hundred greenlets", "ns CPU"),
    "parked": ("20,000 greenlets parked in sleep", "RSS bytes each"),
}
WORKER_SECONDS = 120


def measure(cases: list[str], rounds: int, streamserve_python: Path, core: int) -> list[Result]:
    """Measure some cases.

    Args:
        cases: Their names, from TITLES.
        rounds: Samples of each library and case.
        streamserve_python: The interpreter that can import streamserve.
        core: Where the measuring process runs.
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
        title, unit = TITLES[case]
        samples = [
            _sample(library, case, environments[library], number, core)
            for number in range(rounds)
            for library in LIBRARIES
            if library in environments
        ]
        results.append(Result(case, title, unit, versions, samples, dict(unavailable)))
    return results


def _sample(library: str, case: str, environment: Environment, number: int, core: int) -> Sample:
    command = pinned(core, [str(environment.python), "-m", "bench.greenlet_worker", library, case])
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WORKER_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        return Sample(library, number, float("nan"), {}, (f"not done after {WORKER_SECONDS} s",))
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or ["ended without a word"]
        return Sample(library, number, float("nan"), {}, tuple(last))
    report = json.loads(done.stdout)
    wrong = report["count"] != report["expected"]
    problems = (f"{report['count']} of {report['expected']} operations happened",) if wrong else ()
    print(f"{case} round {number + 1} {library}: {report['value']:.0f}", file=sys.stderr, flush=True)
    return Sample(library, number, report["value"], report, problems)
