"""Links: who is told when a greenlet has ended.

They are told once, in the order in which they were added. A link is a function
that is called in the hub, one that gets a greenlet of its own, or something of
this package that is told on the spot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamserve.loop.callback import Callback
from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import get_ident
from streamserve.loop.waiter import Waiter

DIRECT_LINKS: set[type] = {Waiter}
"""Kinds of links whose `wake(source)` neither waits nor raises: they are told at once, in the thread of their `hub`."""


def _wake(link: Any, source: Linked) -> None:
    hub = link.hub
    if hub.thread_ident == get_ident():
        link.wake(source)
    else:
        hub.run_callback_threadsafe(link.wake, source)


class Linked:
    """What has an end that others may be told of: the part of a Greenlet that knows whom."""

    __slots__ = ("_links",)

    _links: list[Any] | None

    def ready(self) -> bool:
        """True once the end has come."""
        raise NotImplementedError

    def tell_links(self) -> None:
        """Tells everybody; called once, at the end."""
        links, self._links = self._links, None
        if not links:
            return
        links.reverse()
        while links:  # one that another thread adds just now is told here, or by `rawlink` there
            self._tell(links.pop())

    def _tell(self, link: Any) -> None:
        kind: type = link.__class__
        if kind in DIRECT_LINKS:
            _wake(link, self)
            return
        if self._links is None:
            self._links = []
        self._links.append(link)
        get_hub().ready.append(Callback(self._call_link, (link,)))

    def _call_link(self, link: Any) -> None:
        """Calls a link, in the hub, unless it was taken back since this greenlet ended."""
        links = self._links or []
        places = [place for place, candidate in enumerate(links) if candidate is link]
        if not places:
            return
        del links[places[0]]
        try:
            link(self)
        except BaseException as error:
            get_hub().report(error, (link, self))

    def rawlink(self, callback: Any) -> None:
        """Has `callback(self)` called in the hub once it has ended; must not wait or raise."""
        if not callable(callback) and callback.__class__ is not Waiter:
            raise TypeError(f"Expected callable: {callback!r}")
        if self.ready():
            self._tell(callback)
            return
        links = self._links
        if links is None:
            links = self._links = []
        links.append(callback)
        if self.ready() and callback in links:  # it ended meanwhile, in another thread
            links.remove(callback)
            self._tell(callback)

    def link_first(self, link: Any) -> bool:
        """Adds one of DIRECT_LINKS if it would be the only link so far: the short way of `rawlink`."""
        if self._links is not None or self.ready():
            return False
        links = self._links = [link]
        if self.ready() and links:
            self._tell(links.pop())
        return True

    def link(self, callback: Callable[[Any], Any]) -> None:
        """Has `callback(self)` called in a new greenlet once it has ended."""
        self.rawlink(_SpawnedLink(callback, "always"))

    def link_value(self, callback: Callable[[Any], Any]) -> None:
        """Like `link`, only if it ends successfully."""
        self.rawlink(_SpawnedLink(callback, "value"))

    def link_exception(self, callback: Callable[[Any], Any]) -> None:
        """Like `link`, only if it ends with an exception."""
        self.rawlink(_SpawnedLink(callback, "exception"))

    def unlink(self, callback: Any) -> None:
        """Takes a link back, whichever way it was added."""
        links = self._links
        if links is not None:
            for link in links:
                if link == callback:
                    links.remove(link)
                    return

    def unlink_all(self) -> None:
        self._links = None

    def has_links(self) -> bool:
        return bool(self._links)

    def wait_for_end(self, timeout: Any) -> None:
        """Waits for the end, at most `timeout` seconds (None: no limit), or until a Timeout given instead is raised."""
        if isinstance(timeout, BaseException):  # a Timeout stands for its seconds
            with timeout.start_new(timeout):  # type: ignore[attr-defined]
                self.wait_for_end(None)
            return
        hub = get_hub()
        waiter = Waiter(hub)
        self.rawlink(waiter)
        if timeout is None:
            try:
                waiter.park()
            except BaseException:
                self.unlink(waiter)
                raise
            return
        slot = hub.start_timer(timeout, waiter)
        try:
            waiter.park()
        finally:
            hub.stop_timer(slot, waiter)
            self.unlink(waiter)


class _SpawnedLink:
    """A link whose function runs in a greenlet of its own, at once; equal to that function."""

    __slots__ = ("callback", "when")

    def __init__(self, callback: Callable[..., Any], when: str) -> None:
        if not callable(callback):
            raise TypeError(f"Expected callable: {callback!r}")
        self.callback = callback
        self.when = when

    def __call__(self, source: Any) -> None:
        if self.when == "always" or (self.when == "value") == source.successful():
            source.run_link(self.callback)

    def __eq__(self, other: object) -> bool:
        return other is self or self.callback == getattr(other, "callback", other)

    __hash__ = None  # type: ignore[assignment]
