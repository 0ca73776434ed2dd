"""Pairs of unix sockets that nobody outside has seen: no descriptor can be passed by them unnoticed.

A read of a unix socket ends where descriptors were passed, so a short one tells nothing (see loop/watcher.py), and
asking the kernel each time costs a system call. Of a pair both ends are here: until somebody else gets hold of one of
them, by its descriptor or by a fork, or sends descriptors by it, the other end may take a short read for a drained one,
and who waits there is woken by the send itself. (The loop hears nothing of what was read before it polls.)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from streamserve.loop.native_threads import get_ident
from streamserve.loop.watcher import CREDIT, Side

_secret: WeakSet[Any] = WeakSet()


class PairedSocket:
    """The part of a cooperative socket that knows the other end of its pair."""

    if TYPE_CHECKING:
        __slots__ = ("_peer", "_reader")  # of the class that it is mixed into
    else:
        __slots__ = ()

    _peer: Side | None
    """The reading side of the other end; None: there is none in this process, or it is no longer sure of it."""

    _reader: Side

    @staticmethod
    def _announce(peer: Side) -> None:
        """Something was sent: if a greenlet of this thread waits for it, it is woken without a poll (4 us)."""
        if not peer.done and peer.greenlet is not None and peer.hub.thread_ident == get_ident():
            peer.edges += 1
            peer.credit = CREDIT
            peer.wake()

    def _reveal(self) -> None:
        """From now on descriptors may be passed by this end."""
        peer, self._peer = self._peer, None
        if peer is not None and peer.trusted:
            peer.trusted = None


def keep_secret(near: Any, far: Any) -> None:
    """Both are ends of one new pair, whose descriptors nobody else has."""
    near._peer, far._peer = far._reader, near._reader
    near._reader.trusted = far._reader.trusted = True
    _secret.add(near)
    _secret.add(far)


def _reveal_all() -> None:
    """Before a fork: the child has all of them."""
    for sock in list(_secret):
        sock._reveal()
    _secret.clear()


os.register_at_fork(before=_reveal_all)
