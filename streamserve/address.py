"""Where a server listens: addresses as people write them, and the listening sockets made of them.

Written as `host:port`, `[::1]:8000`, `:8000` or `8000` (every interface), `unix:/path` or `fd://N`.
"""

import errno
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from socket import socket as Socket

from streamserve.errors import ConfigurationError
from streamserve.unix_listener import open_unix_listener

__all__ = [
    "Address",
    "AddressLike",
    "DescriptorAddress",
    "TcpAddress",
    "UnixAddress",
    "address_of",
    "open_listener",
    "open_listeners",
    "parse_address",
]

FORMS = "give host:port, [IPv6]:port, :port, unix:/path or fd://N"
MAX_UNIX_PATH = 107  # bytes: sun_path is 108 on Linux, the last one is a NUL


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host, as a name or a number without brackets ("" is every interface), and a port (0: the kernel chooses)."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """What a log line shows and a browser on this machine opens."""
        return f"http://{self}" if self.host else f"http://localhost:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a unix socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @property
    def url(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True)
class DescriptorAddress:
    """A listening socket that the parent process opened and left to us as a descriptor."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"

    @property
    def url(self) -> str:
        return str(self)


Address = TcpAddress | UnixAddress | DescriptorAddress
AddressLike = Address | str | int | tuple[str, int] | Socket


def parse_address(value: AddressLike) -> Address:
    """Reads an address in any form in which a user or a program gives it.

    Args:
        value: Text (see the module), a port for every interface, a `(host, port)` pair, or a socket, of which its own
            address is taken.

    Raises:
        ConfigurationError: It is none of these; the message says what is wrong and what to give.
    """
    if isinstance(value, Address):
        return value
    if isinstance(value, Socket):
        return address_of(value)
    if isinstance(value, bool):
        raise ConfigurationError(f"{value!r} is not an address; {FORMS}")
    if isinstance(value, int):
        return TcpAddress("", _port(value, value))
    if isinstance(value, str):
        return _parse_text(value.strip())
    try:
        host, port = value
    except (TypeError, ValueError):
        raise ConfigurationError(f"{value!r} is not an address; {FORMS}") from None
    if not isinstance(host, str):
        raise ConfigurationError(f"{value!r} is not an address; {FORMS}")
    return TcpAddress(host, _port(port, value))


def address_of(listener: Socket) -> Address:
    """The address to which a socket is bound, with the port that the kernel chose."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return UnixAddress(os.fsdecode(name))
    return TcpAddress(name[0], name[1])


def open_listener(address: AddressLike, backlog: int = 2048, *, only_ipv6: bool = False) -> Socket:
    """Opens a listening, non-blocking stream socket.

    A name that stands for several numbers is opened at the first IPv4 one; every interface means IPv6 and IPv4 at
    once where the machine has both. The file of a unix socket goes when the socket is closed; one that was left
    behind by a dead server is replaced. A socket or descriptor that is given is adopted, with its options.

    Args:
        address: As `parse_address` takes it. A socket must be bound; it is made to listen if it does not yet.
        backlog: How many connections the kernel keeps until they are accepted.
        only_ipv6: Leave the IPv4 side of an IPv6 address to another listener.

    Raises:
        ConfigurationError: It cannot be opened; the message says why and what to do.
    """
    if isinstance(address, Socket):
        return _adopt(address, backlog)
    match parse_address(address):
        case TcpAddress() as tcp:
            return _open_tcp(tcp, backlog, only_ipv6)
        case UnixAddress() as unix:
            return open_unix_listener(unix.path, backlog)
        case DescriptorAddress() as descriptor:
            return _open_descriptor(descriptor)


def open_listeners(addresses: Sequence[Address], backlog: int = 2048) -> list[Socket]:
    """Opens them all, or none: if one fails, those before it are closed.

    `[::]:port` leaves IPv4 to `0.0.0.0:port` when both are given.
    """
    listeners: list[Socket] = []
    try:
        for address in addresses:
            shared = isinstance(address, TcpAddress) and TcpAddress("0.0.0.0", address.port) in addresses
            listeners.append(open_listener(address, backlog, only_ipv6=shared))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _parse_text(text: str) -> Address:
    if text.startswith("unix:"):
        return _parse_unix(text)
    if text.startswith("fd://"):
        number = text.removeprefix("fd://")
        if not re.fullmatch(r"[0-9]{1,9}", number):
            raise ConfigurationError(f"{text!r} names no descriptor; give its number, such as fd://3")
        return DescriptorAddress(int(number))
    if "://" in text:
        rest = text.partition("://")[2].rstrip("/")
        raise ConfigurationError(f"{text!r} is a URL, not an address; give {rest!r}")
    if text.isascii() and text.isdigit():
        return TcpAddress("", _port(text, text))
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        return TcpAddress(host[1:-1], _port(port, text))
    if ":" in host:
        raise ConfigurationError(f"{text!r} is not an address; an IPv6 host stands in brackets: [::1]:8000")
    if not colon:
        raise ConfigurationError(f"{text!r} has no port; {FORMS}")
    if not re.fullmatch(r"[^\s/@\[\]]*", host):
        raise ConfigurationError(f"{text!r} is not an address; {FORMS}")
    return TcpAddress(host, _port(port, text))


def _parse_unix(text: str) -> UnixAddress:
    path = re.sub(r"^unix:(//(?=/))?", "", text)
    if not path or "\0" in path:
        raise ConfigurationError(f"{text!r} names no file; give unix:/path/to/socket")
    size = len(os.fsencode(path))
    if size > MAX_UNIX_PATH:
        raise ConfigurationError(
            f"the path of {text!r} has {size} bytes, a unix socket takes {MAX_UNIX_PATH}; shorten it"
        )
    return UnixAddress(path)


def _port(port: object, whole: object) -> int:
    if isinstance(port, str) and re.fullmatch(r"[0-9]{1,5}", port):
        port = int(port)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise ConfigurationError(f"{whole!r} has no usable port; give a number from 0 to 65535")
    return port


def _open_tcp(address: TcpAddress, backlog: int, only_ipv6: bool) -> Socket:
    if not address.host:
        return _open_every_interface(address, backlog, only_ipv6)
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigurationError(
            f"cannot listen on {address}: the host {address.host!r} is not known; give a name or number of this machine"
        ) from error
    # People who write a name nearly always connect by IPv4 first, and so do our own log line and health checks.
    family, _, _, _, sockaddr = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return _bind_tcp(address, family, sockaddr, backlog, only_ipv6)


def _open_every_interface(address: TcpAddress, backlog: int, only_ipv6: bool) -> Socket:
    try:
        return _bind_tcp(address, socket.AF_INET6, ("::", address.port), backlog, only_ipv6)
    except ConfigurationError as error:
        no_ipv6 = isinstance(error.__cause__, OSError) and error.__cause__.errno in (
            errno.EAFNOSUPPORT,
            errno.EADDRNOTAVAIL,
        )
        if not no_ipv6:
            raise
    return _bind_tcp(address, socket.AF_INET, ("0.0.0.0", address.port), backlog, only_ipv6)


def _bind_tcp(address: TcpAddress, family: int, sockaddr: tuple[object, ...], backlog: int, only_ipv6: bool) -> Socket:
    try:
        listener = Socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigurationError(_tcp_failure(address, error)) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Linux hands it on to accepted sockets
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
        listener.bind(sockaddr)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigurationError(_tcp_failure(address, error)) from error
    return listener


def _tcp_failure(address: TcpAddress, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            remedy = f"another process listens there; stop it (ss -ltnp 'sport = :{address.port}' names it)"
            return f"cannot listen on {address}: {remedy} or choose another port"
        case errno.EACCES:
            remedy = "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one"
            return f"cannot listen on {address}: no permission: {remedy}"
        case errno.EADDRNOTAVAIL:
            return f"cannot listen on {address}: this machine has no such address; `ip address` lists those it has"
        case errno.EAFNOSUPPORT:
            return f"cannot listen on {address}: this machine has no IPv6; give an IPv4 address"
        case _:
            return f"cannot listen on {address}: {error.strerror or error}; choose another address"


def _open_descriptor(address: DescriptorAddress) -> Socket:
    try:
        listener = Socket(fileno=address.fd)
    except OSError as error:
        problem = "is not open" if error.errno == errno.EBADF else "is no socket"
        raise ConfigurationError(
            f"cannot listen on {address}: descriptor {address.fd} {problem}; let the parent pass a listening socket"
        ) from error
    if listener.type != socket.SOCK_STREAM or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()  # not ours to close: whatever it is, the parent meant something by it
        raise ConfigurationError(
            f"cannot listen on {address}: descriptor {address.fd} is no listening stream socket;"
            " let the parent call listen() on it"
        )
    listener.set_inheritable(False)
    return _ready(listener)


def _adopt(listener: Socket, backlog: int) -> Socket:
    if listener.type != socket.SOCK_STREAM:
        raise ConfigurationError(f"cannot listen on {listener!r}: it is no stream socket; give one of SOCK_STREAM")
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.listen(backlog)
    return _ready(listener)


def _ready(listener: Socket) -> Socket:
    if listener.family in (socket.AF_INET, socket.AF_INET6):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    return listener
