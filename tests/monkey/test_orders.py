"""Patching works whatever was imported before it, and the program ends cleanly."""

import pytest

from tests.support.program import printed

PATCHED_FIRST = "from streamserve.monkey import patch_all; patch_all()"
IMPORTS = "import concurrent.futures, logging, logging.handlers, queue, requests, socket, ssl, threading, urllib3"
ORDERS = {"patched first": f"{PATCHED_FIRST}\n{IMPORTS}", "imported first": f"{IMPORTS}\n{PATCHED_FIRST}"}


@pytest.fixture(params=ORDERS)
def start(request: pytest.FixtureRequest) -> str:
    """The first lines of a program, in one of the two orders."""
    return ORDERS[request.param] + "\n"


@pytest.mark.parametrize(
    "order",
    [
        "from streamserve.monkey import patch_thread; patch_thread(); import threading",
        "import threading; from streamserve.monkey import patch_thread; patch_thread()",
    ],
)
def test_patch_thread_before_and_after_the_import_of_threading(order: str) -> None:
    assert printed(
        f"""{order}
print(threading.current_thread() is threading.main_thread(), threading.main_thread().name)
ended = threading.Event()
thread = threading.Thread(target=ended.set)
thread.start()
thread.join()
print(ended.is_set(), thread.is_alive(), threading.enumerate() == [threading.main_thread()])
threading.Thread(target=print, args=("not a daemon",)).start()
"""
    ) == ["True MainThread", "True False True", "not a daemon"]


def test_threads_are_greenlets_that_wait_side_by_side(start: str) -> None:
    assert printed(
        start
        + """
from streamserve.monkey import get_original
get_native_id = get_original("_thread", "get_native_id")
barrier = threading.Barrier(20)  # passed only when all of them wait at once
native = set()
def work():
    barrier.wait(60)
    native.add(get_native_id())
threads = [threading.Thread(target=work) for _ in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(native), barrier.broken, len({thread.ident for thread in threads}))
"""
    ) == ["1 False 20"]


def test_executors_run_on_greenlets(start: str) -> None:
    assert printed(
        start
        + """
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from streamserve.monkey import get_original
get_native_id = get_original("_thread", "get_native_id")
main = get_native_id()
barrier = threading.Barrier(4)
def work(number):
    barrier.wait(60)
    return number, get_native_id() == main
with ThreadPoolExecutor(4) as pool:
    futures = [pool.submit(work, number) for number in range(8)]
    print(sorted(future.result() for future in as_completed(futures, 60)) == [(n, True) for n in range(8)])
    print(len(wait(futures, 60).done), list(pool.map(abs, [-1, -2])))
never_shut_down = ThreadPoolExecutor(2)
print(never_shut_down.submit(abs, -3).result())
"""
    ) == ["True", "8 [1, 2]", "3"]


def test_requests_and_tls_contexts_made_before(start: str) -> None:
    assert printed(
        start
        + """
import http.server
served = []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        served.append(self.path)
        arrived.wait(60)  # answered only when all requests are there
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *args): pass
arrived = threading.Barrier(5)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
answers = []
threads = [threading.Thread(target=lambda: answers.append(requests.get(url, timeout=60).text)) for _ in range(5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(answers, ssl.SSLContext.sslsocket_class.__module__)
"""
    ) == ["['ok', 'ok', 'ok', 'ok', 'ok'] streamserve.green.ssl"]


def test_logging_from_greenlets_and_native_threads(start: str) -> None:
    lines = printed(
        start
        + """
import sys
from streamserve.monkey import get_original
logging.basicConfig(stream=sys.stdout, format="%(threadName)s %(message)s")
logging.warning("main")
thread = threading.Thread(target=logging.warning, args=("greenlet",), name="one")
thread.start(); thread.join()
done = threading.Event()
def native():
    logging.warning("native")
    done.set()
get_original("_thread", "start_new_thread")(native, ())
done.wait(60)
"""
    )
    assert lines[:2] == ["MainThread main", "one greenlet"]
    assert lines[2].startswith("Dummy-") and lines[2].endswith(" native")


def test_references_and_locks_that_were_taken_before_are_replaced() -> None:
    assert printed(
        """
import threading, queue, logging, time, socket, select, selectors, socketserver
from time import sleep
from socket import socket as taken, create_connection
from threading import Lock, get_ident
class Holder:
    pause = sleep
    lock_class = threading.Lock
waiting = queue.Queue()
lock, rlock, condition, event = Lock(), threading.RLock(), threading.Condition(), threading.Event()
local = threading.local()
local.kept = 5
closed_over = (lambda held: lambda: held)(threading.Lock())
simple = queue.SimpleQueue(); simple.put("kept")
from streamserve.monkey import patch_all, get_original
patch_all()
print(sleep is time.sleep, Holder().pause is time.sleep, taken is socket.socket, Lock is threading.Lock)
print(create_connection is socket.create_connection, get_ident is threading.get_ident)
print(socketserver._ServerSelector is selectors.PollSelector, Holder.lock_class is threading.Lock)
ours = type(threading.Lock()), type(threading.RLock())
print(type(lock) is ours[0], type(rlock) is ours[1], type(waiting.mutex) is ours[0], type(closed_over()) is ours[0])
print(waiting.not_empty._lock is waiting.mutex, waiting.not_full.acquire.__self__ is waiting.mutex)
print(type(condition._lock) is ours[1], type(event._cond._lock) is ours[0], type(logging._lock) is ours[1])
print(type(local) is threading.local, local.kept, type(simple) is queue.SimpleQueue, simple.get())
print(type(threading._active_limbo_lock) is ours[1])
print(get_original("time", "sleep") is sleep, get_original("threading", ["Lock", "Thread"])[1] is threading.Thread)
"""
    ) == [
        "True True True True",
        "True True",
        "True True",
        "True True True True",
        "True True",
        "True True True",
        "True 5 True kept",
        "True",
        "False True",
    ]


def test_greenlet_that_patches_while_it_imports_keeps_its_import_lock(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "patching.py").write_text("from streamserve.monkey import patch_all\npatch_all()\ndone = True\n")
    assert printed(
        f"""
import sys
sys.path.insert(0, {str(folder)!r})
import streamserve
print(streamserve.spawn(lambda: __import__("patching")).get().done)
"""
    ) == ["True"]
