"""What a client is told first, whatever its connect handler does meanwhile."""

import re
from typing import Any

import pytest
import requests

from streamserve import Timeout
from streamserve.engine.opening import new_name
from tests.engine.test_options import Make
from tests.engine.test_protocol import make
from tests.support.server import eventually

__all__ = ["make"]


def test_a_name_is_new_and_means_nothing_in_a_query() -> None:
    names = {new_name() for _ in range(1000)}
    assert len(names) == 1000
    assert all(re.fullmatch("[-_0-9A-Za-z]{20}", name) for name in names)


def test_what_a_connect_handler_sends_comes_behind_the_handshake(make: Make) -> None:
    site = make()
    site.engine.on("connect", lambda sid, environ: site.engine.send(sid, "welcome"))
    client = site.websocket()
    assert client.recv()[0] == "0"
    assert client.recv() == "4welcome"
    opened, _, welcome = site.get("transport=polling").text.partition("\x1e")
    assert opened[0] == "0" and welcome == "4welcome"


@pytest.mark.parametrize("error", [Timeout(0), ValueError("no"), SystemExit()])
def test_whom_a_connect_handler_fails_for_leaves_nothing(make: Make, error: BaseException) -> None:
    site = make()

    def fail(sid: str, environ: Any) -> None:
        raise error

    site.engine.on("connect", fail)
    assert site.get("transport=polling").status_code in (401, 500)
    assert not site.engine.sockets


def test_a_name_of_the_applications_own_is_told_as_it_is(make: Make) -> None:
    site = make()
    site.engine.generate_id = lambda: 'of "its" own'
    assert site.open() == 'of "its" own'


def test_handshakes_take_no_place_in_the_memory_of_what_clients_repeat(make: Make) -> None:
    site = make()
    (endpoint,) = site.server.server._endpoints.values()
    requests.get(site.url("transport=polling"), timeout=60)
    before = len(endpoint.memory.templates)
    for _ in range(3):
        site.websocket().recv()
    assert len(endpoint.memory.templates) == before > 0
    eventually(lambda: len(site.engine.sockets) == 4, "all are in")
