"""Socket.IO applications as their authors wrote them, served by the command, and clients of python-socketio."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import socketio

from tests.support.process import ServedCommand

Serve = Callable[..., ServedCommand]
Connect = Callable[..., socketio.Client]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serves source code, as the module `project`: serve(source, "app"); stopped after the test."""
    with ExitStack() as stack:

        def start(source: str, name: str = "app", *flags: str, **environ: str) -> ServedCommand:
            (tmp_path / "project.py").write_text(source)
            return stack.enter_context(ServedCommand(f"project:{name}", *flags, cwd=tmp_path, **environ))

        yield start


@pytest.fixture(params=["polling", "websocket"])
def connect(request: pytest.FixtureRequest, serve: Serve) -> Iterator[Connect]:
    """Connects a client: connect(url, on={"event" or "event@/namespace": function}); disconnected after the test."""
    with ExitStack() as stack:

        def open_client(url: str, on: dict[str, Any] | None = None, **options: Any) -> socketio.Client:
            client = socketio.Client(reconnection=False)
            for event, function in (on or {}).items():
                name, _, namespace = event.partition("@")
                client.on(name, function, namespace=namespace or "/")
            stack.callback(client.disconnect)
            client.connect(url, transports=[request.param], wait_timeout=60, **options)
            return client

        yield open_client
