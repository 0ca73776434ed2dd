"""One listener of a WSGI server: from request records to calls of the application."""

from __future__ import annotations

import logging
from sys import getrefcount, version_info
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import getweakrefcount

from greenlet import GreenletExit

from streamserve.core import ffi, lib
from streamserve.debug.stacks import JOBS
from streamserve.errors import ClientGone, LocalProtocolError
from streamserve.gateway.client_faults import end_in_frameworks
from streamserve.gateway.departures import Departures
from streamserve.gateway.early_hints import EarlyHints
from streamserve.gateway.environ import Environ, base_environ
from streamserve.gateway.environ_memory import EnvironMemory, RequestRefused
from streamserve.gateway.exchange import Exchange
from streamserve.gateway.handshake import offer_upgrade, websocket_config, websocket_deflate
from streamserve.gateway.request_body import SCRATCH, BrokenRequestBody, RequestBody
from streamserve.gateway.request_ids import with_ids
from streamserve.gateway.response import PIECE
from streamserve.gateway.response_head import HeadCache, ResponseHead
from streamserve.gateway.turns import Turns
from streamserve.loop.hub import Hub
from streamserve.loop.identities import assume, give_back, part
from streamserve.loop.ports import Port
from streamserve.loop.waiter import Runner, Waiter
from streamserve.websocket.listener import Sockets

if TYPE_CHECKING:
    from streamserve.gateway.queue_deadline import Record
    from streamserve.wsgi import WSGIServer

_log = logging.getLogger("streamserve.wsgi")

_UPGRADE: int = lib.SS_REQUEST_UPGRADE
_BODY: int = lib.SS_REQUEST_HAS_BODY | lib.SS_REQUEST_CHUNKED
_AGAIN: int = lib.SS_REQUEST_AGAIN
_NOT_WHOLE: int = _BODY | lib.SS_REQUEST_METHOD  # a body may be broken, HEAD has none

_respond = lib.ss_conn_respond
_ALONE = 2 if version_info < (3, 14) else 0  # getrefcount of what one local variable holds; 0: not known


class Endpoint(Port):
    """Serves the requests of one listener.

    Args:
        server: whose application, log and counters it uses.
        name, port: of the listener, for SERVER_NAME and SERVER_PORT.
        head_cache: response heads, shared by the listeners of a server.
    """

    def __init__(self, server: WSGIServer, hub: Hub, name: str, port: str, head_cache: HeadCache) -> None:
        super().__init__(hub)
        self.server = server
        self.request_ids = request_ids = with_ids(server.application, server.settings)
        self.application = server.application if request_ids is None else request_ids
        if server.settings.early_hints == "on":
            self.application = EarlyHints(self.application)
        self.core = hub.core
        self.turns = Turns(hub)
        self.departures = Departures(hub)
        self.watching: set[Waiter] = set()  # see Exchange.watch
        self.head_cache = head_cache
        self.high_water = PIECE
        self.sockets = Sockets(self, PIECE)
        self.websocket_config = websocket_config(server.settings)
        self.deflate = websocket_deflate(server.settings)
        self.sends_files = True  # the core may: nothing stands between its bytes and the socket
        self.base = base_environ(name, port, "http", server.software)
        self.base.update(server.base_env)
        self.memory = EnvironMemory(hub.core, self.base, server.forwarding, server.refusals, server.underscore_headers)
        self.again = self.memory.again
        self.common_environ = self.memory.common
        self.error_head = head_cache.find("500 Internal Server Error", [("Content-Type", "text/plain; charset=utf-8")])
        self.serve = self._serve if server.access_log is None else self._serve_logged
        self._spare: Exchange | None = None
        self._scratch = ffi.new("char[]", SCRATCH)

    def wake_watching(self) -> None:
        """The server stops: who waits for something that may never come is told."""
        for waiter in [*self.watching]:
            waiter.wake()

    def messages(self, words: list[int]) -> None:
        self.sockets.messages(words)

    def messages_alike(self, opcode: int, words: memoryview) -> bool:
        return self.sockets.messages_alike(opcode, words)

    def close(self) -> None:
        super().close()
        if self.core is self.hub.core:  # else: a child of fork, and the greenlets that wait are the parent's
            self.sockets.close()

    def left(self, connection: int) -> None:
        self.departures.left(connection)

    def refused(self, peer: int, refusal: int) -> None:
        self.server.refusals.note_refused(peer, refusal)

    def failed(self, code: int) -> None:
        self.server.refusals.note_failed_accept(code)

    # ---- from the poll to the application

    def requests(self, words: list[int], count: int) -> None:
        """Takes the requests of one poll: to be run, or behind those that wait already."""
        server = self.server
        stream = iter(words)
        records = zip(stream, stream, stream, stream, strict=True)
        if server.active + count > server.concurrency or server.waiting:
            for record in records:
                server.admit_later(self, record)
            return
        server.active += count
        self.hub.ready.append((self._drain, records, count > 1))

    def admit_one(self, record: Record) -> None:
        """Takes a request that had to wait."""
        self.hub.ready.append((self._drain, iter((record,)), False))

    def _drain(self, item: Any, runner: Runner) -> None:
        """Runs the requests of one poll one after another, without a switch between them.

        The item that called this stands in the ready queue meanwhile: when a request
        waits, the hub finds it there, and another runner goes on with the same iterator.
        """
        hub = self.hub
        ready = hub.ready
        ready.appendleft(item)
        serve = self.serve
        server = self.server
        departures = self.departures
        known = departures.known
        departures.enter(runner)
        identities = hub.identities
        parts = not identities.keeps_context
        several = item[2]
        if several:
            alone, noted, attributes = runner.alone + 1, runner.alone + 2, runner.attributes
        if identities.idle:
            assume(runner)
        try:
            for _, handle, page, flags in item[1]:
                hub.job = runner.job = handle
                serve(handle, page, flags).environ = None  # whose input and hints lead back to the exchange
                if known:
                    departures.over(handle)
                server.active -= 1
                if server.waiting:
                    server.admit_waiting()
                if runner.task is not None or parts:
                    part(runner)
                # Whether the program knows the runner; if there is one request only, runner.py looks.
                if several and (
                    getrefcount(runner) != (noted if departures.runner is runner else alone)
                    or attributes
                    or getweakrefcount(runner)
                ):
                    break  # another runner goes on with the rest
            else:
                if ready and ready[0] is item:
                    ready.popleft()
        finally:
            departures.leave(runner)
        if runner.identity is not None or runner.gr_context is not None:
            give_back(runner)

    def _serve(self, handle: int, page: int, flags: int) -> Exchange:
        """Runs the application for one request record; raises nothing."""
        exchange = self._spare
        if exchange is None:
            exchange = Exchange()
            exchange.environ = None
        self._spare = None
        exchange.endpoint = self
        exchange.handle, exchange.flags = handle, flags
        exchange.head = result = None
        exchange.started = exchange.done = False
        try:
            if flags == _AGAIN:
                exchange.flags = flags = 0
                known = self.again.get(handle)
                environ = self.common_environ(handle, page, _AGAIN) if known is None else known.copy()
            elif flags:
                environ = self._uncommon_environ(exchange, page, flags)
            else:
                environ = self.common_environ(handle, page, flags)
            exchange.environ = environ
            result = self.application(environ, exchange.start_response)
            whole = None
            if result.__class__ is list and len(result) == 1 and not flags & _NOT_WHOLE and not exchange.started:
                head, body = exchange.head, result[0]
                if head is not None and body.__class__ is bytes:
                    size = len(body)
                    if (head.length == -1 or head.length == size) and size <= PIECE:
                        whole = head.whole
            if whole is not None:
                exchange.done = True
                exchange.sent = size
                _respond(self.core, handle, whole, body, size)
                if getrefcount(exchange) == _ALONE:  # the application kept nothing of it
                    self._spare = exchange
            else:
                exchange.respond(result)
        except BaseException as error:
            self._failed(exchange, error)
            if result is None and not isinstance(error, Exception):
                end_in_frameworks()
        if flags or result.__class__ is not list:
            self._after(handle, result)
        if flags and exchange.websocket is not None:
            self._release(exchange)
        return exchange

    def _serve_logged(self, handle: int, page: int, flags: int) -> Exchange:
        started = perf_counter()
        exchange = self._serve(handle, page, flags)
        if exchange.environ is not None and self.server.access_log is not None:
            seconds = perf_counter() - started
            head = exchange.head
            status = head.status if head is not None else 0
            self.server.access_log.record(self.hub, exchange.environ, status, exchange.sent, seconds, head)
        return exchange

    # ---- the environ

    def _uncommon_environ(self, exchange: Exchange, page: int, flags: int) -> Environ:
        exchange.broken = exchange.websocket = None
        exchange.failed = exchange.refused = False
        environ = self.memory.uncommon(exchange.handle, page, flags)
        if flags & _BODY:
            environ["wsgi.input"] = RequestBody(exchange, self.hub, self._scratch)
        if flags & _UPGRADE:
            offer_upgrade(exchange, environ)
        return environ

    # ---- ends

    def failure_head(self, environ: Environ | None) -> ResponseHead:
        """The head of the answer to a request whose application failed."""
        return self.error_head if self.request_ids is None else self.request_ids.failed(self.error_head, environ)

    def _failed(self, exchange: Exchange, error: BaseException) -> None:
        if isinstance(error, RequestRefused):
            exchange.done = True
            return
        if isinstance(error, SystemExit) and self.hub.forker is not None:
            self.hub.forker.exit(error)
        raised, error = error, exchange.cause(error)
        if self.departures.known:
            self.departures.over(exchange.handle)  # nothing from here on, such as a log's lock, is to be interrupted
        if exchange.flags:
            exchange.failed = exchange.is_fault(error)
        try:
            exchange.fail(error)
        except BaseException:
            _log.exception("the connection of a failed request could not be ended")
        if isinstance(error, BrokenRequestBody) and error.refusal:
            self.server.refusals.note_body(str((exchange.environ or {}).get("REMOTE_ADDR", "")), error.refusal)
        elif not exchange.is_fault(error):
            _log.debug("a request ended early: %s", error, exc_info=None if raised is error else raised)
        elif isinstance(error, GreenletExit):
            _log.info("a request was killed")
        elif isinstance(error, LocalProtocolError):
            _log.error(
                "the application broke its side of the protocol%s: %s", exchange.request_line, error, exc_info=error
            )
        else:
            _log.error("the application failed%s", exchange.request_line, exc_info=error)
        if isinstance(error, KeyboardInterrupt):  # not SystemExit: one request may not end the server
            self.hub.handle_system_error(type(error), error)

    @staticmethod
    def _release(exchange: Exchange) -> None:
        """The application has returned: its WebSocket ends, unless a handler gets the messages."""
        websocket, exchange.websocket = exchange.websocket, None
        assert websocket is not None
        websocket.release(exchange.failed)

    def _after(self, handle: int, result: Any) -> None:
        """A greenlet that still reads or writes for a request that is over finds that out; the iterable is closed."""
        self.resume(handle)
        try:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        except ClientGone as error:  # it waited, to free what the iterable held
            _log.debug("close() of the application's iterable ended early: %s", error)
        except BaseException:
            _log.exception("close() of the application's iterable failed")


# What the watchdog and SIGUSR1 call a greenlet that serves a request.
JOBS[Endpoint._serve.__code__] = lambda local: "the request" + local["exchange"].request_line
