"""`python -m bench websocket`: a sample counts only if every byte came back."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import socketio, socketio_peers, websocket
from bench.cli import parser
from bench.environments import ROOT, PeerUnavailable
from bench.websocket_load import Server, loading
from bench.websocket_peers import SUBJECTS, chosen, prepare

CORE = 0
PLACE = websocket.Place(CORE, CORE, 2)
PYTHON = Path(sys.executable)
programs = pytest.mark.skipif(
    not all(map(shutil.which, ("cc", "taskset", "setpriv"))), reason="needs cc, taskset, setpriv"
)
HEAD = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


ALL = [*SUBJECTS.values(), *socketio_peers.SUBJECTS.values()]


def test_every_requirement_is_pinned_exactly() -> None:
    for subject in ALL:
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in subject.pip), subject.name
        assert all(re.fullmatch(r"(@[\w.-]+/)?[\w.-]+@\d+\.\d+\.\d+", pin) for pin in subject.npm), subject.name


def test_a_peer_is_left_out_of_cases_that_exist() -> None:
    for subject in ALL:
        assert set(subject.left_out) <= {*websocket.CASES, *socketio.CASES}, subject.name


def test_the_launchers_are_there() -> None:
    for subject in ALL:
        for word in subject.argv:
            if word.startswith("bench.servers."):
                assert (ROOT / (word.partition(":")[0].replace(".", "/") + ".py")).is_file()
            elif word.startswith("{servers}"):
                assert (ROOT / word.format(servers="bench/servers")).is_file()


def test_an_unknown_peer_is_named_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="no such peer: nginx; there are streamserve"):
        chosen("floor,nginx")


def test_default_is_every_case_and_every_peer() -> None:
    options = parser().parse_args(["websocket"])
    assert options.case is None and chosen(options.subjects) == list(SUBJECTS.values())


@pytest.mark.foreign
@programs
@pytest.mark.parametrize("case", ["ws-echo", "ws-receive", "ws-burst", "ws-broadcast", "ws-large"])
def test_a_short_sample_of_ours_and_of_the_floor_is_valid(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = websocket.CASES[case]
    short = {
        "ws-burst": ("echo 2 16 100 1", 128),
        "ws-broadcast": ("broadcast 2 100", 8),
        "ws-large": ("echo 2 1 1048576 2", 8),
    }
    order, messages = short.get(case, ("echo 2 1 100 1", 8))
    small = websocket.Case(whole.title, whole.unit, whole.mode, order, messages, connections=4)
    monkeypatch.setitem(websocket.CASES, case, small)
    result = websocket.measure(case, chosen("streamserve,floor"), 1, Path(sys.executable), PLACE)
    assert [sample.problems for sample in result.samples] == [(), ()]
    assert all(0 < sample.value < 1e6 for sample in result.samples)


@pytest.mark.foreign
@programs
def test_memory_is_measured_with_all_connections_open() -> None:
    sample = websocket._idle_sample(prepare(SUBJECTS["streamserve"], Path(sys.executable)), PLACE, 0, 20)
    assert sample.problems == () and sample.details["alive"] == 20


@pytest.mark.foreign
@programs
@pytest.mark.parametrize("case", list(socketio.CASES))
def test_a_short_sample_of_socketio_is_valid(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = socketio.CASES[case]
    short = {"sio-echo": ("echo 2 1 100 1", 8), "sio-burst": ("echo 2 16 100 1", 128)}
    order, messages = short.get(case, ("broadcast 2 100", 8))
    small = websocket.Case(whole.title, whole.unit, whole.mode, order, messages, connections=4)
    monkeypatch.setitem(socketio.CASES, case, small)
    for name in ("FIRST_CLIENTS", "BEATING_CLIENTS", "MOST_LEAVING"):
        monkeypatch.setattr(socketio, name, 4)
    monkeypatch.setattr(socketio, "BEAT_SECONDS", 3)
    (sample,) = socketio.measure(case, chosen("streamserve", socketio_peers.SUBJECTS), 1, PYTHON, PLACE).samples
    assert sample.problems == () and 0 <= sample.value < 1e6


@contextmanager
def answering(answer: bytes) -> Iterator[Server]:
    """A server for one connection: its handshake, then the answer, then no more until the end of the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    program = [sys.executable, "-c", "input()"]

    def serve() -> None:
        with listener.accept()[0] as peer:
            peer.recv(65536)
            peer.sendall(HEAD)
            if peer.recv(65536):
                peer.sendall(answer)
            peer.recv(65536)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener, subprocess.Popen(program, stdin=subprocess.PIPE) as process:
        yield Server(process, listener.getsockname()[1], Path())
        process.kill()
        thread.join(60)


PAYLOAD = b"000000 00 "
RIGHT = bytes([0x81, 10]) + PAYLOAD


@pytest.mark.foreign
@programs
def test_the_right_answer_passes() -> None:
    with answering(RIGHT) as server, loading(server, 1, CORE) as load:
        assert load.order("echo 1 1 10 1") == 1


WRONG = {
    "opcode": bytes([0x82, 10]) + PAYLOAD,
    "payload": RIGHT[:-1] + b"x",
    "a byte too many": RIGHT + b"x",
    "another's": RIGHT.replace(b"000000", b"000001"),
}


@pytest.mark.foreign
@programs
@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_detected(answer: bytes) -> None:
    with answering(answer) as server, loading(server, 1, CORE) as load, pytest.raises(RuntimeError, match="differs"):
        load.order("echo 1 1 10 1")


@pytest.mark.foreign
@programs
def test_a_server_that_ends_is_unavailable_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("starting\nno such module\n")
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    server = Server(process, 1, log)
    with pytest.raises(PeerUnavailable, match="no such module"), loading(server, 1, CORE):
        pass
