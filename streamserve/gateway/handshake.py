"""From a request to a WebSocket: whether the client's handshake is one, from where it may come, and the 101.

RFC 6455 section 4.2. It happens at the first use of `environ["wsgi.websocket"]`: until then the request is
like any other, and what is wrong with its handshake does not matter.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from streamserve.core import ffi, lib
from streamserve.errors import HandshakeRefused, InvalidThreadUseError, LocalProtocolError, WebSocketClosed
from streamserve.gateway.raw_socket import KEYS, pending_socket
from streamserve.gateway.response_head import HOP_BY_HOP, ResponseHead, build_head, encode_field
from streamserve.loop.native_threads import get_ident
from streamserve.websocket.connection import WebSocket
from streamserve.websocket.deflate import Deflate, agreement

if TYPE_CHECKING:
    from streamserve.gateway.exchange import Exchange
    from streamserve.settings import Settings

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_OF_THE_HANDSHAKE = HOP_BY_HOP | {"content-length", "sec-websocket-accept", "sec-websocket-extensions",
                                  "sec-websocket-protocol", "sec-websocket-version"}  # fmt: skip
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def refusal_head(status: int, server: str) -> ResponseHead:
    """The head of the answer to a handshake that is none; `server` is its Server field."""
    phrase = {400: "Bad Request", 403: "Forbidden", 426: "Upgrade Required"}[status]
    head = build_head(f"{status} {phrase}", [("Content-Type", "text/plain; charset=utf-8")], server)
    return head.with_line(b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n") if status == 426 else head


def offer_upgrade(exchange: Exchange, environ: dict[str, Any]) -> None:
    """Gives the application what it may upgrade a connection to; its Connection header was seen to list upgrade."""
    environ.update(dict.fromkeys(KEYS, pending_socket(exchange)))
    upgrade = environ.get("HTTP_UPGRADE", "")
    if upgrade == "websocket" or "websocket" in [token.strip().lower() for token in upgrade.split(",")]:
        websocket = WebSocket(exchange.endpoint.sockets, exchange.handle, environ, Handshake(exchange))
        environ["wsgi.websocket"] = exchange.websocket = websocket


def websocket_config(settings: Settings) -> Any:
    """What the core is to hold its WebSockets to."""
    config: Any = ffi.new("ss_ws_config *")
    config.ping_interval = int(settings.websocket_ping_interval * 1e9)
    config.ping_timeout = int(settings.websocket_ping_timeout * 1e9)
    config.close_timeout = int(settings.websocket_close_timeout * 1e9)
    config.max_message = settings.max_websocket_message
    config.out_limit = settings.websocket_queue
    config.drop = settings.websocket_slow == "skip"
    return config


def websocket_deflate(settings: Settings) -> Deflate | None:
    """How messages are compressed where a client offers it; None: they are not."""
    if settings.websocket_compression == "off":
        return None
    return Deflate(settings.websocket_compression_threshold, settings.max_websocket_message)


class Handshake:
    """What `WebSocket.accept` calls: checks the client's part and sends ours.

    Args:
        exchange: the request, which is over with it.
    """

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __call__(
        self,
        websocket: WebSocket,
        subprotocol: str | None,
        headers: Iterable[tuple[str, str]],
        origin_checked: bool,
        held: bool,
    ) -> None:
        """Upgrades the connection.

        Raises:
            HandshakeRefused: the client's part is wrong, or its origin may not.
            InvalidThreadUseError: this is not the thread that serves the request.
            LocalProtocolError: ours would be, or the response has begun.
            WebSocketClosed: the client has gone.
        """
        environ = self._in_time(websocket)
        key = self._checked(environ, origin_checked)
        lines = [
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
            b"Sec-WebSocket-Accept: %b\r\n" % b64encode(sha1(key + _GUID).digest()),
            *_chosen_lines(websocket, subprotocol, headers),
        ]
        endpoint = self._exchange.endpoint
        extension = None if endpoint.deflate is None else agreement(environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", ""))
        if extension is not None:
            lines.append(encode_field("Sec-WebSocket-Extensions", extension))
        self._upgrade(b"".join([*lines, b"\r\n"]), extension is not None, held)
        websocket.deflate = None if extension is None else endpoint.deflate

    def _in_time(self, websocket: WebSocket) -> dict[str, Any]:
        """The environ, while the request can still become a WebSocket."""
        exchange, environ = self._exchange, websocket.environ
        if exchange.endpoint.hub.thread_ident != get_ident():
            raise InvalidThreadUseError(
                "a WebSocket is accepted in the thread that serves its request: accept() it first"
            )
        if environ is None or exchange.done or exchange.started:
            raise LocalProtocolError("a WebSocket is accepted before its request is answered or over")
        return environ

    def _checked(self, environ: dict[str, Any], origin_checked: bool) -> bytes:
        """The client's key; what is wrong with its part is answered."""
        try:
            key = _key(environ)
            if not origin_checked:
                _check_origin(environ, self._exchange.endpoint.server.settings.websocket_origins)
        except HandshakeRefused as refused:
            self._exchange.refuse(refused)  # now: a framework may make a 500 of the exception
            raise
        return key

    def _upgrade(self, head: bytes, deflate: bool, held: bool) -> None:
        exchange = self._exchange
        endpoint = exchange.endpoint
        config = endpoint.websocket_config
        config.deflate, config.held = deflate, held  # of this connection: the core copies them
        answer = lib.ss_ws_upgrade(endpoint.core, exchange.handle, head, len(head), config)
        if answer == lib.SS_MISUSE:
            raise HandshakeRefused("a WebSocket's handshake has no body (RFC 6455 section 4.1)", 400)
        exchange.head = ResponseHead(b"", 101, -1)
        exchange.started = exchange.done = True
        exchange.sent = 0
        if answer < 0:
            lib.ss_conn_abort(endpoint.core, exchange.handle, 0)  # the request is still ours to end
            raise WebSocketClosed(lib.SS_WS_ABNORMAL, "the client went away before its handshake was answered")
        endpoint.send_now(exchange.handle)


def _chosen_lines(websocket: WebSocket, subprotocol: str | None, headers: Iterable[tuple[str, str]]) -> Iterator[bytes]:
    """What the application adds to the 101."""
    if subprotocol is not None:
        if subprotocol not in websocket.subprotocols or not _TOKEN.fullmatch(subprotocol):
            raise LocalProtocolError(
                f"the client does not offer the subprotocol {subprotocol!r}, only {websocket.subprotocols}"
            )
        yield encode_field("Sec-WebSocket-Protocol", subprotocol)
    for name, value in headers:
        line = encode_field(name, value)
        if name.lower() in _OF_THE_HANDSHAKE:
            raise LocalProtocolError(f"the header {name!r} of a WebSocket's handshake is the server's to set")
        yield line


def _key(environ: dict[str, Any]) -> bytes:
    if environ["REQUEST_METHOD"] != "GET" or environ["SERVER_PROTOCOL"] != "HTTP/1.1":
        raise HandshakeRefused("a WebSocket's handshake is a GET of HTTP/1.1 (RFC 6455 section 4.1)", 400)
    version = environ.get("HTTP_SEC_WEBSOCKET_VERSION", "")
    if version != "13":
        raise HandshakeRefused(f"Sec-WebSocket-Version is {version[:80]!r}; this server speaks 13 (RFC 6455)", 426)
    key: str = environ.get("HTTP_SEC_WEBSOCKET_KEY", "")
    encoded = key.encode("latin-1")
    try:
        nonce = binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != 16:
        raise HandshakeRefused(f"Sec-WebSocket-Key is {key[:80]!r}, not 16 bytes in base64 (RFC 6455 section 4.1)", 400)
    return encoded


def _check_origin(environ: dict[str, Any], allowed: tuple[str, ...]) -> None:
    """Browsers name the page's origin; who sends none is no browser, and could send any (RFC 6455 section 10.2)."""
    origin = environ.get("HTTP_ORIGIN")
    if origin is None or "*" in allowed:
        return
    named = origin.lower()
    if named in allowed or ("same" in allowed and named == _own_origin(environ)):
        return
    raise HandshakeRefused(
        f"the origin {origin[:200]!r} may not open a WebSocket here; websocket_origins allows {', '.join(allowed)}", 403
    )


def _own_origin(environ: dict[str, Any]) -> str:
    scheme = environ["wsgi.url_scheme"]
    host: str = environ.get("HTTP_HOST", "").lower()
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, ''))}"
