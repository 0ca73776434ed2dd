"""docs/socketio.md does what it says: its programs serve, its client runs under Node, its commands are valid."""

import hashlib
import queue
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from inspect import signature
from pathlib import Path
from typing import Any

import engineio
import pytest
import requests
import socketio

from streamserve.engine.incoming import MAX_EVENTS
from streamserve.engine.packets import MOST_ATTACHMENTS
from streamserve.engine.server import MAX_QUEUE, EngineServer
from streamserve.socketio_server import SocketIOServer
from tests.support import node
from tests.support.javascript_client import PACKAGES
from tests.support.process import ServedCommand, command
from tests.support.server import eventually

PAGE = (Path(__file__).parents[2] / "docs/socketio.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = {match[1]: text for _, text in BLOCKS if (match := re.match(r"# (\w+)\.py\n", text))}
COMMANDS = re.findall(r"^    (streamserve .*)$", PAGE, re.MULTILINE)
PATIENCE = 60.0  # seconds; only a failing test waits so long

Serve = Callable[[str], ServedCommand]
Connect = Callable[..., socketio.Client]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Serve]:
    """Serves a program of the page, by its name."""
    with ExitStack() as stack:

        def serve_program(name: str) -> ServedCommand:
            (tmp_path / f"{name}.py").write_text(PROGRAMS[name])
            return stack.enter_context(ServedCommand(f"{name}:sio", cwd=tmp_path))

        yield serve_program


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens a client: connect(server, on={event: function}, **options of Client.connect)."""
    with ExitStack() as stack:

        def open_client(server: ServedCommand, on: dict[str, Any] | None = None, **options: Any) -> socketio.Client:
            client = socketio.Client(reconnection=False)
            for event, function in (on or {}).items():
                client.on(event, function)
            stack.callback(client.disconnect)
            client.connect(server.url, wait_timeout=PATIENCE, **options)
            return client

        yield open_client


def test_every_block_of_the_page_is_run_here() -> None:
    assert sorted(PROGRAMS) == ["calls", "echo", "files", "login", "news", "rooms", "ticker"]
    assert [language for language, text in BLOCKS if text not in PROGRAMS.values()] == ["javascript"]
    assert len(COMMANDS) == 2


def test_first_echo_and_its_client(program: Serve, tmp_path: Path) -> None:
    server = program("echo")
    (tmp_path / "client.js").write_text(next(text for language, text in BLOCKS if language == "javascript"))
    modules = node.package("socket.io-client", PACKAGES["socket.io-client"])
    done = subprocess.run(
        [node.program(), tmp_path / "client.js", server.url],
        env={"NODE_PATH": str(modules)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("hello\n5\n", "")


def test_news_pushes_what_is_posted(program: Serve, connect: Connect) -> None:
    server = program("news")
    heard: queue.Queue[str] = queue.Queue()
    connect(server, on={"news": heard.put})
    assert heard.get(timeout=PATIENCE) == "welcome"
    assert requests.post(f"{server.url}/news/hello", timeout=PATIENCE).text == "told\n"
    assert heard.get(timeout=PATIENCE) == "hello"


def test_rooms_hear_their_own(program: Serve, connect: Connect) -> None:
    server = program("rooms")
    heard: queue.Queue[str] = queue.Queue()
    one, other = connect(server), connect(server, on={"told": heard.put})
    for client in (one, other):
        assert client.call("enter", "red", timeout=PATIENCE) == sorted(["red", client.get_sid()])
    one.call("tell", ("red", "first"), timeout=PATIENCE)
    assert heard.get(timeout=PATIENCE) == "first"
    other.call("leave", "red", timeout=PATIENCE)
    one.call("tell", ("red", "lost"), timeout=PATIENCE)
    one.call("tell", (other.get_sid(), "second"), timeout=PATIENCE)
    assert heard.get(timeout=PATIENCE) == "second"


def test_calls_wait_for_the_client(program: Serve, connect: Connect) -> None:
    assert connect(program("calls"), on={"your name?": lambda: "Ada"}).call("ask_me", timeout=PATIENCE) == "Ada"


def test_ticker_ticks(program: Serve, connect: Connect) -> None:
    heard: queue.Queue[int] = queue.Queue()
    connect(program("ticker"), on={"tick": heard.put}).emit("start")
    assert [heard.get(timeout=PATIENCE) for _ in range(3)] == [0, 1, 2]


def test_login_lets_in_and_refuses(program: Serve, connect: Connect) -> None:
    server = program("login")
    refused: list[Any] = []
    stranger = socketio.Client(reconnection=False)
    stranger.on("connect_error", refused.append, namespace="/admin")
    with pytest.raises(socketio.exceptions.ConnectionError):
        stranger.connect(server.url, namespaces=["/admin"], wait_timeout=PATIENCE)
    assert refused == [{"message": "log in first", "data": {"login": "/login"}}]
    client = connect(server, namespaces=["/admin"], auth={"token": "secret", "name": "Ada"})
    assert client.call("who am I", namespace="/admin", timeout=PATIENCE) == "Ada"
    client.disconnect()
    with pytest.raises(socketio.exceptions.ConnectionError):
        connect(server, namespaces=["/nobody"])
    assert re.match(r"Ada left: (client disconnect|transport close)\n", server.stop())


def test_files_come_as_bytes(program: Serve, connect: Connect) -> None:
    data = bytes(range(256)) * 10_000
    answer = connect(program("files")).call("upload", {"name": "a", "data": data}, timeout=PATIENCE)
    assert answer == {"name": "a", "size": len(data), "digest": hashlib.sha256(data).digest()}


def test_options_exist_and_have_the_defaults_that_are_named() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \| ([^|]*?) \|", PAGE, re.MULTILINE)
    known = {**signature(socketio.Server).parameters, **signature(engineio.Server).parameters}
    known |= signature(engineio.base_server.BaseServer).parameters | signature(EngineServer).parameters
    known |= signature(socketio.base_server.BaseServer).parameters | signature(SocketIOServer).parameters
    named = {name: default for names, default in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(named) <= set(known)
    engine = EngineServer()
    assert named["ping_interval"] == f"{engine.ping_interval}, {engine.ping_timeout}"
    assert named["max_http_buffer_size"] == str(engine.max_http_buffer_size)
    assert named["max_events"] == str(MAX_EVENTS)
    assert named["max_namespaces"] == str(SocketIOServer().max_namespaces)
    assert named["max_queue"] == str(MAX_QUEUE) and MOST_ATTACHMENTS == 10 and "more than ten\nattachments" in PAGE


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_valid(line: str, tmp_path: Path) -> None:
    module = line.split()[1].partition(":")[0]
    (tmp_path / f"{module}.py").write_text(PROGRAMS[module])
    done = command(*shlex.split(line)[1:], "--check-config", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_handler_that_raises_is_logged_and_its_client_goes_on(tmp_path: Path, connect: Connect) -> None:
    (tmp_path / "failing.py").write_text(PROGRAMS["echo"])
    with ServedCommand("failing:sio", cwd=tmp_path) as server:
        client = connect(server)
        client.emit("say", 7)
        eventually(lambda: "TypeError" in server.stderr, "it is logged")
        assert client.call("say", "hello", timeout=PATIENCE) == 5
