"""Objects from before patching: replaced where they are, or named by the warning; native threads go on."""

from tests.support.program import printed, run_program

BEFORE = "import collections, concurrent.futures, functools, queue, sys, threading, time, warnings\n"
PATCH = "\nfrom streamserve.monkey import patch_all; patch_all()\nfrom streamserve import sleep, spawn\n"
QUIET = "warnings.simplefilter('ignore')\n"
TICKING = """
ticks = []
def tick():
    while True:
        sleep(0.005)
        ticks.append(1)
ticking = spawn(tick)
"""


def test_locks_in_what_cannot_be_changed_are_replaced_where_it_is_held() -> None:
    before = """
pair = threading.Lock(), threading.RLock()
frozen = frozenset([threading.Lock()])
nested = {"a": [(1, (threading.Lock(), frozen))]}
def function(lock=threading.Lock(), *, other=threading.Lock()):
    return lock, other
bound = functools.partial(function, threading.Lock(), other=threading.Lock())
Named = collections.namedtuple("Named", "lock number")
named = Named(threading.Lock(), 2)
class Holder:
    locks = (threading.Lock(),)
    lock = threading.Lock()
    __slots__ = ("slot",)
holder = Holder()
holder.slot = (pair[0],)
shared = [pair, pair[0]]
same = pair
"""
    after = """
inner = nested["a"][0][1]
found = [*pair, *frozen, *inner[:1], *function(), *bound.args, *bound.keywords.values(), named.lock, *Holder.locks]
found += [Holder.lock, *holder.slot]
native = type(sys.modules["streamserve.loop.native_threads"].allocate_lock())
print(len(found), any(isinstance(lock, native) for lock in found))
print(holder.slot[0] is pair[0] is shared[1], shared[0] is pair is same, inner[1] is frozen, pair[0] is not pair[1])
print(type(named).__name__, named.number, bound()[0] is bound.args[0])
"""
    assert printed(BEFORE + before + PATCH + after) == ["12 False", "True True True True", "Named 2 True"]


def test_locals_of_suspended_generators_are_named() -> None:
    before = """
def generating():
    lock = threading.Lock()
    yield
suspended = generating()
next(suspended)
"""
    assert "lock in the suspended generating stays a native lock" in run_program(BEFORE + before + PATCH).stderr


def test_a_thread_and_a_timer_made_before_start_as_greenlets() -> None:
    before = """
thread = threading.Thread(target=lambda: (time.sleep(0.01), print("thread")))
timer = threading.Timer(0.02, print, ("timer",))
"""
    after = "\nthread.start(); timer.start(); thread.join(); timer.join(); print(thread.is_alive(), timer.is_alive())"
    assert printed(BEFORE + before + PATCH + after) == ["thread", "timer", "False False"]


def test_joining_a_native_thread_waits_in_the_pool() -> None:
    before = f"""
{QUIET}
release = threading.Event()
def native():
    release.wait()
    time.sleep(0.05)
thread = threading.Thread(target=native)
thread.start()
"""
    after = """
thread.join(0.05)
print(thread.is_alive(), len(ticks) > 2)
killed = spawn(thread.join)
sleep(0.01)
killed.kill()
release.set()
thread.join()
print(thread.is_alive(), thread in threading.enumerate())
"""
    assert printed(BEFORE + before + PATCH + TICKING + after) == ["True True", "False False"]


def test_a_native_thread_that_is_no_daemon_is_waited_for_at_exit() -> None:
    before = f"""
{QUIET}
go = threading.Event()
def native():
    go.wait()
    time.sleep(0.2)
    print("native thread ends")
threading.Thread(target=native).start()
"""
    assert printed(BEFORE + before + PATCH + "go.set()") == ["native thread ends"]


def test_an_executor_with_threads_goes_on_with_them_and_with_greenlets() -> None:
    before = f"""
{QUIET}
executor = concurrent.futures.ThreadPoolExecutor(4)
executor.submit(int).result()
"""
    after = """
calls = [executor.submit(time.sleep, 0.05) for _ in range(8)]
done, left = concurrent.futures.wait(calls, timeout=20)
print(len(done), len(left), len(ticks) > 2)
print(sum(executor.map(int, range(100))))
executor.shutdown()
"""
    assert printed(BEFORE + before + PATCH + TICKING + after) == ["8 0 True", "4950"]


def test_a_simple_queue_is_shared_with_native_threads() -> None:
    before = f"""
{QUIET}
asked, answered = queue.SimpleQueue(), queue.SimpleQueue()
def native():
    while (number := asked.get()) is not None:
        answered.put(number + 1)
def native_with_its_own(get=asked.get, put=answered.put):
    put(0)
    while (number := get()) is not None:
        put(number + 1)
threads = [threading.Thread(target=target) for target in (native, native_with_its_own)]
for thread in threads:
    thread.start()
"""
    after = """
print(answered.get())
killed = spawn(answered.get)
sleep(0)
for number in range(20):
    asked.put(number)
killed.kill(block=False)
print(sorted(answered.get(timeout=60) for _ in range(20)) == list(range(1, 21)), answered.empty())
try:
    answered.get(timeout=0.01)
except queue.Empty:
    print("empty", answered.qsize())
for thread in threads:
    asked.put(None)
for thread in threads:
    thread.join()
spawn(answered.put, "greenlet")
print(answered.get())
"""
    assert printed(BEFORE + before + PATCH + after) == ["0", "True True", "empty 0", "greenlet"]
