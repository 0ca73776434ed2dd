"""wsgi.file_wrapper: a file as the body of a response (PEP 3333).

A file that is nothing but bytes on a disk is sent by the core, which needs its
descriptor only. Whatever transforms what it reads (gzip has a fileno() too) is
read block by block, as any other iterable.
"""

from __future__ import annotations

import io
import os
import stat
from signal import SIG_DFL, SIGPIPE, getsignal
from tempfile import _TemporaryFileWrapper
from typing import TYPE_CHECKING, Any

from streamserve.core import ffi, lib
from streamserve.errors import ClientGoneWhileSending

if TYPE_CHECKING:
    from streamserve.gateway.exchange import Exchange


class FileWrapper:
    """Iterates over a file in blocks; `close` closes it.

    Args:
        file: has read(size), and may have close().
        block_size: bytes read at once.

    Attributes:
        left: most bytes that are still to be read, what the Content-Length leaves; below zero: to the end.
    """

    left = -1

    def __init__(self, file: Any, block_size: int = 65536) -> None:
        self.file = file
        self.block_size = block_size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        size = self.block_size
        if self.left >= 0:
            size = min(size, self.left) if size > 0 else self.left
        block: bytes = self.file.read(size)
        if not block:
            raise StopIteration
        self.left -= len(block) if self.left >= 0 else 0
        return block

    def regular_range(self) -> tuple[int, int, int] | None:
        """Returns (descriptor, position, bytes from there to the end) of a regular file; None: it must be read."""
        file = self.file
        if file.__class__ is _TemporaryFileWrapper:
            file = file.file
        raw = file.raw if file.__class__ in (io.BufferedReader, io.BufferedRandom) else file
        if raw.__class__ is not io.FileIO:
            return None
        try:
            file.flush()
            position = file.tell()
            status = os.fstat(file.fileno())
        except (OSError, ValueError):  # closed, or a pipe
            return None
        left = status.st_size - position
        return (file.fileno(), position, left) if stat.S_ISREG(status.st_mode) and left > 0 else None


def send_file(exchange: Exchange, wrapper: FileWrapper) -> bool:
    """Has the core send a regular file; False: nothing was sent, the file must be read."""
    head = exchange.need_head()
    found = wrapper.regular_range()
    whole = head.whole
    if found is None or whole is None or head.status >= 500 or not exchange.endpoint.sends_files:
        return False
    descriptor, position, count = found
    if head.length > count or getsignal(SIGPIPE) is SIG_DFL:
        return False
    count = count if head.length < 0 else head.length
    core = exchange.endpoint.core
    if exchange.head_only:
        answer = lib.ss_conn_send(
            core, exchange.handle, head.data, head.size, ffi.NULL, count, whole.flags | lib.SS_SEND_NO_BODY
        )
    else:
        answer = lib.ss_conn_send_file(core, exchange.handle, whole, descriptor, position, count)
        if answer in (lib.SS_SYSTEM, lib.SS_NOMEM):
            return False
    exchange.started = exchange.done = True
    exchange.sent = 0 if exchange.head_only else count
    if answer < 0:
        raise ClientGoneWhileSending("the client went away before its response was complete")
    return True
