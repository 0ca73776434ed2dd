"""Conformance cases of the wire: how they are written, and how the parsers of the core run them.

A case lives in a Markdown file under tests/corpus/ and has three parts: a
sentence with its source, a fenced block with the bytes, and a line that says
what must come::

    A bare LF ends no header line (RFC 9112 section 2.2).

    ```
    GET / HTTP/1.1\\r\\n
    Host: a\\n
    ```

    refused: SS_BAD_LINE_END

Line breaks of the block are layout; only escapes make control bytes: ``\\r``,
``\\n``, ``\\t``, ``\\\\`` and ``\\xHH``. ``{text*300}`` repeats. Before the verdict may
stand ``limits: max_line 20, max_fields 2`` (request heads only).

The verdict is one of::

    accepted: method GET, target /, flags SS_HOST|SS_CLOSE     (what is not named is not compared)
    accepted: hello world                                      (chunked: the body)
    refused: SS_BAD_CHUNK
    incomplete

Every case runs three ways: whole, byte by byte, and with a valid request
behind it, which must neither be consumed nor change anything. The buffers that
C sees are exactly as long as their bytes, so that a sanitizer notices a look
past the end.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamserve.core._native import ffi, lib

CORPUS = Path(__file__).parents[1] / "corpus"
TAIL = b"GET /next HTTP/1.1\r\nHost: next\r\nContent-Length: 1\r\n\r\nx"
LIMITS = {"max_line": 8192, "max_head": 65536, "max_fields": 100}
WAYS = ("whole", "bytewise", "tail")

FORMS = ("SS_ORIGIN_FORM", "SS_ABSOLUTE_FORM", "SS_AUTHORITY_FORM", "SS_ASTERISK_FORM")
FLAGS = ("SS_HAS_LENGTH", "SS_CHUNKED", "SS_CLOSE", "SS_KEEP_ALIVE", "SS_EXPECT", "SS_UPGRADE", "SS_HOST")


@dataclass(frozen=True)
class Case:
    """One conformance case: `data` must lead to `verdict`, in the words of `detail`."""

    name: str
    sentence: str
    data: bytes
    verdict: str
    detail: str
    limits: dict[str, int]

    def ways(self) -> tuple[str, ...]:
        """Returns how the case runs; bytes behind an incomplete one would complete it."""
        return WAYS[:2] if self.verdict == "incomplete" else WAYS


@dataclass
class Outcome:
    """What a parser made of some bytes."""

    verdict: str
    refusal: str = ""
    end: int = 0
    head: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


# ---- reading the corpus ---------------------------------------------------------


def unescape(text: str) -> bytes:
    """Returns the bytes that a fenced block, or a chunked body, stands for."""
    text = text.replace("\n", "")
    text = re.sub(r"\{([^{}]+)\*(\d+)\}", lambda match: match[1] * int(match[2]), text)
    named = {"r": "\r", "n": "\n", "t": "\t", "\\": "\\"}
    text = re.sub(
        r"\\(x[0-9a-fA-F]{2}|.)", lambda match: named.get(match[1]) or chr(int(match[1].removeprefix("x"), 16)), text
    )
    return text.encode("latin-1")


CASE = re.compile(
    r"^(?P<sentence>[A-Z](?:[^\n]+\n)+)\n"
    r"```\n(?P<block>(?:[^`\n][^\n]*\n)*)```\n\n"
    r"(?:limits: (?P<limits>[^\n]+)\n)?"
    r"(?P<verdict>accepted|refused|incomplete)(?:: ?(?P<detail>[^\n]*))?$",
    re.MULTILINE,
)


def read_cases(folder: str) -> list[Case]:
    """Returns the cases of tests/corpus/<folder>, named after their file and line.

    Raises:
        ValueError: a fenced block belongs to no well-formed case.
    """
    cases = []
    for path in sorted((CORPUS / folder).glob("*.md")):
        text = path.read_text()
        found = list(CASE.finditer(text))
        if len(found) * 2 != len(re.findall(r"^```", text, re.MULTILINE)):
            raise ValueError(f"{path}: a fenced block belongs to no case; see tests/support/wire.py")
        for match in found:
            line = text.count("\n", 0, match.start()) + 1
            limits = dict(pair.split() for pair in (match["limits"] or "").split(", ") if pair)
            cases.append(
                Case(
                    name=f"{path.stem}.md:{line}",
                    sentence=" ".join(match["sentence"].split()),
                    data=unescape(match["block"]),
                    verdict=match["verdict"],
                    detail=match["detail"] or "",
                    limits=LIMITS | {name: int(value) for name, value in limits.items()},
                )
            )
    return cases


def read_ways(folder: str) -> list[tuple[Case, str]]:
    """Returns every case of a folder with every way to run it, for parametrisation."""
    return [(case, way) for case in read_cases(folder) for way in case.ways()]


def stops(data: bytes, way: str) -> tuple[bytes, Sequence[int]]:
    """Returns the bytes to offer, and how many of them are there at each call."""
    if way == "whole":
        return data, [len(data)]
    if way == "bytewise":
        return data, range(len(data) + 1)
    return data + TAIL, [len(data + TAIL)]


# ---- running the parsers --------------------------------------------------------


def exact(data: bytes) -> Any:
    """Returns a C array that ends where the bytes end."""
    array = ffi.new("char[]", len(data))
    ffi.memmove(array, data, len(data))
    return array


def refusal_name(number: int) -> str:
    """Returns the enumerator of a refusal, as api.h spells it."""
    return str(ffi.typeof("enum ss_refusal").elements[number])


def describe_head(head: Any, data: bytes) -> dict[str, str]:
    """Returns what an accepted head says, in the words of the corpus."""
    method, target = (data[span.offset : span.offset + span.length].decode() for span in (head.method, head.target))
    flags = [name for name in FLAGS if head.framing.flags & getattr(lib, name)]
    return {
        "method": method,
        "method_id": str(ffi.typeof("enum ss_method").elements[head.method_id]),
        "target": target,
        "minor": str(head.minor),
        "form": FORMS[head.target_form],
        "flags": "|".join(flags) or "none",
        "length": str(head.framing.content_length),
        "fields": str(head.framing.fields),
        "block": str(head.block),
    }


def run_head(data: bytes, ends: Sequence[int], limits: dict[str, int]) -> Outcome:
    """Parses a request head of which more is there at each call.

    Args:
        data: the bytes.
        ends: how many of them each call sees, ascending.
        limits: the fields of ss_http1_limits.
    """
    head = ffi.new("ss_http1 *")
    bounds = ffi.new("ss_http1_limits *", limits)
    lib.ss_http1_init(head)
    step, scanned = lib.ss_http1_line, 0
    for end in ends:
        seen = exact(data[:end])
        answer = step(head, seen, end, bounds)
        if answer == lib.SS_OK and step is lib.ss_http1_line:
            step = lib.ss_http1_fields
            answer = step(head, seen, end, bounds)
        assert scanned <= head.scanned <= end, "the search for a line end went back, or beyond the data"
        scanned = head.scanned
        if answer == lib.SS_ERROR:
            assert step(head, seen, end, bounds) == lib.SS_ERROR, "a refused head stays refused"
            return Outcome("refused", refusal_name(head.refusal))
        if answer == lib.SS_OK:
            return Outcome("accepted", end=head.end, head=describe_head(head, data))
    return Outcome("incomplete")


def chunk_steps(chunked: Any, pending: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Calls ss_chunked_next on what is there until it wants more; yields answer, count used, piece."""
    used, span = ffi.new("uint32_t *"), ffi.new("ss_span *")
    answer = lib.SS_OK
    while answer == lib.SS_OK and not chunked.done:
        buffer = exact(pending)
        answer = lib.ss_chunked_next(chunked, buffer, len(pending), used, span)
        assert used[0] <= len(pending)
        if answer == lib.SS_OK:
            assert span.offset + span.length <= used[0], "a piece of the body lies in the bytes that were used"
            assert span.length > 0 or chunked.done
        yield answer, used[0], pending[span.offset : span.offset + span.length]
        pending = pending[used[0] :]


def run_chunked(data: bytes, ends: Sequence[int]) -> Outcome:
    """Decodes a chunked body of which more is there at each step."""
    chunked = ffi.new("ss_chunked *")
    lib.ss_chunked_init(chunked)
    body, consumed = b"", 0
    for end in ends:
        for answer, used, piece in chunk_steps(chunked, data[consumed:end]):
            consumed += used
            body += piece
            if answer == lib.SS_ERROR:
                return Outcome("refused", refusal_name(chunked.refusal), body=body)
        if chunked.done:
            return Outcome("accepted", end=consumed, body=body)
    return Outcome("incomplete", body=body)


# ---- comparing ------------------------------------------------------------------


def check_verdict(case: Case, outcome: Outcome) -> None:
    """Asserts what heads and bodies have in common."""
    found = f"{case.sentence} Found: {outcome.verdict} {outcome.refusal}"
    assert outcome.verdict == case.verdict, found
    if case.verdict == "refused":
        assert outcome.refusal == case.detail, found
    if case.verdict == "accepted":
        assert outcome.end == len(case.data), f"consumed something else than the message: {case.sentence}"


def check_head(case: Case, way: str) -> None:
    """Runs a case of a request head one way and asserts its verdict."""
    data, ends = stops(case.data, way)
    outcome = run_head(data, ends, case.limits)
    check_verdict(case, outcome)
    if case.verdict == "accepted":
        expected = dict(pair.split(" ", 1) for pair in case.detail.split(", ") if pair)
        found = {name: outcome.head[name] for name in expected}
        assert found == expected, f"{case.sentence} Found: {found}"


def check_chunked(case: Case, way: str) -> None:
    """Runs a case of a chunked body one way and asserts its verdict."""
    data, ends = stops(case.data, way)
    outcome = run_chunked(data, ends)
    check_verdict(case, outcome)
    if case.verdict == "accepted":
        assert outcome.body == unescape(case.detail), f"{case.sentence} Found: {outcome.body!r}"
