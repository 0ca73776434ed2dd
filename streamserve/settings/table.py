"""The table of settings: each is written once, as a field of `Settings`.

From that one entry come the attribute, its default and validation, the flag (`--head-timeout`), the environment
variable (`STREAMSERVE_HEAD_TIMEOUT`), the key of `streamserve.toml` and of `[tool.streamserve]` in pyproject.toml, and
the row in docs/settings.md. To add a setting, add a field: nothing else in the repository repeats its name or default,
except the code that obeys it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal

from streamserve.errors import ConfigurationError
from streamserve.listening.addresses import Address, TcpAddress, UnixFile
from streamserve.settings.kinds import (
    UNIX,
    Kind,
    Network,
    addresses,
    choice,
    choices,
    count,
    files,
    log_format,
    mode,
    networks,
    origins,
    secret,
    size,
    switch,
    text,
    time,
)

__all__ = ["Entry", "Settings", "entries"]


def setting(default: Any, kind: Kind, group: str, help: str) -> Any:
    """One entry of the table.

    Args:
        default: The value where nothing is given.
        kind: How values are read and validated; its unit is appended to the help.
        group: The heading under which help and documentation list it.
        help: One or two sentences; the flag, the variable and the key are added by who shows it.
    """
    return field(default=default, repr=not kind.hidden, metadata={"kind": kind, "group": group, "help": help})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set, validated and immutable.

    Values are given as they are or as text ("64k", "500ms"); whatever is wrong raises ConfigurationError in one line
    that names the setting, the value, where it came from and what to give instead.

    Args:
        origins: Where each value came from, for messages: `{"backlog": "--backlog"}`. Those not named are defaults or
            were passed by a program.

    Example:
        >>> Settings(head_timeout=5).head_timeout
        5.0
    """

    # fmt: off
    app: str = setting("", text("give module:application"), "Application",
        "The WSGI application, as module:application or module:factory().")
    chdir: str = setting("", text("give a directory", metavar="DIRECTORY"), "Application",
        "Change to this directory first; the application is imported from it. Empty: stay.")
    patch: bool = setting(True, switch(), "Application",
        "Patch the standard library before the application is imported: waiting lets others run. --no-patch: do not.")

    bind: tuple[Address, ...] = setting((TcpAddress("127.0.0.1", 8000),), addresses(), "Listening",
        "Where to listen: host:port, [IPv6]:port, :port (every interface), unix:/path or fd://N. Port 0: a free one.")
    socket_mode: str = setting("0666", mode(), "Listening",
        "The permissions of unix sockets: who may write may connect. 0660: their owner and group only.")
    socket_owner: str = setting(
        "", text("give user, user:group or :group", metavar="OWNER", pattern=r"[^\x00-\x1f\x7f:\ud800-\udfff]*:?"
        r"[^\x00-\x1f\x7f:\ud800-\udfff]*"), "Listening",
        "The owner of unix sockets: user, user:group or :group, by name or number. Empty: whoever starts the server.")
    backlog: int = setting(2048, count(1, 65535), "Listening",
        "Connections that the kernel keeps until they are accepted; net.core.somaxconn caps it.")
    max_connections: int = setting(20000, count(0, 1_000_000), "Listening",
        "Connections open at once on each address; more are answered 503. 0: no limit.")

    tcp_notsent_lowat: int = setting(131072, size(4096, 1 << 30, zero=True), "Listening",
        "What the kernel holds unsent for a client that does not read; the rest waits here. 0: the system decides.")

    certfile: tuple[str, ...] = setting((), files(), "TLS",
        "Speak TLS, with this certificate and its chain (PEM). Given again: another; the name asked for chooses.")
    keyfile: tuple[str, ...] = setting((), files(), "TLS",
        "The private key (PEM) of each certfile, in their order. None: the certfiles hold the keys too.")
    keyfile_password: str = setting("", secret("give the password of the encrypted keyfiles"), "TLS",
        "The password of encrypted keyfiles, one for all. Give it by the variable or a file: everybody on the machine"
        " can read a command line (ps).")
    ca_certs: str = setting("", text("give a file", metavar="FILE"), "TLS",
        "Who may sign the certificates of clients (PEM).")
    client_cert: Literal["none", "optional", "required"] = setting(
        "none", choice("none", "optional", "required"), "TLS",
        "Whether clients are asked for a certificate, and turned away without one; it needs ca_certs.")
    tls_min: Literal["1.2", "1.3"] = setting("1.2", choice("1.2", "1.3"), "TLS",
        "The oldest version of TLS that clients may speak.")
    ciphers: str = setting("ECDHE+AESGCM:ECDHE+CHACHA20", text("give a list as `openssl ciphers` takes it"), "TLS",
        "Ciphers for TLS 1.2, as OpenSSL writes them. Empty: Python's choice.")
    certificate_check: float = setting(10.0, time(zero="only on SIGHUP"), "TLS",
        "How often the files of certificates are looked at; what has changed is loaded. 0: on SIGHUP only.")
    handshake_timeout: float = setting(10.0, time(), "TLS",
        "From the accept of a connection until its TLS handshake is complete; later it is closed. 0: no deadline.")
    max_handshakes: int = setting(1000, count(0, 100_000), "TLS",
        "Connections on each address whose TLS handshake is not complete; one more ends the oldest whose"
        " client has kept it waiting for a second, or waits itself for a place. 0: no limit.")

    concurrency: int = setting(1000, count(1, 1_000_000), "Concurrency",
        "Requests that run at once, each on a greenlet of its own.")
    queue: int = setting(1000, count(0, 1_000_000), "Concurrency",
        "Requests that wait for one of those greenlets; what comes on top is answered 503 with Retry-After.")
    queue_timeout: float = setting(30.0, time(), "Concurrency",
        "How long a request may wait for one; then it is answered 503, as the others are. 0: no deadline.")
    thread_idle_timeout: float = setting(60.0, time(zero="for ever"), "Concurrency",
        "How long a request's thread is kept for the next one, with what threading.local has there, such as"
        " connections. 0: for ever.")
    context_variables: Literal["thread", "request"] = setting("thread", choice("thread", "request"), "Concurrency",
        "Whether a request finds the context variables that the last one on its thread left (thread), or none.")

    max_request_line: int = setting(8192, size(64, 1 << 20), "Limits",
        "The longest request line; a longer one is answered 414.")
    max_header_bytes: int = setting(65536, size(256, 16 << 20), "Limits",
        "The largest request head, request line included; a larger one is answered 431.")
    max_header_fields: int = setting(100, count(1, 10_000), "Limits",
        "Header fields in a request; more are answered 431.")
    max_body_bytes: int = setting(0, size(1, 1 << 50, zero=True), "Limits",
        "The largest request body; a larger one is answered 413. 0: no limit, the application decides.")
    buffered_body: int = setting(1 << 20, size(1, 1 << 30, zero=True), "Limits",
        "A chunked body up to this size is complete before the application runs, and has a CONTENT_LENGTH; a larger one"
        " streams. 0: all stream.")
    max_buffer_bytes: int = setting(1 << 30, size(1 << 20, 1 << 50, zero=True), "Limits",
        "What all connections together may hold in buffers; above it requests are answered 503. 0: no limit.")

    websocket_origins: tuple[str, ...] = setting(("same",), origins(), "WebSocket",
        "Pages that may open a WebSocket: same (the server's own), *, or origins such as https://example.com.")
    max_websocket_message: int = setting(16 << 20, size(1, 1 << 30), "WebSocket",
        "The largest message, all its fragments together; a larger one ends the connection with 1009.")
    websocket_ping_interval: float = setting(25.0, time(), "WebSocket",
        "How long a client may be silent before it is asked for a sign of life. 0: it is never asked.")
    websocket_ping_timeout: float = setting(20.0, time(), "WebSocket",
        "How long it may then take; after that the connection is over. 0: no deadline.")
    websocket_close_timeout: float = setting(10.0, time(), "WebSocket",
        "How long a client may take to answer a Close. 0: no deadline.")
    websocket_queue: int = setting(1 << 20, size(65536, 1 << 30), "WebSocket",
        "What may wait for one slow client; a broadcast goes no further.")
    websocket_slow: Literal["close", "skip"] = setting("close", choice("close", "skip"), "WebSocket",
        "Whom a broadcast finds with a full queue: close (with 1013) or skip.")
    websocket_compression: Literal["off", "on"] = setting("off", choice("off", "on"), "WebSocket",
        "Compress messages for clients that offer it (permessage-deflate, without context takeover).")
    websocket_compression_threshold: int = setting(1024, size(0, 1 << 30), "WebSocket",
        "The shortest message that is compressed.")

    head_timeout: float = setting(15.0, time(), "Deadlines",
        "From the first byte of a request until its head is complete; later is answered 408. 0: no deadline.")
    body_timeout: float = setting(30.0, time(), "Deadlines",
        "How long a request body may make no progress. 0: no deadline.")
    body_rate: int = setting(240, size(1, 1 << 30, zero=True), "Deadlines",
        "Bytes a second with which a request body must come at least, over body_timeout. 0: a byte in time is enough.")
    discard_timeout: float = setting(5.0, time(), "Deadlines",
        "The longest pause in an upload that was answered before its end and is now dropped. 0: no deadline.")
    discard_total: float = setting(30.0, time(), "Deadlines",
        "How long such an upload is dropped in all; then the connection is closed. 0: as long as it goes on.")
    write_timeout: float = setting(60.0, time(), "Deadlines",
        "How long a client may take nothing of a response that is ready for it. 0: no deadline.")
    client_gone: Literal["on", "hangup", "off"] = setting("on", choice("on", "hangup", "off"), "Deadlines",
        "Whether a request whose client has left gets ClientGone, a BaseException, where it waits. A client that has"
        " sent all it will is asked whether it is still there, or is gone by that alone (hangup): right behind a proxy"
        " that speaks HTTP/1.0 to this server, which cannot be asked.")
    keep_alive_timeout: float = setting(75.0, time(), "Deadlines",
        "How long a connection may idle between requests; keep it above the load balancer's. 0: no deadline.")
    graceful_timeout: float = setting(30.0, time(zero="stop at once"), "Deadlines",
        "How long running requests may take to finish when the server stops. 0: they are cut off at once.")

    underscore_headers: Literal["drop", "refuse", "keep"] = setting("drop", choice("drop", "refuse", "keep"), "HTTP",
        "Header names with an underscore, which WSGI cannot tell from a dash: drop them, answer 400, or keep them.")
    forwarded_allow_ips: tuple[Network | Literal["unix"], ...] = setting(
        (IPv4Network("127.0.0.1"), IPv6Network("::1"), UNIX), networks(UNIX), "HTTP",
        "Proxies whose X-Forwarded-* and Forwarded headers count: addresses and networks, unix for the peers on unix"
        " sockets, * for all, empty for none.")
    forwarded_parts: tuple[str, ...] = setting(
        ("for", "proto"), choices("for", "proto", "host", "port", "prefix"), "HTTP",
        "What is taken from those headers: the client's address, the scheme, the host, the port, the prefix"
        " (SCRIPT_NAME). Take only what your proxy always writes itself: what it lets through, clients choose.")
    proxy_protocol: Literal["off", "on"] = setting("off", choice("off", "on"), "HTTP",
        "Connections from the load balancers in proxy_allow_ips begin with a PROXY protocol header, version 1 or 2,"
        " which names the client. Not beside certfile.")
    proxy_allow_ips: tuple[Network, ...] = setting(
        (IPv4Network("127.0.0.1"), IPv6Network("::1")), networks(), "HTTP",
        "Who speaks the PROXY protocol: addresses and networks, * for all; peers on unix sockets do too.")
    early_hints: Literal["off", "on"] = setting("off", choice("off", "on"), "HTTP",
        "Give applications wsgi.early_hints in their environ: called with headers, it sends 103 Early Hints.")
    server_header: str = setting("streamserve", text("give printable ASCII", pattern="[ -~]*"), "HTTP",
        "The Server field of responses. Empty: none is sent.")

    access_log: str = setting("", text("give a file, or - for standard output", metavar="FILE"), "Logging",
        "Write a line for each request to this file, or to standard output (-). Empty: no access log.")
    access_log_format: str = setting("combined", log_format(), "Logging",
        "The lines of the access log: common, combined, json, or gunicorn's fields such as %(h)s and %({host}i)s.")
    request_ids: Literal["off", "make", "accept"] = setting("off", choice("off", "make", "accept"), "Logging",
        "An id for each request, in HTTP_X_REQUEST_ID: made, or the client's X-Request-ID if valid (accept).")
    request_id_header: str = setting("", text("give a field name", pattern="[A-Za-z][A-Za-z0-9-]*|"), "Logging",
        "The response field that sends the request's id back, such as X-Request-ID; ids are made then. Empty: none.")
    log_level: Literal["debug", "info", "warning", "error", "critical"] = setting(
        "info", choice("debug", "info", "warning", "error", "critical"), "Logging",
        "The least severe messages of the server that are written to standard error.")
    log_config: str = setting("", text("give a file", metavar="FILE"), "Logging",
        "A .json or .toml file for logging.config.dictConfig: what server and application log. Empty: none.")

    loop_backend: Literal["auto", "epoll", "poll"] = setting("auto", choice("auto", "epoll", "poll"), "Loop",
        "The system call that the event loop waits in. auto: the best that the system has.")
    block_warning: float = setting(1.0, time(zero="off"), "Loop",
        "How long code may keep the loop from running anything else before its stack is logged. 0: it is not watched.")
    # fmt: on

    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for entry in entries():
            given = getattr(self, entry.name)
            try:
                object.__setattr__(self, entry.name, entry.kind.read(given))
            except ConfigurationError as problem:
                raise ConfigurationError(f"{self._named(entry, given)} {problem}") from None
        if self.max_request_line > self.max_header_bytes:
            raise ConfigurationError(
                f"max_request_line={self.max_request_line} ({self.origin('max_request_line')}) is above"
                f" max_header_bytes={self.max_header_bytes} ({self.origin('max_header_bytes')}), which contains it;"
                " lower the first or raise the second"
            )

    @property
    def unix_file(self) -> UnixFile:
        """Who may connect to unix sockets."""
        return UnixFile(int(self.socket_mode, 8), self.socket_owner)

    def _named(self, entry: "Entry", given: object) -> str:
        if entry.kind.several:  # its problems name the item that is wrong
            return f"{entry.name} ({self.origin(entry.name)}):"
        if entry.kind.hidden:
            return f"{entry.name} ({self.origin(entry.name)})"
        return f"{entry.name}={_shown(given)} ({self.origin(entry.name)})"

    def origin(self, name: str) -> str:
        """Where a value came from, in words: "from --backlog", "from STREAMSERVE_BACKLOG", "default"."""
        if name in self.origins:
            return f"from {self.origins[name]}"
        is_default = getattr(self, name) == self.__dataclass_fields__[name].default
        return "default" if is_default else "set by the program"


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting as its users see it: the row of the table under each of its names."""

    name: str
    default: object
    kind: Kind
    group: str
    help: str

    @property
    def flag(self) -> str:
        return ("--" if self.kind.metavar else "--no-") + self.name.replace("_", "-")

    @property
    def given_as(self) -> str:
        """What gives it on the command line."""
        return "the command line" if self.name == "app" else self.flag

    @property
    def variable(self) -> str:
        return "STREAMSERVE_" + self.name.upper()


def _collect() -> tuple[Entry, ...]:
    fields = [item for item in dataclasses.fields(Settings) if "kind" in item.metadata]
    return tuple(Entry(item.name, item.default, **item.metadata) for item in fields)


def entries() -> tuple[Entry, ...]:
    """The table's rows in the order in which they are written."""
    return _ENTRIES


def _shown(value: object) -> str:
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= 100 else shown[:100] + "..."


_ENTRIES = _collect()
