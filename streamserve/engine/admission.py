"""What waits for a client while its connect handler runs.

A client drops what comes for a namespace before the answer to its CONNECT. So what is sent to it there meanwhile, by
the handler or by others, is kept until that answer: behind CONNECT it follows, behind a refusal it is dropped.
"""

from __future__ import annotations

from typing import Any

_Packets = list[Any]


class Admission:
    """The clients whose connect handlers run, each with what waits for it.

    Args:
        packet_class: of Socket.IO packets, for the namespace of those that are encoded already.
    """

    __slots__ = ("_packet_class", "_waiting")

    def __init__(self, packet_class: Any) -> None:
        self._packet_class = packet_class
        self._waiting: dict[str, dict[str, _Packets]] = {}

    def begin(self, eio_sid: str, namespace: str) -> None:
        """A connect handler is about to run."""
        self._waiting.setdefault(eio_sid, {})[namespace] = []

    def end(self, eio_sid: str, namespace: str) -> _Packets:
        """The client is answered, or gone; returns what waits for it. Twice is fine."""
        of_client = self._waiting.get(eio_sid)
        if of_client is None:
            return []
        packets = of_client.pop(namespace, [])
        if not of_client:
            del self._waiting[eio_sid]
        return packets

    def keeps(self, eio_sid: str, namespace: str, packets: _Packets) -> bool:
        """Whether they wait now; else they are to be sent."""
        waiting = self._waiting.get(eio_sid, {}).get(namespace)
        if waiting is None:
            return False
        waiting += packets
        return True

    def keeps_encoded(self, eio_sid: str, pkt: Any) -> bool:
        """The same for one packet of Engine.IO, whose data tells the namespace; an attachment follows its event."""
        of_client = self._waiting.get(eio_sid)
        if of_client is None:
            return False
        if isinstance(pkt.data, bytes) and self._packet_class.uses_binary_events:
            behind = [packets for packets in of_client.values() if packets and _awaits_attachments(packets)]
            for packets in behind:
                packets.append(pkt)
            return bool(behind)
        namespace = self._packet_class(encoded_packet=pkt.data).namespace or "/"
        return self.keeps(eio_sid, namespace, [pkt])


def _awaits_attachments(packets: _Packets) -> bool:
    """Whether the last event has fewer of them behind it than it announces."""
    for behind, pkt in enumerate(reversed(packets)):
        if isinstance(pkt.data, str):
            count, dash, _ = pkt.data[1:].partition("-")
            return bool(dash) and count.isdecimal() and behind < int(count)
    return False
