"""What a server refuses, in words that name the value and the remedy."""

from typing import Any

import pytest

from streamserve.errors import AddressError, ConfigurationError
from streamserve.server import BaseServer, DatagramServer, StreamServer

KINDS = [StreamServer, DatagramServer]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("listener", "problem"),
    [
        ("localhost", "'localhost' has no port; give host:port"),
        (":70000", "':70000' has no usable port; give a number from 0 to 65535"),
        ("http://localhost:80/", "is a URL, not an address; give 'localhost:80'"),
        (None, "None is not an address; give host:port"),
        (("localhost",), "is not an address"),
    ],
)
def test_address_that_cannot_be_read(kind: type[BaseServer], listener: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind(listener, print)
    assert problem in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("listener", "problem"),
    [
        ("no-such-host.invalid:80", "the host 'no-such-host.invalid' is not known; give a name or number of this"),
        ("192.0.2.1:0", "this machine has no such address"),
        ("unix:/no/such/folder/a.sock", "/no/such/folder is no directory; make it"),
        ("fd://987", "descriptor 987 is not open"),
    ],
)
def test_address_that_cannot_be_opened(kind: type[BaseServer], listener: str, problem: str) -> None:
    server = kind(listener, print)
    with pytest.raises(AddressError) as caught:
        server.start()
    assert problem in str(caught.value)
    assert not server.started


@pytest.mark.parametrize("kind", KINDS)
def test_port_in_use(kind: type[BaseServer]) -> None:
    with kind("127.0.0.1:0", print) as first, pytest.raises(OSError) as caught:
        kind(first.address, print).start()
    problem = f"cannot listen on 127.0.0.1:{first.server_port}: another process listens there; stop it"
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize("kind", KINDS)
def test_handler_that_cannot_be_called(kind: type[BaseServer]) -> None:
    with pytest.raises(TypeError, match="handle=42 cannot be called: give a function"):
        kind("127.0.0.1:0", 42)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="has nothing to call: give handle=, or define a method handle"):
        kind("127.0.0.1:0")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_accept_in_a_turn(kind: type[BaseServer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "max_accept", 0)
    with pytest.raises(ValueError, match="max_accept=0 would accept nothing: give a number of 1 or more"):
        kind("127.0.0.1:0", print)
