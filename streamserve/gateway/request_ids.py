"""Request ids: one name for a request in every log that it leaves a line in.

The id stands in the environ as HTTP_X_REQUEST_ID, where a proxy's would stand: what reads ids of requests (log filters
of Django and Flask, tracing, `%({x-request-id}i)s` in the access log) finds it without knowing of this server. One that
came from a client and is not accepted is replaced, so that nobody takes it for ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamserve.gateway.response_head import ResponseHead
    from streamserve.settings import Settings

__all__ = ["NAME", "RequestIds", "with_ids"]

NAME = "HTTP_X_REQUEST_ID"

_VALID = re.compile(r"[!#-&(-\[\]-~]{1,128}")  # visible characters but quotes and the backslash
_random = Random()  # seeded by the system; the application's random.seed() does not reach it
os.register_at_fork(after_in_child=_random.seed)


def make_id() -> str:
    """Returns 128 random bits as 32 hexadecimal digits, the form of nginx's $request_id."""
    return f"{_random.getrandbits(128):032x}"


class RequestIds:
    """A WSGI application around another that gives each request its id.

    Args:
        application: the one around which it stands.
        accept: take the client's X-Request-ID, if it is 1 to 128 visible characters without quotes and backslashes.
        field: the response field that sends the id back, "" for none.
    """

    def __init__(self, application: Any, accept: bool, field: str) -> None:
        self.application = application
        self._accept = accept
        self._field = field

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        given = environ.get(NAME) if self._accept else None
        if given is None or not _VALID.fullmatch(given):
            given = environ[NAME] = make_id()
        if self._field:
            start_response = self._sending(given, start_response)
        return self.application(environ, start_response)

    def _sending(self, request_id: str, start_response: Any) -> Callable[..., Any]:
        exchange = start_response.__self__

        def start_with_id(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            try:
                write = start_response(status, headers, exc_info)
            finally:
                exc_info = None  # what is raised may be its error, whose traceback has this frame
            exchange.head = self._added(exchange.head, request_id)
            return write

        return start_with_id

    def _added(self, head: ResponseHead, request_id: str) -> ResponseHead:
        """The head with the id, unless the application has set that field. It is never remembered."""
        name = f"\r\n{self._field}:".lower().encode()
        if name in head.data.lower():
            return head
        return head.with_line(f"{self._field}: {request_id}\r\n".encode("ascii"))

    def failed(self, head: ResponseHead, environ: dict[str, Any] | None) -> ResponseHead:
        """The head of the answer to a request whose application failed."""
        given = environ.get(NAME) if environ is not None else None
        if not self._field or not isinstance(given, str) or not _VALID.fullmatch(given):
            return head
        return self._added(head, given)


def with_ids(application: Any, settings: Settings) -> RequestIds | None:
    """Returns what gives the requests of an application their ids, None if the settings want none."""
    if settings.request_ids == "off" and not settings.request_id_header:
        return None
    return RequestIds(application, settings.request_ids == "accept", settings.request_id_header)
