"""WebSocket on the wire, for tests: frames as a client writes them, and the cases of tests/corpus/websocket/.

A case has a sentence with its source, a fenced block with one frame a line, and what comes of them::

    A message may come in pieces (RFC 6455 section 5.4).

    ```
    text+ he
    continuation llo
    ```

    messages: text hello
    answers: none

A frame is its opcode (a name, or opN), "+" where more follow (no FIN), options in brackets, and its payload with the
escapes of wire.py: ``text[unmasked] x``, ``binary[rsv2] x``, ``text[length=65536]`` (what the header says, whatever
the payload), ``text[long2] x`` and ``text[long8] x`` (a length in more bytes than it needs). ``raw`` is bytes as is.

`messages` are what Python is told, in order, a Close by its code; `answers` the frames that the client gets.
Each case runs whole, byte by byte, and with a message behind it.
"""

import re
import struct
from dataclasses import dataclass

from streamserve.core import lib
from tests.support.wire import CORPUS, unescape

OPCODES = {
    "continuation": lib.SS_WS_CONTINUATION,
    "text": lib.SS_WS_TEXT,
    "binary": lib.SS_WS_BINARY,
    "close": lib.SS_WS_CLOSE,
    "ping": lib.SS_WS_PING,
    "pong": lib.SS_WS_PONG,
}
NAMES = {opcode: name for name, opcode in OPCODES.items()}
MASK = b"\x12\xf3\x5a\x80"
TAIL = "tail"


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, options: tuple[str, ...] = (), mask: bytes = MASK
) -> bytes:
    """A client's frame."""
    first = opcode | 128 * fin | 64 * ("rsv1" in options) | 32 * ("rsv2" in options) | 16 * ("rsv3" in options)
    length = next((int(option[7:]) for option in options if option.startswith("length=")), len(payload))
    masked = 0 if "unmasked" in options else 128
    if "long8" in options or length > 0xFFFF:
        header = struct.pack("!BBQ", first, masked | 127, length)
    elif "long2" in options or length > 125:
        header = struct.pack("!BBH", first, masked | 126, length)
    else:
        header = struct.pack("!BB", first, masked | length)
    if not masked:
        return header + payload
    return header + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


LINE = re.compile(r"(?P<name>\w+)(?P<more>\+?)(?:\[(?P<options>[^\]]*)\])?(?: (?P<payload>.*))?")


def frame_of(line: str) -> bytes:
    """The bytes of one line of a case."""
    found = LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"{line!r} is no frame; see tests/support/frames.py")
    payload = unescape(found["payload"] or "")
    if found["name"] == "raw":
        return payload
    name = found["name"]
    opcode = int(name[2:]) if name.startswith("op") else OPCODES[name]
    options = tuple((found["options"] or "").split(",")) if found["options"] else ()
    return frame(opcode, payload, fin=not found["more"], options=options)


@dataclass(frozen=True)
class FrameCase:
    """`data` must give `messages` to Python and `answers` to the client."""

    name: str
    sentence: str
    data: bytes
    messages: list[str]
    answers: list[str]

    @property
    def ends(self) -> bool:
        """Nothing that follows is a message any more."""
        return any(message.startswith("close") for message in self.messages)


CASE = re.compile(
    r"^(?P<sentence>[A-Z](?:[^\n]+\n)+)\n"
    r"```\n(?P<block>(?:[^`\n][^\n]*\n)*)```\n\n"
    r"messages: (?P<messages>[^\n]+)\nanswers: (?P<answers>[^\n]+)$",
    re.MULTILINE,
)


def _listed(text: str) -> list[str]:
    return [] if text == "none" else text.split("; ")


def read_frame_cases() -> list[FrameCase]:
    """The cases of tests/corpus/websocket, named after their file and line.

    Raises:
        ValueError: a fenced block belongs to no well-formed case.
    """
    cases = []
    for path in sorted((CORPUS / "websocket").glob("*.md")):
        text = path.read_text()
        found = list(CASE.finditer(text))
        if len(found) * 2 != len(re.findall(r"^```", text, re.MULTILINE)):
            raise ValueError(f"{path}: a fenced block belongs to no case; see tests/support/frames.py")
        for match in found:
            cases.append(
                FrameCase(
                    name=f"{path.stem}.md:{text.count(chr(10), 0, match.start()) + 1}",
                    sentence=" ".join(match["sentence"].split()),
                    data=b"".join(frame_of(line) for line in match["block"].splitlines()),
                    messages=_listed(match["messages"]),
                    answers=_listed(match["answers"]),
                )
            )
    return cases


def described(opcode: int, payload: bytes) -> str:
    """A message or a frame in the words of a case; a long payload by its length."""
    name = NAMES[opcode]
    if opcode == lib.SS_WS_CLOSE:
        code = str(int.from_bytes(payload[:2], "big")) if payload else ""
        return f"{name} {code} {payload[2:].decode()}".rstrip()
    if len(payload) > 200:
        return f"{name} of {len(payload)}"
    if opcode == lib.SS_WS_TEXT:
        return f"{name} {payload.decode()}".rstrip()
    return f"{name} {payload.decode('latin-1').encode('unicode_escape').decode()}".rstrip()


def server_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The frames of a server, (opcode, payload) each, and the rest that is none yet."""
    frames = []
    while len(data) >= 2:
        assert data[0] & 0xF0 in (0x80, 0xC0), f"a frame of ours is not the only one of its message: {data[:2]!r}"
        assert not data[1] & 128, "a server masks nothing"
        size, length = 2, data[1] & 127
        if length >= 126:
            size = 4 if length == 126 else 10
            length = int.from_bytes(data[2:size], "big")
        if len(data) < size + length:
            break
        frames.append((data[0] & 15, data[size : size + length]))
        data = data[size + length :]
    return frames, data
