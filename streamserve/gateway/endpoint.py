"""One listener of a WSGI server: from request records to calls of the application.

What clients repeat is built once: `templates` has an environ for each header
block, `targets` the values of each request target, under the slots by which the
core reports them. A request is a copy of a template and a few assignments.
"""

from __future__ import annotations

import logging
from sys import getrefcount, version_info
from time import perf_counter
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit

from streamserve.core import ffi, lib
from streamserve.debug.stacks import JOBS
from streamserve.errors import LocalProtocolError
from streamserve.gateway.early_hints import EarlyHints
from streamserve.gateway.environ import (
    Environ,
    UnderscoreInName,
    add_fields,
    base_environ,
    set_other_form,
    target_values,
)
from streamserve.gateway.exchange import PIECE, ClientGone, Exchange
from streamserve.gateway.forwarded import FIELDS, ForwardedConflict
from streamserve.gateway.handshake import offer_upgrade, websocket_config, websocket_deflate
from streamserve.gateway.request_body import EMPTY_BODY, SCRATCH, BrokenRequestBody, RequestBody
from streamserve.gateway.request_ids import with_ids
from streamserve.gateway.response_head import HeadCache, ResponseHead
from streamserve.gateway.turns import Turns
from streamserve.loop.hub import Hub
from streamserve.loop.ports import Port
from streamserve.loop.runner import refresh
from streamserve.loop.waiter import Runner
from streamserve.websocket.listener import Sockets

if TYPE_CHECKING:
    from streamserve.wsgi import Record, WSGIServer

_log = logging.getLogger("streamserve.wsgi")

METHODS = ("", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE")
_GET: int = lib.SS_GET
_NEW_BLOCK: int = lib.SS_REQUEST_NEW_BLOCK
_NEW_TARGET: int = lib.SS_REQUEST_NEW_TARGET
_NEW_PEER: int = lib.SS_REQUEST_NEW_PEER
_UPGRADE: int = lib.SS_REQUEST_UPGRADE
_BODY: int = lib.SS_REQUEST_HAS_BODY | lib.SS_REQUEST_CHUNKED
_HTTP10: int = lib.SS_REQUEST_HTTP10
_FORM: int = lib.SS_REQUEST_FORM
_AGAIN: int = lib.SS_REQUEST_AGAIN
_METHOD: int = lib.SS_REQUEST_METHOD
_METHOD_SHIFT: int = lib.SS_METHOD_SHIFT
_PAGE_SHIFT: int = lib.SS_PAGE_SHIFT
_TARGET: int = (1 << _PAGE_SHIFT) - 1
_NOT_WHOLE: int = _BODY | _METHOD  # a body may be broken, HEAD has none
_NEEDS_HEAD = _NEW_BLOCK | _NEW_TARGET | _FORM
_INDEX = 0xFFFFFFFF

MOST_AGAIN = 1024
"""Connections whose last environ, with their address in it, is remembered."""

MOST_PAGES = 1024
"""Pairs of a header block and a target whose whole environ is remembered."""

_respond = lib.ss_conn_respond
_ALONE = 2 if version_info < (3, 14) else 0  # getrefcount of what one local variable holds; 0: not known


class _Refused(Exception):
    """The request was answered before it reached the application."""


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
        self.head_cache = head_cache
        self.high_water = PIECE
        self.sockets = Sockets(self, PIECE)
        self.websocket_config = websocket_config(server.settings)
        self.deflate = websocket_deflate(server.settings)
        self.sends_files = True  # the core may: nothing stands between its bytes and the socket
        self.base = base_environ(name, port, "http", server.software)
        self.base.update(server.base_env)
        self.templates: dict[int, Environ] = {}
        self.forwarded: set[int] = set()  # slots of blocks whose meaning depends on who sent them: never in `pages`
        self.forwarding = server.forwarding
        self.targets: dict[int, tuple[str, str, str]] = {}
        self.pages: dict[int, Environ] = {}
        self.again: dict[int, Environ] = {}  # by connection: for clients that ask the same thing again
        self.peers: dict[int, tuple[str, str]] = {}
        self._peer_handles: dict[int, int] = {}  # connection index → the handle under which `peers` has it
        self.error_head = head_cache.find("500 Internal Server Error", [("Content-Type", "text/plain; charset=utf-8")])
        self.serve = self._serve if server.access_log is None else self._serve_logged
        self._spare: Exchange | None = None
        self._head = ffi.new("ss_http1 *")
        self._text = ffi.new("char[]", 128)
        self._scratch = ffi.new("char[]", SCRATCH)

    def messages(self, words: list[int]) -> None:
        self.sockets.messages(words)

    def close(self) -> None:
        super().close()
        if self.core is self.hub.core:  # else: a child of fork, and the greenlets that wait are the parent's
            self.sockets.close()

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
        self.hub.ready.append((self._drain, records))

    def admit_one(self, record: Record) -> None:
        """Takes a request that had to wait."""
        self.hub.ready.append((self._drain, iter((record,))))

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
        for _, handle, page, flags in item[1]:
            hub.job = handle
            serve(handle, page, flags).environ = None  # whose input and hints lead back to the exchange
            server.active -= 1
            if server.waiting:
                server.admit_waiting()
            if runner.gr_context is not None or runner.task is not None:
                refresh(runner)
        if ready and ready[0] is item:
            ready.popleft()

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
                environ = self._common_environ(handle, page, _AGAIN) if known is None else known.copy()
            elif flags:
                environ = self._uncommon_environ(exchange, page, flags)
            else:
                environ = self._common_environ(handle, page, flags)
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

    def _common_environ(self, handle: int, page: int, flags: int) -> Environ:
        if not flags:
            self.again.pop(handle, None)  # what this connection asked for before
        known = self.pages.get(page)
        if known is None and page >> _PAGE_SHIFT in self.forwarded:
            return self._forwarded_environ(handle, page)
        environ = self._new_page(page) if known is None else known.copy()
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = self.peers[handle]
        if flags:
            if len(self.again) >= MOST_AGAIN:
                self.again.clear()
            self.again[handle] = environ.copy()
        return environ

    def _replaces(self, slots: dict[int, Any], slot: int) -> None:
        """Forgets what was made of the former content of a slot of the core's memo."""
        if slot in slots:
            self.pages.clear()
            self.again.clear()

    def _new_page(self, page: int) -> Environ:
        """Remembers the environ of a header block and a target that were both seen before."""
        environ = self.templates[page >> _PAGE_SHIFT].copy()
        environ["PATH_INFO"], environ["QUERY_STRING"], environ["RAW_URI"] = values = self.targets[page & _TARGET]
        environ["REQUEST_URI"] = values[2]
        if len(self.pages) >= MOST_PAGES:
            self.pages.clear()
        self.pages[page] = environ
        return environ.copy()

    def _forwarded_environ(self, handle: int, page: int) -> Environ:
        """The environ of a request that came through a proxy, and that was seen before."""
        environ = self.templates[page >> _PAGE_SHIFT].copy()
        environ["PATH_INFO"], environ["QUERY_STRING"], environ["RAW_URI"] = values = self.targets[page & _TARGET]
        environ["REQUEST_URI"] = values[2]
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = self.peers[handle]
        self._apply_forwarded(handle, environ)
        return environ

    def _apply_forwarded(self, handle: int, environ: Environ) -> None:
        if self.forwarding is None:
            return
        try:
            self.forwarding.apply(environ)
        except ForwardedConflict as conflict:
            self.server.refusals.note_field(handle, str(conflict), lib.SS_BAD_FORWARDED)
            lib.ss_conn_refuse(self.core, handle, lib.SS_BAD_FORWARDED)
            raise _Refused() from None

    # ---- the environ of a request that is not all known

    def _uncommon_environ(self, exchange: Exchange, page: int, flags: int) -> Environ:
        exchange.broken = exchange.websocket = None
        exchange.failed = False
        handle = exchange.handle
        method = flags >> _METHOD_SHIFT if flags & _METHOD else _GET
        peer = self._new_peer(handle) if flags & _NEW_PEER else self.peers[handle]
        data = b""
        if flags & _NEEDS_HEAD or not METHODS[method]:
            data = self._head_bytes(handle)
        environ = self._new_template(handle, data) if flags & _NEW_BLOCK else self.templates[page >> _PAGE_SHIFT].copy()
        if flags & _FORM:
            span = self._head.target
            set_other_form(environ, data[span.offset : span.offset + span.length])
        else:
            values = self._new_target(handle, data) if flags & _NEW_TARGET else self.targets[page & _TARGET]
            environ["PATH_INFO"], environ["QUERY_STRING"], environ["RAW_URI"] = values
            environ["REQUEST_URI"] = values[2]
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = peer
        if not environ.keys().isdisjoint(FIELDS) if flags & _NEW_BLOCK else page >> _PAGE_SHIFT in self.forwarded:
            self._apply_forwarded(handle, environ)
        environ["REQUEST_METHOD"] = METHODS[method] or self._method(data)
        if flags & _HTTP10:
            environ["SERVER_PROTOCOL"] = "HTTP/1.0"
        if flags & _BODY:
            environ["wsgi.input"] = RequestBody(exchange, self.hub, self._scratch)
        if flags & _UPGRADE:
            offer_upgrade(exchange, environ)
        return environ

    def _head_bytes(self, handle: int) -> bytes:
        pointer = lib.ss_conn_head(self.core, handle, self._head)
        if pointer == ffi.NULL:
            raise ClientGone("the server was closed before this request began")
        data: bytes = ffi.unpack(pointer, self._head.end)
        return data

    def _method(self, data: bytes) -> str:
        span = self._head.method
        return data[span.offset : span.offset + span.length].decode("ascii")

    def _new_template(self, handle: int, data: bytes) -> Environ:
        environ = self.base.copy()
        environ["wsgi.input"] = EMPTY_BODY
        try:
            add_fields(environ, data[self._head.block : self._head.end], self.server.underscore_headers)
        except UnderscoreInName as name:
            self.server.refusals.note_field(handle, f"the header name {str(name)!r} has an underscore")
            lib.ss_conn_refuse(self.core, handle, lib.SS_BAD_FIELD_NAME)
            raise _Refused() from None
        template = environ.copy()  # before the core promises to know it: this may fail
        slot = self._remember(handle, 0, self.templates, template)
        if self.forwarding is None or environ.keys().isdisjoint(FIELDS):
            self.forwarded.discard(slot)
        else:
            self.forwarded.add(slot)
        return environ

    def _new_target(self, handle: int, data: bytes) -> tuple[str, str, str]:
        span = self._head.target
        values = target_values(data[span.offset : span.offset + span.length])
        self._remember(handle, 1, self.targets, values)
        return values

    def _remember(self, handle: int, which: int, slots: dict[int, Any], value: Any) -> int:
        """Keeps a value under the slot that the core gives it; both do, or neither. Below zero: they did not."""
        try:
            slot = lib.ss_conn_memoise(self.core, handle, which)
            if slot >= 0:
                self._replaces(slots, slot)
                slots[slot] = value
            return int(slot)
        except BaseException:  # no memory, or a signal's function raised
            lib.ss_conn_forget(self.core, handle)
            raise

    def _new_peer(self, handle: int) -> tuple[str, str]:
        size = lib.ss_conn_address(self.core, handle, 0, self._text, 128)
        host, port = "", ""
        if size > 0:
            host, port, _ = ffi.unpack(self._text, size).decode("ascii").split("\0")
        peer = self.peers[handle] = (host, port)
        previous = self._peer_handles.get(handle & _INDEX)
        if previous is not None and previous != handle:
            del self.peers[previous]  # that connection is closed: its place was taken
        self._peer_handles[handle & _INDEX] = handle
        return peer

    # ---- ends

    def failure_head(self, environ: Environ | None) -> ResponseHead:
        """The head of the answer to a request whose application failed."""
        return self.error_head if self.request_ids is None else self.request_ids.failed(self.error_head, environ)

    def _failed(self, exchange: Exchange, error: BaseException) -> None:
        if isinstance(error, _Refused):
            exchange.done = True
            return
        if exchange.flags:
            exchange.failed = exchange.is_fault(error)
        try:
            exchange.fail(error)
        except BaseException:
            _log.exception("the connection of a failed request could not be ended")
        if isinstance(error, BrokenRequestBody) and error.refusal:
            self.server.refusals.note_body(str((exchange.environ or {}).get("REMOTE_ADDR", "")), error.refusal)
        elif not exchange.is_fault(error):
            _log.debug("a request ended early: %s", error)
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
        except BaseException:
            _log.exception("close() of the application's iterable failed")


# What the watchdog and SIGUSR1 call a greenlet that serves a request.
JOBS[Endpoint._serve.__code__] = lambda local: "the request" + local["exchange"].request_line
