"""Every test of the loop leaves the hub of the main thread as it found it."""

import io
import signal
from collections.abc import Iterator

import pytest

from streamserve.core import ffi, lib
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.signals import signal_handler

LIVE = (lib.SS_COUNT_TIMERS, lib.SS_COUNT_FDS, lib.SS_COUNT_LISTENERS, lib.SS_COUNT_CONNECTIONS)


def live_objects(hub: Hub) -> list[int]:
    """Returns how many timers, descriptors, listeners and connections the hub's core holds."""
    counts = ffi.new("int64_t[]", lib.SS_COUNT_KINDS)
    lib.ss_counts(hub.core, counts)
    return [counts[kind] for kind in LIVE]


@pytest.fixture(scope="session", autouse=True)
def wake_up_of_signals() -> None:
    """The first signal handler makes the descriptor that wakes the loop; it stays as long as the hub."""
    signal_handler(signal.SIGUSR1, int).cancel()


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


@pytest.fixture
def errors() -> Iterator[io.StringIO]:
    """What the hub reports, instead of on stderr."""
    hub = get_hub()
    before, hub.exception_stream = hub.exception_stream, io.StringIO()
    yield hub.exception_stream
    hub.exception_stream = before
