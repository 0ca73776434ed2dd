"""WSGIServer: hosts a WSGI application (PEP 3333) on the native connection path."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from socket import AF_INET, AF_INET6
from socket import socket as Socket
from typing import Any

from greenlet import getcurrent

from streamserve import __version__
from streamserve.core import ffi, lib
from streamserve.errors import ConfigurationError
from streamserve.gateway.endpoint import Endpoint
from streamserve.gateway.forwarded import ForwardedHeaders
from streamserve.gateway.queue_deadline import QueueDeadline, Record, Waiting
from streamserve.gateway.refusals import Refusals
from streamserve.gateway.response_head import HeadCache
from streamserve.gateway.tls import TlsEndpoint
from streamserve.listening.addresses import TcpAddress, UnixFile, address_of, open_listener
from streamserve.listening.network import prepare_stream
from streamserve.logs.access_log import open_access_log
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hub import FOREVER, Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.joining import sleep
from streamserve.loop.waiter import ServingWaiter, Waiter
from streamserve.settings import Settings
from streamserve.tls.certificate_watch import CertificateWatch
from streamserve.tls.certificates import load_certificates

__all__ = ["WSGIServer", "announce"]

_log = logging.getLogger("streamserve")

LEFT_AFTER = 300_000_000
"""Nanoseconds from a client's FIN until it is asked whether it has left: most requests are over by then."""

_DRAIN_CHECK = 0.02  # seconds between looks at whether the last responses are out


class WSGIServer:
    """Serves a WSGI application over HTTP/1.1; a greenlet is held only while its code runs.

    Args:
        listener: a bound socket, an address such as "127.0.0.1:8000", "unix:/path", a port,
            (host, port), or a list of those.
        application: the WSGI callable.
        backlog: connections the kernel queues before they are accepted; None: the setting's.
        log: the access log: a stream with write(str), None for none, or "default": as
            `settings.access_log` says.
        environ: values that are added to the environ of every request.
        settings: limits, deadlines and concurrency; None: the defaults.

    Raises:
        ConfigurationError: an address cannot be listened on, or a certificate not used.

    Example:
        >>> WSGIServer("127.0.0.1:8000", application).serve_forever()
    """

    def __init__(
        self,
        listener: Any,
        application: Callable[..., Iterable[bytes]] | None = None,
        backlog: int | None = None,
        log: Any = "default",
        environ: Mapping[str, Any] | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings = settings or Settings()
        self.application: Any = application
        self.software = settings.server_header or "streamserve"
        self.base_env = dict(environ or {})
        self.underscore_headers = settings.underscore_headers
        proxies = settings.forwarded_allow_ips
        self.forwarding = ForwardedHeaders(proxies, settings.forwarded_parts) if proxies else None
        self.concurrency = settings.concurrency
        self.active = 0
        self.waiting: deque[Waiting] = deque()
        self.access_log = open_access_log(log, settings.access_log, settings.access_log_format)
        self.refusals = Refusals(settings, self.access_log)
        self._queue_deadline = QueueDeadline(self.waiting, settings, self.refusals)
        self.certificates = load_certificates(settings)
        self._watch = CertificateWatch(self.certificates, settings.certificate_check) if self.certificates else None
        if self.certificates is not None and settings.proxy_protocol == "on":
            raise ConfigurationError(
                "proxy_protocol=on is not read before TLS, which certfile asks for; let the load balancer end TLS"
            )
        self.sockets = [
            _as_socket(item, backlog or settings.backlog, settings.unix_file)
            for item in (listener if isinstance(listener, list) else [listener])
        ]
        for socket in self.sockets:
            if socket.family in (AF_INET, AF_INET6):
                prepare_stream(socket, settings.tcp_notsent_lowat)
        self._hub: Hub | None = None
        self._endpoints: dict[int, Endpoint] = {}
        self.stopping = False
        self._stopped: dict[Waiter, Any] = {}  # who waits for the end, and in which core

    # ---- the life of a server

    @property
    def started(self) -> bool:
        """Whether it accepts. A child of fork has to start it again."""
        return any(endpoint.core is endpoint.hub.core for endpoint in self._endpoints.values())

    @property
    def address(self) -> Any:
        """The address of the first listener, with the real port."""
        return self.sockets[0].getsockname()

    @property
    def addresses(self) -> list[Any]:
        """The addresses of all listeners, as `streamserve.listening.addresses` has them."""
        return [address_of(socket) for socket in self.sockets]

    def start(self) -> None:
        """Begins to accept; returns at once.

        Raises:
            OSError: a listener cannot be registered with the loop.
        """
        if self.started:
            return
        if self._endpoints:  # a child of fork: they are the parent's, and so is what holds places
            self._close_listeners()
            self.active = 0
        hub = self._hub = get_hub()
        self.refusals.open(hub)
        hub.identities.open(self, self.settings.thread_idle_timeout, self.settings.context_variables == "thread")
        heads = HeadCache(self.settings.server_header)
        config = self._core_config()
        for socket in self.sockets:
            number = lib.ss_listener_open(hub.core, socket.fileno(), config)
            if number < 0:
                code = lib.ss_loop_errno(hub.core)
                self.close()  # also those that did start
                raise OSError(code, f"cannot listen on {address_of(socket)}: {os.strerror(code)}")
            self._expect_proxies(hub, number)
            name, port = _server_name(socket)
            endpoint = self._make_endpoint(hub, name, port, heads)
            endpoint.open(number)
            self._endpoints[number] = endpoint
        if self._watch is not None:
            self._watch.open(hub)

    def _expect_proxies(self, hub: Hub, listener: int) -> None:
        """Tells the core which peers speak the PROXY protocol."""
        if self.settings.proxy_protocol == "off":
            return
        proxies = self.settings.proxy_allow_ips
        networks: Any = ffi.new("ss_network[]", len(proxies))
        for place, proxy in enumerate(proxies):
            packed = proxy.network_address.packed
            networks[place].address[0 : len(packed)] = packed
            networks[place].length = len(packed)
            networks[place].bits = proxy.prefixlen
        lib.ss_listener_proxies(hub.core, listener, networks, len(proxies))

    def _make_endpoint(self, hub: Hub, name: str, port: str, heads: HeadCache) -> Endpoint:
        if self.certificates is None:
            return Endpoint(self, hub, name, port, heads)
        return TlsEndpoint(self, hub, name, port, heads, self.certificates)

    def reload_certificates(self) -> None:
        """Reads the certificate files again: new connections get what they hold now, open ones live on.

        Raises:
            ConfigurationError: a file cannot be used, or the server speaks no TLS; everything stays as it was.
        """
        if self.certificates is None:
            raise ConfigurationError("there are no certificates to reload; give --certfile")
        self.certificates.reload()

    def serve_forever(self) -> None:
        """Serves until `stop` is called, or the greenlet is interrupted."""
        self.start()
        hub = get_hub()
        waiter = ServingWaiter(hub)
        self._stopped[waiter] = hub.core
        try:
            waiter.park()
        finally:
            self._stopped.pop(waiter, None)
            self.close()

    def stop(self, timeout: float | None = None) -> int:
        """Stops gracefully: what runs is finished, what idles is closed, nothing new is accepted.

        In the hub it returns at once, and a greenlet does the rest. Interrupted, it stops at once.

        Args:
            timeout: seconds for the requests that run; None: the setting graceful_timeout.

        Returns:
            How many requests were cut off.
        """
        if self._hub is None or self.stopping:
            return 0
        self.stopping = True
        limit = self.settings.graceful_timeout if timeout is None else timeout
        if getcurrent() is self._hub:
            Greenlet.spawn(self._drain, limit)
            return 0
        return self._drain(limit)

    def _drain(self, limit: float) -> int:
        """The rest of `stop`; interrupted, it stops at once."""
        cut_off = 0
        try:
            self._wait_drained(time.monotonic() + limit)
            cut_off = self.active + len(self.waiting)
        finally:
            self.close()
        return cut_off

    def _wait_drained(self, deadline: float) -> None:
        assert self._hub is not None
        for endpoint in self._endpoints.values():
            endpoint.wake_watching()
        core = self._hub.core
        while True:
            left = int(min(deadline - time.monotonic(), FOREVER) * 1e9)
            busy = sum(max(0, lib.ss_listener_drain(core, number, left)) for number in self._endpoints)
            self._close_sockets()
            if not self._endpoints or not (busy or self.active or self.waiting):
                return  # somebody closed it, or all is done
            if left <= 0:
                return
            sleep(min(_DRAIN_CHECK, left / 1e9))

    def close(self) -> None:
        """Stops at once: every connection ends, greenlets that wait on one are told."""
        self._close_listeners()
        self._close_sockets()
        self.refusals.close()
        if self._watch is not None:
            self._watch.close()
        if self._hub is not None:
            self._hub.identities.close(self)
        if self.access_log is not None:
            self.access_log.close()
        for waiter, core in self._stopped.items():
            if core is waiter.hub.core:  # else: a child of fork, and the greenlet is the parent's
                waiter.wake()
        self._stopped.clear()

    def _close_listeners(self) -> None:
        """Ends the listeners in the core, with their connections; of a parent's, a child closes its copies only."""
        self.waiting.clear()
        self._queue_deadline.close()
        for number, endpoint in self._endpoints.items():
            lib.ss_listener_close(endpoint.core, number)
            endpoint.close()
        self._endpoints.clear()

    def _close_sockets(self) -> None:
        for socket in self.sockets:
            if self._hub is None or not self._endpoints or self.stopping:
                socket.close()

    def __enter__(self) -> WSGIServer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop(0)

    # ---- more requests than may run at once

    def admit_later(self, endpoint: Endpoint, record: Record) -> None:
        """Queues a request behind those that wait, or answers 503 when the queue is full."""
        if self.active < self.concurrency and not self.waiting:
            self.active += 1
            endpoint.admit_one(record)
        elif len(self.waiting) < self.settings.queue:
            self.waiting.append((self._queue_deadline.begin(endpoint.hub), endpoint, record))
        else:
            line = endpoint.memory.request_line(*record[1:])
            self.refusals.note_overload(record[1], self.concurrency, self.settings.queue, line)
            lib.ss_conn_refuse(self._core, record[1], lib.SS_OVERLOADED)

    def admit_waiting(self) -> None:
        """Gives free places to requests that wait, in the order in which they came."""
        while self.waiting and self.active < self.concurrency:
            self.active += 1
            _, endpoint, record = self.waiting.popleft()
            endpoint.admit_one(record)

    @property
    def _core(self) -> Any:
        return self._hub.core if self._hub is not None else ffi.NULL

    # ---- settings

    def _core_config(self) -> Any:
        settings = self.settings
        config = ffi.new("ss_listener_config *")
        lib.ss_listener_defaults(config)
        config.limits.max_line = settings.max_request_line
        config.limits.max_head = settings.max_header_bytes
        config.limits.max_fields = settings.max_header_fields
        config.max_body = settings.max_body_bytes
        config.buffered_chunked = settings.buffered_body
        config.max_buffers = settings.max_buffer_bytes
        config.head_timeout = _ns(settings.head_timeout)
        config.body_timeout = _ns(settings.body_timeout)
        config.discard_timeout = _ns(settings.discard_timeout)
        config.discard_total = _ns(settings.discard_total)
        config.left_after = 0 if settings.client_gone == "off" else LEFT_AFTER
        config.left_by_fin = settings.client_gone == "hangup"
        config.body_rate = settings.body_rate
        config.write_timeout = _ns(settings.write_timeout)
        config.idle_timeout = _ns(settings.keep_alive_timeout)
        config.max_connections = settings.max_connections
        config.tls = self.certificates is not None
        config.handshake_timeout = _ns(settings.handshake_timeout)
        config.max_handshakes = settings.max_handshakes
        return config

    def __repr__(self) -> str:
        where = ", ".join(str(address) for address in self.addresses) if self.sockets[0].fileno() >= 0 else "closed"
        return f"<WSGIServer {where} active={self.active} waiting={len(self.waiting)}>"


def announce(server: WSGIServer, name: str) -> None:
    """Logs where a server that has started serves an application of that name, a line for each address."""
    backend = ffi.string(lib.ss_loop_backend(get_hub().core)).decode()
    scheme = "http" if server.certificates is None else "https"
    for address in server.addresses:
        url = address.url.replace("http:", f"{scheme}:", 1)
        _log.info("streamserve %s serving %s on %s (pid %d, %s)", __version__, name, url, os.getpid(), backend)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _as_socket(listener: Any, backlog: int, file: UnixFile) -> Socket:
    if isinstance(listener, Socket):
        listener.setblocking(False)
        return listener
    return open_listener(listener, backlog, file=file)


def _server_name(socket: Socket) -> tuple[str, str]:
    address = address_of(socket)
    if isinstance(address, TcpAddress):
        return (f"[{address.host}]" if ":" in address.host else address.host), str(address.port)  # RFC 3875 4.1.14
    return "localhost", "80"
