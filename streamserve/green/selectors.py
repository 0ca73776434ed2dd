"""Cooperative `selectors`: the standard classes, over the cooperative `select`."""

from __future__ import annotations

import selectors as _selectors
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey

from streamserve.green.select import epoll, poll, select

__target__ = "selectors"
__implements__ = ["DefaultSelector", "EpollSelector", "PollSelector", "SelectSelector"]
__all__ = ["EVENT_READ", "EVENT_WRITE", "BaseSelector", "SelectorKey"]
__all__ += ["DefaultSelector", "EpollSelector", "PollSelector", "SelectSelector"]


class SelectSelector(_selectors.SelectSelector):
    """Like `selectors.SelectSelector`."""

    _select = staticmethod(select)


class PollSelector(_selectors.PollSelector):
    """Like `selectors.PollSelector`."""

    _selector_cls = staticmethod(poll)


class EpollSelector(_selectors.EpollSelector):
    """Like `selectors.EpollSelector`."""

    _selector_cls = epoll


DefaultSelector = EpollSelector
