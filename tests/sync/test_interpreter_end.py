"""The last finalizers of an interpreter that ends: greenlet is gone by then, locks and queues still answer."""

import subprocess
import sys

import pytest

PATIENCE = 60  # seconds; only a failing test waits so long
PROGRAM = """
import os
from streamserve import monkey
if {patched}:
    monkey.patch_all()
import logging
from streamserve.green import thread
from streamserve.sync.event import Event
from streamserve.sync.lock import BoundedSemaphore, Lock, RLock, Semaphore
from streamserve.sync.queue import Queue

class Late:
    def __init__(self, event=Event(), queue=Queue()):
        self.locks = Lock(), Semaphore(), BoundedSemaphore(), RLock(), thread.RLock(), thread.allocate_lock()
        self.other = Semaphore()
        self.event, self.queue, self.get_ident = event, queue, thread.get_ident

    def __del__(self, write=os.write):
        try:
            for lock in self.locks:
                with lock, lock if "RLock" in type(lock).__name__ else self.other:
                    write(1, b"held ")
            self.event.set()
            self.queue.put(1)
            write(1, b"%d\\n" % (self.queue.get() + bool(self.get_ident())))
        except BaseException as error:
            write(1, repr(error).encode())

logging.late = Late()
"""


@pytest.mark.parametrize("patched", [False, True])
def test_locks_queues_and_events_serve_the_last_finalizers(patched: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(patched=patched)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("held " * 6 + "2\n", "", 0)
