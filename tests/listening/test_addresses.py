"""Addresses as people write them, and the listeners made of them."""

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamserve.errors import AddressError, ConfigurationError
from streamserve.listening.addresses import (
    Address,
    AddressLike,
    DescriptorAddress,
    TcpAddress,
    UnixAddress,
    UnixFile,
    address_of,
    open_datagram_socket,
    open_listener,
    open_listeners,
    parse_address,
)


def refusal(address: object, *, backlog: int = 8) -> str:
    with pytest.raises(ConfigurationError) as caught:
        open_listener(address, backlog)  # type: ignore[arg-type]
    line = str(caught.value)
    assert "\n" not in line
    return line


def can_connect(family: int, address: object) -> bool:
    with socket.socket(family) as client:
        client.settimeout(10)
        return client.connect_ex(address) == 0  # type: ignore[arg-type]


@contextlib.contextmanager
def listening(address: AddressLike) -> Iterator[socket.socket]:
    listener = open_listener(address, 8)
    try:
        yield listener
    finally:
        listener.close()


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def may_open_port_81() -> bool:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 81))
    except PermissionError:
        return False
    except OSError:
        pass
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


FORKING_PARENT = """
import os, socket, sys
from streamserve.listening.addresses import open_listener

path = sys.argv[1]
listener = open_listener(f"unix:{path}", 8)
child = os.fork()
if child == 0:
    listener.close()
    os._exit(0)
ended = "closed" if os.waitpid(child, 0)[1] == 0 else "failed"
there = "there" if os.path.exists(path) else "gone"
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(10)
    print(f"child {ended}, file {there}, connected {client.connect_ex(path)}")
listener.close()
"""


class TestParse:
    @pytest.mark.parametrize(
        ("given", "address"),
        [
            ("127.0.0.1:8000", TcpAddress("127.0.0.1", 8000)),
            ("example.org:0", TcpAddress("example.org", 0)),
            ("[::1]:8000", TcpAddress("::1", 8000)),
            ("[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80)),
            (":8000", TcpAddress("", 8000)),
            ("8000", TcpAddress("", 8000)),
            (8000, TcpAddress("", 8000)),
            (("::1", 8000), TcpAddress("::1", 8000)),
            (("localhost", "80"), TcpAddress("localhost", 80)),
            ("*:8000", TcpAddress("", 8000)),
            (("*", 8000), TcpAddress("", 8000)),
            (("::1", 8000, 0, 0), TcpAddress("::1", 8000)),
            (("fe80::1", 8000, 0, 2), TcpAddress("fe80::1%2", 8000)),
            ("unix:/run/app.sock", UnixAddress("/run/app.sock")),
            ("unix:///run/app.sock", UnixAddress("/run/app.sock")),
            ("unix:app.sock", UnixAddress("app.sock")),
            ("fd://3", DescriptorAddress(3)),
            (TcpAddress("a", 1), TcpAddress("a", 1)),
        ],
    )
    def test_reads(self, given: AddressLike, address: Address) -> None:
        assert parse_address(given) == address

    @pytest.mark.parametrize(
        ("address", "text", "url"),
        [
            (TcpAddress("127.0.0.1", 80), "127.0.0.1:80", "http://127.0.0.1:80"),
            (TcpAddress("::1", 80), "[::1]:80", "http://[::1]:80"),
            (TcpAddress("", 80), ":80", "http://localhost:80"),
            (UnixAddress("/a b"), "unix:/a b", "unix:/a b"),
            (DescriptorAddress(3), "fd://3", "fd://3"),
        ],
    )
    def test_writes_what_it_reads(self, address: Address, text: str, url: str) -> None:
        assert (str(address), address.url) == (text, url)
        assert parse_address(text) == address

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ("", "has no port"),
            ("localhost", "'localhost' has no port; give host:port"),
            ("localhost:", "no usable port"),
            ("localhost:http", "no usable port; give a number from 0 to 65535"),
            ("localhost:65536", "no usable port"),
            ("localhost:-1", "no usable port"),
            ("::1:8000", "stands in brackets: [::1]:8000"),
            ("a b:80", "is not an address"),
            ("user@host:80", "is not an address"),
            ("http://localhost:80/", "is a URL, not an address; give 'localhost:80'"),
            ("unix:", "names no file"),
            ("unix:/a\0b", "names no file"),
            ("unix:/" + "x" * 107, "has 108 bytes, a unix socket takes 107; shorten it"),
            ("fd://", "names no descriptor"),
            ("fd://-1", "names no descriptor"),
            (70000, "no usable port"),
            (True, "is not an address"),
            (None, "is not an address"),
            (("a", 1, 2), "is not an address"),
            (("::1", 1, 0, "eth0"), "is not an address"),
            ((None, 1), "is not an address"),
            (("a", True), "no usable port"),
        ],
    )
    def test_refuses_in_one_line_that_says_what_to_give(self, given: object, problem: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            parse_address(given)  # type: ignore[arg-type]
        assert problem in str(caught.value)

    def test_longest_path_of_a_unix_socket_is_read(self) -> None:
        assert parse_address("unix:/" + "x" * 106) == UnixAddress("/" + "x" * 106)


class TestTcp:
    def test_listens_without_blocking_and_tells_its_real_port(self) -> None:
        with listening("127.0.0.1:0") as listener:
            address = address_of(listener)
            assert isinstance(address, TcpAddress) and address.port > 0
            assert parse_address(listener) == address
            assert can_connect(socket.AF_INET, (address.host, address.port))
            assert listener.accept()[1][0] == "127.0.0.1"
            with pytest.raises(BlockingIOError):
                listener.accept()

    def test_accepted_sockets_send_at_once(self) -> None:
        with listening("127.0.0.1:0") as listener, socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    def test_name_is_opened_at_its_ipv4_number(self) -> None:
        with listening("localhost:0") as listener:
            assert address_of(listener).url.startswith("http://127.0.0.1:")

    def test_port_is_free_again_at_once_after_connections(self) -> None:
        with listening("127.0.0.1:0") as listener:
            port = listener.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as client:
                listener.accept()[0].close()  # closes first: its end of the connection stays in TIME_WAIT
                assert client.recv(1) == b""
        with listening(f"127.0.0.1:{port}") as again:
            assert again.getsockname()[1] == port

    @needs_ipv6
    def test_every_interface_is_both_families(self) -> None:
        with listening(":0") as listener:
            port = listener.getsockname()[1]
            assert can_connect(socket.AF_INET, ("127.0.0.1", port))
            assert can_connect(socket.AF_INET6, ("::1", port))

    @needs_ipv6
    def test_ipv6_leaves_ipv4_to_its_own_listener(self) -> None:
        with listening("0.0.0.0:0") as taken:
            port = taken.getsockname()[1]
        listeners = open_listeners([TcpAddress("::", port), TcpAddress("0.0.0.0", port)], 8)
        try:
            assert [listener.family for listener in listeners] == [socket.AF_INET6, socket.AF_INET]
            assert can_connect(socket.AF_INET, ("127.0.0.1", port))
            listeners[1].accept()[0].close()
        finally:
            for listener in listeners:
                listener.close()

    @needs_ipv6
    def test_ipv6_number(self) -> None:
        with listening("[::1]:0") as listener:
            assert address_of(listener).url == f"http://[::1]:{listener.getsockname()[1]}"

    def test_port_in_use(self) -> None:
        with listening("127.0.0.1:0") as listener:
            text = str(address_of(listener))
            line = refusal(text)
        assert line.startswith(f"cannot listen on {text}: another process listens there")
        assert f"ss -lntup 'sport = :{text.rpartition(':')[2]}'" in line
        assert line.endswith("choose another port")

    def test_unknown_host(self) -> None:
        line = refusal("no-such-host.invalid:80")
        assert line.startswith("cannot listen on no-such-host.invalid:80: the host 'no-such-host.invalid' is not known")

    def test_refusal_is_an_oserror_with_its_number(self) -> None:
        with listening("127.0.0.1:0") as listener, pytest.raises(OSError) as caught:
            open_listener(address_of(listener))
        assert (type(caught.value), caught.value.errno) == (AddressError, errno.EADDRINUSE)

    def test_host_that_no_name_service_takes(self) -> None:
        assert "is not known" in refusal("x" * 70 + ".invalid:80")

    def test_number_of_another_machine(self) -> None:
        assert "this machine has no such address" in refusal("192.0.2.1:0")

    @pytest.mark.skipif(may_open_port_81(), reason="this user may open every port")
    def test_privileged_port_without_permission(self) -> None:
        assert "ports below 1024 need CAP_NET_BIND_SERVICE" in refusal("127.0.0.1:81")

    def test_system_failures_name_their_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Refusing(socket.socket):
            code = errno.EACCES

            def bind(self, address: object) -> None:
                raise OSError(self.code, os.strerror(self.code))

        monkeypatch.setattr("streamserve.listening.network.Socket", Refusing)
        assert "ports below 1024 need CAP_NET_BIND_SERVICE" in refusal("127.0.0.1:80")
        Refusing.code = errno.EAFNOSUPPORT
        assert "this machine has no IPv6; give an IPv4 address" in refusal("[::1]:80")
        Refusing.code = errno.ENOBUFS
        assert "No buffer space available; choose another address" in refusal("127.0.0.1:80")

    def test_every_interface_without_ipv6_is_ipv4(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class NoIpv6(socket.socket):
            def __init__(self, family: int = -1, kind: int = -1) -> None:
                if family == socket.AF_INET6:
                    raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
                super().__init__(family, kind)

        monkeypatch.setattr("streamserve.listening.network.Socket", NoIpv6)
        with listening(":0") as listener:
            assert listener.getsockname()[0] == "0.0.0.0"

    def test_opens_all_or_none(self) -> None:
        with listening("127.0.0.1:0") as blocked, listening("127.0.0.1:0") as free:
            addresses = [address_of(free), address_of(blocked)]
            free.close()
            with pytest.raises(ConfigurationError):
                open_listeners(addresses, 8)
        with listening(addresses[0]) as again:
            assert address_of(again) == addresses[0]


class TestUnix:
    @pytest.fixture
    def path(self, tmp_path: Path) -> str:
        return str(tmp_path / "app.sock")

    def test_listens_and_takes_its_file_away(self, path: str) -> None:
        with listening(f"unix:{path}") as listener:
            assert address_of(listener) == UnixAddress(path)
            assert can_connect(socket.AF_UNIX, path)
            with pytest.raises(BlockingIOError):
                listener.accept()[0].close()
                listener.accept()
        assert not os.path.exists(path)
        listener.close()

    def test_takes_its_file_away_from_another_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with listening("unix:app.sock"):
            assert (tmp_path / "app.sock").exists()
            monkeypatch.chdir("/")
        assert not (tmp_path / "app.sock").exists()

    def test_replaces_the_file_of_a_dead_server(self, path: str) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
            dead.listen()
        with listening(f"unix:{path}"):
            assert can_connect(socket.AF_UNIX, path)

    def test_refuses_the_file_of_a_living_server_and_leaves_it(self, path: str) -> None:
        with listening(f"unix:{path}") as living:
            line = refusal(f"unix:{path}")
            assert line.startswith(f"cannot listen on unix:{path}: another process listens there; stop it")
            assert living.accept()[0] is not None  # the question was put to it
            assert can_connect(socket.AF_UNIX, path)

    def test_refuses_a_living_server_whose_backlog_is_full(self, path: str) -> None:
        with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as clients:
            busy.bind(path)
            busy.listen(0)
            while True:
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                if client.connect_ex(path) == errno.EAGAIN:
                    break
            assert "another process listens there" in refusal(f"unix:{path}")
            assert os.path.exists(path)

    def test_refuses_a_datagram_socket(self, path: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(path)
            assert "another process listens there" in refusal(f"unix:{path}")

    def test_refuses_a_file_that_is_no_socket_and_leaves_it(self, path: str) -> None:
        Path(path).write_text("precious")
        assert "the file exists and is no socket" in refusal(f"unix:{path}")
        assert Path(path).read_text() == "precious"

    def test_leaves_the_file_of_a_successor(self, path: str) -> None:
        with listening(f"unix:{path}") as first:
            os.rename(path, path + ".old")
            with listening(f"unix:{path}"):
                first.close()
                assert can_connect(socket.AF_UNIX, path)

    def test_a_forked_child_leaves_the_file_to_its_parent(self, path: str) -> None:
        """In a process of its own: this one may have threads, which a fork would leave behind."""
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", FORKING_PARENT, path], capture_output=True, text=True, timeout=60
        )
        assert (result.stdout, result.stderr) == ("child closed, file there, connected 0\n", "")

    def test_missing_directory(self, path: str) -> None:
        assert f"{path} is no directory; make it or choose another path" in refusal(f"unix:{path}/a.sock")

    def test_directory_without_permission(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_listener: socket.socket, _address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr("streamserve.listening.unix.UnixListener.bind", refuse)
        assert "no permission; choose a directory that you may write to" in refusal(f"unix:{path}")


class TestDescriptor:
    def test_adopts_a_listener(self) -> None:
        with socket.socket() as parent:
            parent.bind(("127.0.0.1", 0))
            parent.listen()
            inherited = os.dup(parent.fileno())
            os.set_inheritable(inherited, True)
            with listening(f"fd://{inherited}") as listener:
                assert (listener.fileno(), listener.getblocking(), listener.get_inheritable()) == (
                    inherited,
                    False,
                    False,
                )
                assert address_of(listener) == address_of(parent)

    def test_refuses_a_closed_descriptor(self) -> None:
        read, write = os.pipe()
        os.close(read)
        os.close(write)
        assert f"descriptor {read} is not open; let the parent pass a listening socket" in refusal(f"fd://{read}")

    def test_refuses_what_is_no_socket_and_leaves_it_open(self) -> None:
        read, write = os.pipe()
        assert f"descriptor {read} is no socket" in refusal(f"fd://{read}")
        os.close(read)
        os.close(write)

    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    def test_refuses_a_socket_that_does_not_listen_and_leaves_it_open(self, kind: int) -> None:
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind(("127.0.0.1", 0))
            assert "is no listening stream socket; let the parent call listen()" in refusal(f"fd://{other.fileno()}")
            assert other.getsockname()[1] > 0


class TestSocket:
    def test_bound_socket_is_made_to_listen(self) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            assert open_listener(bound, 8) is bound
            assert not bound.getblocking()
            assert can_connect(socket.AF_INET, bound.getsockname())

    def test_datagram_socket_is_refused(self) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as datagram:
            assert "it is no stream socket" in refusal(datagram)


class TestDatagrams:
    def receives(self, receiver: socket.socket, address: object) -> None:
        with socket.socket(receiver.family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"ping", address)  # type: ignore[call-overload]
        receiver.settimeout(10)
        assert receiver.recv(100) == b"ping"

    def test_receives_without_blocking(self) -> None:
        with open_datagram_socket("127.0.0.1:0") as receiver:
            assert (receiver.type, receiver.getblocking()) == (socket.SOCK_DGRAM, False)
            self.receives(receiver, receiver.getsockname())

    def test_port_in_use(self) -> None:
        with open_datagram_socket("127.0.0.1:0") as receiver, pytest.raises(AddressError) as caught:
            open_datagram_socket(receiver.getsockname())
        assert "another process listens there; stop it (ss -lntup" in str(caught.value)

    def test_shares_a_port_on_request(self) -> None:
        with (
            open_datagram_socket("127.0.0.1:0", reuse_address=True) as first,
            open_datagram_socket(first.getsockname(), reuse_address=True) as second,
        ):
            assert second.getsockname() == first.getsockname()

    def test_unix_path(self, tmp_path: Path) -> None:
        path = str(tmp_path / "app.sock")
        with open_datagram_socket(f"unix:{path}") as receiver:
            self.receives(receiver, path)
            with pytest.raises(AddressError, match="another process listens there"):
                open_datagram_socket(f"unix:{path}")
        assert not os.path.exists(path)

    def test_adopts_a_socket_and_a_descriptor(self) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as bound:
            bound.bind(("127.0.0.1", 0))
            assert open_datagram_socket(bound) is bound
            with open_datagram_socket(f"fd://{os.dup(bound.fileno())}") as adopted:
                assert adopted.getsockname() == bound.getsockname()

    def test_refuses_a_stream_socket(self) -> None:
        with socket.socket() as stream:
            with pytest.raises(AddressError, match="give a socket of SOCK_DGRAM"):
                open_datagram_socket(stream)
            with pytest.raises(AddressError, match="is no datagram socket"):
                open_datagram_socket(f"fd://{stream.fileno()}")
            assert stream.fileno() >= 0


class TestUnixFile:
    @pytest.mark.parametrize("umask", [0o077, 0])
    def test_mode_is_what_is_asked_for_whatever_the_umask(self, tmp_path: Path, umask: int) -> None:
        before = os.umask(umask)
        try:
            for mode in (0o666, 0o660, 0o600):
                path = tmp_path / f"{mode:o}"
                with contextlib.closing(open_listener(f"unix:{path}", file=UnixFile(mode))):
                    assert stat.S_IMODE(path.stat().st_mode) == mode
            with contextlib.closing(open_listener(f"unix:{tmp_path}/umask")):
                assert stat.S_IMODE((tmp_path / "umask").stat().st_mode) == 0o777 & ~umask
        finally:
            os.umask(before)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    @pytest.mark.parametrize(
        ("owner", "uid", "gid"), [("65534", 65534, 0), ("nobody", 65534, 0), (":65534", 0, 65534), ("1:2", 1, 2)]
    )
    def test_owner_by_name_or_number(self, tmp_path: Path, owner: str, uid: int, gid: int) -> None:
        path = tmp_path / "socket"
        with contextlib.closing(open_listener(f"unix:{path}", file=UnixFile(0o660, owner))):
            status = path.stat()
            assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (uid, gid, 0o660)

    @pytest.mark.parametrize("owner", ["no-such-user", ":no-such-group", "root:no-such-group", "9" * 30])
    def test_owner_that_does_not_exist_leaves_nothing_behind(self, tmp_path: Path, owner: str) -> None:
        with pytest.raises(AddressError, match="is no user, user:group or :group of this machine; give one"):
            open_listener(f"unix:{tmp_path}/socket", file=UnixFile(None, owner))
        assert not (tmp_path / "socket").exists()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may")
    def test_owner_that_one_may_not_give_to(self, tmp_path: Path) -> None:
        with pytest.raises(AddressError, match="only root may give files away"):
            open_listener(f"unix:{tmp_path}/socket", file=UnixFile(None, "root"))
