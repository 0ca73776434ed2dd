"""Packets of Socket.IO, as they go out and as they come in whole (socket.io-protocol 5, "Packet encoding")."""

from __future__ import annotations

import re
from typing import Any

from socketio import packet

from streamserve.engine.json_codec import MOST_DIGITS, JsonCodec
from streamserve.engine.payloads import MalformedPayload

__all__ = ["NO_EVENT", "NUMBERS", "RESERVED", "PacketWriter", "is_event", "is_whole", "parsed"]

MOST_ATTACHMENTS = 10
"""Binary attachments of one event."""

LONGEST_NAMESPACE = 512
"""Characters of a namespace's name."""

NO_EVENT = (
    "the data of an event is a list that begins with its name, none that is reserved; an acknowledgement's a list"
)

_NO_PAYLOAD = "the data of a CONNECT is an object, an event's a list; a DISCONNECT has none"

NUMBERS = (int, float)
"""What the name of an event may be beside text, as in Node's server; True is none of them."""

RESERVED = frozenset({"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"})
"""Names that no event of a client has (socket.io-protocol, "Event"; the list is that of socket.io-parser 4.2)."""

_BINARY = {packet.EVENT: packet.BINARY_EVENT, packet.ACK: packet.BINARY_ACK}


class PacketWriter:
    """Makes the frames of packets.

    Args:
        packet_class: of the server; python-socketio's own is written without making one.

    Attributes:
        codec: its JSON; None: the packet class has another encoding.
    """

    __slots__ = ("_packet_class", "codec")

    def __init__(self, packet_class: Any) -> None:
        standard = packet_class is packet.Packet and hasattr(packet_class.json, "dumps")
        self._packet_class = packet_class
        self.codec = JsonCodec(packet_class.json) if standard else None

    def frames(self, kind: int, namespace: str, number: int | None, data: Any) -> list[str | bytes]:
        """A packet as it goes to clients: a frame, and one for each attachment.

        Args:
            kind: EVENT, ACK, CONNECT and so on; EVENT or ACK with attachments becomes a binary one.
            number: for which an acknowledgement is asked, or that it is for.
        """
        if self.codec is None:
            return self.frames_of(self._packet_class(kind, data=data, namespace=namespace, id=number))
        text, attachments = ("", []) if data is None else self.codec.dumps(data)
        name = "" if namespace == "/" else namespace + ","
        if attachments:
            kind, name = _BINARY[kind], f"{len(attachments)}-{name}"
        return [f"4{kind}{name}{'' if number is None else number}{text}", *attachments]

    def frames_of(self, pkt: Any) -> list[str | bytes]:
        """The frames of a packet of python-socketio's."""
        if self.codec is not None and pkt.packet_type < packet.BINARY_EVENT:
            return self.frames(pkt.packet_type, pkt.namespace or "/", pkt.id, pkt.data)
        encoded = pkt.encode()
        parts = encoded if isinstance(encoded, list) else [encoded]
        return [part if isinstance(part, bytes) else "4" + part for part in parts]


_HEAD = re.compile("([0-4]|[56](10|[1-9])-)(/[^,]*,?)?([0-9]*)")


def parsed(packet_class: Any, codec: JsonCodec | None, data: Any) -> Any:
    """The packet in a message; one with attachments lacks them.

    Args:
        codec: of its JSON; None: the packet class has another encoding.

    Raises:
        MalformedPayload: it is none, or announces too many attachments.
    """
    if codec is not None:
        return _parsed(packet_class, codec, data)
    try:
        pkt = packet_class(encoded_packet=data)
    except Exception as error:  # whatever a parser of others raises: the bytes are the client's
        raise MalformedPayload(f"{data[:20]!r} is no packet: {error}") from None
    if not packet_class.uses_binary_events and not _is_sound(pkt):
        raise MalformedPayload(f"{data[:20]!r} is no packet: its type, namespace, id or data is none")
    return pkt


def _parsed(packet_class: Any, codec: JsonCodec, data: str) -> Any:
    head = _HEAD.match(data)
    if head is None:
        raise MalformedPayload(f"{data[:20]!r} is no packet: type 0 to 6, with 1 to {MOST_ATTACHMENTS} attachments")
    kind, count, name, number = head.groups()
    if len(number) > MOST_DIGITS:
        raise MalformedPayload(f"an id has {len(number)} digits; at most {MOST_DIGITS} are taken")
    namespace = None if name is None else name.rstrip(",").partition("?")[0]
    if namespace is not None and len(namespace) > LONGEST_NAMESPACE:
        raise MalformedPayload(
            f"the name of a namespace has {len(namespace)} characters; {LONGEST_NAMESPACE} are taken"
        )
    pkt = packet_class(int(kind[0]), namespace=namespace, id=int(number) if number else None, binary=False)
    if head.end() < len(data):
        pkt.data = codec.loads(data[head.end() :])
        if pkt.data is None or not _fits(pkt):
            raise MalformedPayload(_NO_PAYLOAD)
    pkt.attachment_count = int(count or 0)
    return pkt


def _is_sound(pkt: Any) -> bool:
    """What a parser passes on as the client wrote it: MessagePack's does."""
    number, name = pkt.id, pkt.namespace
    if pkt.data is not None and not _fits(pkt):
        return False
    return (
        pkt.packet_type.__class__ is int
        and 0 <= pkt.packet_type < packet.BINARY_EVENT
        and (name is None or (isinstance(name, str) and name[:1] == "/" and len(name) <= LONGEST_NAMESPACE))
        and (number is None or number.__class__ is int)
    )


def _fits(pkt: Any) -> bool:
    """Whether data is none that its packet cannot have: CONNECT has an object, DISCONNECT nothing."""
    kind = pkt.packet_type
    return kind != packet.DISCONNECT and (kind != packet.CONNECT or isinstance(pkt.data, dict))


def is_event(data: list[Any]) -> bool:
    """Whether it begins with a name, and one that a client's event may have."""
    name = data[0] if data else None
    return name.__class__ in NUMBERS or (isinstance(name, str) and name not in RESERVED)


def is_whole(pkt: Any, attachment: bytes) -> bool:
    """Adds an attachment; whether it was the last one, and all are in their places.

    Raises:
        MalformedPayload: the event has a place for one that it does not announce, or is nested too deep.
    """
    attachments = pkt.attachments
    attachments.append(attachment)
    if len(attachments) < pkt.attachment_count:
        return False
    try:
        pkt.data = _filled(pkt.data, attachments)
    except RecursionError:
        raise MalformedPayload("the data of an event with attachments is nested too deep") from None
    return True


def _filled(data: Any, attachments: list[bytes]) -> Any:
    if isinstance(data, list):
        return [_filled(value, attachments) for value in data]
    if not isinstance(data, dict):
        return data
    if data.get("_placeholder") is not True:
        return {key: _filled(value, attachments) for key, value in data.items()}
    number = data.get("num")
    if number.__class__ is not int or not 0 <= number < len(attachments):
        raise MalformedPayload(f"an event has a place for attachment {str(number)[:20]} of {len(attachments)}")
    return attachments[number]
