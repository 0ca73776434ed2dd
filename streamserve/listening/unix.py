"""Unix sockets of servers: the file that a dead server left behind goes, and ours goes when we do."""

import errno
import os
import socket
import stat
from socket import socket as Socket

from streamserve.errors import AddressError

__all__ = ["UnixListener", "open_unix_datagram_socket", "open_unix_listener"]


class UnixListener(Socket):
    """A unix socket that takes its file away when it is closed, if the file is still its own.

    A forked child closes its copy without touching the file: the listener lives on in the parent.
    """

    path: str = ""
    identity: tuple[int, int] = (0, 0)
    owner: int = 0

    def own(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.identity = _identity(path)
        self.owner = os.getpid()

    def close(self) -> None:
        if self.path and self.owner == os.getpid():
            try:
                if _identity(self.path) == self.identity:
                    os.unlink(self.path)
            except OSError:  # gone already, or no longer ours to remove
                pass
            self.path = ""
        super().close()


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def open_unix_listener(path: str, backlog: int) -> UnixListener:
    """Opens a listening, non-blocking unix socket, in place of a file that a dead server left behind.

    Raises:
        AddressError: Somebody listens there, or the file cannot be made; the message says what to do.
    """
    return _open(path, socket.SOCK_STREAM, backlog)


def open_unix_datagram_socket(path: str) -> UnixListener:
    """Opens a non-blocking unix socket for datagrams, with the promises of `open_unix_listener`.

    Raises:
        AddressError: As there.
    """
    return _open(path, socket.SOCK_DGRAM, 0)


def _open(path: str, kind: int, backlog: int) -> UnixListener:
    listener = UnixListener(socket.AF_UNIX, kind)
    try:
        _remove_stale_file(path)
        listener.bind(path)
        listener.own(path)
        if kind == socket.SOCK_STREAM:
            listener.listen(backlog)
        listener.setblocking(False)
    except AddressError:
        listener.close()
        raise
    except OSError as error:
        listener.close()
        raise AddressError(_failure(path, error), error.errno) from error
    return listener


def _remove_stale_file(path: str) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise AddressError(f"cannot listen on unix:{path}: the file exists and is no socket; choose another path")
    with Socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(path)
    if answer == errno.ECONNREFUSED:
        os.unlink(path)
    elif answer in (0, errno.EAGAIN, errno.EPROTOTYPE):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    elif answer != errno.ENOENT:
        raise OSError(answer, os.strerror(answer))


def _failure(path: str, error: OSError) -> str:
    directory = os.path.dirname(path) or "."
    match error.errno:
        case errno.EADDRINUSE:
            remedy = f"another process listens there; stop it (ss -lxp src {path} names it)"
            return f"cannot listen on unix:{path}: {remedy} or choose another path"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"cannot listen on unix:{path}: no permission; choose a directory that you may write to"
        case errno.ENOENT | errno.ENOTDIR:
            return f"cannot listen on unix:{path}: {directory} is no directory; make it or choose another path"
        case _:
            return f"cannot listen on unix:{path}: {error.strerror or error}; choose another path"
