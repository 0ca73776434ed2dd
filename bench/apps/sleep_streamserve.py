"""Hello world after 20 ms of streamserve's cooperative sleep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bench.apps import hello
from streamserve import sleep

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Wait, then answer as bench.apps.hello does."""
    sleep(0.02)
    return hello.app(environ, start_response)
