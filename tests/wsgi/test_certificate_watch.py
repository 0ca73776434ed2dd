"""Certificates whose files change are loaded anew: once they rest, if they can be used, and without a signal."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamserve.settings import Settings
from streamserve.tls.certificate_watch import SETTLED, CertificateWatch
from streamserve.tls.certificates import Certificates
from tests.support.logs import log_with, logged
from tests.support.server import Running
from tests.support.tls import Authority, TlsClient
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
INTERVAL = 30.0


class Clock:
    """Stands for a hub: its one timer ends when the test says so."""

    def __init__(self) -> None:
        self.seconds: list[float] = []  # of the timers that run
        self.started = 0

    def start_timer(self, seconds: float, _target: Any, counts: bool = True) -> int:
        assert not counts, "it would keep the loop alive"
        self.seconds.append(seconds)
        self.started += 1
        return self.started

    def stop_timer(self, slot: int, _target: Any) -> None:
        assert slot == self.started
        self.seconds.clear()

    def run_callback(self, function: Any) -> None:
        function()


class Site:
    """Files of a pair, and a watch over them whose time does not pass by itself."""

    def __init__(self, folder: Path) -> None:
        (folder / "authority").mkdir()
        self.authority = Authority(folder / "authority")
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.renew("old.test")
        self.certificates = Certificates(Settings(certfile=(str(self.chain),), keyfile=(str(self.key),)))
        self.clock: Any = Clock()
        self.watch = CertificateWatch(self.certificates, INTERVAL)
        self.watch.open(self.clock)

    def renew(self, name: str) -> None:
        for made, place in zip(self.authority.split(name), (self.chain, self.key), strict=True):
            os.replace(made, place)

    def tick(self) -> float:
        """Lets the time pass until the next look. Returns how long that was."""
        (seconds,) = self.clock.seconds
        self.clock.seconds.clear()
        self.watch.fire()
        return float(seconds)


@pytest.fixture
def site(tmp_path: Path, caplog: Any) -> Iterator[Site]:
    caplog.set_level("INFO", "streamserve.wsgi")
    yield Site(tmp_path)


def test_what_has_not_changed_is_not_loaded(site: Site, caplog: Any) -> None:
    context = site.certificates.context
    assert [site.tick() for _ in range(3)] == [INTERVAL] * 3
    assert site.certificates.context is context
    assert not caplog.records


def test_changed_files_are_loaded_once_they_rest(site: Site, caplog: Any) -> None:
    site.renew("new.test")
    assert site.tick() == INTERVAL
    assert site.certificates.names == ["old.test"]
    site.renew("newer.test")  # before they rested
    assert site.tick() == SETTLED
    assert site.certificates.names == ["old.test"]
    assert site.tick() == SETTLED
    assert site.certificates.names == ["newer.test"]
    assert [site.tick() for _ in range(2)] == [INTERVAL] * 2
    assert logged(caplog).strip() == f"{site.chain}, {site.key} changed: the certificates were reloaded"


def test_pair_that_does_not_match_is_one_warning_until_it_changes_again(site: Site, caplog: Any) -> None:
    for expected in (1, 2):  # each change is told
        chain, _ = site.authority.split("new.test")
        os.replace(chain, site.chain)
        for _ in range(4):
            site.tick()
        assert site.certificates.names == ["old.test"]
        assert len(caplog.records) == expected, logged(caplog)
        line = caplog.records[-1].getMessage()
        assert line.startswith(f"{site.chain} changed, but the certificates stay as they were: keyfile=")
        assert "is not the key of" in line
    site.renew("new.test")
    for _ in range(2):
        site.tick()
    assert site.certificates.names == ["new.test"]
    assert len(caplog.records) == 3


@pytest.mark.parametrize("left", [0, 100])
def test_half_written_file_changes_nothing_and_is_tried_again(site: Site, caplog: Any, left: int) -> None:
    chain, key = site.authority.split("new.test")
    whole = Path(key).read_bytes()
    os.replace(chain, site.chain)
    site.key.write_bytes(whole[:left])
    for _ in range(3):
        site.tick()
    assert site.certificates.names == ["old.test"]
    assert len(caplog.records) == 1
    stamp = os.stat(site.key)
    site.key.write_bytes(whole)
    os.utime(site.key, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    for _ in range(3):
        site.tick()
    assert site.certificates.names == ["new.test"]


def test_file_that_is_gone_changes_nothing_until_it_is_back(site: Site, caplog: Any) -> None:
    away = site.key.with_suffix(".away")
    site.key.rename(away)
    for _ in range(3):
        site.tick()
    assert site.certificates.names == ["old.test"]
    assert len(caplog.records) == 1 and "No such file" in logged(caplog)
    away.rename(site.key)
    for _ in range(3):
        site.tick()
    assert len(caplog.records) == 1


def test_folder_behind_a_link_is_swapped_as_kubernetes_does(site: Site, tmp_path: Path) -> None:
    for number, name in enumerate(("first.test", "second.test")):
        folder = tmp_path / f"..{number}"
        folder.mkdir()
        for made, to in zip(site.authority.split(name), ("tls.crt", "tls.key"), strict=True):
            os.replace(made, folder / to)
    (tmp_path / "..data").symlink_to("..0")
    for file, to in ((site.chain, "tls.crt"), (site.key, "tls.key")):
        file.unlink()
        file.symlink_to(f"..data/{to}")
    for expected in ("first.test", "second.test"):
        for _ in range(2):
            site.tick()
        assert site.certificates.names == [expected]
        (tmp_path / "..new").symlink_to("..1")
        (tmp_path / "..new").replace(tmp_path / "..data")


def test_what_was_loaded_by_hand_is_not_loaded_again(site: Site, caplog: Any) -> None:
    site.renew("new.test")
    site.tick()
    site.certificates.reload()
    context = site.certificates.context
    site.tick()
    assert site.certificates.context is context
    assert not caplog.records


def test_no_look_when_it_is_off_or_closed(site: Site) -> None:
    off: Any = Clock()
    watch = CertificateWatch(site.certificates, 0)
    watch.open(off)
    watch.close()
    assert off.started == 0
    site.watch.close()
    assert not site.clock.seconds
    site.watch.fire()  # it had ended before
    assert not site.clock.seconds


# ---- in a server


def hello(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def names(running: Running, authority: Authority, name: str) -> list[str]:
    with TlsClient(running.addresses[0], authority.trust(), name) as client:
        client.send(GET)
        assert client.response().status == 200
        return client.names()


def test_server_loads_each_of_several_and_drops_nobody(serve: Serve, tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "authority").mkdir()
    authority = Authority(tmp_path / "authority")
    first, second = tmp_path / "first.pem", tmp_path / "second.pem"
    shutil.copy(authority.issue("a.test"), first)
    shutil.copy(authority.issue("b.test"), second)
    caplog.set_level("INFO", "streamserve.wsgi")
    running = serve(hello, certfile=[str(first), str(second)], certificate_check=0.01)
    with TlsClient(running.addresses[0], authority.trust(), "b.test") as old:
        os.replace(authority.issue("b.test", "new.test"), second)
        log_with(caplog, f"{second} changed: the certificates were reloaded")
        assert names(running, authority, "new.test") == ["b.test", "new.test"]
        assert names(running, authority, "a.test") == ["a.test"]
        second.write_text("nothing")
        log_with(caplog, f"{second} changed, but the certificates stay as they were: certfile=")
        assert names(running, authority, "new.test") == ["b.test", "new.test"]
        old.send(GET)
        assert old.response().body == b"hello"
