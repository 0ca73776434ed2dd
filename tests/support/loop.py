"""An `ss_loop` of the core for tests, which examines itself at the end."""

from collections.abc import Iterator

from streamserve.core import ffi, lib

BACKENDS = (lib.SS_BACKEND_EPOLL, lib.SS_BACKEND_POLL)
SECOND = 1_000_000_000


class Loop:
    """A loop of the core; `poll` returns events as tuples."""

    def __init__(self, backend: int) -> None:
        self.core = lib.ss_loop_new(backend)
        assert self.core != ffi.NULL
        self.name = "poll" if backend == lib.SS_BACKEND_POLL else "epoll"

    def poll(self, timeout_ns: int) -> list[tuple[int, int, int]]:
        """Polls once and returns [(kind, handle, value)]; there must be no requests."""
        found = lib.ss_loop_poll(self.core, timeout_ns)
        assert found >= 0, found
        assert found & 0xFFFF == 0
        assert lib.ss_verify(self.core) == ffi.NULL
        words = ffi.unpack(lib.ss_loop_events(self.core), (found >> 16) * lib.SS_EVENT_WORDS)
        return list(zip(words[::3], words[1::3], words[2::3], strict=True))

    def counts(self) -> list[int]:
        """Returns the words of ss_counts."""
        counts = ffi.new("int64_t[]", lib.SS_COUNT_KINDS)
        lib.ss_counts(self.core, counts)
        return list(counts)


def made(backend: int) -> Iterator[Loop]:
    """Gives a loop, and afterwards proves that it is sound and empty."""
    loop = Loop(backend)
    yield loop
    assert lib.ss_verify(loop.core) == ffi.NULL
    counts = loop.counts()
    assert counts[lib.SS_COUNT_TIMERS] == counts[lib.SS_COUNT_FDS] == 0
    lib.ss_loop_free(loop.core)
