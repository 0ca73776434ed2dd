"""The standard `socket` module, cooperative: a greenlet that waits does not stop the others.

`socket` is a subclass of the standard class. The functions of the module that
make sockets are the standard library's own, bound to the names of this one.
"""

from __future__ import annotations

import _socket
import os  # noqa: F401 - named by the functions that are bound here
import socket as _standard
import sys  # noqa: F401
from socket import *  # noqa: F403 - this module has all that the standard one has
from types import FunctionType
from typing import Any

from streamserve.green.cooperative_socket import SLOTS, CooperativeSocket
from streamserve.green.dns import (  # noqa: F401
    getaddrinfo,
    getfqdn,
    gethostbyaddr,
    gethostbyname,
    gethostbyname_ex,
    getnameinfo,
)
from streamserve.green.socket_pair import keep_secret
from streamserve.loop.watcher import wait_read, wait_readwrite, wait_write

__target__ = "socket"

_SocketBase = _standard.socket
_native: Any = _socket.socket
_NONBLOCK: int = _standard.SOCK_NONBLOCK
_STREAM: int = _standard.SOCK_STREAM
_UNIX: int = _standard.AF_UNIX
_native_family = _native.family
_native_type = _native.type
_native_proto = _native.proto


class socket(CooperativeSocket, _SocketBase):  # type: ignore[no-redef,misc]
    """A socket whose calls wait in the loop; the standard class otherwise.

    Args:
        family, type, proto, fileno: as of `socket.socket`.
    """

    __slots__ = SLOTS

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        if type == -1 and fileno is None:
            type = _STREAM
        timeout = 0.0 if type != -1 and type & _NONBLOCK else _socket.getdefaulttimeout()
        if fileno is None:
            _SocketBase.__init__(self, family, type | _NONBLOCK, proto)
            shared = False
        else:
            _SocketBase.__init__(self, family, type, proto, fileno)
            if timeout is not None and timeout != 0.0:
                _native.setblocking(self, False)  # as the standard class; and the native calls shall not wait
            shared = type == -1 or not type & _NONBLOCK
        self._cooperate(_native.fileno(self), timeout, shared)

    def accept(self) -> tuple[socket, Any]:
        """Waits for a connection; returns a socket for it and the address of the peer."""
        fd, address = self._accept()
        kind = _native_type.__get__(self)
        return socket(_native_family.__get__(self), kind, _native_proto.__get__(self), fd), address

    @classmethod
    def adopt(cls, fd: int, like: Any) -> socket:
        """Makes a socket of a non-blocking descriptor that nobody else has, of the kind of another socket."""
        kind = _native_type.__get__(like) | _NONBLOCK
        sock: Any = socket(_native_family.__get__(like), kind, _native_proto.__get__(like), fd)
        sock._timeout = _socket.getdefaulttimeout()
        return sock


def _bound_here(function: Any) -> Any:
    """A function of the standard module, with this module's `socket` and resolver for that one's."""
    twin = FunctionType(function.__code__, globals(), function.__name__, function.__defaults__, function.__closure__)
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__doc__ = function.__doc__
    return twin


# What their code names, besides what is public.
error = OSError  # type: ignore[misc]
_GLOBAL_DEFAULT_TIMEOUT = _standard._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]
_LOCALHOST = getattr(_standard, "_LOCALHOST", "127.0.0.1")
_LOCALHOST_V6 = getattr(_standard, "_LOCALHOST_V6", "::1")
dup = _socket.dup


def socketpair(  # type: ignore[no-redef]
    family: int | None = None, type: int = _STREAM, proto: int = 0
) -> tuple[socket, socket]:
    """Two sockets that are connected with each other; arguments as of `socket.socketpair`."""
    natives = _socket.socketpair(_UNIX if family is None else family, type | _NONBLOCK, proto)
    make: Any = socket
    near, far = (make.adopt(native.detach(), native) for native in natives)
    if type & _NONBLOCK:
        near._timeout = far._timeout = 0.0
    if near._reader.trusted is None:
        keep_secret(near, far)
    return near, far


fromfd = _bound_here(_standard.fromfd)
create_connection = _bound_here(_standard.create_connection)
create_server = _bound_here(_standard.create_server)
has_dualstack_ipv6 = _bound_here(_standard.has_dualstack_ipv6)

__implements__ = ["socket"]
"""The functions stay: once it is patched, the module's own do the same."""

__all__ = [*_standard.__all__, "wait_read", "wait_readwrite", "wait_write"]
