"""What every test gets without asking, and the servers that it may ask for."""

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from streamserve.loop.native_threads import thread_serves, thread_works
from tests.support.servers.fixtures import mariadb, postgres, redis

__all__ = ["mariadb", "postgres", "redis"]

# On a machine that stands still for a second the warning would be amid what a program writes. Its own tests set it.
os.environ.setdefault("STREAMSERVE_BLOCK_WARNING", "0")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts what runs in its background like that, and children inherit it: the servers that tests stop
    # by Ctrl-C would not hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--one-backend", action="store_true", help="leave out what runs again by poll instead of epoll")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--one-backend"):
        again = {item for item in items if "poll" in getattr(item, "callspec", NO_PARAMETERS).id.split("-")}
        config.hook.pytest_deselected(items=[*again])
        items[:] = [item for item in items if item not in again]


NO_PARAMETERS = SimpleNamespace(id="")
ON_CTRL_C = signal.getsignal(signal.SIGINT)


@pytest.fixture(autouse=True)
def ctrl_c_as_it_was() -> Iterator[None]:
    """Clients of python-socketio set a function for Ctrl-C, which could wake who waits for ever in later tests."""
    yield
    if signal.getsignal(signal.SIGINT) is not ON_CTRL_C:
        signal.signal(signal.SIGINT, ON_CTRL_C)


@pytest.fixture(scope="session", autouse=True)
def watchdog_of_tests() -> Iterator[None]:
    """The thread of faulthandler_timeout wakes nobody; the loop cannot know that of a thread that C made."""
    thread_serves()
    yield
    thread_works()
