"""socket.io-client of npm, under a Node that tests share: they say in JavaScript what their clients do."""

import base64
import itertools
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import node

PATIENCE = 60.0  # seconds; only a failing test waits so long
PACKAGES = {"socket.io-client": "4.8.3", "socket.io-msgpack-parser": "3.0.2"}
SCRIPT = Path(__file__).parent / "socketio_client.js"


class JavaScriptError(Exception):
    """What a script threw."""


class JavaScriptClient:
    """A socket of socket.io-client."""

    def __init__(self, program: "Clients", number: int) -> None:
        self._program = program
        self._number = number

    def run(self, script: str, *values: Any) -> Any:
        """Runs the body of an async function and returns what that does.

        It sees `socket`, `io`, `values` (those given here), and `next(event)`, a promise of what comes with the next
        event of that name, connect, disconnect, connect_error and reconnect included.

        Raises:
            JavaScriptError: it threw.
        """
        return self.begin(script, *values).result(PATIENCE)

    def begin(self, script: str, *values: Any) -> "Future[Any]":
        """The same, without waiting for its end."""
        return self._program.perform("run", client=self._number, script=script, values=_written(list(values)))

    def next(self, event: str) -> Any:
        """Waits for the next event of this name; returns the list of what comes with it."""
        return self.run("return await next(values[0])", event)

    def close(self) -> None:
        self._program.perform("close", client=self._number).result(PATIENCE)


class Clients:
    """The Node that has them."""

    def __init__(self) -> None:
        folders = [str(node.package(name, version)) for name, version in PACKAGES.items()]
        self._process = subprocess.Popen(
            [node.program(), SCRIPT],
            env={**os.environ, "NODE_PATH": os.pathsep.join(folders)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._numbers = itertools.count()
        self._outcomes: dict[int, Future[Any]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @contextmanager
    def open(self, port: int, namespace: str = "", **options: Any) -> Iterator[JavaScriptClient]:
        """A client of the server there, which connects by itself.

        Args:
            options: those of `io()`, and `msgpack`: it speaks by socket.io-msgpack-parser.
        """
        number = next(self._numbers)
        url = f"http://127.0.0.1:{port}{namespace}"
        self.perform("open", client=number, url=url, options=_written(options)).result(PATIENCE)
        client = JavaScriptClient(self, number)
        yield client
        client.close()

    def perform(self, task: str, **arguments: Any) -> "Future[Any]":
        number = next(self._numbers)
        outcome = self._outcomes[number] = Future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": task, "number": number, **arguments}).encode() + b"\n")
        self._process.stdin.flush()
        return outcome

    def stop(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            outcome = self._outcomes.pop(answer["number"])
            if "error" in answer:
                outcome.set_exception(JavaScriptError(answer["error"]))
            else:
                outcome.set_result(_read(answer["value"]))


def _written(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [_written(item) for item in value]
    if isinstance(value, dict):
        return {key: _written(item) for key, item in value.items()}
    return value


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"$bytes"}:
        return base64.b64decode(value["$bytes"])
    return {key: _read(item) for key, item in value.items()}
