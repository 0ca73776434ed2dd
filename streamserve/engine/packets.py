"""Packets of Socket.IO, as they go out and as they come in whole (socket.io-protocol 5, "Packet encoding")."""

from __future__ import annotations

from typing import Any

from socketio import packet

from streamserve.engine.json_codec import JsonCodec
from streamserve.engine.payloads import MalformedPayload

__all__ = ["NO_EVENT", "PacketWriter", "frames_of", "is_whole", "parsed"]

MOST_ATTACHMENTS = 10
"""Binary attachments of one event."""

NO_EVENT = "the data of an event is a list that begins with its name, of an acknowledgement a list"

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
            kind: EVENT or ACK; with attachments it becomes a binary one.
            number: for which an acknowledgement is asked, or that it is for.
        """
        if self.codec is None:
            return frames_of(self._packet_class(kind, data=data, namespace=namespace, id=number))
        text, attachments = self.codec.dumps(data)
        name = "" if namespace == "/" else namespace + ","
        if attachments:
            kind, name = _BINARY[kind], f"{len(attachments)}-{name}"
        return [f"4{kind}{name}{'' if number is None else number}{text}", *attachments]


def frames_of(pkt: Any) -> list[str | bytes]:
    """The frames of a packet of python-socketio's."""
    encoded = pkt.encode()
    parts = encoded if isinstance(encoded, list) else [encoded]
    return [part if isinstance(part, bytes) else "4" + part for part in parts]


def parsed(packet_class: Any, data: str | bytes) -> Any:
    """The packet in a message.

    Raises:
        MalformedPayload: it is none, or announces too many attachments.
    """
    binary_events = packet_class.uses_binary_events
    if isinstance(data, str) and binary_events and data[:1] in ("5", "6"):
        count = data[1:].partition("-")[0]
        if not count.isdecimal() or not 0 < int(count) <= MOST_ATTACHMENTS:
            raise MalformedPayload(f"an event announces {count[:20]!r} attachments; 1 to {MOST_ATTACHMENTS} are taken")
    try:
        pkt = packet_class(encoded_packet=data)
    except Exception as error:  # whatever a parser of others raises: the bytes are the client's
        raise MalformedPayload(f"{data[:20]!r} is no packet: {error}") from None
    if not binary_events and not _is_sound(pkt):
        raise MalformedPayload(f"{data[:20]!r} is no packet: its type, namespace or id is none")
    return pkt


def _is_sound(pkt: Any) -> bool:
    """What a parser passes on as the client wrote it: MessagePack's does."""
    number, name = pkt.id, pkt.namespace
    return (
        pkt.packet_type.__class__ is int
        and 0 <= pkt.packet_type < packet.BINARY_EVENT
        and (name is None or isinstance(name, str))
        and (number is None or number.__class__ is int)
    )


def is_whole(pkt: Any, attachment: bytes) -> bool:
    """Adds an attachment; whether it was the last one.

    Raises:
        MalformedPayload: the event has a place for one that it does not announce.
    """
    try:
        return bool(pkt.add_attachment(attachment))
    except (IndexError, TypeError):
        raise MalformedPayload("an event has a place for an attachment that it does not announce") from None
