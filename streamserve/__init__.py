"""A WSGI application server on greenlets, with its own event loop."""

from greenlet import GreenletExit

from streamserve.debug.watchdog import start_watchdog
from streamserve.loop import ending as ending  # for what it does when the interpreter ends
from streamserve.loop import running_loop as running_loop  # for what it does when asyncio is imported
from streamserve.loop.greenlet import Greenlet, getcurrent
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.joining import idle, iwait, joinall, kill, killall, sleep, spawn_raw, wait
from streamserve.loop.signals import signal_handler
from streamserve.loop.timeout import Timeout, with_timeout
from streamserve.pool.threadpool import ThreadPool

__version__ = "0.1.0"

spawn = Greenlet.spawn
spawn_later = Greenlet.spawn_later

__all__ = [
    "Greenlet",
    "GreenletExit",
    "Hub",
    "ThreadPool",
    "Timeout",
    "get_hub",
    "getcurrent",
    "idle",
    "iwait",
    "joinall",
    "kill",
    "killall",
    "signal_handler",
    "sleep",
    "spawn",
    "spawn_later",
    "spawn_raw",
    "start_watchdog",
    "wait",
    "with_timeout",
]
