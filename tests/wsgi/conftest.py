"""A server for each test, on both backends."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.server import Running

Serve = Callable[..., Running]


@pytest.fixture(params=["epoll", "poll"])
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Starts a server: serve(application, **settings); examined and stopped after the test."""
    with ExitStack() as servers:

        def start(application: Any, **options: Any) -> Running:
            return servers.enter_context(Running(application, request.param, **options))

        yield start


@pytest.fixture(autouse=True, scope="session")
def quick_turns() -> Iterator[None]:
    """Client and server are threads of one interpreter: they take turns often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    yield
    sys.setswitchinterval(before)
