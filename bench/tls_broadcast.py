"""The case `sio-broadcast-tls` of `python -m bench tls`: what TLS adds to a Socket.IO broadcast, per delivery.

Two servers of ours are up at once, one in the clear, and loaded in turn by the same client (sio_load.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.report import Result
from bench.samples import Sample
from bench.websocket import Case, Place, collected, loaded_samples
from bench.websocket_peers import Ready, Subject, command

NAME = "sio-broadcast-tls"
CASE = Case(
    "to a room of 1,000, 100 bytes of text, TLS 1.3 with AES-256-GCM, per delivery",
    "us CPU/delivery",
    "app",
    "broadcast 20 100",
    20_000,
)
_COMMAND = "{python} -m streamserve bench.servers.sio_streamserve:{mode} --bind 127.0.0.1:{port}"
_FILES = " --certfile {folder}/cert.pem --keyfile {folder}/key.pem"
SUBJECTS = (
    Subject("streamserve", command(_COMMAND + _FILES), load="tls"),
    Subject("plain", command(_COMMAND), load="plain"),
)


def measure(folder: Path, rounds: int, python: Path, place: Place, version: str) -> Result:
    """Measure it.

    Args:
        folder: has cert.pem and key.pem.
        rounds: How many samples of each.
        python: The interpreter that can import streamserve.
        place: Cores, and slices of each sample.
        version: streamserve's.
    """
    words = {"python": str(python), "folder": str(folder)}
    ready = [Ready(subject, words, version) for subject in SUBJECTS]

    def take(number: int) -> Iterator[Sample]:
        return loaded_samples(CASE, ready, place, number)

    samples = collected(NAME, CASE, rounds, take)
    return Result(NAME, CASE.title, CASE.unit, {subject.name: version for subject in SUBJECTS}, samples, {})
