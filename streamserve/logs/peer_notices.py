"""Log lines about bad clients: a flood of them is no flood of lines, and one noisy client hides no other.

The first refusal of an address is a line at once. What follows from the same address is counted, and the count is a
line once a PAUSE, also when the flood has ended. Addresses beyond MOST_PEERS, or beyond MOST_LINES in a second, are
counted together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

_log = logging.getLogger("streamserve.wsgi")

PAUSE = 10.0
"""Seconds between two lines about one address."""

MOST_PEERS = 256
"""Addresses that are told apart."""

MOST_LINES = 10
"""Lines of one second."""

SWEEP = 1.0
"""Seconds between looks at what was counted."""


class _Peer:
    """What one address did since its last line."""

    __slots__ = ("count", "level", "text", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.count = 0
        self.level = logging.INFO
        self.text = ""

    def add(self, level: int, text: str) -> None:
        self.count += 1
        self.level = level
        self.text = text


class PeerNotices:
    """Writes about refusals, so many lines as are useful.

    Args:
        schedule: has `sweep` called once, in SWEEP seconds.
        clock: seconds, monotonic.
    """

    def __init__(self, schedule: Callable[[], Any], clock: Callable[[], float] = monotonic) -> None:
        self._schedule = schedule
        self._clock = clock
        self._peers: dict[str, _Peer] = {}
        self._others = _Peer(0.0)
        self._scheduled = False
        self._second = -1.0  # when the present second of MOST_LINES began
        self._lines = 0

    def note(self, peer: str, level: int, text: str) -> None:
        """Tells of one refusal, or counts it.

        Args:
            peer: the client's address; "" for a unix socket's.
            level: one of logging's.
            text: what happened, without the address.
        """
        known = self._peers.get(peer)
        if known is not None:
            known.add(level, text)
        elif len(self._peers) < MOST_PEERS and self._may_write():
            self._peers[peer] = _Peer(self._clock() + PAUSE)
            _write(level, peer, text)
        else:
            self._others.add(level, text)
        if not self._scheduled:
            self._scheduled = True
            self._schedule()

    def sweep(self) -> None:
        """Tells what was counted where its time has come; forgets who has been quiet for a PAUSE."""
        self._scheduled = False
        now = self._clock()
        for peer, known in list(self._peers.items()):
            if known.until > now:
                continue
            if not known.count:
                del self._peers[peer]
            elif self._may_write():
                _write_count(peer, known)
                self._peers[peer] = _Peer(now + PAUSE)
        if self._others.count and self._may_write():
            _write_count("other addresses:", self._others)
            self._others = _Peer(0.0)
        if self._peers or self._others.count:
            self._scheduled = True
            self._schedule()

    def close(self) -> None:
        """Tells what was counted and not told, since nothing will come any more."""
        for peer, known in self._peers.items():
            if known.count and self._may_write():
                _write_count(peer, known)
            elif known.count:
                self._others.count += known.count - 1
                self._others.add(known.level, known.text)
        if self._others.count:
            _write_count("other addresses:", self._others)
        self._peers.clear()
        self._others = _Peer(0.0)

    def _may_write(self) -> bool:
        """Takes one of the lines of this second, if one is left."""
        now = self._clock()
        if self._second < 0 or now - self._second >= 1:
            self._second = now
            self._lines = 0
        self._lines += 1
        return self._lines <= MOST_LINES


def _write_count(peer: str, known: _Peer) -> None:
    noun = "request" if known.count == 1 else "requests"
    _write(known.level, peer, f"{known.count} more {noun} refused since the last such line; the last: {known.text}")


def _write(level: int, peer: str, text: str) -> None:
    _log.log(level, "%s%s", f"{peer} " if peer else "", text)
