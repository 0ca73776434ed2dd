"""Request heads: the conformance corpus, and the promises that no single case shows."""

import random
from typing import Any

import pytest

from streamserve.core._native import ffi, lib
from tests.support import wire

WAYS = wire.read_ways("http1")
MIB = 1 << 20


@pytest.mark.parametrize(("case", "way"), WAYS, ids=[f"{case.name}-{way}" for case, way in WAYS])
def test_corpus(case: wire.Case, way: str) -> None:
    wire.check_head(case, way)


def random_ends(chance: random.Random, length: int) -> list[int]:
    return [*sorted(chance.sample(range(length), min(length, chance.randrange(1, 6)))), length]


@pytest.mark.parametrize("seed", range(8))
def test_splits_change_nothing(seed: int) -> None:
    chance = random.Random(seed)
    for case in wire.read_cases("http1"):
        whole = wire.run_head(case.data, [len(case.data)], case.limits)
        ends = random_ends(chance, len(case.data))
        assert wire.run_head(case.data, ends, case.limits) == whole, (case.name, ends)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_heads_are_judged_alike_whole_and_in_pieces(seed: int) -> None:
    chance = random.Random(seed)
    for case in wire.read_cases("http1"):
        data = bytearray(case.data)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.choice(b"\r\n\t :,/0aZ\x00\x7f\xff")
        whole = wire.run_head(bytes(data), [len(data)], case.limits)
        ends = random_ends(chance, len(data))
        assert wire.run_head(bytes(data), ends, case.limits) == whole, (case.name, bytes(data), ends)


def dribble(step: Any, head: Any, data: bytes, limits: Any) -> int:
    """Offers one byte more at each call; returns how often `scanned` did not stand right behind it."""
    buffer, late = wire.exact(data), 0
    for end in range(head.scanned + 1, len(data)):
        assert step(head, buffer, end, limits) == lib.SS_NEED_DATA
        late += head.scanned != end
    return late


def test_dribbled_head_is_searched_once() -> None:
    """`scanned` at the end of what is there after each call: each byte was searched in one call."""
    limits = ffi.new("ss_http1_limits *", {"max_line": MIB, "max_head": 4 * MIB, "max_fields": 100})
    line = b"GET /" + b"a" * (MIB - 32) + b" HTTP/1.1\r\n"
    data = line + b"Host: a\r\nCookie: " + b"c" * MIB + b"\r\n\r\n"
    head = ffi.new("ss_http1 *")
    lib.ss_http1_init(head)
    assert dribble(lib.ss_http1_line, head, line, limits) == 0
    assert lib.ss_http1_line(head, wire.exact(line), len(line), limits) == lib.SS_OK
    assert dribble(lib.ss_http1_fields, head, data, limits) == 0
    assert lib.ss_http1_fields(head, wire.exact(data), len(data), limits) == lib.SS_OK
    assert head.end == len(data)


def test_ten_thousand_repeated_names_are_one_pass() -> None:
    count = 10_000
    limits = ffi.new("ss_http1_limits *", {"max_line": 100, "max_head": MIB, "max_fields": count + 1})
    data = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"Accept: */*\r\n" * count + b"\r\n"
    head = ffi.new("ss_http1 *")
    lib.ss_http1_init(head)
    buffer = wire.exact(data)
    assert lib.ss_http1_line(head, buffer, len(data), limits) == lib.SS_OK
    assert lib.ss_http1_fields(head, buffer, len(data), limits) == lib.SS_OK
    assert head.framing.fields == count + 1


def test_answers_stay_the_same_after_the_end() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    head, limits = ffi.new("ss_http1 *"), ffi.new("ss_http1_limits *", wire.LIMITS)
    lib.ss_http1_init(head)
    buffer = wire.exact(data)
    for _ in range(2):
        assert lib.ss_http1_line(head, buffer, len(data), limits) == lib.SS_OK
    for _ in range(2):
        assert lib.ss_http1_fields(head, buffer, len(data), limits) == lib.SS_OK
    assert head.end == len(data)


@pytest.mark.parametrize("number", range(1, lib.SS_REFUSAL_COUNT))
def test_every_refusal_has_a_status_and_a_text(number: int) -> None:
    unanswered = number in (
        lib.SS_HANDSHAKE_TIMEOUT,
        lib.SS_HANDSHAKES_FULL,
        lib.SS_BAD_PROXY_HEADER,
        lib.SS_PROXY_TIMEOUT,
    )  # there is nobody to understand an answer
    assert unanswered or lib.ss_refusal_status(number) in (400, 408, 413, 414, 417, 431, 501, 503, 505)
    assert len(ffi.string(lib.ss_refusal_text(number))) > 20


@pytest.mark.parametrize("number", [-1, 0, lib.SS_REFUSAL_COUNT, 99])
def test_what_is_no_refusal_has_no_status(number: int) -> None:
    assert lib.ss_refusal_status(number) == 0
    assert ffi.string(lib.ss_refusal_text(number))


# The bytes of a byte class are few enough to try them all.


def verdict(data: bytes) -> str:
    outcome = wire.run_head(data, [len(data)], wire.LIMITS)
    return outcome.refusal or outcome.verdict


TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.mark.parametrize("byte", range(256))
def test_each_byte_in_each_place(byte: int) -> None:
    """Which bytes a method, target, name and value may hold (RFC 9110 sections 5.5, 5.6.2, 9.1; 9112 section 3.2)."""
    one = bytes([byte])
    breaks = byte in b"\r\n"
    token = byte in TOKEN_BYTES

    method = verdict(b"G" + one + b"T / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (method == "accepted") == token

    target = verdict(b"GET /a" + one + b"b HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (target == "accepted") == (0x21 <= byte <= 0x7E and byte != ord("#"))

    name = verdict(b"GET / HTTP/1.1\r\nHost: a\r\nx" + one + b"y: 1\r\n\r\n")
    assert (name == "accepted") == (token or byte == ord(":"))

    allowed = byte == 9 or (byte >= 0x20 and byte != 0x7F)
    for at in range(20):  # every place in the words of eight bytes that are checked at once, and behind them
        value = b"v" * at + one + b"v" * (19 - at)
        answer = verdict(b"GET / HTTP/1.1\r\nHost: a\r\nx: " + value + b"\r\n\r\n")
        assert answer == ("accepted" if allowed else "SS_BAD_LINE_END" if breaks else "SS_BAD_FIELD_VALUE")


@pytest.mark.parametrize(("max_line", "answer"), [(14, "accepted"), (13, "SS_LINE_TOO_LONG")])
def test_limits_are_exact_for_the_request_line(max_line: int, answer: str) -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for ends in ([len(data)], range(len(data) + 1)):
        outcome = wire.run_head(data, ends, wire.LIMITS | {"max_line": max_line})
        assert (outcome.refusal or outcome.verdict) == answer


@pytest.mark.parametrize("missing", [0, 1])
def test_limits_are_exact_for_the_head(missing: int) -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for ends in ([len(data)], range(len(data) + 1)):
        outcome = wire.run_head(data, ends, wire.LIMITS | {"max_head": len(data) - missing})
        assert (outcome.refusal or outcome.verdict) == ("SS_HEAD_TOO_LARGE" if missing else "accepted")
