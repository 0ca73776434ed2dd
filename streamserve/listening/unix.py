"""Unix sockets of servers: the file that a dead server left behind goes, and ours goes when we do."""

import errno
import grp
import os
import pwd
import re
import socket
import stat
from dataclasses import dataclass
from socket import socket as Socket

from streamserve.errors import AddressError

__all__ = ["UnixFile", "UnixListener", "open_unix_datagram_socket", "open_unix_listener"]


NUMBER = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class UnixFile:
    """Who may connect: what becomes of the socket's file before anybody can.

    Args:
        mode: Its permissions; to connect is to write. None: as the umask leaves them.
        owner: "user", "user:group" or ":group", by name or number; "": whoever starts the server.
    """

    mode: int | None = None
    owner: str = ""

    def apply(self, path: str) -> None:
        """Gives the file its owner and mode.

        Raises:
            AddressError: There is no such user, or only root may do that.
        """
        uid, gid = self._ids(path)
        try:
            if self.owner:
                os.chown(path, uid, gid)
            if self.mode is not None:
                os.chmod(path, self.mode)
        except OSError as error:
            raise AddressError(
                f"cannot listen on unix:{path}: its owner or mode cannot be set: {error.strerror}; only root may give"
                " files away, others to a group that they are in",
                error.errno,
            ) from error

    def _ids(self, path: str) -> tuple[int, int]:
        user, _, group = self.owner.partition(":")
        try:
            uid = -1 if not user else int(user) if NUMBER.fullmatch(user) else pwd.getpwnam(user).pw_uid
            gid = -1 if not group else int(group) if NUMBER.fullmatch(group) else grp.getgrnam(group).gr_gid
        except KeyError:
            raise AddressError(
                f"cannot listen on unix:{path}: socket_owner={self.owner!r} is no user, user:group or :group of this"
                " machine; give one that is in /etc/passwd and /etc/group, or numbers"
            ) from None
        return uid, gid


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


def open_unix_listener(path: str, backlog: int, file: UnixFile | None = None) -> UnixListener:
    """Opens a listening, non-blocking unix socket, in place of a file that a dead server left behind.

    Args:
        path: Of its file.
        backlog: How many connections the kernel keeps until they are accepted.
        file: Who may connect; None: whom the umask lets.

    Raises:
        AddressError: Somebody listens there, or the file cannot be made; the message says what to do.
    """
    return _open(path, socket.SOCK_STREAM, backlog, file or UnixFile())


def open_unix_datagram_socket(path: str) -> UnixListener:
    """Opens a non-blocking unix socket for datagrams, with the promises of `open_unix_listener`.

    Raises:
        AddressError: As there.
    """
    return _open(path, socket.SOCK_DGRAM, 0, UnixFile())


def _open(path: str, kind: int, backlog: int, file: UnixFile) -> UnixListener:
    listener = UnixListener(socket.AF_UNIX, kind)
    try:
        _remove_stale_file(path)
        listener.bind(path)
        listener.own(path)
        file.apply(path)  # nobody can connect before the call of listen
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
