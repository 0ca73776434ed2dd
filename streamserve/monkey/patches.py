"""patch_all and its parts: which modules get which names from `streamserve.green`.

A patch is collected first and carried out at once, so that the walks over all modules and over all objects, which find
what was taken before, happen once. Everything may be called again: what is patched already stays, the rest is added.
"""

from __future__ import annotations

import _thread
import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from streamserve.loop.hubs import get_hub
from streamserve.loop.other_patchers import refuse_patched
from streamserve.monkey.originals import is_module_patched, remember
from streamserve.monkey.other_patchers import leave_out_others
from streamserve.monkey.references import Replacements, replace_references

__all__ = [
    "patch_all",
    "patch_dns",
    "patch_module",
    "patch_queue",
    "patch_select",
    "patch_selectors",
    "patch_socket",
    "patch_ssl",
    "patch_thread",
    "patch_time",
]


class Patch:
    """Replacements that belong together."""

    def __init__(self) -> None:
        get_hub()  # of the real thread, while its ident is the only one there is
        self._replaced: Replacements = {}
        self._threads = False
        self._sockets = False

    def module(self, name: str, items: Iterable[str] | None = None) -> None:
        """Replaces names of the module that `streamserve.green.<name>` is for."""
        source = importlib.import_module(f"streamserve.green.{name}")
        self.replace(importlib.import_module(source.__target__), source, items)

    def replace(self, target: ModuleType, source: ModuleType, items: Iterable[str] | None = None) -> None:
        """Replaces names of one module by those of another; by default those it lists in `__implements__`."""
        for name in source.__implements__ if items is None else items:
            replacement = getattr(source, name)
            if name in target.__dict__:
                original = target.__dict__[name]
                if original is replacement:
                    continue
                remember(target, name, original)
                if callable(original):
                    self._replaced[id(original)] = (original, replacement)
            setattr(target, name, replacement)

    def threads(self) -> None:
        """Threads and their locks."""
        if is_module_patched("_thread"):
            return
        from streamserve.monkey.threads import report_running_threads

        report_running_threads(_thread.get_ident())
        importlib.import_module("streamserve.green.threading")  # it looks at what is not patched yet
        self.module("thread")
        self.module("threading")
        self._threads = True

    def sockets(self, dns: bool) -> None:
        """Sockets, with or without the resolution of names."""
        self._sockets = not is_module_patched("socket")
        self.module("socket")
        if dns:
            self.module("dns")

    def carry_out(self) -> None:
        """Finds and replaces what others have taken, and reports what cannot be replaced."""
        from streamserve.monkey.existing import replace_native_objects, report_sockets, report_subclasses
        from streamserve.monkey.originals import get_original
        from streamserve.monkey.threads import adopt_main_thread, adopt_threads, patch_condition

        replace_references(self._replaced)
        if self._threads:
            patch_condition()
            adopt_main_thread(get_original("_thread", "get_ident")())
            adopt_threads()
            replace_native_objects()
            report_subclasses(get_original("_thread", "_local"), "threading.local", known=("asyncio",))
        if self._sockets:
            report_sockets()
            report_subclasses(get_original("socket", "socket"), "socket.socket", known=("ssl",))


def patch_all(
    socket: bool = True,
    dns: bool = True,
    time: bool = True,
    select: bool = True,
    thread: bool = True,
    os: bool = True,
    ssl: bool = True,
    subprocess: bool = True,
    sys: bool = False,
    aggressive: bool = True,
    Event: bool = True,
    builtins: bool = True,
    signal: bool = True,
    queue: bool = True,
    contextvars: bool = True,
    selectors: bool | None = None,
    socketio: bool = False,
    sqlite3: bool = True,
    **others: bool,
) -> bool:
    """Makes the standard library cooperative, as far as the arguments say; returns True.

    Also lets psycopg 3, psycopg2 and multiprocessing wait in the loop, when they are imported. Call it early and in the
    main thread; what had been taken from the patched modules before is found and replaced, and what cannot be is
    reported by a warning.

    Args:
        socket, dns, time, select, thread, ssl, queue: which modules. `thread` is `_thread` and `threading`.
        selectors: those of the module `selectors`; None: as `select`.
        sqlite3: what finds a SQLite database locked waits in the loop.
        socketio: `socketio.Server` and `engineio.Server` are streamserve's, whatever `async_mode` they are made with.
        os, subprocess, signal, sys, builtins, contextvars, aggressive, Event: gevent's; accepted, without effect.

    Raises:
        TypeError: an argument is unknown.
        ConfigurationError: gevent or eventlet has patched already.
    """
    if others:
        raise TypeError(f"patch_all() got an unexpected keyword argument {next(iter(others))!r}")
    refuse_patched()
    leave_out_others()
    patch = Patch()
    if thread:
        patch.threads()
    if time:
        patch.module("time")
    if socket:
        patch.sockets(dns)
    elif dns:
        patch.module("dns")
    if select:
        patch.module("select")
    if select if selectors is None else selectors:
        patch.module("selectors")
    if ssl and socket:
        _patch_ssl(patch)
    if queue and thread:
        patch.module("queue")
    patch.carry_out()
    _patch_what_waits_in_c(socket, select, thread, sqlite3)
    if socketio:
        # It stands above this room, beside the servers that it puts in.
        importlib.import_module("streamserve.socketio_patch").patch_socketio()
    return True


def _patch_what_waits_in_c(socket: bool, select: bool, thread: bool, sqlite3: bool) -> None:
    """Libraries that have a way of their own to wait, when they are imported."""
    if socket:
        from streamserve.monkey.psycopg2 import patch_psycopg2

        patch_psycopg2()
    if select:
        from streamserve.monkey.psycopg import patch_psycopg

        patch_psycopg()
    if thread:
        from streamserve.monkey.multiprocessing import patch_multiprocessing

        patch_multiprocessing()
    if sqlite3:
        from streamserve.monkey.sqlite3 import patch_sqlite3

        patch_sqlite3()


def patch_socket(dns: bool = True, aggressive: bool = True) -> None:
    """Sockets wait in the loop; with `dns` also the resolution of names. `aggressive` is gevent's, without effect."""
    patch = Patch()
    patch.sockets(dns)
    patch.carry_out()


def patch_dns() -> None:
    """Resolving a name waits in the loop."""
    _patch("dns")


def patch_time() -> None:
    """`time.sleep` lets others run."""
    _patch("time")


def patch_select(aggressive: bool = True) -> None:
    """`select.select`, `poll` and `epoll` wait in the loop, and the selectors with them."""
    _patch("select", "selectors")


def patch_selectors(aggressive: bool = True) -> None:
    """The selectors of the module `selectors` wait in the loop."""
    _patch("selectors")


def patch_queue() -> None:
    """`queue.SimpleQueue` waits in the loop; the other queues do as soon as threads are patched."""
    _patch("queue")


def patch_thread(
    threading: bool = True,
    _threading_local: bool = True,
    Event: bool = True,
    logging: bool = True,
    existing_locks: bool = True,
) -> None:
    """Threads are greenlets, and locks let others run. The arguments are gevent's: all of it is always done."""
    patch = Patch()
    patch.threads()
    patch.carry_out()


def patch_ssl() -> None:
    """TLS sockets wait in the loop, also those of contexts that exist already. Patch `socket` too."""
    patch = Patch()
    _patch_ssl(patch)
    patch.carry_out()


def _patch_ssl(patch: Patch) -> None:
    try:
        ssl = importlib.import_module("ssl")
    except ImportError:  # an interpreter without OpenSSL
        return
    patch.module("ssl")
    from streamserve.green.ssl import SSLSocket

    # The context and the class stay: code in ssl.py calls super() with them by name.
    remember(ssl, "sslsocket_class", ssl.SSLContext.sslsocket_class)
    ssl.SSLContext.sslsocket_class = SSLSocket


def patch_module(target: Any, source: Any, items: Iterable[str] | None = None) -> bool:
    """Replaces names of a module by those of another, wherever they were taken from it; returns True.

    Args:
        target: a module, or its name.
        source: a module.
        items: the names; by default those that `source.__implements__` lists.
    """
    patch = Patch()
    patch.replace(importlib.import_module(target) if isinstance(target, str) else target, source, items)
    patch.carry_out()
    return True


def _patch(*names: str) -> None:
    patch = Patch()
    for name in names:
        patch.module(name)
    patch.carry_out()
