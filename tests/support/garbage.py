"""Garbage whose collection does something, as finalizers of programs do."""

from collections.abc import Callable


class Garbage:
    """A cycle: the collection that frees it calls the action."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action
        self.itself = self

    def __del__(self) -> None:
        self.action()
