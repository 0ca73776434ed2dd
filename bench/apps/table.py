"""A table of 10 MB as a generator gives it, line by line, beside the small answers of bench.apps.hello."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bench.apps import hello

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

ROWS = 100_000
ROW = "%08d,2026-01-01T00:00:00+00:00,customer-%08d,Hello world,19.99,EUR,paid,warehouse 7,DHL,0000000000\n"
SIZE = ROWS * len(ROW % (0, 0))


def rows() -> Iterator[bytes]:
    """Each row is made when it is asked for."""
    for number in range(ROWS):
        yield (ROW % (number, number)).encode()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """/table.csv is the table; all else is what bench.apps.hello gives."""
    if environ["PATH_INFO"] != "/table.csv":
        return hello.app(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/csv")])
    return rows()
