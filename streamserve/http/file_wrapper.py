"""wsgi.file_wrapper: a file as the body of a response (PEP 3333)."""

from __future__ import annotations

from typing import Any


class FileWrapper:
    """Iterates over a file in blocks; `close` closes it.

    Args:
        file: has read(size), and may have close().
        block_size: bytes read at once.
    """

    def __init__(self, file: Any, block_size: int = 65536) -> None:
        self.file = file
        self.block_size = block_size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        block: bytes = self.file.read(self.block_size)
        if not block:
            raise StopIteration
        return block
