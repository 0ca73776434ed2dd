"""The errors that streamserve raises, each named for whose fault it is.

    StreamserveError
    ├── ConfigurationError        the person who starts the server
    │   └── AddressError          likewise: nothing can listen at an address
    ├── RemoteProtocolError       the peer on the wire
    │   └── HandshakeRefused      likewise: its handshake is none, or it may not have a WebSocket
    ├── ClientGoneWhileSending    nobody: the client left, and something was to be sent to it
    ├── WebSocketClosed           nobody: the connection has ended
    ├── LocalProtocolError        the application
    │   └── ResponseComplete      likewise: it writes on after the end
    ├── LoopExit                  the application: it waits for what cannot come
    ├── BlockingSwitchOutError    the application: it waits where it must not
    ├── InvalidSwitchError        usually a mistake in code that switches by hand
    ├── ConcurrentObjectUseError  the application: two greenlets wait on one thing
    └── InvalidThreadUseError     the application: an object of another thread's loop

Two stand apart, for they are no errors and `except Exception` does not see them. HubDestroyed, like every
GreenletExit, ends a greenlet. ClientGone ends a request whose client has left, where it waits; each
ClientGoneWhileSending is one too.
Surfaces shaped like the standard library raise the standard library's errors, not these.
"""

from greenlet import GreenletExit

__all__ = [
    "AddressError",
    "BlockingSwitchOutError",
    "ClientGone",
    "ClientGoneWhileSending",
    "ConcurrentObjectUseError",
    "ConfigurationError",
    "HandshakeRefused",
    "HubDestroyed",
    "InvalidSwitchError",
    "InvalidThreadUseError",
    "LocalProtocolError",
    "LoopExit",
    "RemoteProtocolError",
    "ResponseComplete",
    "StreamserveError",
    "WebSocketClosed",
]


class StreamserveError(Exception):
    """The root: catch it to catch whatever streamserve itself raises, but what ends a greenlet or a request."""


class ConfigurationError(StreamserveError):
    """A setting, an address or the name of the application cannot be used.

    Raised before anything is served. The message is one line that names the value, where it came from and what to
    do; the command line prints it and exits with 2.

    Args:
        message: That line.
        details: What to print before it, such as the traceback of an application that cannot be imported.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class AddressError(ConfigurationError, OSError):
    """The system does not let a server listen at an address.

    Raised when the address is opened; an OSError too, for code that asks for `errno`. The message names the address
    and what to do.

    Args:
        message: That line.
        errno: The system's error number, None where another than the system refused.
    """

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class RemoteProtocolError(StreamserveError):
    """The peer broke HTTP or WebSocket, or one of the limits and deadlines.

    Raised while a request is read. Nothing is wrong with the application; the server answers `status` and closes the
    connection. An application that reads a body lets it pass.

    Args:
        message: What the peer did, with the limit it broke.
        status: The HTTP status to answer.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    def __reduce__(self) -> tuple[type["RemoteProtocolError"], tuple[str, int]]:
        return type(self), (self.message, self.status)


class ClientGone(BaseException):
    """The client has left: there is nobody to make a response for.

    Raised where its request waits for whatever it is (the setting client_gone). It is nobody's fault: free what is
    held by `finally` or `with`, and let it pass; it is logged nowhere.

    It is no Exception, as asyncio.CancelledError is none since Python 3.8: it says nothing of what was waited for. A
    library that tries again when its own connection fails would otherwise take it for that, and send the request
    that it was waiting for once more. `except ClientGone` catches it, and ClientGoneWhileSending.
    """


class ClientGoneWhileSending(ClientGone, StreamserveError, ConnectionError):
    """The client has left, or takes nothing of its response any more, and something was to be sent to it.

    Raised where the application sends: by `write()`, and by what sends early hints. It is a ConnectionError as well,
    for that is what `except OSError` around a send expects. Stop, and let it pass.
    """


class HandshakeRefused(RemoteProtocolError):
    """A client's handshake for a WebSocket is none, or its origin may not have one.

    Raised when the application first uses the WebSocket. Let it pass: the server answers `status` and the reason.
    """


class WebSocketClosed(StreamserveError, ConnectionError):
    """A WebSocket has ended, and something was to be sent.

    Raised where the application sends. It is no fault: stop sending.

    Args:
        code: How it ended (RFC 6455 section 7.4.1); 1006: without a Close.
        reason: What the peer said.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"the WebSocket has ended with {code}{f': {reason}' if reason else ''}")
        self.code = code
        self.reason = reason

    def __reduce__(self) -> tuple[type["WebSocketClosed"], tuple[int, str]]:
        return type(self), (self.code, self.reason)


class LocalProtocolError(StreamserveError):
    """The application broke its side of a protocol: PEP 3333, HTTP or WebSocket.

    Raised where the application made the call, or logged with its traceback when there is no such place; the client
    gets 500 if no byte of the response has left. Correct the application.
    """


class ResponseComplete(LocalProtocolError):
    """write() was called after the last byte of the response: what is written has no place in it."""


class LoopExit(StreamserveError):
    """A greenlet waits, and nothing is left that could ever wake it.

    Raised in the main greenlet when the loop has no timer, no descriptor and no other thread to wait for: a deadlock,
    or a forgotten `set()` or `put()`. Start what is to wake the waiter first, or give the wait a timeout.
    Its arguments are what happened, and the hub.
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class BlockingSwitchOutError(StreamserveError, AssertionError):
    """Code that must not wait tried to.

    Raised when the hub, or a callback that runs in it, calls something that parks. Spawn a greenlet for that work.
    """


class InvalidSwitchError(StreamserveError, AssertionError):
    """A waiting greenlet was switched to by something it did not wait for.

    Raised in the waiting greenlet. Usually some code called `greenlet.switch()` on it by hand: let it use an event or
    a queue instead.
    """


class ConcurrentObjectUseError(StreamserveError, AssertionError):
    """Two greenlets wait for the same direction of one descriptor.

    Raised in the second one, since neither could know whose bytes arrive. Guard the object with a lock, or give each
    greenlet its own.
    """


class InvalidThreadUseError(StreamserveError, RuntimeError):
    """An object that belongs to one thread's loop was used from another thread.

    Raised in the other thread. Hand the work over with something that any thread may use, such as an event or a queue.
    """


class HubDestroyed(GreenletExit):
    """The hub is being destroyed, and with it whatever still waits.

    Raised in waiting greenlets while the hub ends. Like GreenletExit it ends the greenlet in silence: let it pass.
    """
