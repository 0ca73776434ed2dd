"""`streamserve --certfile`: served, reloaded by SIGHUP, and refused in one line."""

import re
import shutil
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.support.process import ServedCommand, command
from tests.support.tls import Authority, TlsClient

SITE = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [environ["wsgi.url_scheme"].encode()]
"""
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "site_module.py").write_text(SITE)
    return tmp_path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "authority"
    folder.mkdir()
    return Authority(folder)


@pytest.mark.parametrize("patching", [(), ("--no-patch",)])
def test_hangup_reloads_and_drops_no_connection(project: Path, authority: Authority, patching: tuple[str, ...]) -> None:
    site = project / "site.pem"
    shutil.copy(authority.issue("localhost", "old.test"), site)
    flags = ("--certfile", "site.pem", "--certificate-check", "0", *patching)
    with ServedCommand("site_module", *flags, cwd=project) as server:
        assert server.url.startswith("https://")
        address = ("127.0.0.1", urlsplit(server.url).port)
        with TlsClient(address, authority.trust()) as old:
            assert old.names() == ["localhost", "old.test"]
            shutil.copy(authority.issue("localhost", "new.test"), site)
            server.signal(signal.SIGHUP)
            server.wait_for(re.compile("SIGHUP: the certificates were reloaded"))
            site.write_text("nothing")
            server.signal(signal.SIGHUP)
            server.wait_for(re.compile(r"SIGHUP: the certificates stay as they were: certfile='site\.pem' holds no"))
            with TlsClient(address, authority.trust()) as new:
                assert new.names() == ["localhost", "new.test"]
                for client in (old, new):
                    client.send(GET)
                    assert client.response().body == b"https"


@pytest.mark.parametrize("patching", [(), ("--no-patch",)])
def test_changed_files_are_loaded_without_a_signal(
    project: Path, authority: Authority, patching: tuple[str, ...]
) -> None:
    site = project / "site.pem"
    site.symlink_to(authority.issue("localhost", "old.test"))
    with ServedCommand(
        "site_module", "--certfile", "site.pem", "--certificate-check", "50ms", *patching, cwd=project
    ) as server:
        address = ("127.0.0.1", urlsplit(server.url).port)
        with TlsClient(address, authority.trust()) as old:
            (project / "new").symlink_to(authority.issue("localhost", "new.test"))
            (project / "new").replace(site)
            server.wait_for(re.compile(r"site\.pem changed: the certificates were reloaded"))
            with TlsClient(address, authority.trust()) as new:
                assert new.names() == ["localhost", "new.test"]
                for client in (old, new):
                    client.send(GET)
                    assert client.response().body == b"https"


@pytest.mark.parametrize("check", [(), ("--check-config",)])
def test_certificate_that_cannot_be_used_is_one_line(project: Path, check: tuple[str, ...]) -> None:
    (project / "wrong.pem").write_text("nothing")
    for name, said in (("wrong.pem", "holds no certificate"), ("missing.pem", "cannot be read: No such file")):
        result = command("site_module", "--bind", "127.0.0.1:0", "--certfile", name, *check, cwd=project)
        assert result.returncode == 2
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert f"streamserve: error: certfile='{name}' {said}" in result.stderr


def test_password_of_a_key_is_taken_and_shown_nowhere(project: Path, authority: Authority) -> None:
    chain, key = authority.split("a.test")
    loaded = load_pem_private_key(Path(key).read_bytes(), None)
    secret = BestAvailableEncryption(b"open sesame")
    Path(key).write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    pair = ("--certfile", chain, "--keyfile", key)
    with (
        ServedCommand("site_module", *pair, cwd=project, STREAMSERVE_KEYFILE_PASSWORD="open sesame") as server,
        TlsClient(("127.0.0.1", urlsplit(server.url).port), authority.trust(), "a.test") as client,
    ):
        assert client.names() == ["a.test"]
        assert "sesame" not in server.stderr + server.stdout
    for flags in ((), ("--keyfile-password", "open Sesame"), ("--ssl-keyfile-password", "open Sesame")):
        result = command("site_module", "--bind", "127.0.0.1:0", *pair, *flags, cwd=project)
        assert result.returncode == 2
        assert key in result.stderr.splitlines()[-1]
        assert "Sesame" not in result.stderr + result.stdout
        assert ("stands on the command line" in result.stderr) == bool(flags)


def test_several_pairs_are_flags_that_repeat(project: Path, authority: Authority) -> None:
    flags: list[str] = []
    for name in ("a.test", "b.test"):
        chain, key = authority.split(name)
        flags += ["--certfile", chain, "--keyfile", key]
    with ServedCommand("site_module", *flags, cwd=project) as server:
        context = authority.trust()
        for name in ("a.test", "b.test"):
            with TlsClient(("127.0.0.1", urlsplit(server.url).port), context, name) as client:
                assert client.names() == [name]
