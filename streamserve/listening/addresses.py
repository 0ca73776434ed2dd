"""Where a server listens: addresses as people write them, and the sockets made of them.

Written as `host:port`, `[::1]:8000`, `:8000`, `*:8000` or `8000` (every interface), `unix:/path` or `fd://N`.
"""

import errno
import os
import re
import socket
from _socket import socket as AnySocket  # also those that monkey patching puts in the place of socket.socket
from collections.abc import Sequence
from dataclasses import dataclass
from socket import socket as Socket
from typing import cast

from streamserve.errors import AddressError, ConfigurationError
from streamserve.listening.network import NetworkOptions, open_network_socket, prepare_stream
from streamserve.listening.unix import UnixFile, open_unix_datagram_socket, open_unix_listener

__all__ = [
    "Address",
    "AddressLike",
    "DescriptorAddress",
    "TcpAddress",
    "UnixAddress",
    "UnixFile",
    "address_of",
    "open_datagram_socket",
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
AddressLike = Address | str | int | tuple[str, int] | tuple[str, int, int, int] | AnySocket


def parse_address(value: AddressLike) -> Address:
    """Reads an address in any form in which a user or a program gives it.

    Args:
        value: Text (see the module), a port for every interface, a `(host, port)` pair, the four parts of an IPv6
            socket's name, or a socket, of which its own address is taken.

    Raises:
        ConfigurationError: It is none of these; the message says what is wrong and what to give.
    """
    if isinstance(value, Address):
        return value
    if isinstance(value, AnySocket):
        return address_of(value)
    if isinstance(value, bool):
        raise ConfigurationError(f"{value!r} is not an address; {FORMS}")
    if isinstance(value, int):
        return TcpAddress("", _port(value, value))
    if isinstance(value, str):
        return _parse_text(value.strip())
    match value:
        case (str() as host, port):
            return TcpAddress(_host(host), _port(port, value))
        case (str() as host, port, int(), int() as scope):
            return TcpAddress(f"{host}%{scope}" if scope else host, _port(port, value))
    raise ConfigurationError(f"{value!r} is not an address; {FORMS}")


def address_of(listener: AnySocket) -> Address:
    """The address to which a socket is bound, with the port that the kernel chose."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return UnixAddress(os.fsdecode(name))
    return TcpAddress(name[0], name[1])


def open_listener(
    address: AddressLike,
    backlog: int = 2048,
    *,
    only_ipv6: bool = False,
    reuse_address: bool = True,
    file: UnixFile | None = None,
) -> Socket:
    """Opens a listening, non-blocking stream socket.

    A name that stands for several numbers is opened at the first IPv4 one; every interface means IPv6 and IPv4 at
    once where the machine has both. The file of a unix socket goes when the socket is closed; one that was left
    behind by a dead server is replaced. A socket or descriptor that is given is adopted, with its options.

    Args:
        address: As `parse_address` takes it. A socket must be bound; it is made to listen if it does not yet.
        backlog: How many connections the kernel keeps until they are accepted.
        only_ipv6: Leave the IPv4 side of an IPv6 address to another listener.
        reuse_address: Take a port whose last server's connections the kernel still remembers.
        file: Who may connect to a unix socket; None: whom the umask lets.

    Raises:
        ConfigurationError: It is no address.
        AddressError: It cannot be opened; the message says why and what to do.
    """
    if isinstance(address, AnySocket):
        return _adopt(address, backlog)
    match parse_address(address):
        case TcpAddress() as tcp:
            options = NetworkOptions(socket.SOCK_STREAM, backlog, only_ipv6, reuse_address)
            return open_network_socket(tcp.host, tcp.port, options)
        case UnixAddress() as unix:
            return open_unix_listener(unix.path, backlog, file)
        case DescriptorAddress() as descriptor:
            return _open_descriptor(descriptor, socket.SOCK_STREAM)


def open_datagram_socket(address: AddressLike, *, reuse_address: bool = False) -> Socket:
    """Opens a bound, non-blocking datagram socket, by the rules of `open_listener`.

    Args:
        address: As `parse_address` takes it. A socket must be bound.
        reuse_address: Share the port with others that say so too; the kernel gives all datagrams to one of them.

    Raises:
        ConfigurationError: It is no address.
        AddressError: It cannot be opened; the message says why and what to do.
    """
    if isinstance(address, AnySocket):
        if address.type != socket.SOCK_DGRAM:
            raise AddressError(f"cannot receive datagrams on {address!r}: give a socket of SOCK_DGRAM")
        return _ready(address)
    match parse_address(address):
        case TcpAddress() as name:
            options = NetworkOptions(socket.SOCK_DGRAM, 0, only_ipv6=False, reuse_address=reuse_address)
            return open_network_socket(name.host, name.port, options)
        case UnixAddress() as unix:
            return open_unix_datagram_socket(unix.path)
        case DescriptorAddress() as descriptor:
            return _open_descriptor(descriptor, socket.SOCK_DGRAM)


def open_listeners(addresses: Sequence[Address], backlog: int = 2048, file: UnixFile | None = None) -> list[Socket]:
    """Opens them all, or none: if one fails, those before it are closed.

    `[::]:port` leaves IPv4 to `0.0.0.0:port` when both are given.
    """
    listeners: list[Socket] = []
    try:
        for address in addresses:
            shared = isinstance(address, TcpAddress) and TcpAddress("0.0.0.0", address.port) in addresses
            listeners.append(open_listener(address, backlog, only_ipv6=shared, file=file))
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
    return TcpAddress(_host(host), _port(port, text))


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


def _host(host: str) -> str:
    return "" if host == "*" else host


def _port(port: object, whole: object) -> int:
    if isinstance(port, str) and re.fullmatch(r"[0-9]{1,5}", port):
        port = int(port)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise ConfigurationError(f"{whole!r} has no usable port; give a number from 0 to 65535")
    return port


def _open_descriptor(address: DescriptorAddress, kind: int) -> Socket:
    try:
        opened = Socket(fileno=address.fd)
    except OSError as error:
        problem = "is not open" if error.errno == errno.EBADF else "is no socket"
        raise AddressError(
            f"cannot listen on {address}: descriptor {address.fd} {problem}; let the parent pass a listening socket",
            error.errno,
        ) from error
    stream = kind == socket.SOCK_STREAM
    if opened.type != kind or (stream and not opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)):
        opened.detach()  # not ours to close: whatever it is, the parent meant something by it
        wanted = "listening stream socket; let the parent call listen() on it" if stream else "datagram socket"
        raise AddressError(f"cannot listen on {address}: descriptor {address.fd} is no {wanted}")
    opened.set_inheritable(False)
    return _ready(opened)


def _adopt(listener: AnySocket, backlog: int) -> Socket:
    if listener.type != socket.SOCK_STREAM:
        raise AddressError(f"cannot listen on {listener!r}: it is no stream socket; give one of SOCK_STREAM")
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.listen(backlog)
    return _ready(listener)


def _ready(opened: AnySocket) -> Socket:
    if opened.type == socket.SOCK_STREAM and opened.family in (socket.AF_INET, socket.AF_INET6):
        prepare_stream(cast(Socket, opened))
    opened.setblocking(False)
    return cast(Socket, opened)
