"""What was made before patching: locks, thread-local data and queues are replaced, the rest is reported."""

from __future__ import annotations

import _queue
import gc
import socket
from types import CoroutineType, GeneratorType
from typing import Any

from streamserve.green import thread as green_thread
from streamserve.green.queue import SimpleQueue
from streamserve.green.shared_queue import SharedQueue
from streamserve.loop.native_threads import others_run
from streamserve.monkey.native_objects import Holders
from streamserve.monkey.originals import get_original
from streamserve.monkey.references import is_ours
from streamserve.monkey.report import report

__all__ = ["descendants", "replace_native_objects", "report_sockets", "report_subclasses"]

_NativeLock, _NativeRLock, _NativeLocal = get_original("_thread", ["LockType", "RLock", "_local"])
_NativeQueue = _queue.SimpleQueue

SILENT = frozenset(["_tstate_lock", "_main_thread_lock"])
"""Attributes whose lock is held as long as a thread runs, which is nothing to report."""


def replace_native_objects() -> None:
    """Replaces the native locks that are free, the thread-local data, and queues."""
    holders = Holders(frozenset([_NativeLock, _NativeRLock, _NativeLocal, _NativeQueue]))
    successors: dict[int, tuple[Any, Any]] = {}
    for holder, native in list(holders.objects()):
        if id(native) not in successors:
            made = _successor(native)
            if made is None:
                _report_held(holder, native)
            successors[id(native)] = (native, native if made is None else made)
    holders.swap(lambda value: _found(successors, value))
    for holder in holders.found:
        if isinstance(holder, (GeneratorType, CoroutineType)):
            _report_suspended(holder, successors)


def _report_suspended(holder: Any, successors: dict[int, tuple[Any, Any]]) -> None:
    """Names the local variables of a generator or coroutine that waits, which have a native object: they stay."""
    frame = holder.gi_frame if isinstance(holder, GeneratorType) else holder.cr_frame
    for name, value in list(frame.f_locals.items()) if frame is not None else ():
        if _found(successors, value) is not value:
            report(
                f"{name} in the suspended {holder.__qualname__} stays a native {type(value).__name__}: patch earlier"
            )


def _found(successors: dict[int, tuple[Any, Any]], value: Any) -> Any:
    entry = successors.get(id(value))
    return entry[1] if entry is not None and entry[0] is value else value


def _successor(native: Any) -> Any:
    """Returns ours in the same state, or None if the native one is held: whoever holds it will release that."""
    kind = type(native)
    if kind is _NativeLock:
        return None if native.locked() else green_thread.LockType()
    if kind is _NativeRLock:
        if native._is_owned() or not native.acquire(blocking=False):
            return None
        native.release()
        return green_thread.RLock()
    if kind is _NativeLocal:
        local: Any = green_thread._local()
        local.__dict__.update(native.__dict__)  # the main thread's
        return local
    if others_run():  # one may wait in it
        return SharedQueue(native)
    queue = SimpleQueue()
    while not native.empty():
        queue.put(native.get_nowait())
    return queue


def _report_held(holder: Any, native: Any) -> None:
    """Names a held lock that has a name: in a module, or an attribute of an object."""
    names = holder if isinstance(holder, dict) else getattr(holder, "__dict__", None)
    if not isinstance(names, dict):
        return
    for name, value in list(names.items()):  # a warning changes its module's
        if value is native and isinstance(name, str) and name not in SILENT:
            where = names.get("__name__") if isinstance(holder, dict) else type(holder).__qualname__
            if where is not None:
                report(f"{where}.{name} is held while it is patched and stays a native lock: patch earlier")


def report_sockets() -> None:
    """Names the sockets that were made before patching; they cannot change their class."""
    native = get_original("socket", "socket")
    kept = [item for item in gc.get_objects() if native in type(item).__mro__ and not isinstance(item, socket.socket)]
    open_ones = [item for item in kept if item.fileno() >= 0 and item.gettimeout() != 0]
    if open_ones:
        listed = ", ".join(sorted(repr(item) for item in open_ones))
        report(f"sockets made before patching still block the whole thread: {listed}")


def report_subclasses(native: type, name: str, known: tuple[str, ...] = ()) -> None:
    """Names the classes that were derived from a native class before it was replaced."""
    found = [
        f"{cls.__module__}.{cls.__qualname__}"
        for cls in descendants(native)
        if not is_ours(cls.__module__) and cls.__module__.partition(".")[0] not in known
    ]
    if found:
        report(f"subclasses of {name} made before patching still block the whole thread: {', '.join(sorted(found))}")


def descendants(cls: type) -> list[type]:
    """The classes of others that derive from it, directly or not."""
    found: list[type] = []
    derived: type
    for derived in type.__subclasses__(cls):
        if not is_ours(derived.__module__):
            found += [derived, *descendants(derived)]
    return found
