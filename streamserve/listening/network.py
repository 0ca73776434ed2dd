"""TCP and UDP sockets of servers: which number a name stands for, both families at once, and what a refusal means."""

import errno
import socket
from dataclasses import dataclass
from socket import socket as Socket
from typing import Any

from streamserve.errors import AddressError

__all__ = ["UNSENT", "NetworkOptions", "open_network_socket", "prepare_stream"]

UNSENT = 131072
"""Bytes of a connection that the kernel takes before it says that the peer must read first."""


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """What kind of socket is to be opened.

    Args:
        kind: SOCK_STREAM or SOCK_DGRAM.
        backlog: Connections that the kernel keeps until they are accepted; streams only.
        only_ipv6: Leave the IPv4 side of an IPv6 address to another socket.
        reuse_address: Set SO_REUSEADDR.
    """

    kind: int
    backlog: int
    only_ipv6: bool
    reuse_address: bool


def open_network_socket(host: str, port: int, options: NetworkOptions) -> Socket:
    """Opens a bound, non-blocking socket; one for streams listens.

    Args:
        host: A name or number without brackets; "": every interface, by IPv6 and IPv4 where the machine has both.
        port: 0: the kernel chooses.

    Raises:
        AddressError: It cannot be opened; the message says why and what to do.
    """
    if not host:
        return _open_every_interface(port, options)
    try:
        found = socket.getaddrinfo(host, port, type=options.kind, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise AddressError(
            f"cannot listen on {_name(host, port)}: the host {host!r} is not known;"
            " give a name or number of this machine"
        ) from error
    # People who write a name nearly always connect by IPv4 first, and so do our own log line and health checks.
    family, _, _, _, sockaddr = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return _bind(_name(host, port), family, sockaddr, options)


def _open_every_interface(port: int, options: NetworkOptions) -> Socket:
    try:
        return _bind(f":{port}", socket.AF_INET6, ("::", port), options)
    except AddressError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # else this machine has no IPv6
            raise
    return _bind(f":{port}", socket.AF_INET, ("0.0.0.0", port), options)


def _bind(name: str, family: int, sockaddr: tuple[Any, ...], options: NetworkOptions) -> Socket:
    stream = options.kind == socket.SOCK_STREAM
    try:
        opened = Socket(family, options.kind)
    except OSError as error:
        raise _refusal(name, sockaddr[1], error) from error
    try:
        if options.reuse_address:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, options.only_ipv6)
        opened.bind(sockaddr)
        if stream:
            prepare_stream(opened)
            opened.listen(options.backlog)
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        raise _refusal(name, sockaddr[1], error) from error
    return opened


def prepare_stream(listener: Socket, unsent: int = UNSENT) -> None:
    """Sets what accepted sockets inherit from a TCP listener.

    Without a bound on what is not sent yet, Linux grows the send buffer of a connection whose client does not read to
    4 MB (tcp_wmem), out of memory that all connections of the machine share (tcp_mem): some hundred such clients
    would stop every other one. With it the rest waits in the server, where it is counted and has a deadline.

    Args:
        listener: Of IPv4 or IPv6.
        unsent: Bytes, TCP_NOTSENT_LOWAT of tcp(7); 0: what the system's net.ipv4.tcp_notsent_lowat says.
    """
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # Linux, macOS
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent)


def _refusal(name: str, port: int, error: OSError) -> AddressError:
    match error.errno:
        case errno.EADDRINUSE:
            text = (
                f"another process listens there; stop it (ss -lntup 'sport = :{port}' names it) or choose another port"
            )
        case errno.EACCES:
            text = "no permission: ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one"
        case errno.EADDRNOTAVAIL:
            text = "this machine has no such address; `ip address` lists those it has"
        case errno.EAFNOSUPPORT:
            text = "this machine has no IPv6; give an IPv4 address"
        case _:
            text = f"{error.strerror or error}; choose another address"
    return AddressError(f"cannot listen on {name}: {text}", error.errno)


def _name(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
