"""Request ids: made or taken, in the environ, in the logs, and sent back."""

import io
import logging
import os
import re
from typing import Any

import pytest

from streamserve.gateway.request_ids import make_id
from tests.support.logs import awaited_lines
from tests.support.server import eventually
from tests.wsgi.conftest import Serve

MADE = re.compile("[0-9a-f]{32}")


def app(environ: dict[str, Any], start_response: Any) -> Any:
    if environ["PATH_INFO"] == "/raise":
        raise ValueError("broken")
    headers = [("X-Request-ID", "the application's")] if environ["PATH_INFO"] == "/own" else []
    if environ["PATH_INFO"] == "/twice":
        start_response("200 OK", [])
        try:
            raise ValueError
        except ValueError as error:
            start_response("503 Later", headers, (ValueError, error, None))
    else:
        start_response("200 OK", headers)
    body = environ.get("HTTP_X_REQUEST_ID", "none").encode("latin-1")
    return iter([body[:3], body[3:]]) if environ["PATH_INFO"] == "/stream" else [body]


def get(path: str = "/", given: str = "", version: str = "1.1") -> bytes:
    field = f"X-Request-ID: {given}\r\n" if given else ""
    return f"GET {path} HTTP/{version}\r\nHost: h\r\n{field}\r\n".encode("latin-1")


def test_without_the_setting_nothing_is_made(serve: Serve) -> None:
    running = serve(app)
    assert running.ask(get()).body == b"none" and running.ask(get(given="mine")).body == b"mine"
    endpoint = next(iter(running.server._endpoints.values()))
    assert endpoint.application is app


def test_ids_are_made_and_the_clients_are_replaced(serve: Serve) -> None:
    running = serve(app, request_ids="make")
    with running.client() as client:
        found = set()
        for number in range(10):
            client.send(get(given="mine" * (number % 2)))
            found.add(client.response().body.decode())
    assert len(found) == 10 and all(map(MADE.fullmatch, found))


@pytest.mark.parametrize("valid", ["a", "x" * 128, "0-_.:/+=~!#$%&()*,;<>?@[]^`{|}"])
def test_a_valid_id_is_accepted(serve: Serve, valid: str) -> None:
    assert serve(app, request_ids="accept").ask(get(given=valid)).body.decode() == valid


@pytest.mark.parametrize(
    "bad",
    ["x" * 129, 'a"b', "a'b", "a\\b", "a b", "a\tb", "\xe9", "a\r\nX-Request-ID: b", "\x85", "a\r\nx-request-id:"],
)
def test_an_id_that_is_not_valid_is_replaced(serve: Serve, bad: str) -> None:
    assert MADE.fullmatch(serve(app, request_ids="accept").ask(get(given=bad)).body.decode())


@pytest.mark.parametrize("path", ["/", "/stream", "/twice", "/raise"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_it_is_sent_back(serve: Serve, path: str, version: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    running = serve(app, request_ids="accept", request_id_header="X-Request-ID")
    assert running.ask(get(path, "mine", version)).get("x-request-id") == "mine"
    assert MADE.fullmatch(str(running.ask(get(path, "", version)).get("x-request-id")))


def test_the_applications_own_field_stays(serve: Serve) -> None:
    running = serve(app, request_id_header="x-request-id")
    assert running.ask(get("/own")).all("x-request-id") == ["the application's"]


def test_heads_with_ids_are_not_remembered(serve: Serve) -> None:
    running = serve(app, request_id_header="X-Id")
    with running.client() as client:
        for _ in range(20):
            client.send(get())
            response = client.response()
            assert response.get("x-id") == response.body.decode()
    endpoint = next(iter(running.server._endpoints.values()))
    assert len(endpoint.head_cache.heads) <= 2


def test_it_is_in_both_logs(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    running = serve(app, log=stream, request_ids="accept", access_log_format="%({x-request-id}i)s %(s)s")
    assert running.ask(get("/raise", "mine-7")).status == 500
    assert eventually(stream.getvalue, "a line") == "mine-7 500\n"
    assert awaited_lines(caplog) == ["the application failed at GET /raise (request id mine-7)"]


def test_an_application_that_removes_it_harms_nobody(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def spoiling(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["HTTP_X_REQUEST_ID"] = {"/number": 5, "/line": "a\r\nb: c"}.get(environ["PATH_INFO"])
        raise ValueError

    running = serve(spoiling, request_ids="make", request_id_header="X-Id")
    for path in ("/", "/number", "/line"):
        response = running.ask(get(path))
        assert response.status == 500 and response.get("x-id") is None and response.get("b") is None
    assert awaited_lines(caplog, 3)[-1] == "the application failed at GET /line (request id a\\x0d\\x0ab: c)"


def test_processes_that_were_forked_make_different_ids() -> None:
    reader, writer = os.pipe()
    pids = []
    for _ in range(3):
        pid = os.fork()
        if not pid:
            try:
                os.write(writer, f"{make_id()}\n".encode())
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    os.close(writer)
    ids = [*os.read(reader, 1000).decode().split(), make_id()]
    os.close(reader)
    assert len(set(ids)) == 4
