"""Chunked bodies: the conformance corpus, and the promises that no single case shows."""

import random

import pytest

from streamserve.core._native import ffi, lib
from tests.support import wire

WAYS = wire.read_ways("chunked")


@pytest.mark.parametrize(("case", "way"), WAYS, ids=[f"{case.name}-{way}" for case, way in WAYS])
def test_corpus(case: wire.Case, way: str) -> None:
    wire.check_chunked(case, way)


def random_ends(chance: random.Random, length: int) -> list[int]:
    return [*sorted(chance.sample(range(length), min(length, chance.randrange(1, 6)))), length]


@pytest.mark.parametrize("seed", range(8))
def test_splits_change_nothing(seed: int) -> None:
    chance = random.Random(seed)
    for case in wire.read_cases("chunked"):
        whole = wire.run_chunked(case.data, [len(case.data)])
        ends = random_ends(chance, len(case.data))
        assert wire.run_chunked(case.data, ends) == whole, (case.name, ends)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bodies_are_judged_alike_whole_and_in_pieces(seed: int) -> None:
    chance = random.Random(seed)
    for case in wire.read_cases("chunked"):
        data = bytearray(case.data)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.choice(b'\r\n\t ;="\\0fZ\x00\x7f\xff')
        whole = wire.run_chunked(bytes(data), [len(data)])
        ends = random_ends(chance, len(data))
        assert wire.run_chunked(bytes(data), ends) == whole, (case.name, bytes(data), ends)


def encode(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("seed", range(4))
def test_what_was_encoded_comes_back(seed: int) -> None:
    chance = random.Random(seed)
    pieces = [chance.randbytes(chance.randrange(1, 70)) for _ in range(50)]
    data = encode(pieces)
    ends = [*sorted(chance.sample(range(len(data)), 40)), len(data)]
    assert wire.run_chunked(data, ends) == wire.Outcome("accepted", end=len(data), body=b"".join(pieces))


def test_hundred_thousand_tiny_chunks_are_one_call_each() -> None:
    count = 100_000
    data = b"1\r\nx\r\n" * count + b"0\r\n\r\n"
    chunked, used, span = ffi.new("ss_chunked *"), ffi.new("uint32_t *"), ffi.new("ss_span *")
    lib.ss_chunked_init(chunked)
    buffer, consumed = wire.exact(data), 0
    for _ in range(count):
        assert lib.ss_chunked_next(chunked, buffer + consumed, len(data) - consumed, used, span) == lib.SS_OK
        assert span.length == 1
        consumed += used[0]
    assert lib.ss_chunked_next(chunked, buffer + consumed, len(data) - consumed, used, span) == lib.SS_OK
    assert (span.length, chunked.done, consumed + used[0]) == (0, 1, len(data))


def test_dribbled_chunk_line_is_searched_once() -> None:
    """`scanned` at the end of what is there after each call: each byte was searched in one call."""
    line = b"5;" + b"e" * 4094
    chunked, used, span = ffi.new("ss_chunked *"), ffi.new("uint32_t *"), ffi.new("ss_span *")
    lib.ss_chunked_init(chunked)
    buffer = wire.exact(line)
    for end in range(len(line) + 1):
        assert lib.ss_chunked_next(chunked, buffer, end, used, span) == lib.SS_NEED_DATA
        assert (used[0], chunked.scanned) == (0, end)


def test_partial_line_is_not_consumed() -> None:
    chunked, used, span = ffi.new("ss_chunked *"), ffi.new("uint32_t *"), ffi.new("ss_span *")
    lib.ss_chunked_init(chunked)
    data = b"2\r\nab\r\n1"
    assert lib.ss_chunked_next(chunked, wire.exact(data), len(data), used, span) == lib.SS_OK
    assert (used[0], span.offset, span.length) == (5, 3, 2)
    rest = data[5:]
    assert lib.ss_chunked_next(chunked, wire.exact(rest), len(rest), used, span) == lib.SS_NEED_DATA
    assert used[0] == 2


def test_end_stays_the_end() -> None:
    chunked, used, span = ffi.new("ss_chunked *"), ffi.new("uint32_t *"), ffi.new("ss_span *")
    lib.ss_chunked_init(chunked)
    data = b"0\r\n\r\nGET"
    for length in (5, 0):
        assert lib.ss_chunked_next(chunked, wire.exact(data), len(data), used, span) == lib.SS_OK
        assert (used[0], span.length, chunked.done) == (length, 0, 1)


def test_cut_short_body_is_never_complete() -> None:
    """Whatever is missing at the end, the decoder wants more (RFC 9112 section 8)."""
    data = b"5;a=b\r\nhello\r\n0\r\nX-Checksum: 1\r\n\r\n"
    for end in range(len(data)):
        assert wire.run_chunked(data[:end], [end]).verdict == "incomplete"


@pytest.mark.parametrize("byte", range(256))
def test_each_byte_in_a_size(byte: int) -> None:
    """Only hexadecimal digits make a size (RFC 9112 section 7.1)."""
    data = b"0" + bytes([byte]) + b"\r\n"
    outcome = wire.run_chunked(data, [len(data)])
    assert (outcome.verdict == "incomplete") == (byte in b"0123456789abcdefABCDEF")
