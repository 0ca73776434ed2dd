"""Names and addresses: what the C library answers, without the loop standing still."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamserve import Timeout, sleep, spawn
from streamserve.green import dns
from streamserve.loop.hubs import get_hub

HOSTS = [
    *["127.0.0.1", "0.0.0.0", "255.255.255.255", "127.1", "1", "0x7f.1", "017.0.0.1", "010.1.2.3", "1.2.3.4"],
    *["::1", "::", "fe80::1", "fe80::1%1", "::ffff:1.2.3.4", "2001:db8::8:800:200c:417a", "fe80::1%no-such-link"],
    *[b"127.0.0.1", bytearray(b"::1"), None, "", "*", 7, 1.5],
]
PORTS = [0, 80, 65535, 65536, -1, None, "80", "0", "", " 80", b"80", "http", "domain", "no-such-service", 1 << 80, 1.5]
FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 9999]
TYPES = [(0, 0), (socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, 0), (socket.SOCK_RAW, 0), (0, socket.IPPROTO_TCP)]
TYPES += [(socket.SOCK_STREAM, socket.IPPROTO_UDP), (77, 0)]
FLAGS = [0, socket.AI_PASSIVE, socket.AI_NUMERICHOST, socket.AI_NUMERICHOST | socket.AI_NUMERICSERV]
FLAGS += [socket.AI_CANONNAME, socket.AI_V4MAPPED | socket.AI_ALL]
NOT_NUMERIC = "name.invalid"


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """Returns the result, or the error, in a form that compares."""
    try:
        return function(*args)
    except Exception as error:
        return type(error), error.args


def in_hub(function: Callable[..., Any], *args: Any) -> Any:
    """Calls the function where nothing can wait."""
    found: list[Any] = []
    get_hub().run_callback(lambda: found.append(outcome(function, *args)))
    while not found:
        sleep(0)
    return found[0]


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_what_needs_no_network_is_as_in_the_standard_library(host: Any) -> None:
    for port in PORTS:
        for family in FAMILIES:
            for kind, proto in TYPES:
                args = (host, port, family, kind, proto)
                expected = outcome(socket.getaddrinfo, *args)
                assert outcome(dns.getaddrinfo, *args) == expected, args
                assert outcome(dns.getaddrinfo, *args) == expected, args


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_flags_are_as_in_the_standard_library(host: Any) -> None:
    for flags in FLAGS:
        for port in (80, None, "http"):
            for family in FAMILIES[:3]:
                args = (host, port, family, socket.SOCK_STREAM, 0, flags)
                expected = outcome(socket.getaddrinfo, *args)
                assert outcome(dns.getaddrinfo, *args) == expected, args
                assert outcome(dns.getaddrinfo, *args) == expected, args


def test_results_hold_enum_members() -> None:
    for _ in range(2):
        family, kind, *_ = dns.getaddrinfo("127.0.0.1", 80)[0]
        assert isinstance(family, socket.AddressFamily)
        assert isinstance(kind, socket.SocketKind)


def test_a_result_belongs_to_the_caller() -> None:
    first = dns.getaddrinfo("127.0.0.1", 80)
    first.clear()
    assert dns.getaddrinfo("127.0.0.1", 80) == socket.getaddrinfo("127.0.0.1", 80)


def test_numeric_hosts_are_remembered_within_a_bound() -> None:
    resolver = dns.Resolver()
    for number in range(2 * dns.MAX_REMEMBERED):
        resolver.getaddrinfo(f"10.0.{number >> 8}.{number & 255}", 80, 0, socket.SOCK_STREAM)
    assert 0 < len(resolver._numeric) <= dns.MAX_REMEMBERED
    resolver.close()
    assert not resolver._numeric


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", None, "", "localhost"])
def test_numeric_hosts_and_localhost_are_answered_where_nothing_can_wait(host: Any) -> None:
    expected = outcome(socket.getaddrinfo, host, 80)
    assert in_hub(dns.getaddrinfo, host, 80) == expected


def test_localhost_is_this_machine_where_no_file_says_so(tmp_path: Path) -> None:
    hosts = dns.HostsFile(str(tmp_path / "none"), str(tmp_path / "none"))
    resolver = dns.Resolver(hosts)
    found = in_hub(resolver.getaddrinfo, "LocalHost", 80, 0, socket.SOCK_STREAM)
    assert {one[4][0] for one in found} == {"127.0.0.1", "::1"}
    assert in_hub(resolver.getaddrinfo, "localhost", None, socket.AF_INET)[0][4] == ("127.0.0.1", 0)
    assert in_hub(resolver.gethostbyname, "localhost") == "127.0.0.1"
    assert in_hub(resolver.gethostbyname_ex, b"localhost")[2] == ["127.0.0.1"]


@pytest.mark.parametrize("name", ["127.0.0.1", "127.1", "", "<broadcast>", "localhost", "256.1.1.1.1:"])
def test_gethostbyname_is_as_in_the_standard_library(name: str) -> None:
    assert outcome(dns.gethostbyname, name) == outcome(socket.gethostbyname, name)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", b"localhost"])
def test_more_of_a_name_is_as_in_the_standard_library(name: Any) -> None:
    assert in_hub(dns.gethostbyname_ex, name) == outcome(socket.gethostbyname_ex, name)


@pytest.mark.parametrize("argument", [None, 5, "a\0b", "." * 3, "x" * 70 + ".invalid"], ids=repr)
def test_what_is_no_name_is_refused_as_in_the_standard_library(argument: Any) -> None:
    for name in dns.__implements__[2:5]:
        assert outcome(getattr(dns, name), argument) == outcome(getattr(socket, name), argument)
    assert outcome(dns.getaddrinfo, argument, 80) == outcome(socket.getaddrinfo, argument, 80)


def test_names_of_addresses_in_the_hosts_file_are_answered_where_nothing_can_wait() -> None:
    assert in_hub(dns.gethostbyaddr, "127.0.0.1") == outcome(socket.gethostbyaddr, "127.0.0.1")
    assert in_hub(dns.getnameinfo, ("127.0.0.1", 80), 0) == socket.getnameinfo(("127.0.0.1", 80), 0)


@pytest.mark.parametrize("sockaddr", [("127.0.0.1", 80), ("::1", 80, 0, 0), ("1.2.3.4", 53), ("x", 1), (), 5, ("::1",)])
def test_getnameinfo_is_as_in_the_standard_library(sockaddr: Any) -> None:
    for flags in (socket.NI_NUMERICHOST, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV | socket.NI_DGRAM):
        assert in_hub(dns.getnameinfo, sockaddr, flags) == outcome(socket.getnameinfo, sockaddr, flags)


def test_getfqdn_is_as_in_the_standard_library() -> None:
    assert dns.getfqdn("127.0.0.1") == socket.getfqdn("127.0.0.1")
    assert dns.getfqdn(" localhost ") == socket.getfqdn(" localhost ")


def test_others_run_while_a_name_is_looked_up() -> None:
    order: list[str] = []

    def look_up() -> None:
        with pytest.raises(socket.gaierror):
            dns.getaddrinfo(NOT_NUMERIC, 80)
        order.append("looked up")

    looking = spawn(look_up)
    spawn(order.append, "other")
    looking.join()
    assert order == ["other", "looked up"]


class SlowResolver:
    """A resolver of the user's, that waits until it is told to answer."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.asked: list[Any] = []

    def getaddrinfo(self, *args: Any) -> list[Any]:
        self.asked.append(args)
        get_hub().threadpool.apply(self.answer.wait, ())
        return [(2, 1, 6, "", ("192.0.2.7", args[1]))]

    def gethostbyname(self, host: str) -> str:
        return "192.0.2.8"

    def close(self) -> None:
        self.answer.set()


@pytest.fixture
def slow_resolver() -> Any:
    resolver = get_hub().resolver = SlowResolver()
    yield resolver
    get_hub().resolver = None
    resolver.close()


def test_the_resolver_of_the_hub_is_asked(slow_resolver: SlowResolver) -> None:
    slow_resolver.close()
    found = dns.getaddrinfo("some.name", 80, proto=6)
    assert found == [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 80))]
    assert isinstance(found[0][0], socket.AddressFamily)
    assert slow_resolver.asked == [("some.name", 80, 0, 0, 6, 0)]
    assert dns.gethostbyname("some.name") == "192.0.2.8"


def test_a_greenlet_that_waits_for_a_name_can_be_killed(slow_resolver: SlowResolver) -> None:
    looking = spawn(dns.getaddrinfo, "some.name", 80)
    sleep(0)
    assert slow_resolver.asked
    looking.kill()
    assert looking.dead


def test_a_timeout_ends_the_wait_for_a_name(slow_resolver: SlowResolver) -> None:
    with pytest.raises(Timeout), Timeout(0.01):
        dns.getaddrinfo("some.name", 80)


def test_a_thread_without_a_loop_looks_up_by_itself() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(outcome(dns.getaddrinfo, NOT_NUMERIC, 80)))
    thread.start()
    get_hub().threadpool.apply(thread.join, ())
    assert found[0][0] is socket.gaierror


# ---- the hosts file


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    hosts, order = tmp_path / "hosts", tmp_path / "nsswitch.conf"
    hosts.write_text("127.0.0.1 here  Also.Here # not.this\n\n# a comment\n::1 here six\n1.2.3 bad\n192.0.2.1\n")
    order.write_text("passwd: files\nhosts: files dns\n")
    return hosts, order


def hosts_file(files: tuple[Path, Path], clock: Clock) -> dns.HostsFile:
    return dns.HostsFile(str(files[0]), str(files[1]), clock)


def test_a_name_is_known_by_family_in_either_case(files: tuple[Path, Path], clock: Clock) -> None:
    hosts = hosts_file(files, clock)
    assert hosts.has_name("here", socket.AF_INET)
    assert hosts.has_name("HERE", socket.AF_INET6)
    assert hosts.has_name("also.here", socket.AF_UNSPEC)
    assert not hosts.has_name("also.here", socket.AF_INET6)
    assert not hosts.has_name("also.here", socket.AF_UNIX)
    assert not any(hosts.has_name(name, 0) for name in ("not.this", "bad", "192.0.2.1", "comment", ""))


def test_an_address_is_known_however_it_is_written(files: tuple[Path, Path], clock: Clock) -> None:
    hosts = hosts_file(files, clock)
    assert hosts.has_address("127.0.0.1")
    assert hosts.has_address("0:0:0:0:0:0:0:1")
    assert not hosts.has_address("192.0.2.1")
    assert not hosts.has_address("here")


@pytest.mark.parametrize("order", ["hosts: dns files\n", "hosts: resolve [!UNAVAIL=return] files\n", "hosts:\n"])
def test_nothing_is_known_where_others_are_asked_first(files: tuple[Path, Path], clock: Clock, order: str) -> None:
    files[1].write_text(order)
    assert not hosts_file(files, clock).has_name("here", 0)


def test_a_changed_file_is_read_again_within_a_second(files: tuple[Path, Path], clock: Clock) -> None:
    hosts = hosts_file(files, clock)
    assert not hosts.has_name("new", 0)
    files[0].write_text("127.0.0.1 new\n")
    clock.now = 0.9
    assert not hosts.has_name("new", 0)
    clock.now = 1.0
    assert hosts.has_name("new", 0)
    os.unlink(files[0])
    clock.now = 2.0
    assert not hosts.has_name("new", 0)


def test_an_unchanged_file_is_not_read_again(files: tuple[Path, Path], clock: Clock) -> None:
    hosts = hosts_file(files, clock)
    hosts.has_name("here", 0)
    before = hosts._names
    clock.now = 5.0
    assert hosts.has_name("here", 0)
    assert hosts._names is before


def test_a_large_file_is_left_to_the_pool(files: tuple[Path, Path], clock: Clock) -> None:
    files[0].write_text("127.0.0.1 here\n" * (dns.LARGEST_HOSTS_FILE // 15 + 1))
    assert not hosts_file(files, clock).has_name("here", 0)
