"""Every test of the servers leaves the hub of the main thread as it found it."""

import io
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streamserve.core import ffi, lib
from streamserve.green import socket as green
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.server import BaseServer, StreamServer

LIVE = (lib.SS_COUNT_TIMERS, lib.SS_COUNT_FDS, lib.SS_COUNT_LISTENERS, lib.SS_COUNT_CONNECTIONS)
PATIENCE = 60.0  # seconds; only a failing test waits so long

Connect = Callable[..., Any]


def counts(hub: Hub) -> list[int]:
    """The counters of the hub's core."""
    words = ffi.new("int64_t[]", lib.SS_COUNT_KINDS)
    lib.ss_counts(hub.core, words)
    return list(words)


def live_objects(hub: Hub) -> list[int]:
    return [counts(hub)[kind] for kind in LIVE]


def accepted(hub: Hub) -> int:
    """How many connections the hub's core has ever accepted."""
    return counts(hub)[lib.SS_COUNT_ACCEPTED]


@pytest.fixture(autouse=True)
def clean_hub() -> Iterator[None]:
    """The core's structures hold, and nothing is left in it or on its way."""
    hub = get_hub()
    before = live_objects(hub)
    yield
    hub.join()
    assert lib.ss_verify(hub.core) == ffi.NULL
    assert live_objects(hub) == before
    assert not hub.timers
    assert not hub.interrupts
    assert not hub.ready
    assert not hub.ports


@pytest.fixture(autouse=True)
def impatient_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests leave clients that say nothing more: the end of the server does not wait for them."""
    monkeypatch.setattr(BaseServer, "stop_timeout", 0.0)


@pytest.fixture
def errors() -> Iterator[io.StringIO]:
    """What the hub reports, instead of on stderr."""
    hub = get_hub()
    before, hub.exception_stream = hub.exception_stream, io.StringIO()
    yield hub.exception_stream
    hub.exception_stream = before


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes cooperative clients of a server: connect(server); closed after the test.

    The kernel connects them without the server, which has not run when this returns.
    """
    clients = []

    def connected(server: StreamServer) -> Any:
        family, address = socket.AF_UNIX, server.address
        if isinstance(address, tuple):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            address = ("::1" if ":" in address[0] else "127.0.0.1", address[1])
        plain = socket.socket(family)
        plain.settimeout(PATIENCE)
        plain.connect(address)
        client = green.socket(fileno=plain.detach())
        clients.append(client)
        client.settimeout(PATIENCE)
        return client

    yield connected
    for client in clients:
        client.close()
