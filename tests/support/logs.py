"""What was logged, as a test may read it while another thread still writes.

A record may come after the response that it is about has reached the client, so what must be there is waited for.
"""

from typing import Any

from tests.support.server import Running, eventually


def logged(caplog: Any) -> str:
    """The messages so far, a line each, with the error of those that have one.

    `caplog.text` gets a record's line a moment after `caplog.records` has the record.
    """
    return "\n".join(
        f"{record.getMessage()} {record.exc_info[1] if record.exc_info else ''}" for record in list(caplog.records)
    )


def log_with(caplog: Any, words: str, times: int = 1) -> str:
    """Waits until the words were logged so many times, and returns all that was logged."""
    eventually(lambda: logged(caplog).count(words) >= times, f"{words!r} was logged {times} times")
    return logged(caplog)


def awaited_lines(caplog: Any, count: int = 1) -> list[str]:
    """The messages, once there are so many: a line may be written after its client saw the connection end."""
    eventually(lambda: len(caplog.records) >= count, f"{count} records")
    return [record.getMessage() for record in list(caplog.records)]


def tracebacks(caplog: Any, count: int) -> list[Any]:
    """Waits for so many records of exceptions, and returns all of them that are there."""

    def found() -> list[Any]:
        return [record for record in list(caplog.records) if record.exc_info]

    eventually(lambda: len(found()) >= count, f"{count} logged exceptions")
    return found()


def no_tracebacks(caplog: Any, running: Running) -> bool:
    """Whether the server, once it has done what it had begun, has logged no exception."""
    for _ in range(2):  # the first may come in the turn that is about to log
        running.call(lambda: None)
    return not tracebacks(caplog, 0)
