"""`multiprocessing` waits in the loop: its pools, queues, pipes and managers, and whoever joins a process."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from streamserve.loop.imports import after_import

__all__ = ["patch_multiprocessing"]


def patch_multiprocessing() -> None:
    """Lets `multiprocessing` wait in the loop, now or when its modules are imported; threads must be patched.

    A semaphore or lock that was made before goes on waiting in C.
    """
    after_import("multiprocessing.connection", _patch_connections)
    after_import("multiprocessing.synchronize", _patch_semaphores)
    after_import("multiprocessing.popen_fork", _patch_joining)


def _green() -> Any:
    return importlib.import_module("streamserve.green.multiprocessing")


def _patch_connections(module: ModuleType) -> None:
    green = _green()
    cls: Any = module.Connection
    if cls._send is not green.send:
        cls._send, cls._recv = green.send, green.recv


def _patch_semaphores(module: ModuleType) -> None:
    green = _green()
    cls: Any = module.SemLock

    def make_methods(lock: Any) -> None:
        turn = green.Turn(lock._semlock)
        lock.acquire, lock.release = turn.acquire, turn.release

    def enter(lock: Any) -> bool:
        return bool(lock.acquire())

    def leave(lock: Any, *error: Any) -> None:
        lock.release()

    cls._make_methods, cls.__enter__, cls.__exit__ = make_methods, enter, leave


def _patch_joining(module: ModuleType) -> None:
    green = _green()
    cls: Any = module.Popen
    poll = cls.poll
    if getattr(poll, "waits_in_the_loop", False):
        return

    def patient_poll(child: Any, flag: int = 1) -> Any:
        if flag == 0 and child.returncode is None:
            green.wait_for_end(child.pid)
        return poll(child, flag)

    patient_poll.waits_in_the_loop = True  # type: ignore[attr-defined]
    cls.poll = patient_poll
