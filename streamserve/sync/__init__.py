"""What greenlets and threads wait for and share: events, results, locks, queues, pools, locals."""

from streamserve.sync.event import AsyncResult, Event
from streamserve.sync.lock import BoundedSemaphore, DummySemaphore, Lock, RLock, Semaphore
from streamserve.sync.queue import (
    Channel,
    Empty,
    Full,
    JoinableQueue,
    LifoQueue,
    PriorityQueue,
    Queue,
    ShutDown,
    SimpleQueue,
)

__all__ = [
    "AsyncResult",
    "BoundedSemaphore",
    "Channel",
    "DummySemaphore",
    "Empty",
    "Event",
    "Full",
    "JoinableQueue",
    "LifoQueue",
    "Lock",
    "PriorityQueue",
    "Queue",
    "RLock",
    "Semaphore",
    "ShutDown",
    "SimpleQueue",
]
