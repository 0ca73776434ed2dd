"""Thread identities: what a request is to code that asks which thread it runs in.

Servers that hand requests to a pool of threads give each thread a life longer than a request: its ident, its
`threading.local`, its context variables. Programs keep connections there. So does this: a request, or a handler of a
WebSocket, takes the identity that was used last, or is a new one, and gives it back. There are never more of them than
ran at once. Requests of one poll that run one after another, none of them waiting, hand it on.

It costs nothing where nobody asks. A request that begins while none is idle decides only that its identity is a new
one: that is made when it is asked for, or when the request leaves context variables behind.

The Greenlet handle (`getcurrent`) is each request's own all the same: who links to it or kills it means that request.
"""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextvars import Context

    from streamserve.loop.hub import Hub
    from streamserve.loop.waiter import Runner

IDENTS = itertools.count(1)
"""The idents of all greenlets; see green/identity.py."""

_numbers = itertools.count(1)


class States(dict[int, dict[str, Any]]):
    """The attributes of one greenlet or identity: number of a local (sync/local.py) → its dict."""

    __slots__ = ("__weakref__",)
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__  # itself only: weak references to it stand in a set


class Identity:
    """What one thread of a pool would be and keep.

    Attributes:
        ident: its number, as of a thread.
        name: for people: "request-12".
        states: what locals have here.
        context: its context variables, while it is idle; None: there are none.
        used: since the last look of `Identities`.
    """

    __slots__ = ("context", "ident", "name", "states", "used")

    def __init__(self) -> None:
        self.ident = next(IDENTS)
        self.name = f"request-{next(_numbers)}"
        self.states = States()
        self.context: Context | None = None
        self.used = True


class Identities:
    """The idle identities of a hub, the one that was used last at the end.

    Attributes:
        idle: those under which nothing runs.
        keeps_context: context variables belong to the identity; False: each request has fresh ones.
        seconds: how long an identity is kept at least that nobody uses; 0: as long as there is a server.
    """

    __slots__ = ("_hub", "_servers", "_timer", "idle", "keeps_context", "seconds")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._servers: set[Any] = set()
        self._timer = -1
        self.idle: list[Identity] = []
        self.keeps_context = True
        self.seconds = 0.0

    def open(self, server: Any, seconds: float, keeps_context: bool) -> None:
        """A server of this hub starts; of several, the last says how long and what is kept."""
        self._servers.add(server)
        self.seconds, self.keeps_context = seconds, keeps_context

    def close(self, server: Any) -> None:
        """A server has ended; with the last one, what is kept is dropped."""
        self._servers.discard(server)
        if not self._servers:
            self._hub.stop_timer(self._timer, self)
            self._timer = -1
            idle, self.idle[:] = self.idle[:], ()
            _drop(idle)

    def keep(self, identity: Identity) -> None:
        """Keeps an identity for the next request."""
        identity.used = True
        if self._servers:
            self.idle.append(identity)
            if self._timer < 0 and self.seconds:
                self._timer = self._hub.start_timer(self.seconds, self, counts=False)

    def fire(self) -> None:
        """Time to look which of them nobody uses; called by the hub."""
        self._timer = -1
        self._hub.ready.append((self._sweep,))  # finalizers may wait, the hub may not

    def _sweep(self, item: Any, runner: Runner) -> None:
        unused = self._take_unused()
        if self.idle:
            self._timer = self._hub.start_timer(self.seconds, self, counts=False)
        if unused:
            _drop(unused)

    def _take_unused(self) -> list[Identity]:
        unused = [identity for identity in self.idle if not identity.used]
        self.idle[:] = [identity for identity in self.idle if identity.used]
        for identity in self.idle:
            identity.used = False
        return unused

    def leave(self) -> list[Identity]:
        """In a child of fork: nothing of the parent's is used or closed; returns what must be kept alive for that."""
        kept = self.idle[:]
        self.idle.clear()
        self._servers.clear()
        self._timer = -1
        return kept


def _drop(identities: list[Identity]) -> None:
    """Ends them. What is in a cycle, as Django's connections are, would stay open on a server with nothing to do."""
    kept = _references(identities)
    identities.clear()
    if gc.isenabled() and any(reference() is not None for reference in kept):
        gc.collect()


def _references(identities: list[Identity]) -> list[weakref.ref[Any]]:
    references = []
    for identity in identities:
        context = identity.context
        for value in [
            *(value for state in identity.states.values() for value in state.values()),
            *(context.values() if context is not None else ()),
        ]:
            try:
                references.append(weakref.ref(value))
            except TypeError:  # a number, a tuple, a dict
                continue
    return references


def assume(runner: Runner) -> None:
    """What the runner begins has the identity that was used last; call it if one is idle."""
    runner.identity = identity = runner.hub.identities.idle.pop()
    if identity.context is not None:
        runner.gr_context = identity.context


def part(runner: Runner) -> None:
    """A request has ended, and the runner goes on to the next one under the same identity.

    Call it if somebody asked for the current greenlet (`task`), or if context variables are not kept.
    """
    task = runner.task
    if task is not None:
        task.detach(runner)
        runner.hub.interrupts.pop(runner, None)  # what was not raised before the end is for nobody
    if not runner.hub.identities.keeps_context:
        runner.gr_context = None


def give_back(runner: Runner) -> None:
    """The runner has no request any more; call it if there is an identity or a context."""
    identity, context = runner.identity, runner.gr_context
    runner.identity = None
    if context is not None:
        runner.gr_context = None
        if identity is None:
            identity = Identity()
    if identity is not None:
        identity.context = context
        runner.hub.identities.keep(identity)
