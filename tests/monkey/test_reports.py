"""What patching cannot mend is named, once, by a MonkeyPatchWarning."""

from tests.support.program import printed

CATCH = """
import warnings
from streamserve.monkey import MonkeyPatchWarning, patch_all
def warnings_of_patching(**arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patch_all(**arguments)
    assert all(issubclass(warning.category, MonkeyPatchWarning) for warning in caught), caught
    return [str(warning.message) for warning in caught]
"""


def reported(source: str, arguments: str = "") -> list[str]:
    """The warnings of patching after some code has run; patching again must not repeat any."""
    call = f"warnings_of_patching({arguments})"
    lines = printed(f"{source}{CATCH}lines = {call}\nprint('\\n'.join(lines))\nassert {call} == []")
    return [line for line in lines if line]


def test_nothing_is_reported_when_there_is_nothing() -> None:
    assert reported("import threading, logging, ssl, queue, socket, requests, concurrent.futures, asyncio") == []


def test_held_lock() -> None:
    (line,) = reported("import threading; held = threading.Lock(); held.acquire()")
    assert line.startswith("__main__.held is held")


def test_lock_of_an_object_that_is_held() -> None:
    (line,) = reported(
        """
import threading
class Store:
    def __init__(self):
        self.guard = threading.RLock()
store = Store()
store.guard.acquire()
"""
    )
    assert line.startswith("Store.guard is held")


def test_running_native_threads() -> None:
    (line,) = reported(
        """
import threading
release = threading.Event()
thread = threading.Thread(target=release.wait, name="early bird", daemon=True)
thread.start()
"""
    )
    assert "other native threads" in line and "early bird" in line


def test_sockets_made_before() -> None:
    (line,) = reported(
        """
import atexit, socket
early, nonblocking = socket.socket(), socket.socket()
nonblocking.setblocking(False)
atexit.register(lambda: (early.close(), nonblocking.close()))
"""
    )
    assert "still block" in line and line.count("<socket.socket") == 1


def test_classes_derived_before() -> None:
    lines = reported(
        """
import socket, threading
class MySocket(socket.socket): pass
class Deeper(MySocket): pass
class MyLocal(threading.local): pass
"""
    )
    assert len(lines) == 2
    assert "threading.local" in lines[0] and "__main__.MyLocal" in lines[0]
    assert "socket.socket" in lines[1] and "__main__.Deeper, __main__.MySocket" in lines[1]


def test_patching_in_another_native_thread() -> None:
    lines = printed(
        CATCH
        + """
import threading
lines = []
thread = threading.Thread(target=lambda: lines.extend(warnings_of_patching()))
thread.start()
thread.join()
print(lines[0])
"""
    )
    assert lines == ["patched in a thread that is not the main one: patch in the main thread, before others start"]
