"""What a client's leaving looks like to the code that waits: no error of whatever it waits for, and nobody's fault."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from streamserve.errors import ClientGone, ClientGoneWhileSending
from streamserve.loop.joining import sleep
from streamserve.sync.event import Event
from tests.support.client import Client
from tests.support.process import ServedCommand
from tests.support.server import Running, eventually
from tests.wsgi.conftest import Serve
from tests.wsgi.test_client_gone import reset

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
SOON = 5.0
"""Seconds: a second is promised; on a busy machine it may be some more."""

Body = Callable[[Any], Any]


class Log:
    """An access log, by lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, text: str) -> None:
        self.lines += text.splitlines()


class Site:
    """Runs `wait` for each request; knows what that ended with."""

    def __init__(self, wait: Body) -> None:
        self.wait = wait
        self.begun = 0
        self.ends: list[Any] = []
        self.open = Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.begun += 1
        try:
            self.wait(self)
        except BaseException as error:
            self.ends.append(type(error))
            raise
        self.ends.append(None)
        start_response("200 OK", [])
        return [b"done"]


def leaves(running: Running, site: Site) -> None:
    """A client asks, and leaves when its request waits."""
    before = site.begun
    client = running.client()
    client.send(GET)
    eventually(lambda: site.begun > before, "the application waits")
    time.sleep(0.1)
    reset(client)


@pytest.fixture
def upstream() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a server that answers nothing, and what it was asked."""
    asked: list[bytes] = []
    kept = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            kept.append(connection)
            asked.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", asked
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    for connection in kept:
        connection.close()


RETRYING = """
import os
import redis, requests, urllib3

host, port = os.environ["UPSTREAM"].split(":")

def by_requests(method):
    session = requests.Session()
    retry = urllib3.Retry(3, backoff_factor=0.01, allowed_methods=None)
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
    session.request(method, f"http://{host}:{port}/")

def by_redis(method):
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 3)
    redis.Redis(host, int(port), retry=retry).get("key")

def app(environ, start_response):
    name, _, method = environ["PATH_INFO"][1:].partition("/")
    try:
        globals()[name](method)
    finally:
        print("finally", flush=True)
    start_response("200 OK", [])
    return [b"done"]
"""


@pytest.mark.parametrize("path", ["by_requests/GET", "by_requests/POST", "by_redis/"])
def test_a_library_that_tries_again_does_not_send_again(
    tmp_path: Path, upstream: tuple[str, list[bytes]], path: str
) -> None:
    (tmp_path / "site_module.py").write_text(RETRYING)
    address, asked = upstream
    with ServedCommand("site_module:app", "--access-log", "-", cwd=tmp_path, UPSTREAM=address) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        client = Client((host, int(port)))
        client.send(f"GET /{path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        eventually(lambda: asked, "the upstream was asked")
        time.sleep(0.1)
        client.reset()
        eventually(lambda: "499" in server.stdout, "the request is over", SOON)
        output = server.stop()
    assert "finally" in output
    assert len(asked) == 1
    assert "Traceback" not in server.stderr


def test_except_exception_does_not_swallow_it(serve: Serve) -> None:
    swallowed = []

    def wait(site: Site) -> None:
        for _ in range(3):
            try:
                site.open.wait()
            except (Exception, OSError) as error:
                swallowed.append(error)

    site = Site(wait)
    leaves(serve(site), site)
    eventually(lambda: site.ends, "it has ended", SOON)
    assert site.ends == [ClientGone]
    assert not swallowed


def test_whoever_names_it_catches_it(serve: Serve) -> None:
    def wait(site: Site) -> None:
        try:
            site.open.wait()
        except ClientGone as error:
            assert not isinstance(error, Exception)

    site = Site(wait)
    leaves(serve(site), site)
    eventually(lambda: site.ends, "it has ended", SOON)
    assert site.ends == [None]


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_write_to_whoever_has_left_fails_with_an_oserror_that_is_both(serve: Serve, size: int) -> None:
    errors: list[BaseException] = []

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", [])
        try:
            while True:
                write(b"x" * size)
                sleep(0 if size > 10 else 0.01) if not errors else None
        except OSError as error:
            errors.append(error)
            raise
        except ClientGone as error:
            errors.append(error)
            raise

    running = serve(application, client_gone="off")
    client = running.client()
    client.send(GET)
    client.head()
    reset(client)
    eventually(lambda: errors, "the write fails", SOON)
    assert isinstance(errors[0], ClientGone)
    assert isinstance(errors[0], ConnectionError)


def test_a_write_that_waits_for_a_client_fails_with_an_oserror_too(serve: Serve) -> None:
    errors: list[BaseException] = []
    waits = threading.Event()

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", [])
        waits.set()
        try:
            while True:
                write(b"x" * 65536)
        except BaseException as error:
            errors.append(error)
            raise

    running = serve(application)
    client = running.client()
    client.send(GET)
    assert waits.wait(SOON)
    time.sleep(0.3)  # until the kernel's buffers are full
    reset(client)
    eventually(lambda: errors, "the write fails", SOON)
    assert [type(error) for error in errors] == [ClientGoneWhileSending]


def wrapped(site: Site) -> None:
    """As a library does that has a class for whatever fails."""
    try:
        site.open.wait()
    except BaseException as error:
        raise RuntimeError("the upstream failed") from error


def test_an_application_that_wraps_it_gets_no_traceback(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    log = Log()
    site = Site(wrapped)
    leaves(serve(site, log=log), site)
    eventually(lambda: log.lines, "the line is there", SOON)
    assert '"GET / HTTP/1.1" 499 ' in log.lines[0]
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_a_generator_whose_end_waits_is_closed_without_a_traceback(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    closed = []
    begun = threading.Event()

    def stream() -> Iterator[bytes]:
        try:
            begun.set()
            while True:
                yield b"piece"
                sleep(0.01)
        finally:
            sleep(0.2)
            closed.append(True)

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return stream()

    running = serve(application)
    client = running.client()
    client.send(GET)
    assert begun.wait(SOON)
    reset(client)
    eventually(lambda: closed and not running.server.active, "the request is over", SOON)
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_the_clientgone_of_another_request_is_a_500_to_a_client_that_is_there(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Several requests that wait for what the first one makes, by a future; the first one's client leaves."""
    shared: Future[None] = Future()
    done = Event()

    def wait(site: Site) -> None:
        if site.begun > 1:
            done.wait()
            shared.result()
            return
        try:
            site.open.wait()
        except BaseException as error:
            shared.set_exception(error)
            done.set()
            raise

    site = Site(wait)
    running = serve(site)
    client = running.client()
    first = running.client()
    first.send(GET)
    eventually(lambda: site.begun == 1, "the first waits")
    client.send(GET)
    eventually(lambda: site.begun == 2, "the second waits for it")
    reset(first)
    assert client.response().status == 500
    eventually(lambda: "of another request" in caplog.text, "it is logged")


DJANGO = """
import time
from django.conf import settings
from django.core.signals import request_finished
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from streamserve import Timeout

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="k")

def wait(request):
    print("begun", flush=True)
    time.sleep(60)

def stream(request):
    def pieces():
        yield b"piece"
        wait(request)
    return StreamingHttpResponse(pieces())

def late(request):
    print("begun", flush=True)
    with Timeout(0.1):
        time.sleep(60)

urlpatterns = [path("wait", wait), path("stream", stream), path("late", late)]
app = get_wsgi_application()
request_finished.connect(lambda **arguments: print("finished", arguments["sender"].__name__, flush=True), weak=False)
"""


@pytest.mark.parametrize("path", ["wait", "stream", "late"])
def test_django_ends_a_request_that_ends_by_no_exception(tmp_path: Path, path: str) -> None:
    """It gives connections of databases back then."""
    (tmp_path / "site_module.py").write_text(DJANGO)
    with ServedCommand("site_module:app", cwd=tmp_path) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        client = Client((host, int(port)))
        client.send(f"GET /{path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        eventually(lambda: "begun" in server.stdout, "the view waits")
        if path == "late":
            assert client.response().status == 500
        client.reset()
        eventually(lambda: "finished" in server.stdout, "it is told", SOON)
        output = server.stop()
    assert output.count("finished WSGIHandler") == 1
    assert ("Traceback" in server.stderr) == (path == "late")


EXECUTOR = """
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

executor, pool = ThreadPoolExecutor(1), ThreadPool(1)

def work(seconds):
    print("begun", flush=True)
    time.sleep(seconds)
    return b"worked"

def app(environ, start_response):
    seconds = float(environ["QUERY_STRING"])
    if environ["PATH_INFO"] == "/executor":
        result = executor.submit(work, seconds).result()
    else:
        result = pool.apply(work, (seconds,))
    start_response("200 OK", [])
    return [result]
"""


@pytest.mark.parametrize("path", ["executor", "pool"])
def test_what_works_for_a_request_in_a_thread_goes_on_and_works_for_the_next(tmp_path: Path, path: str) -> None:
    (tmp_path / "site_module.py").write_text(EXECUTOR)
    arguments = ("site_module:app", "--access-log", "-", "--concurrency", "1")
    with ServedCommand(*arguments, cwd=tmp_path) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        client = Client((host, int(port)))
        client.send(f"GET /{path}?2 HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        eventually(lambda: "begun" in server.stdout, "the thread works")
        client.reset()
        eventually(lambda: "499" in server.stdout, "the request is over", SOON)
        with Client((host, int(port))) as following:
            following.send(f"GET /{path}?0 HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            assert following.response().body == b"worked"
    assert "Traceback" not in server.stderr
