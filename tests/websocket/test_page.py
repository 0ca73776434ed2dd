"""docs/websocket.md does what it says: its programs serve, nginx takes its configuration, its commands are valid."""

import re
import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
import websocket

from tests.support.process import ServedCommand, command
from tests.support.server import eventually
from tests.wsgi.conftest import Serve
from tests.wsgi.test_behind_a_proxy import Nginx

PAGE = (Path(__file__).parents[2] / "docs/websocket.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = {match[1]: text for _, text in BLOCKS if (match := re.match(r"# (\w+)\.py\n", text))}
PROGRAMS_OF_THE_PAGE = "chat django_app echo flask_app flask_sock_app lines login ticker".split()
COMMANDS = re.findall(r"^    (streamserve .*)$", PAGE, re.MULTILINE)

Open = Callable[..., websocket.WebSocket]
ServeProgram = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[ServeProgram]:
    """Serves a program of the page: program(name) is its URL."""
    with ExitStack() as stack:

        def serve_program(name: str) -> str:
            (tmp_path / f"{name}.py").write_text(PROGRAMS[name])
            return stack.enter_context(ServedCommand(f"{name}:app", cwd=tmp_path)).url

        yield serve_program


@pytest.fixture
def connect() -> Iterator[Open]:
    """Opens a client: connect(url, path, **options of create_connection)."""
    with ExitStack() as stack:

        def open_client(url: str, path: str = "/", **options: object) -> websocket.WebSocket:
            client = websocket.create_connection(url.replace("http", "ws", 1) + path, timeout=60, **options)
            stack.callback(client.shutdown)
            return client

        yield open_client


def test_every_block_of_the_page_is_run_here() -> None:
    assert sorted(PROGRAMS) == PROGRAMS_OF_THE_PAGE
    assert [language for language, text in BLOCKS if text not in PROGRAMS.values()] == ["nginx"]
    assert len(COMMANDS) == 4


def test_first_echo(program: ServeProgram, connect: Open) -> None:
    url = program("echo")
    assert requests.get(url, timeout=60).text == "A WebSocket is here.\n"
    client = connect(url)
    client.send("hello")
    client.send_binary(b"\x00")
    assert [client.recv(), client.recv()] == ["hello", b"\x00"]


def test_login(program: ServeProgram, connect: Open) -> None:
    url = program("login")
    with pytest.raises(websocket.WebSocketBadStatusException, match="401"):
        connect(url)
    client = connect(url, cookie="token=secret", subprotocols=["chat.v1", "chat.v2"])
    assert client.recv() == "Welcome."
    assert client.getsubprotocol() == "chat.v2"
    assert client.getheaders()["set-cookie"] == "seen=1; HttpOnly"
    assert connect(url, cookie="token=secret").getsubprotocol() is None


def test_rooms_of_the_chat_hear_their_own(program: ServeProgram, connect: Open) -> None:
    url = program("chat")
    assert "rooms are at" in requests.get(url, timeout=60).text
    assert requests.get(f"{url}/chat/one", timeout=60).status_code == 426
    one, other, elsewhere = connect(url, "/chat/one"), connect(url, "/chat/one"), connect(url, "/chat/two")
    one.send("in one")
    assert [one.recv(), other.recv()] == ["in one", "in one"]
    elsewhere.send("in two")
    assert elsewhere.recv() == "in two"
    one.close()
    other.send("still here")
    assert other.recv() == "still here"


def test_ticker_begins_again_when_someone_comes(program: ServeProgram, connect: Open) -> None:
    url = program("ticker")
    first, second = connect(url), connect(url)
    assert re.search(r"\d\d:\d\d:\d\d", first.recv())
    assert second.recv()
    first.close()
    assert second.recv()


def test_flask_sock_runs_on_the_raw_socket(program: ServeProgram, connect: Open) -> None:
    url = program("flask_sock_app")
    one, other = connect(url, "/echo"), connect(url, "/echo")
    for client in (one, other, one):
        client.send("hello")
        assert client.recv() == "hello"
    one.close()
    assert requests.get(f"{url}/elsewhere", timeout=60).status_code == 404


def test_lines_are_a_protocol_of_their_own(program: ServeProgram) -> None:
    url = program("lines")
    assert requests.get(url, timeout=60).status_code == 426
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client, client.makefile("rb") as reader:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: lines\r\n\r\nfirst\n")
        assert reader.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
        while reader.readline() != b"\r\n":
            continue
        assert reader.readline() == b"FIRST\n"
        client.sendall(b"second\n")
        assert reader.readline() == b"SECOND\n"


@pytest.mark.parametrize("name", ["flask_app", "django_app"])
def test_a_view_of_a_framework(program: ServeProgram, connect: Open, name: str) -> None:
    url = program(name)
    assert requests.get(f"{url}/echo", timeout=60).status_code == 400
    client = connect(url, "/echo")
    client.send("hello")
    assert client.recv() == "hello"
    client.close(1000)
    assert requests.get(f"{url}/echo", timeout=60).status_code == 400


@pytest.mark.foreign
def test_nginx_passes_websockets_on(serve: Serve, connect: Open) -> None:
    names: dict[str, object] = {}
    exec(PROGRAMS["echo"], names)
    running = serve(names["app"])
    with Nginx(next(text for language, text in BLOCKS if language == "nginx"), running.port) as nginx:
        url = f"http://127.0.0.1:{nginx.port}"
        client = connect(url, origin=url)  # as a page behind it has it
        client.send("hello")
        assert client.recv() == "hello"
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            connect(url, origin="http://evil.example")
        client.close()
    eventually(lambda: not running.left_behind(), "nginx has left")


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_valid(line: str, tmp_path: Path) -> None:
    module = line.split()[1].partition(":")[0]
    (tmp_path / f"{module}.py").write_text(PROGRAMS[module])
    done = command(*shlex.split(line)[1:], "--check-config", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
