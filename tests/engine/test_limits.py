"""What a client may not: too much at once, too slowly, or leave without a word."""

import json
import struct
import zlib
from typing import Any

import pytest
import websocket

from streamserve.engine import probe
from tests.engine.test_options import Make
from tests.engine.test_protocol import make
from tests.support.server import eventually

__all__ = ["make"]

TOO_BIG = (websocket.ABNF.OPCODE_CLOSE, struct.pack("!H", 1009))


def test_a_message_in_fragments_over_the_limit_ends_the_session(make: Make) -> None:
    site = make(max_http_buffer_size=100)
    client = site.websocket()
    client.recv()
    client.send_frame(websocket.ABNF.create_frame("4" + "x" * 60, websocket.ABNF.OPCODE_TEXT, fin=0))
    client.send_frame(websocket.ABNF.create_frame("x" * 60, websocket.ABNF.OPCODE_CONT, fin=0))
    assert client.recv_data() == TOO_BIG
    eventually(lambda: not site.engine.sockets, "the session ends")


def test_a_message_over_the_limit_is_refused_at_its_header(make: Make) -> None:
    site = make(max_http_buffer_size=100)
    client = site.websocket()
    client.recv()
    client.sock.sendall(b"\x81\xff" + struct.pack("!Q", 1 << 40) + b"mask")
    assert client.recv_data() == TOO_BIG


def test_a_message_that_grows_over_the_limit_when_inflated_ends_the_session(make: Make) -> None:
    site = make({"websocket_compression": "on"}, max_http_buffer_size=1000)
    offer = ["Sec-WebSocket-Extensions: permessage-deflate"]
    client = websocket.create_connection(f"ws://{site.base}&transport=websocket", header=offer, timeout=60)
    site.stack.callback(client.shutdown)
    assert "permessage-deflate" in client.getheaders()["sec-websocket-extensions"]
    client.recv_data()
    packer = zlib.compressobj(wbits=-15)
    packed = (packer.compress(b"4" + b"x" * 100_000) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(packed) < 1000
    frame = websocket.ABNF.create_frame(packed, websocket.ABNF.OPCODE_BINARY)
    frame.opcode, frame.rsv1 = websocket.ABNF.OPCODE_TEXT, 1
    client.send_frame(frame)
    assert client.recv_data() == TOO_BIG
    eventually(lambda: not site.engine.sockets, "the session ends")


def test_a_change_of_transport_that_takes_too_long_ends_and_polling_goes_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "UPGRADE_TIMEOUT", 0.05)
    site = make()
    sid = site.open()
    client = site.websocket(f"&sid={sid}")
    client.send("2probe")
    assert client.recv() == "3probe"
    assert client.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE
    assert site.post(sid, "4still").text == "ok" and site.poll(sid).text == "4still"


def test_a_client_that_takes_nothing_is_ended_and_the_others_feel_nothing(make: Make) -> None:
    site = make(max_queue=100_000)
    slow, quick = site.websocket(), site.websocket()
    sids = [json.loads(client.recv()[1:])["sid"] for client in (slow, quick)]

    def push() -> Any:
        for sid in sids:
            site.engine.send(sid, "x" * 50_000)

    received = 0
    while sids[0] in site.engine.sockets:
        site.server.call(push)
        assert len(quick.recv()) == 50_001
        received += 1
        assert received < 1000
    site.until_ended(sids[0], "transport error")
    assert sids[1] in site.engine.sockets
