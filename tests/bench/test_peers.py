"""The table of peers is whole, and one of them can be run from end to end."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from bench.cases import CASES
from bench.cli import parser
from bench.environments import prepare
from bench.goals import RATIOS, VALUES
from bench.greenlets import CASES as GREENLET_CASES
from bench.measurement import Target, window
from bench.peers import HELLO_APP, PEERS, chosen
from bench.server import running
from bench.socketio import CASES as SOCKETIO_CASES
from bench.socketio_peers import SUBJECTS as SOCKETIO_SUBJECTS
from bench.tls import CASES as TLS_CASES
from bench.tls import UVICORN
from bench.websocket import CASES as WEBSOCKET_CASES
from bench.websocket_peers import SUBJECTS as WEBSOCKET_SUBJECTS


def test_every_requirement_is_pinned_exactly() -> None:
    for peer in [*PEERS.values(), UVICORN]:
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in peer.requirements), peer.name


def test_every_peer_either_sleeps_or_says_why_not() -> None:
    for peer in PEERS.values():
        assert bool(peer.sleep_app) != ("sleep" in peer.left_out), peer.name
        assert set(peer.left_out) <= set(CASES)


def test_goals_name_cases_and_peers_that_exist() -> None:
    for case, peer in [*RATIOS, *VALUES]:
        if case in TLS_CASES:
            assert peer == TLS_CASES[case].peer
        elif case in WEBSOCKET_CASES:
            assert peer in WEBSOCKET_SUBJECTS or (peer == "single" and WEBSOCKET_CASES[case].beside)
        elif case in SOCKETIO_CASES:
            assert peer in SOCKETIO_SUBJECTS or (peer == "single" and SOCKETIO_CASES[case].beside)
        else:
            assert case in {**CASES, **GREENLET_CASES} and peer in PEERS


def test_an_unknown_peer_is_named_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="no such peer: nginx; there are streamserve"):
        chosen("floor,nginx")


def test_default_is_every_case_and_every_peer() -> None:
    options = parser().parse_args(["wsgi"])
    assert options.case is None and chosen(options.peers) == list(PEERS.values())


@pytest.mark.foreign
@pytest.mark.skipif(not (shutil.which("wrk") and shutil.which("setpriv")), reason="needs wrk and setpriv")
def test_a_window_on_the_floor_is_valid() -> None:
    floor = PEERS["floor"]
    with running(floor, prepare(floor, Path(sys.executable)), HELLO_APP, core=0) as server:
        seen = window(server, Target(4, (), 0), seconds=1)
    assert seen.problems == ()
    assert 0 < seen.cpu_us < 1000 and seen.details["requests"] > 100
