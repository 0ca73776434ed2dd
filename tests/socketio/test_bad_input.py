"""What clients send that is no Socket.IO: its sender is refused as the protocol says, and the others feel nothing."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import msgpack
import pytest
import requests
from socketio import Namespace

from streamserve.engine.packets import LONGEST_NAMESPACE, RESERVED
from streamserve.socketio_server import SocketIOServer
from tests.socketio.conftest import Host
from tests.socketio.test_protocol import Wire
from tests.support.server import Running, eventually

PLACE = '{"_placeholder":true,"num":%s}'
LONG = "9" * 100
Send = Callable[..., None]
ENDING: dict[str, list[str | bytes]] = {
    # numbers
    "not a number": ['421["echo",NaN]'],
    "infinite": ['421["echo",-Infinity]'],
    "an id of 101 digits": [f'42{LONG}9["echo"]'],
    "an id that is not ASCII": ['42٣["echo"]'],
    "a negative id": ['42-1["echo"]'],
    # JSON
    "something behind it": ['421["echo"]x'],
    "two": ['421["echo"] []'],
    "none": ["421"],
    "half": ['42["echo",'],
    "nested too deep": ['42["echo",' + "[" * 100_000],
    "nested too deep beside an attachment": ['451-["echo",' + "[" * 980 + PLACE % 0 + "]" * 980 + "]", b"x"],
    "JSON of Engine.IO": ['4{"a":1}'],
    "true of Engine.IO": ["4true"],
    "a packet in a string": ['4"21[\\"echo\\"]"'],
    "deep JSON of Engine.IO": ["4" + "[" * 100_000],
    # names
    "no name": ["42[]"],
    "true for a name": ["42[true]"],
    "a list for a name": ["42[[]]"],
    **{f"the name {name}": [f'42["{name}"]'] for name in sorted(RESERVED)},
    "a reserved name of an event with attachments": [f'451-["newListener",{PLACE % 0}]', b"x"],
    "null for a name": ["42[null]"],
    "an attachment for a name": [f"451-[{PLACE % 0}]", b"echo"],
    "an acknowledgement that is no list": ["431{}"],
    # what joins and leaves
    "a list for an auth": ["41", "40[1]"],
    "text for an auth": ["41", '40"x"'],
    "null for an auth": ["41", "40null"],
    "a number for an auth": ["40/other,7 1"],
    "data of leaving": ['41{"a":1}'],
    "null of leaving": ["41null"],
    "a space that JSON has not": ['421\u00a0["echo"]'],
    "such a space behind it": ['421["echo"]\u00a0'],
    # attachments
    "none, of an event that has them": ['50-["echo"]'],
    "eleven": ['511-["echo"]'],
    "a number that is not ASCII": ['5٣-["echo"]'],
    "a number of an event without": ['421-["echo"]'],
    "no number": ['5["echo"]'],
    "a place that is negative": [f'451-["echo",{PLACE % -1}]', b"x"],
    "a place that is text": [f'451-["echo",{PLACE % chr(34)}0"}}]'.replace("}}", "}").replace('"}0"', '"0"'), b"x"],
    "a place that is true": [f'452-["echo",{PLACE % "true"}]', b"x", b"y"],
    "a place that is no integer": [f'451-["echo",{PLACE % "0.0"}]', b"x"],
    "a place that is null": [f'451-["echo",{PLACE % "null"}]', b"x"],
    "a place too far": [f'451-["echo",{PLACE % LONG}]', b"x"],
    "a place without number": ['451-["echo",{"_placeholder":true}]', b"x"],
    "an event before the attachment": [f'451-["echo",{PLACE % 0}]', '42["echo"]'],
    "an acknowledgement before it": [f'451-["echo",{PLACE % 0}]', "431[]"],
    "an attachment without event": [b"x"],
    "one more than announced": [f'451-["echo",{PLACE % 0}]', b"x", b"y"],
    # namespaces
    "a long one to join": [f"40/{'x' * 100_000},"],
    "a long one": [f'42/{"x" * 100_000},["echo"]'],
    "one that is not joined, of an event with attachments": [f'451-/other,["echo",{PLACE % 0}]', b"x"],
    "one without a slash": ['42other,["echo"]'],
    "joined twice": ["40"],
    "joined twice by another name": ["40/?a=b,"],
    # packets
    "what only a server says": ['44{"message":"no"}'],
    "an unknown type": ["47"],
    "an empty message": [""],
    "an empty attachment": [b""],
    "base64": ["bAQID"],
}
TAKEN: dict[str, tuple[list[str | bytes], str]] = {
    "a number that JSON has not comes back as JavaScript has it": (['421["echo",1e999]'], "431[null]"),
    "a long fraction": ([f'421["echo",{LONG * 4}.0]'], "431[null]"),
    "an id of 100 digits": ([f'42{LONG}["echo"]'], f"43{LONG}[]"),
    "space behind JSON": (['421["echo"] \n'], "431[]"),
    "half a surrogate": (['421["echo","\\ud800"]'], '431["\\ud800"]'),
    "an event of the name of the handler of all": (['421["*",1]'], '431["*",1]'),
    "a number for a name": (["421[7,1]"], "431[7,1]"),
    "a fraction for a name": (["421[1.5,1]"], "431[1.5,1]"),
    "a number for a name, with an attachment": ([f"451-1[8,{PLACE % 0}]", b"x"], f"461-1[8,{PLACE % 0}]"),
    "a number whose handler there is": (["421[1,2]"], '431["one",2]'),
    "space before JSON": (['421 \t\n\r["echo"]'], "431[]"),
    "an empty name": (['421["",1]'], '431["",1]'),
    "an attachment that no place has": (['451-1["echo"]', b"x"], "431[]"),
    "what is almost a place": (['451-1["echo",{"_placeholder":1,"num":0}]', b"x"], '431[{"_placeholder":1,"num":0}]'),
    "a pong between event and attachment": (['451-1["echo",{"a":1}]', "3", b"x"], '431[{"a":1}]'),
    "an answer that nobody waits for": (["439[]", "439999999999999999999[]", "43[]", '421["echo"]'], "431[]"),
    "an event for a namespace that is not joined": (['42/other,["echo"]', '421["echo"]'], "431[]"),
    "the longest name of a namespace": (
        [f"40/{'x' * (LONGEST_NAMESPACE - 1)},"],
        f'44/{"x" * (LONGEST_NAMESPACE - 1)},{{"message":"Invalid namespace"}}',
    ),
}


def made(**options: Any) -> SocketIOServer:
    sio = SocketIOServer(**options)
    sio.on("connect", lambda sid, environ: None, namespace="/other")
    sio.on("echo", lambda sid, *data: data)
    sio.on(1, lambda sid, data: ("one", data))
    sio.on("*", lambda event, sid, *data: (event, *data))
    return sio


@pytest.fixture
def server(host: Host) -> Iterator[Running]:
    """One beside which a client works all the time."""
    server = host(made())
    with ExitStack() as stack:
        witness = opened(server, stack)
        yield server
        witness.send('427["echo","unharmed"]')
        assert witness.receive() == '437["unharmed"]'


def opened(server: Running, stack: ExitStack) -> Wire:
    wire = Wire(server.port)
    stack.callback(wire.connection.shutdown)
    wire.join()
    return wire


@pytest.mark.parametrize("messages", ENDING.values(), ids=list(ENDING))
def test_what_is_malformed_ends_its_connection_by_websocket(server: Running, messages: list[str | bytes]) -> None:
    with ExitStack() as stack:
        wire = opened(server, stack)
        wire.send(*messages)
        assert wire.connection.recv_data() == (8, b"\x03\xea")


@pytest.mark.parametrize(("messages", "answer"), TAKEN.values(), ids=list(TAKEN))
def test_what_is_only_odd_is_dealt_with(server: Running, messages: list[str | bytes], answer: str) -> None:
    with ExitStack() as stack:
        wire = opened(server, stack)
        wire.send(*messages)
        assert wire.receive() == answer


@pytest.mark.parametrize("name", ENDING)
def test_what_is_malformed_ends_its_session_by_polling(server: Running, name: str) -> None:
    if name == "base64":
        pytest.skip("it is an attachment here")
    url = f"http://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=polling"
    url += f"&sid={json.loads(requests.get(url, timeout=60).text[1:])['sid']}"
    assert requests.post(url, data="40", timeout=60).text == "ok"
    packets = [b"b" + b"eA==" if isinstance(part, bytes) else part.encode() for part in ENDING[name]]
    response = requests.post(url, data=b"\x1e".join(packets), timeout=60)
    assert (response.status_code, response.json()["code"]) == (400, 3)
    assert requests.get(url, timeout=60).json()["code"] == 1


EARLY = ['42["echo"]', '421["echo"]', "431[]", "4311111111111[]", '42/other,["echo"]', '451-["echo",%s]' % (PLACE % 0)]
"""Before anything is joined."""


@pytest.mark.parametrize("message", EARLY)
def test_an_event_before_a_namespace_is_joined_ends_its_connection(server: Running, message: str) -> None:
    with ExitStack() as stack:
        wire = Wire(server.port)
        stack.callback(wire.connection.shutdown)
        wire.send(message)
        assert wire.connection.recv_data() == (8, b"\x03\xea")
    url = f"http://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=polling"
    url += f"&sid={json.loads(requests.get(url, timeout=60).text[1:])['sid']}"
    response = requests.post(url, data=message, timeout=60)
    assert (response.status_code, response.json()["code"]) == (400, 3)


def test_space_before_what_identifies_a_client_is_none_of_it(host: Host) -> None:
    sio, auths = SocketIOServer(), []
    sio.on("connect", lambda sid, environ, auth: auths.append(auth))
    with ExitStack() as stack:
        wire = Wire(host(sio).port)
        stack.callback(wire.connection.shutdown)
        wire.join(auth=' {"a":1}')
    assert auths == [{"a": 1}]


def test_an_event_whose_name_is_a_number_goes_to_the_method_of_that_number(host: Host) -> None:
    class Numbered(Namespace):  # type: ignore[misc]
        def on_7(self, sid: str, data: Any) -> Any:
            return "seven", data

    sio = SocketIOServer()
    sio.register_namespace(Numbered("/"))
    with ExitStack() as stack:
        wire = opened(host(sio), stack)
        wire.send("421[7,1]")
        assert wire.receive() == '431["seven",1]'


def test_numbers_and_data_of_messagepack_are_taken_as_those_of_json(host: Host) -> None:
    pytest.importorskip("msgpack")
    server = host(made(serializer="msgpack"))
    for data, answer in (([7, 1], [7, 1]), ([1, b"x"], ["one", b"x"]), ([True], None), (["newListener"], None)):
        with ExitStack() as stack:
            wire = Wire(server.port)
            stack.callback(wire.connection.shutdown)
            wire.send(msgpack.dumps({"type": 0, "nsp": "/", "data": None}))
            wire.receive()
            wire.send(msgpack.dumps({"type": 2, "nsp": "/", "id": 1, "data": data}))
            if answer is None:
                assert wire.is_closed()
            else:
                assert msgpack.loads(wire.receive())["data"] == answer


def test_an_event_after_leaving_is_ignored(server: Running) -> None:
    with ExitStack() as stack:
        wire = opened(server, stack)
        wire.send("41", '421["echo"]', "40")
        assert wire.receive().startswith("40{")


@pytest.mark.parametrize("body", [b"4\xff", b"d=%FF", b"d=", b"", b"e=4", b"d"])
def test_jsonp_that_is_none_ends_its_session(server: Running, body: bytes) -> None:
    url = f"http://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=polling"
    url += f"&sid={json.loads(requests.get(url, timeout=60).text[1:])['sid']}"
    response = requests.post(f"{url}&j=0", data=body, timeout=60)
    assert (response.status_code, response.json()["code"]) == (400, 3)


@pytest.mark.parametrize("index", ["", "x", "-1", "٣", "1" * 5000])
def test_a_jsonp_number_that_is_none_is_refused(server: Running, index: str) -> None:
    url = f"http://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=polling&j={index}"
    response = requests.get(url, timeout=60)
    if index:
        assert (response.status_code, response.json()["code"]) == (400, 3)
    else:
        assert response.text.startswith("0")  # parse_qs knows no empty values


def test_neither_type_nor_namespace_nor_id_of_messagepack_is_believed(host: Host) -> None:
    pytest.importorskip("msgpack")
    sio = SocketIOServer(serializer="msgpack", namespaces="*")
    seen: list[Any] = []
    sio.on("connect", lambda *args: seen.append(args), namespace="*")
    server = host(sio)
    for bad in (
        {"type": "0", "nsp": "/"},
        {"type": True, "nsp": "/"},
        {"type": 0, "nsp": "*"},
        {"type": 0, "nsp": ""},
        {"type": 0, "nsp": 1},
        {"type": 0, "nsp": "/", "data": [1]},
        {"type": 0, "nsp": "/", "data": "x"},
        {"type": 1, "nsp": "/", "data": {}},
        {"type": 0, "nsp": "/" + "x" * 1000},
        {"type": 2, "nsp": "/", "id": "1", "data": ["echo"]},
        {"type": 5, "nsp": "/", "data": ["echo"]},
        {"nsp": "/"},
        [],
        1,
    ):
        wire = Wire(server.port)
        wire.send(msgpack.dumps(bad))
        assert wire.is_closed()
        wire.connection.shutdown()
    assert not seen


def test_a_million_empty_packets_cost_no_more_than_one(server: Running) -> None:
    url = f"http://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=polling"
    url += f"&sid={json.loads(requests.get(url, timeout=60).text[1:])['sid']}"
    assert requests.post(url, data=b"\x1e" * 999_999, timeout=60).status_code == 400


def test_the_others_go_on_while_the_packets_of_a_large_post_are_dealt_with(server: Running) -> None:
    url = f"http://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=polling"
    url += f"&sid={json.loads(requests.get(url, timeout=60).text[1:])['sid']}"
    with ExitStack() as stack:
        witness = opened(server, stack)
        client = stack.enter_context(server.client())
        packets = b"\x1e".join([b"3"] * 300_000)
        path = url.partition(str(server.port))[2]
        client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(packets)}\r\n\r\n".encode() + packets)
        eventually(lambda: server.server.active, "it is being dealt with")
        for _ in range(10):
            witness.send('421["echo"]')
            assert witness.receive() == "431[]"
        assert server.server.active, "all of it was dealt with before the others"
        assert client.response().body == b"ok"
