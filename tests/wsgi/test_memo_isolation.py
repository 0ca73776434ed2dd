"""No client ever sees what another one sent, however the memory of heads and targets is churned."""

import json
import random
import threading
from typing import Any

from tests.support.client import Client
from tests.support.server import Running
from tests.wsgi.conftest import Serve

BLOCKS = 1600  # more than memo_entries of ss_listener_defaults, which is 1024
CONNECTIONS = 24
ROUNDS = 40


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answers with what it was told, and spoils its environ."""
    names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "RAW_URI", "REQUEST_URI", "REMOTE_PORT", "SERVER_PROTOCOL")
    seen = {name: environ[name] for name in names}
    seen |= {name: value for name, value in environ.items() if name.startswith(("HTTP_", "CONTENT_"))}
    seen["body"] = environ["wsgi.input"].read().decode()
    start_response("200 OK", [("X-Who", environ.get("HTTP_X_WHO", ""))])
    for name in list(environ):
        environ[name] = "spoiled"
    return [json.dumps(seen).encode()]


def a_request(chance: random.Random, port: int) -> tuple[bytes, str, dict[str, str]]:
    """A request, its method, and what the application must see of it."""
    who, where = chance.randrange(BLOCKS), chance.randrange(BLOCKS)
    if chance.random() < 0.5:
        who, where = who % 7, where % 5
    method = chance.choice(["GET", "GET", "GET", "POST", "DELETE", "HEAD", "BREW"])
    version = "1.0" if chance.random() < 0.1 else "1.1"
    body = f"body {who} {where}" if method == "POST" else ""
    target = f"/path{where}?query={where}"
    fields = {"HTTP_HOST": f"host{who % 3}", "HTTP_X_WHO": str(who), "HTTP_COOKIE": f"session={who}"}
    head = f"{method} {target} HTTP/{version}\r\nHost: host{who % 3}\r\nX-Who: {who}\r\nCookie: session={who}\r\n"
    if version == "1.0":
        head += "Connection: keep-alive\r\n"
        fields["HTTP_CONNECTION"] = "keep-alive"
    if body:
        head += f"Content-Length: {len(body)}\r\n"
        fields["CONTENT_LENGTH"] = str(len(body))
    if chance.random() < 0.3:
        fields["HTTP_AUTHORIZATION"] = f"token {who}"
        head += f"Authorization: token {who}\r\n"
    expected = fields | {
        "REQUEST_METHOD": method,
        "PATH_INFO": f"/path{where}",
        "QUERY_STRING": f"query={where}",
        "RAW_URI": target,
        "REQUEST_URI": target,
        "REMOTE_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{version}",
        "body": body,
    }
    return (head + "\r\n" + body).encode(), method, expected


def check(client: Client, method: str, expected: dict[str, str]) -> None:
    response = client.response(method)
    assert response.get("x-who") == expected["HTTP_X_WHO"]
    if method != "HEAD":
        assert json.loads(response.body) == expected


def hammer(running: Running, seed: int) -> None:
    """Many connections at once, some requests pipelined, some split in two, connections replaced now and then."""
    chance = random.Random(seed)
    clients = [running.client() for _ in range(CONNECTIONS)]
    for _ in range(ROUNDS):
        asked: list[tuple[Client, list[tuple[str, dict[str, str]]]]] = []
        for at, client in enumerate(clients):
            if chance.random() < 0.05:
                client.close()
                client = clients[at] = running.client()
            requests = [a_request(chance, client.socket.getsockname()[1]) for _ in range(chance.choice([1, 1, 1, 3]))]
            data = b"".join(request for request, _, _ in requests)
            cut = chance.randrange(len(data)) if chance.random() < 0.2 else len(data)
            client.send(data[:cut])
            if cut < len(data):
                client.send(data[cut:])
            asked.append((client, [(method, expected) for _, method, expected in requests]))
        for client, answers in asked:
            for method, expected in answers:
                check(client, method, expected)


def test_interleaved_clients_see_only_their_own_values(serve: Serve) -> None:
    running = serve(echo)
    failures: list[BaseException] = []

    def attempt(seed: int) -> None:
        try:
            hammer(running, seed)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=attempt, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    running.verify()


def test_more_heads_than_are_remembered_are_all_right_again(serve: Serve) -> None:
    """Every block and target is evicted at least once between its two uses."""
    running = serve(echo)
    with running.client() as client:
        port = str(client.socket.getsockname()[1])
        for _ in range(2):
            for start in range(0, 1500, 50):
                numbers = range(start, start + 50)
                client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\nX-Who: %d\r\n\r\n" % (n, n) for n in numbers))
                for number in numbers:
                    seen = json.loads(client.response().body)
                    assert (seen["PATH_INFO"], seen["HTTP_X_WHO"]) == (f"/{number}", str(number))
                    assert seen["REMOTE_PORT"] == port


def test_the_memory_is_bounded(serve: Serve) -> None:
    from streamserve.core import lib

    running = serve(echo)
    with running.client() as client:
        for start in range(0, 1500, 50):
            client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h%d\r\n\r\n" % (n, n) for n in range(start, start + 50)))
            for _ in range(50):
                client.response()
    assert running.count(lib.SS_COUNT_MEMO_ENTRIES) <= 2 * 1024
    endpoint = next(iter(running.server._endpoints.values()))
    assert len(endpoint.memory.templates) <= 1024 and len(endpoint.memory.targets) <= 1024


def test_the_same_new_head_from_many_at_once(serve: Serve) -> None:
    """Twins: each finds the head unknown, all of them end up with the same entry."""
    running = serve(echo)
    clients = [running.client() for _ in range(40)]
    for turn in range(20):
        for client in clients:
            client.send(b"GET /%d HTTP/1.1\r\nHost: h\r\nX-Who: %d\r\n\r\n" % (turn, turn))
        for client in clients:
            seen = json.loads(client.response().body)
            assert (seen["PATH_INFO"], seen["HTTP_X_WHO"]) == (f"/{turn}", str(turn))
            assert seen["REMOTE_PORT"] == str(client.socket.getsockname()[1])


def test_requests_that_overlap_keep_their_heads(serve: Serve) -> None:
    """An entry that a running request names is not replaced under it."""
    from streamserve.loop.joining import sleep

    def slow(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        sleep(0.001)
        return echo(environ, start_response)

    running = serve(slow)
    clients = [running.client() for _ in range(64)]
    for turn in range(25):
        for number, client in enumerate(clients):
            value = turn * 64 + number
            client.send(b"GET /%d HTTP/1.1\r\nHost: h\r\nX-Who: %d\r\n\r\n" % (value, value))
        for number, client in enumerate(clients):
            value = turn * 64 + number
            seen = json.loads(client.response().body)
            assert (seen["PATH_INFO"], seen["HTTP_X_WHO"]) == (f"/{value}", str(value))
    running.verify()


def test_a_client_that_repeats_a_request_and_then_another_gets_each_its_own(serve: Serve) -> None:
    running = serve(echo)
    with running.client() as client:
        for who in [1, 1, 1, 2, 2, 2, 1, 1, 2, 2]:
            for method in ["GET", "GET", "GET", "POST"] if who == 2 else ["GET"]:
                client.send(
                    f"{method} /{who} HTTP/1.1\r\nHost: h\r\nX-Who: {who}\r\nCookie: session={who}\r\n\r\n".encode()
                )
                seen = json.loads(client.response(method).body)
                assert (seen["PATH_INFO"], seen["HTTP_COOKIE"]) == (f"/{who}", f"session={who}")


class FailingOnce(dict[int, Any]):
    """Slots of which one cannot be set, as when a signal's function raises at that moment."""

    def __init__(self) -> None:
        super().__init__()
        self.armed = False

    def __setitem__(self, slot: int, value: Any) -> None:
        if self.armed:
            self.armed = False
            raise MemoryError
        super().__setitem__(slot, value)


def test_what_could_not_be_kept_is_not_answered_with_what_was_there_before(serve: Serve) -> None:
    running = serve(echo)
    (endpoint,) = running.server._endpoints.values()
    endpoint.memory.templates = slots = FailingOnce()
    with running.client() as client:

        def ask(who: int) -> Any:
            client.send(f"GET / HTTP/1.1\r\nHost: h\r\nX-Who: {who}\r\nCookie: session={who}\r\n\r\n".encode())
            return client.response()

        for who in range(1200):  # every slot has an owner
            ask(who)
        slots.armed = True
        assert ask(9999).status == 500
        for _ in range(3):
            assert json.loads(ask(9999).body)["HTTP_COOKIE"] == "session=9999"
