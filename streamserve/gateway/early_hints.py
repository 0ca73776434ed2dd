"""wsgi.early_hints: 103 Early Hints (RFC 8297), with gunicorn's name and argument.

The function that an application finds in its environ belongs to its request, so it
costs each request something. That is why there is a setting for it, off by default.
"""

from __future__ import annotations

from typing import Any

from streamserve.core import lib
from streamserve.errors import ClientGone, ClientGoneWhileSending, LocalProtocolError
from streamserve.gateway.exchange import Exchange
from streamserve.gateway.response_head import HOP_BY_HOP, encode_field

NAME = "wsgi.early_hints"

_OF_THE_BODY = HOP_BY_HOP | {"content-length"}


class EarlyHints:
    """A WSGI application around another that gives each request the function wsgi.early_hints.

    Args:
        application: the one around which it stands.
    """

    def __init__(self, application: Any) -> None:
        self.application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        environ[NAME] = _Hinting(start_response.__self__)
        return self.application(environ, start_response)


class _Hinting:
    """What an application calls with the headers of one 103."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __call__(self, headers: Any) -> None:
        """Sends an interim response at once; nothing to a client of HTTP/1.0, which does not know them.

        Args:
            headers: a list of (name, value), Link above all.

        Raises:
            LocalProtocolError: a header may not go on the wire, or the response has begun.
            ClientGoneWhileSending: the client has left, or takes nothing.
        """
        exchange = self._exchange
        lines = [encode_field(name, value) for name, value in headers if name.lower() not in _OF_THE_BODY]
        if exchange.started or exchange.done:
            raise LocalProtocolError("early hints come before the first byte of the response, not after it")
        if exchange.http10:
            return
        endpoint = exchange.endpoint
        data = b"HTTP/1.1 103 Early Hints\r\n%b\r\n" % b"".join(lines)
        queued = lib.ss_conn_interim(endpoint.core, exchange.handle, data, len(data))
        endpoint.send_now(exchange.handle)
        try:
            exchange.spend(len(data))
            while queued > endpoint.high_water and not exchange.done:
                endpoint.wait(exchange.handle)
                queued = lib.ss_conn_queued(endpoint.core, exchange.handle)
        except ClientGone:  # it waited for this client alone
            queued = -1
        if queued < 0:
            raise ClientGoneWhileSending("the client went away before its response began")
