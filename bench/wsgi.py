"""`python -m bench wsgi`: rounds of every case over every peer, A B C A B C."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.cases import Case, Setting
from bench.environments import Environment, PeerUnavailable, prepare
from bench.peers import Peer
from bench.report import Result
from bench.samples import Sample


def measure(case: Case, peers: list[Peer], setting: Setting, rounds: int, streamserve_python: Path) -> Result:
    """Measure one case: in each round each peer once, on a server started afresh.

    Args:
        case: What is done to a server.
        peers: The servers, in the order of a round.
        setting: Cores and seconds.
        rounds: How many samples of each peer.
        streamserve_python: The interpreter that can import streamserve.
    """
    environments, unavailable = _prepared(case, peers, streamserve_python)
    ready = [(peer, environments[peer.name]) for peer in peers if peer.name in environments]
    samples: list[Sample] = []
    for number in range(rounds):
        for sample in case.round(ready, setting, number):
            samples.append(sample)
            _progress(case, sample)
    subjects = {peer.name: environments[peer.name].version if peer.name in environments else "" for peer in peers}
    return Result(case.name, case.title, case.unit, subjects, samples, unavailable)


def _prepared(case: Case, peers: list[Peer], streamserve_python: Path) -> tuple[dict[str, Environment], dict[str, str]]:
    environments: dict[str, Environment] = {}
    unavailable: dict[str, str] = {}
    for peer in peers:
        if case.name in peer.left_out:
            unavailable[peer.name] = peer.left_out[case.name]
            continue
        try:
            environments[peer.name] = prepare(peer, streamserve_python)
        except PeerUnavailable as error:
            unavailable[peer.name] = str(error)
    return environments, unavailable


def _progress(case: Case, sample: Sample) -> None:
    """One line on standard error for each sample, so that a long run shows that it lives."""
    notes = "; ".join(sample.problems)
    words = f"{case.name} round {sample.round + 1} {sample.subject}: {sample.value:.3f} {case.unit} {notes}"
    print(words.rstrip(), file=sys.stderr, flush=True)
