"""A WSGIServer on a loop of its own, in a second native thread of this process.

Whatever a test does, at its end the core must hold nothing: no connection, request,
buffer or queued byte, and nothing may have been written to the hub's error stream.
"""

import faulthandler
import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from streamserve.core import ffi, lib
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub, set_default_backend
from streamserve.loop.joining import sleep
from streamserve.loop.waiter import Waiter
from streamserve.settings import Settings
from streamserve.wsgi import WSGIServer
from tests.support.client import Client, Response

PATIENCE = 60.0  # seconds; only a failing test waits so long
STANDARD_ERROR = 2  # as a descriptor: pytest's own sys.stderr has none
LEFT_BEHIND = {
    "connections": lib.SS_COUNT_CONNECTIONS,
    "requests": lib.SS_COUNT_REQUESTS,
    "buffers": lib.SS_COUNT_BUFFERS,
    "queued bytes": lib.SS_COUNT_QUEUED_BYTES,
    "files": lib.SS_COUNT_FILES,
    "TLS connections": lib.SS_COUNT_TLS,
}


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Waits until the condition is true and returns its value; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := _told(condition)):
        assert time.monotonic() < deadline, f"it never happened: {what}; last: {value!r}"
        time.sleep(0.002)
    return value


def _told(condition: Callable[[], Any]) -> Any:
    """Its value; None while the server's thread changes what it goes through."""
    try:
        return condition()
    except RuntimeError as error:
        if "during iteration" not in str(error):
            raise
        return None


def _settle(result: "Future[Any]", function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Calls the function and gives the future what it returns or raises."""
    try:
        result.set_result(function(*args))
    except BaseException as error:
        result.set_exception(error)


class Running:
    """A server that runs; as a context manager it is stopped and examined at the end.

    Args:
        application: The WSGI callable.
        backend: epoll or poll.
        listener: What to listen on; port 0: a free one.
        log: The access log's stream, None: none.
        settings: Overrides of the defaults.
    """

    def __init__(
        self,
        application: Callable[..., Iterable[bytes]],
        backend: str = "epoll",
        listener: Any = "127.0.0.1:0",
        log: Any = None,
        **settings: Any,
    ) -> None:
        self.errors = io.StringIO()
        self._clients: list[Client] = []
        self._stopped = False
        self._fault: Any = ffi.NULL
        self._final: list[int] = []
        started: Future[tuple[Hub, WSGIServer]] = Future()
        arguments = (started, application, backend, listener, log, Settings(**settings))
        self._thread = threading.Thread(target=self._run, args=arguments, name="server")
        self._thread.start()
        self.hub, self.server = started.result(PATIENCE)
        self.addresses = [socket.getsockname() for socket in self.server.sockets]

    def _run(self, started: Any, application: Any, backend: str, listener: Any, log: Any, settings: Settings) -> None:
        set_default_backend(backend)
        hub = get_hub()
        set_default_backend("auto")
        hub.exception_stream = self.errors
        try:
            server = WSGIServer(listener, application, log=log, settings=settings)
            server.start()
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result((hub, server))
        server.serve_forever()
        self._next_poll()  # tells the ends of TLS connections, and lets go of them
        self._fault = lib.ss_verify(hub.core)
        self._final = self._counts()
        hub.destroy()

    def _next_poll(self) -> None:
        before = self._counts()[lib.SS_COUNT_POLLS]
        while self._counts()[lib.SS_COUNT_POLLS] == before:
            sleep(0)

    # ---- in the server's thread

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls the function in the hub of the server and returns what it returns; it must not wait."""
        result: Future[Any] = Future()
        self.hub.run_callback_threadsafe(_settle, result, function, args)
        try:
            return result.result(PATIENCE)
        except TimeoutError:
            if not result.done():
                faulthandler.dump_traceback(file=STANDARD_ERROR)  # what keeps the server's thread
            raise

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing runs in the server's thread meanwhile: what is sent to it all comes in one turn."""
        holds, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            holds.set()
            go_on.wait(PATIENCE)

        self.hub.run_callback_threadsafe(hold)
        assert holds.wait(PATIENCE)
        try:
            yield
        finally:
            go_on.set()

    def spawn(self, function: Callable[..., Any], *args: Any) -> "Future[Any]":
        """Runs the function in a greenlet of the server's hub."""
        result: Future[Any] = Future()
        self.call(Greenlet.spawn, _settle, result, function, args)
        return result

    def count(self, kind: int) -> int:
        """One of the core's counters, such as lib.SS_COUNT_CONNECTIONS."""
        return int(self.call(self._counts)[kind])

    def _counts(self) -> list[int]:
        words = ffi.new("int64_t[]", lib.SS_COUNT_KINDS)
        lib.ss_counts(self.hub.core, words)
        return list(words)

    def waiters(self) -> list[Waiter]:
        """The waits of greenlets that read a request body or whose client takes nothing."""
        return [waiter for endpoint in list(self.server._endpoints.values()) for waiter in endpoint.waiters.values()]

    def verify(self) -> None:
        """Asserts that every structure of the core holds."""
        fault = self.call(lib.ss_verify, self.hub.core)
        assert fault == ffi.NULL, ffi.string(fault).decode()

    # ---- clients

    @property
    def port(self) -> int:
        return int(self.addresses[0][1])

    def client(self, listener: int = 0, **options: Any) -> Client:
        """A new connection to the server; closed at the end if the test does not."""
        return self.connect(self.addresses[listener], **options)

    def connect(self, address: Any, source: str = "", **options: Any) -> Client:
        """A new connection to an address of the server's, from an address of this machine."""
        client = Client(address, source=source, **options)
        self._clients.append(client)
        return client

    def ask(self, request: bytes, method: str = "GET") -> Response:
        """Sends the bytes on a connection of their own and returns the one response."""
        with self.client() as client:
            client.send(request)
            return client.response(method)

    # ---- the end

    def left_behind(self) -> dict[str, int]:
        """What should be zero once all clients are gone, where it is not."""
        counts = self.call(self._counts)
        found = {name: counts[kind] for name, kind in LEFT_BEHIND.items()}
        found["active"] = self.server.active
        found["waiting"] = len(self.server.waiting)
        return {name: count for name, count in found.items() if count}

    def examine(self) -> None:
        """Closes the clients and asserts that nothing of them is left."""
        for client in self._clients:
            client.close()
        self.verify()
        left: dict[str, int] = {"not looked": 1}
        deadline = time.monotonic() + PATIENCE
        while left and time.monotonic() < deadline:
            left = self.left_behind()
        assert not left, f"left behind after all clients closed: {left}"
        self.verify()
        said = self.errors.getvalue()
        assert said == "", f"the server's thread wrote an error:\n{said}"

    def stop(self, timeout: float | None = None) -> "Future[int]":
        """Begins a graceful stop; the result is how many requests were cut off."""
        self._stopped = True
        return self.spawn(self.server.stop, timeout)

    def join(self) -> None:
        """Waits until the server's thread has ended."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the server's thread did not end"
        assert self._fault == ffi.NULL, ffi.string(self._fault).decode()
        assert not any(self._final[kind] for kind in LEFT_BEHIND.values()), self._final

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._thread.is_alive() and not self._stopped:
                self.examine()
        finally:
            for client in self._clients:
                client.close()
            if self._thread.is_alive() and not (self._stopped and error is None):
                self.hub.run_callback_threadsafe(self.server.close)
            self.join()
