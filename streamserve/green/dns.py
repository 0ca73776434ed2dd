"""Names to addresses and back, without blocking the loop.

What needs no network is answered at once, in the loop's thread: numeric hosts, no host at all, localhost, and
the names in /etc/hosts. The answer itself always comes from the C library; only whether it could have to ask
the network is decided here, and in doubt the thread pool does the work.
"""

from __future__ import annotations

import _socket
import encodings.idna  # noqa: F401  the first name would import it in a thread of the pool, under an import lock
import os
import re
import sys
from collections.abc import Callable
from socket import AddressFamily, SocketKind
from time import monotonic
from typing import Any

from streamserve.loop.hubs import hub_of_thread

__all__ = ["HostsFile", "Resolver", "getaddrinfo", "getfqdn", "gethostbyaddr", "gethostbyname", "gethostbyname_ex"]
__all__ += ["getnameinfo"]
__target__ = "socket"
__implements__ = ["getaddrinfo", "getfqdn", "gethostbyaddr", "gethostbyname", "gethostbyname_ex", "getnameinfo"]

MAX_REMEMBERED = 1024
"""Numeric hosts whose results are kept; beyond, all are dropped."""

LARGEST_HOSTS_FILE = 65536
"""Bytes. The C library reads the whole file for each name: a larger one is left to the thread pool."""

HOSTS_CHECK = 1.0
"""Seconds between two looks at whether /etc/hosts changed."""

_V4, _V6 = 1, 2
_FAMILIES = {_socket.AF_INET: _V4, _socket.AF_INET6: _V6}
_MAYBE_NUMERIC = re.compile(r"[0-9][0-9a-fA-FxX.]*|[^:]*:.*")
_NO_CACHE = _socket.AI_ADDRCONFIG
_EAI_NONAME = _socket.EAI_NONAME


class HostsFile:
    """Which names and addresses /etc/hosts answers; it is read anew when it has changed.

    Args:
        path: the file.
        order: nsswitch.conf. Where "files" is not what is asked first for hosts, this knows nothing.
        clock: seconds, monotonic; for tests.
    """

    def __init__(
        self,
        path: str = "/etc/hosts",
        order: str = "/etc/nsswitch.conf",
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._path = path
        self._order = order
        self._clock = clock
        self._next_check = -1.0
        self._stamps: Any = None
        self._names: dict[str, int] = {}
        self._addresses: frozenset[bytes] = frozenset()

    def has_name(self, name: str, family: int) -> bool:
        """True if the file has an address of that family (AF_UNSPEC: of any) for the name."""
        self._refresh()
        known = self._names.get(name.lower(), 0)
        return bool(known & _FAMILIES.get(family, 0 if family else _V4 | _V6))

    def has_address(self, address: str) -> bool:
        """True if the file has a name for this numeric address."""
        self._refresh()
        return _packed(address)[1] in self._addresses

    def _refresh(self) -> None:
        now = self._clock()
        if now < self._next_check:
            return
        self._next_check = now + HOSTS_CHECK
        stamps = [_stamp(self._path), _stamp(self._order)]
        if stamps != self._stamps:
            self._stamps = stamps
            self._names, self._addresses = self._read()

    def _read(self) -> tuple[dict[str, int], frozenset[bytes]]:
        names: dict[str, int] = {}
        addresses = set()
        if _asked_first(self._order):
            for line in _lines(self._path):
                family, address = _packed(line[0])
                if family and len(line) > 1:
                    addresses.add(address)
                    for name in line[1:]:
                        names[name.lower()] = names.get(name.lower(), 0) | family
        return names, frozenset(addresses)


def _stamp(path: str) -> Any:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _lines(path: str) -> list[list[str]]:
    """The words of each line that has some, without comments; nothing if the file is missing or too large."""
    try:
        with open(path, encoding="latin-1") as file:
            text = file.read(LARGEST_HOSTS_FILE + 1)
    except OSError:
        return []
    if len(text) > LARGEST_HOSTS_FILE:
        return []
    return [words for line in text.splitlines() if (words := line.partition("#")[0].split())]


def _asked_first(order: str) -> bool:
    for line in _lines(order):
        if line[0] == "hosts:":
            return line[1:2] == ["files"]
    return True  # the default of glibc, and what musl always does


def _packed(address: str) -> tuple[int, bytes]:
    for family, flag in _FAMILIES.items():
        try:
            return flag, _socket.inet_pton(family, address)
        except (OSError, ValueError):
            pass
    return 0, b""


class Resolver:
    """The default resolver: what `hub.resolver` is taken for while it is None.

    One serves all threads. Another one has these methods, with the arguments, results and errors of those in
    `socket` and `close`; they may let the greenlet wait.
    """

    def __init__(self, hosts: HostsFile | None = None) -> None:
        self.hosts = hosts or HostsFile()
        self._numeric: dict[Any, list[Any]] = {}

    def close(self) -> None:
        """Forgets what it remembers."""
        self._numeric.clear()

    def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """Like `socket.getaddrinfo`."""
        if port.__class__ is int and 0 <= port <= 65535:
            try:
                remembered = self._numeric[host, family, type, proto, flags]
            except (KeyError, TypeError):
                pass  # not asked yet; or something unhashable, which the C library will refuse
            else:
                sys.audit("socket.getaddrinfo", host, port, family, type, proto)
                return [(a, b, c, d, (address, port, *rest)) for a, b, c, d, address, rest in remembered]
        name = _text(host)
        if name is None:  # no host, or none that could be looked up
            return _with_enums(_socket.getaddrinfo(host, port, family, type, proto, flags))
        if _MAYBE_NUMERIC.fullmatch(name):
            try:
                return self._numeric_result(host, port, family, type, proto, flags)
            except _socket.gaierror as error:
                if error.errno != _EAI_NONAME:
                    raise
        function = _socket.getaddrinfo
        if self._is_unlisted_localhost(name):  # no host at all is the loopback addresses too
            return _with_enums(function(None, port or 0, family, type, proto, flags & ~_socket.AI_PASSIVE))
        if name and not self._needs_no_network(name, family, flags):
            return _with_enums(_elsewhere(function, host, port, family, type, proto, flags))
        return _with_enums(function(host, port, family, type, proto, flags))

    def _numeric_result(self, host: Any, port: Any, family: int, type: int, proto: int, flags: int) -> list[Any]:
        found = _with_enums(_socket.getaddrinfo(host, port, family, type, proto, flags | _socket.AI_NUMERICHOST))
        if port.__class__ is int and 0 <= port <= 65535 and not flags & _NO_CACHE and "%" not in str(host):
            if len(self._numeric) >= MAX_REMEMBERED:
                self._numeric.clear()
            self._numeric[host, family, type, proto, flags] = [(*one[:4], one[4][0], one[4][2:]) for one in found]
        return found

    def _needs_no_network(self, name: str, family: int, flags: int) -> bool:
        if flags & _socket.AI_ALL:
            return False  # asks for the other family too
        if flags & _socket.AI_ADDRCONFIG and not family:  # either family may be the one that is asked for
            families = [_socket.AF_INET, _socket.AF_INET6]
            return all(self.hosts.has_name(name, either) for either in families)
        return self.hosts.has_name(name, family)

    def _is_unlisted_localhost(self, name: str) -> bool:
        """True for a localhost that the C library would look for in the network (RFC 6761, 6.3: it must not)."""
        return name.lower() == "localhost" and not self.hosts.has_name(name, 0)

    def gethostbyname(self, host: Any) -> str:
        """Like `socket.gethostbyname`."""
        found: str = self._by_name(_socket.gethostbyname, host)
        return found

    def gethostbyname_ex(self, host: Any) -> tuple[str, list[str], list[str]]:
        """Like `socket.gethostbyname_ex`."""
        found: tuple[str, list[str], list[str]] = self._by_name(_socket.gethostbyname_ex, host)
        return found

    def _by_name(self, function: Callable[..., Any], host: Any) -> Any:
        name = _text(host)
        if name and self._is_unlisted_localhost(name):
            host = name = "127.0.0.1"
        if not name or name == "<broadcast>" or _is_numeric(name) or self.hosts.has_name(name, _socket.AF_INET):
            return function(host)
        return _elsewhere(function, host)

    def gethostbyaddr(self, ip_address: Any) -> tuple[str, list[str], list[str]]:
        """Like `socket.gethostbyaddr`."""
        address = _text(ip_address)
        inline = address is None or self.hosts.has_address(address)
        found: tuple[str, list[str], list[str]] = (
            _socket.gethostbyaddr(ip_address) if inline else _elsewhere(_socket.gethostbyaddr, ip_address)
        )
        return found

    def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """Like `socket.getnameinfo`."""
        found: tuple[str, str]
        try:
            numeric = flags & _socket.NI_NUMERICHOST or not isinstance(sockaddr, tuple)
            inline = numeric or self.hosts.has_address(sockaddr[0])
        except (TypeError, LookupError):
            inline = True  # it will be refused
        found = _socket.getnameinfo(sockaddr, flags) if inline else _elsewhere(_socket.getnameinfo, sockaddr, flags)
        return found


def _text(host: Any) -> str | None:
    """The host as text; None if it is none, and no name that could be looked up."""
    if isinstance(host, str):
        return host
    return host.decode("latin-1") if isinstance(host, (bytes, bytearray)) else None


def _is_numeric(name: str) -> bool:
    if not _MAYBE_NUMERIC.fullmatch(name):
        return False
    try:
        _socket.getaddrinfo(name, None, _socket.AF_INET, 0, 0, _socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True


def _with_enums(found: list[Any]) -> list[Any]:
    return [(_enum(AddressFamily, one[0]), _enum(SocketKind, one[1]), *one[2:]) for one in found]


def _enum(kind: Any, value: int) -> Any:
    try:
        return kind(value)
    except ValueError:
        return value


def _elsewhere(function: Callable[..., Any], *args: Any) -> Any:
    """Calls the function in the thread pool of the hub; a thread without a hub has nothing else to run meanwhile."""
    hub = hub_of_thread()
    return function(*args) if hub is None else hub.threadpool.apply(function, args)


_default = Resolver()


def _resolver() -> Any:
    hub = hub_of_thread()
    return _default if hub is None or hub.resolver is None else hub.resolver


def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> list[Any]:
    """Like `socket.getaddrinfo`, through the resolver of the hub.

    Raises:
        socket.gaierror: there is no such host or service.
    """
    found: list[Any] = _resolver().getaddrinfo(host, port, family, type, proto, flags)
    return _with_enums(found) if found and found[0][0].__class__ is int else found


def gethostbyname(hostname: Any) -> str:
    """Like `socket.gethostbyname`, through the resolver of the hub."""
    found: str = _resolver().gethostbyname(hostname)
    return found


def gethostbyname_ex(hostname: Any) -> tuple[str, list[str], list[str]]:
    """Like `socket.gethostbyname_ex`, through the resolver of the hub."""
    found: tuple[str, list[str], list[str]] = _resolver().gethostbyname_ex(hostname)
    return found


def gethostbyaddr(ip_address: Any) -> tuple[str, list[str], list[str]]:
    """Like `socket.gethostbyaddr`, through the resolver of the hub."""
    found: tuple[str, list[str], list[str]] = _resolver().gethostbyaddr(ip_address)
    return found


def getnameinfo(sockaddr: Any, flags: int) -> tuple[str, str]:
    """Like `socket.getnameinfo`, through the resolver of the hub."""
    found: tuple[str, str] = _resolver().getnameinfo(sockaddr, flags)
    return found


def getfqdn(name: str = "") -> str:
    """Like `socket.getfqdn`, through the resolver of the hub."""
    asked = name.strip()
    if asked in ("", "0.0.0.0", "::"):
        asked = _socket.gethostname()
    try:
        canonical, aliases, _ = gethostbyaddr(asked)
    except OSError:
        return asked
    return next((each for each in [canonical, *aliases] if "." in each), canonical)
