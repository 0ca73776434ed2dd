"""The standard `ssl` module, cooperative.

All that a TLS socket is comes from the standard class, which calls its native
TLS object for what reads and writes. Here that object is wrapped: where it says
that it needs the descriptor to be readable or writable, the wrapper waits.
Patching sets `ssl.SSLContext.sslsocket_class` and replaces no class: ssl.py
names its own classes in `super(...)`, and would call itself without end.
"""

from __future__ import annotations

import _socket
import ssl as _standard
from collections.abc import Callable
from ssl import *  # noqa: F403 - this module has all that the standard one has
from time import monotonic
from types import FunctionType
from typing import Any
from weakref import ref

from streamserve.green.socket import create_connection, socket
from streamserve.loop.watcher import READ, WRITE

__target__ = "ssl"

_WantRead = _standard.SSLWantReadError
_WantWrite = _standard.SSLWantWriteError


class TLSObject:
    """A native TLS object whose calls wait in the loop for the socket's descriptor."""

    __slots__ = ("_native", "_owner")

    def __init__(self, native: Any, owner: Any) -> None:
        self._native = native
        self._owner = ref(owner)  # the owner holds this object

    def _patiently(self, what: str, call: Callable[..., Any], *args: Any) -> Any:
        owner = self._owner()
        if owner is None or owner._timeout == 0.0:
            return call(*args)
        timeout = owner._timeout
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            read_edges, write_edges = owner._reader.edges, owner._writer.edges
            try:
                return call(*args)
            except _WantRead:
                side, direction, seen = owner._reader, READ, read_edges
            except _WantWrite:
                side, direction, seen = owner._writer, WRITE, write_edges
            if not owner._watcher.wait(side, direction, seen, timeout):
                raise TimeoutError(f"The {what} operation timed out")
            if deadline is not None:
                timeout = max(deadline - monotonic(), 0.0)

    def read(self, *args: Any) -> Any:
        return self._patiently("read", self._native.read, *args)

    def write(self, data: Any) -> int:
        return self._patiently("write", self._native.write, data)

    def do_handshake(self) -> None:
        self._patiently("handshake", self._native.do_handshake)

    def shutdown(self) -> Any:
        return self._patiently("read", self._native.shutdown)

    @property
    def context(self) -> Any:
        return self._native.context

    @context.setter
    def context(self, context: Any) -> None:
        self._native.context = context

    @property
    def session(self) -> Any:
        return self._native.session

    @session.setter
    def session(self, session: Any) -> None:
        self._native.session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)


class SSLSocket(_standard.SSLSocket, socket):  # type: ignore[no-redef]
    """A TLS socket whose calls wait in the loop; made by `SSLContext.wrap_socket`."""

    def _show_mode(self) -> None:
        """The native TLS object reads and writes by itself, and must not wait."""
        _socket.socket.setblocking(self, False)

    def _cooperate(self, fd: int, timeout: float | None, shared: bool) -> None:
        super()._cooperate(fd, timeout, shared)  # type: ignore[misc]
        self._show_mode()

    @property
    def _sslobj(self) -> Any:
        return self.__dict__.get("tls")

    @_sslobj.setter
    def _sslobj(self, native: Any) -> None:
        self.__dict__["tls"] = None if native is None else TLSObject(native, self)


class SSLContext(_standard.SSLContext):  # type: ignore[no-redef]
    """The standard context, whose sockets are cooperative without patching."""

    sslsocket_class = SSLSocket


def _bound_here(function: Any) -> Any:
    """A function of the standard module, with this module's classes for that one's."""
    names = {**vars(_standard), "SSLContext": SSLContext, "create_connection": create_connection}
    twin = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__doc__ = function.__doc__
    return twin


create_default_context = _bound_here(_standard.create_default_context)
_create_unverified_context = _bound_here(_standard._create_unverified_context)
get_server_certificate = _bound_here(_standard.get_server_certificate)
get_server_certificate.__globals__.update(
    _create_stdlib_context=_create_unverified_context, create_default_context=create_default_context
)
if hasattr(_standard, "wrap_socket"):  # gone in Python 3.12
    wrap_socket = _bound_here(_standard.wrap_socket)

__implements__: list[str] = []
"""Nothing: what patching sets is `SSLContext.sslsocket_class`."""
