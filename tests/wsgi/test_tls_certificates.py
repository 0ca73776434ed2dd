"""Which certificate a client sees, what it must show itself, and what is said of files that cannot be used."""

import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from streamserve.errors import ConfigurationError
from streamserve.loop.joining import sleep
from streamserve.settings import Settings
from streamserve.tls.certificates import load_certificates
from streamserve.tls.client_certificate import distinguished_name
from tests.support.logs import awaited_lines
from tests.support.server import Running
from tests.support.tls import Authority, TlsClient
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "authority"
    folder.mkdir()
    return Authority(folder)


def hello(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def shown(running: Running, context: ssl.SSLContext, name: str) -> list[str]:
    """The names in the certificate that the server shows to one who asks for `name`."""
    context.check_hostname = False
    with TlsClient(running.addresses[0], context, name) as client:
        client.send(GET)
        assert client.response().status == 200
        return client.names()


# ---- by name


def test_the_name_asked_for_chooses(serve: Serve, authority: Authority) -> None:
    files = [authority.issue("a.test"), authority.issue("b.test", "www.b.test"), authority.issue("*.c.test")]
    running = serve(hello, certfile=files)
    context = authority.trust()
    assert shown(running, context, "b.test") == ["b.test", "www.b.test"]
    assert shown(running, context, "www.B.test") == ["b.test", "www.b.test"]
    assert shown(running, context, "x.c.test") == ["*.c.test"]
    for other in ("a.test", "c.test", "x.y.c.test", "unknown.test"):
        assert shown(running, context, other) == ["a.test"]


def test_keys_in_files_of_their_own(serve: Serve, authority: Authority) -> None:
    pairs = [authority.split("a.test"), authority.split("b.test")]
    running = serve(hello, certfile=[pair[0] for pair in pairs], keyfile=[pair[1] for pair in pairs])
    assert shown(running, authority.trust(), "b.test") == ["b.test"]


def test_one_name_with_two_kinds_of_key(serve: Serve, authority: Authority) -> None:
    files = [authority.issue("a.test", key=kind) for kind in (trustme.KeyType.RSA, trustme.KeyType.ECDSA)]
    running = serve(hello, certfile=files)
    for kind in ("ECDSA", "RSA"):
        context = authority.trust()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
        assert shown(running, context, "a.test") == ["a.test"]


# ---- reloading


def test_reload_serves_new_connections_and_leaves_the_old(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    file = tmp_path / "site.pem"
    shutil.copy(authority.issue("localhost", "old.test"), file)
    running = serve(hello, certfile=str(file), certificate_check=0)
    context = authority.trust()
    with TlsClient(running.addresses[0], context) as old:
        shutil.copy(authority.issue("localhost", "new.test"), file)
        assert shown(running, context, "localhost") == ["localhost", "old.test"]
        running.call(running.server.reload_certificates)
        assert shown(running, context, "localhost") == ["localhost", "new.test"]
        old.send(GET)
        assert old.response().body == b"hello"


def test_reload_during_a_handshake_and_a_response(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    go_on: list[int] = []

    def stream(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"one"
        while not go_on:
            sleep(0.001)
        yield b"two"

    running = serve(stream, certfile=authority.issue("localhost"))
    with TlsClient(running.addresses[0], authority.trust()) as client:
        client.send(GET)
        client.head()
        for _ in range(3):
            running.call(running.server.reload_certificates)
        go_on.append(1)
        assert client.exactly(21) == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


def test_reload_of_a_broken_file_changes_nothing(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    file = tmp_path / "site.pem"
    shutil.copy(authority.issue("localhost"), file)
    running = serve(hello, certfile=str(file), certificate_check=0)
    file.write_text("nothing")
    with pytest.raises(ConfigurationError, match=r"site\.pem"):
        running.call(running.server.reload_certificates)
    assert shown(running, authority.trust(), "localhost") == ["localhost"]


def test_reload_without_tls_says_so(serve: Serve) -> None:
    running = serve(hello)
    with pytest.raises(ConfigurationError, match="certfile"):
        running.call(running.server.reload_certificates)


# ---- certificates of clients


def identity(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    found = sorted((key, value) for key, value in environ.items() if key.startswith("SSL_CLIENT_"))
    return [repr(found).encode("latin-1")]


def identities(client: TlsClient, times: int = 4) -> dict[str, str]:
    answers = set()
    for _ in range(times):  # the environ of what is asked again comes from a memory
        client.send(GET)
        answers.add(client.response().body)
    assert len(answers) == 1
    return dict(eval(answers.pop().decode("latin-1")))


def test_client_certificate_is_in_the_environ_and_in_no_other(serve: Serve, authority: Authority) -> None:
    running = serve(identity, certfile=authority.issue("localhost"), ca_certs=authority.file, client_cert="optional")
    own = authority.issue("someone@example.org", common_name='Jürgen, "Joe"', organization_name="Example")
    with (
        TlsClient(running.addresses[0], authority.trust(own)) as known,
        TlsClient(running.addresses[0], authority.trust()) as unknown,
    ):
        for _ in range(2):
            values = identities(known)
            assert values["SSL_CLIENT_VERIFY"] == "SUCCESS"
            name = values["SSL_CLIENT_S_DN"].encode("latin-1").decode()
            assert name.startswith('CN=Jürgen\\, \\"Joe\\",')
            assert name.endswith(",O=Example")
            assert values["SSL_CLIENT_S_DN_CN"].encode("latin-1").decode() == 'Jürgen, "Joe"'
            assert "trustme" in values["SSL_CLIENT_I_DN"]
            assert int(values["SSL_CLIENT_M_SERIAL"], 16) > 0
            assert values["SSL_CLIENT_CERT"] in Path(own).read_text()
            assert identities(unknown) == {"SSL_CLIENT_VERIFY": "NONE"}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ["none", "foreign"])
def test_client_without_a_required_certificate_is_turned_away(
    serve: Serve, authority: Authority, tmp_path: Path, version: ssl.TLSVersion, kind: str, caplog: Any
) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    running = serve(hello, certfile=authority.issue("localhost"), ca_certs=authority.file, client_cert="required")
    context = authority.trust(Authority(folder).issue("someone@example.org") if kind == "foreign" else "")
    context.maximum_version = version
    caplog.set_level("INFO", "streamserve.wsgi")
    with (
        pytest.raises(OSError),
        TlsClient(running.addresses[0], context) as client,
    ):
        client.send(GET)
        client.rest()
    lines = awaited_lines(caplog)
    assert len(lines) == 1 and lines[0].startswith("127.0.0.1 the TLS handshake failed: "), lines
    context = authority.trust(authority.issue("friend@example.org"))
    assert shown(running, context, "localhost") == ["localhost"]


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((), ""),
        (((("countryName", "DE"),), (("commonName", "a"),)), "CN=a,C=DE"),
        (((("commonName", "#a"), ("userId", " b ")),), "CN=\\#a+UID=\\ b\\ "),
        (((("1.2.3", 'x<y>;"\\'),),), '1.2.3=x\\<y\\>\\;\\"\\\\'),
    ],
)
def test_distinguished_names_are_written_as_in_rfc_4514(parts: Any, text: str) -> None:
    assert distinguished_name(parts) == text


# ---- versions and ciphers


def test_oldest_version(serve: Serve, authority: Authority) -> None:
    running = serve(hello, certfile=authority.issue("localhost"), tls_min="1.3")
    context = authority.trust()
    assert shown(running, context, "localhost") == ["localhost"]
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shown(running, context, "localhost")


def test_ciphers(serve: Serve, authority: Authority) -> None:
    running = serve(hello, certfile=authority.issue("localhost"), ciphers="ECDHE-ECDSA-CHACHA20-POLY1305")
    context = authority.trust()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with TlsClient(running.addresses[0], context) as client:
        assert client.socket.cipher()[0] == "ECDHE-ECDSA-CHACHA20-POLY1305"  # type: ignore[index]
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        shown(running, context, "localhost")


# ---- files that cannot be used


def refusal(**values: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_certificates(Settings(**values))
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_each_file_that_cannot_be_used_is_named(authority: Authority, tmp_path: Path) -> None:
    missing, empty, folder = str(tmp_path / "missing.pem"), str(tmp_path / "empty.pem"), str(tmp_path)
    Path(empty).touch()
    (chain, key), (_, other_key) = authority.split("a.test"), authority.split("b.test")
    assert "No such file" in refusal(certfile=missing) and missing in refusal(certfile=missing)
    for wrong in (empty, folder, key):
        assert f"certfile={wrong!r} holds no certificate" in refusal(certfile=wrong)
    assert f"keyfile={missing!r} cannot be read" in refusal(certfile=chain, keyfile=missing)
    for wrong in (empty, folder, chain):
        assert f"keyfile={wrong!r} is no key for certfile={chain!r}" in refusal(certfile=chain, keyfile=wrong)
    mismatch = refusal(certfile=chain, keyfile=other_key)
    assert f"keyfile={other_key!r} is not the key of certfile={chain!r}" in mismatch
    assert "no key" in refusal(certfile=chain)
    for wrong in (empty, folder, key):
        assert f"ca_certs={wrong!r} holds no certificates" in refusal(
            certfile=chain, keyfile=key, ca_certs=wrong, client_cert="required"
        )


PASSWORD = "ôpen sesame"
FORMATS = [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL]


def locked(key: str, form: PrivateFormat = PrivateFormat.PKCS8, password: str = PASSWORD) -> str:
    """Returns the file of that key behind a password."""
    file = Path(key).with_suffix(".locked")
    loaded = load_pem_private_key(Path(key).read_bytes(), None)
    file.write_bytes(loaded.private_bytes(Encoding.PEM, form, BestAvailableEncryption(password.encode())))
    return str(file)


@pytest.mark.parametrize("form", FORMATS)
def test_encrypted_key_is_refused_without_asking(authority: Authority, form: PrivateFormat) -> None:
    chain, key = authority.split("a.test")
    file = locked(key, form)
    missing = refusal(certfile=chain, keyfile=file)
    assert f"keyfile={file!r} is encrypted; give keyfile_password, by STREAMSERVE_KEYFILE_PASSWORD" in missing
    for wrong in ("wrong", "w" * 1024):
        said = refusal(certfile=chain, keyfile=file, keyfile_password=wrong)
        assert f"keyfile={file!r} does not open with keyfile_password (set by the program); give" in said
        assert wrong not in said
    other = locked(authority.split("b.test")[1], form)
    assert "is not the key of" in refusal(certfile=chain, keyfile=other, keyfile_password=PASSWORD)


def test_encrypted_certificate_is_none_and_nobody_is_asked(authority: Authority, tmp_path: Path) -> None:
    file = tmp_path / "locked.pem"
    head, rest = Path(authority.issue("a.test")).read_text().split("BEGIN CERTIFICATE-----\n", 1)
    head += "BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0123456789ABCDEF0123456789ABCDEF\n\n"
    file.write_text(head + rest)
    for password in ("", PASSWORD):
        assert "holds no certificate" in refusal(certfile=str(file), keyfile_password=password)


@pytest.mark.parametrize("form", FORMATS)
def test_password_opens_the_keys_also_when_they_are_reloaded(
    serve: Serve, authority: Authority, tmp_path: Path, form: PrivateFormat
) -> None:
    pairs = [authority.split("a.test", "old.test"), authority.split("b.test")]
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    shutil.copy(pairs[0][0], chain)
    shutil.copy(locked(pairs[0][1], form), key)
    running = serve(
        hello,
        certfile=[str(chain), pairs[1][0]],
        keyfile=[str(key), pairs[1][1]],
        keyfile_password=PASSWORD,
        certificate_check=0,
    )
    assert shown(running, authority.trust(), "a.test") == ["a.test", "old.test"]
    assert shown(running, authority.trust(), "b.test") == ["b.test"]
    renewed = authority.split("a.test", "new.test")
    shutil.copy(renewed[0], chain)
    shutil.copy(locked(renewed[1], form), key)
    running.call(running.server.reload_certificates)
    assert shown(running, authority.trust(), "a.test") == ["a.test", "new.test"]
    shutil.copy(locked(renewed[1], form, "another"), key)
    with pytest.raises(ConfigurationError, match="does not open with keyfile_password"):
        running.call(running.server.reload_certificates)
    assert shown(running, authority.trust(), "a.test") == ["a.test", "new.test"]


def test_settings_that_do_not_go_together(authority: Authority) -> None:
    chain, key = authority.split("a.test")
    assert "needs a certfile" in refusal(keyfile=key)
    assert "needs a certfile" in refusal(ciphers="ALL")
    assert "needs a certfile" in refusal(keyfile_password=PASSWORD)
    assert "2 keyfiles" in refusal(certfile=chain, keyfile=[key, key])
    assert "without client_cert" in refusal(certfile=chain, keyfile=key, ca_certs=authority.file)
    assert "without ca_certs" in refusal(certfile=chain, keyfile=key, client_cert="optional")
    assert "names no cipher" in refusal(certfile=chain, keyfile=key, ciphers="ROT13")
    with pytest.raises(ConfigurationError, match=r"give 1\.2 or 1\.3"):
        Settings(tls_min="1.1")  # type: ignore[arg-type]
