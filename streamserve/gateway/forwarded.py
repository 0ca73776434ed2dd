"""What trusted proxies say about the client: X-Forwarded-* and Forwarded (RFC 7239).

Anybody can write these fields. They count only when the peer of the connection is
one of `forwarded_allow_ips`; from others they stay plain headers. Each proxy adds
what it saw on the right, so the client is the right-most hop that is not trusted
itself: what stands left of it, the client may have written.

Fields that contradict each other are refused: which of them the proxy wrote, and
which it let through, nobody can tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote_to_bytes

from streamserve.gateway.environ import Environ
from streamserve.settings.kinds import UNIX, Network

FIELDS = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_FORWARDED",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_PROTOCOL",
    "HTTP_X_FORWARDED_SSL",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
)
_SCHEME_FIELDS = FIELDS[2:5]
_SCHEMES = {
    "http": "http",
    "https": "https",
    "ws": "http",
    "wss": "https",
    "on": "https",
    "off": "http",
    "ssl": "https",
}
_DEFAULT_PORTS = {"http": "80", "https": "443"}

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PAIR = re.compile(rf'[ \t]*({_TOKEN})=({_TOKEN}|"(?:[^"\\]|\\.)*")[ \t]*([;,]|$)')
_EMPTY = re.compile(r"[ \t]*([;,]|$)")
_PREFIX = re.compile(r"/[^?#\s]*")
_PATH = re.compile(
    r"(?:/(?!\.{1,2}(?:/|$))[^/\\\x00-\x1f\x7f]+)*"
)  # no "//", ".." or "/\\", which begin an address elsewhere
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z\-._~%!$&'()*+;=]+)(?::([0-9]{1,5}))?")
_HOP = re.compile(r"\[([^][]+)\](?::([0-9]{1,5}))?|([0-9.]+):([0-9]{1,5})|([^][]+)")

MOST_REMEMBERED = 1024
MOST_PORT = 65535


class ForwardedConflict(ValueError):
    """The fields contradict each other, or are malformed."""


class ForwardedHeaders:
    """Applies these fields to the environs of requests from trusted peers.

    Args:
        networks: whose word counts; "0.0.0.0/0" and "::/0": that of all addresses; UNIX: that of unix sockets' peers.
        parts: what is taken: "for" (the client's address), "proto" (the scheme), "host", "port", "prefix".
    """

    def __init__(self, networks: Iterable[Network | str], parts: Iterable[str]) -> None:
        listed = tuple(networks)
        self._networks = tuple(network for network in listed if not isinstance(network, str))
        self._unix = UNIX in listed
        self._parts = frozenset(parts)
        self._trusted: dict[str, bool] = {}
        self._known: dict[tuple[str | None, ...], dict[str, str]] = {}

    def trusts(self, host: str) -> bool:
        """Whether the word of a peer counts; that of a unix socket has no address: ""."""
        known = self._trusted.get(host)
        if known is None:
            if len(self._trusted) >= MOST_REMEMBERED:
                self._trusted.clear()
            known = self._trusted[host] = self._covers(_address(host)) if host else self._unix
        return known

    def apply(self, environ: Environ) -> None:
        """Changes an environ to what the proxies say, if its REMOTE_ADDR is trusted.

        Raises:
            ForwardedConflict: they contradict each other.
        """
        if not self.trusts(environ["REMOTE_ADDR"]):
            return
        key = (environ.get("HTTP_HOST"), environ["wsgi.url_scheme"], *map(environ.get, FIELDS))
        updates = self._known.get(key)
        if updates is None:
            updates = self._read(environ)
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = updates
        environ.update(updates)

    def _covers(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)

    def _read(self, environ: Environ) -> dict[str, str]:
        updates: dict[str, str] = {}
        elements = _elements(environ.get("HTTP_FORWARDED"))
        passed = [each.get("for", "") for each in elements]
        element = elements[self._client(passed)] if elements else {}
        if "for" in self._parts:
            self._read_client(environ, element, updates)
        if "proto" in self._parts:
            hops = _listed(environ["HTTP_X_FORWARDED_FOR"]) if "HTTP_X_FORWARDED_FOR" in environ else passed
            behind = len(hops) - 1 - self._client(hops) if hops else None
            said = [word for name in _SCHEME_FIELDS if name in environ for word in _of_hop(environ[name], behind)]
            scheme = _scheme([*said, *([element["proto"]] if "proto" in element else [])])
            if scheme:
                updates["wsgi.url_scheme"] = scheme
        self._read_host(environ, element, updates)
        if "prefix" in self._parts:
            _read_prefix(_last(environ.get("HTTP_X_FORWARDED_PREFIX", "")), updates)
        return updates

    def _client(self, hops: list[str]) -> int:
        """Which hop is the client: the right-most one that is not trusted, the first if all are."""
        for place in range(len(hops) - 1, -1, -1):
            if not self._covers(_hop(hops[place])[0]):
                return place
        return 0

    def _read_client(self, environ: Environ, element: dict[str, str], updates: dict[str, str]) -> None:
        found = []
        if "HTTP_X_FORWARDED_FOR" in environ:
            hops = _listed(environ["HTTP_X_FORWARDED_FOR"])
            found.append(_hop(hops[self._client(hops)]))
        if "for" in element:
            found.append(_hop(element["for"]))
        addresses = {address for address, _ in found if address is not None}
        if len(addresses) > 1:
            raise ForwardedConflict("Forwarded and X-Forwarded-For name different clients")
        for address in addresses:  # none: the proxy does not say, so the peer is all that is known
            updates["REMOTE_ADDR"] = str(address)
            updates["REMOTE_PORT"] = next((port for _, port in found if port), "0")

    def _read_host(self, environ: Environ, element: dict[str, str], updates: dict[str, str]) -> None:
        host = environ.get("HTTP_HOST", "")
        if "host" in self._parts:
            said = [_last(environ.get("HTTP_X_FORWARDED_HOST", "")), element.get("host", "")]
            hosts = {each for each in said if each}
            if len(hosts) > 1:
                raise ForwardedConflict("Forwarded and X-Forwarded-Host name different hosts")
            if hosts:
                host = updates["HTTP_HOST"] = hosts.pop()
        match = _HOST.fullmatch(host)
        if "HTTP_HOST" in updates and not (match and _is_port(match[2] or "0")):
            raise ForwardedConflict("the forwarded host is malformed")
        port = _last(environ.get("HTTP_X_FORWARDED_PORT", ""))
        if "port" in self._parts and port:
            if not _is_port(port):
                raise ForwardedConflict("the forwarded port is malformed")
            updates["SERVER_PORT"] = port
            if match:
                scheme = updates.get("wsgi.url_scheme") or str(environ["wsgi.url_scheme"])
                updates["HTTP_HOST"] = match[1] if port == _DEFAULT_PORTS.get(scheme) else f"{match[1]}:{port}"


def _listed(value: str) -> list[str]:
    """The elements of a field; also the empty ones, for they are hops."""
    return [element.strip(" \t") for element in value.split(",")]


def _last(value: str) -> str:
    """The right-most element of a field: the one that the peer has written."""
    return value.rpartition(",")[2].strip(" \t")


def _is_port(text: str) -> bool:
    return re.fullmatch("[0-9]{1,5}", text) is not None and int(text) <= MOST_PORT


def _of_hop(value: str, behind: int | None) -> list[str]:
    """The element of a field that the proxy wrote which saw the client; all, if it cannot be told which it is.

    Args:
        behind: how many trusted proxies came after that one; each has added an element. None: that is not known.
    """
    words = _listed(value)
    return words if behind is None or behind >= len(words) else [words[len(words) - 1 - behind]]


def _read_prefix(value: str, updates: dict[str, str]) -> None:
    """What the proxy has taken off the path is where the application lives: SCRIPT_NAME, without a slash at its end."""
    if not value:
        return
    path = unquote_to_bytes(value.encode("latin-1")).decode("latin-1").removesuffix("/")
    if not _PREFIX.fullmatch(value) or not _PATH.fullmatch(path):
        raise ForwardedConflict("the forwarded prefix is malformed")
    updates["SCRIPT_NAME"] = path


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address out of its text; one of IPv4 in the dress of IPv6 is of IPv4."""
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _hop(text: str) -> tuple[IPv4Address | IPv6Address | None, str]:
    """(address, port or "") of a hop; "unknown" and names that hide it (RFC 7239 section 6) have none."""
    match = _HOP.fullmatch(text)
    if not match:
        return None, ""
    port = match[2] or match[4] or ""
    return _address(match[1] or match[3] or match[5]), port if _is_port(port) else ""


def _scheme(said: list[str]) -> str:
    """The one scheme that all of these words name; "" where they name none that is known."""
    schemes = {_SCHEMES[word.lower()] for word in said if word.lower() in _SCHEMES}
    if len(schemes) > 1:
        raise ForwardedConflict("the forwarded headers name different schemes")
    return schemes.pop() if schemes else ""


def _elements(value: str | None) -> list[dict[str, str]]:
    """The elements of a Forwarded field, each as lowered names to values; empty ones do not count."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while value is not None and at < len(value):
        match = _EMPTY.match(value, at)
        if match:
            end = match[1]
        else:
            match = _PAIR.match(value, at)
            if not match or match[1].lower() in elements[-1]:
                raise ForwardedConflict("the Forwarded field is malformed")
            text = match[2]
            elements[-1][match[1].lower()] = re.sub(r"\\(.)", r"\1", text[1:-1]) if text[0] == '"' else text
            end = match[3]
        at = match.end()
        if end == ",":
            elements.append({})
    return [element for element in elements if element]
