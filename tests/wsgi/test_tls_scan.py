"""testssl.sh, the program by which operators judge a TLS server, finds nothing weak in this one.

Both kinds of key are there, as two certificates of one name; the ways that differ between versions, ciphers and keys
are all tried.
"""

import json
import os
import socket
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.process import ServedCommand
from tests.support.servers.daemon import Program
from tests.support.tls import Authority

pytestmark = pytest.mark.foreign

ROOT = Path(__file__).parents[2]
PATIENCE = 600.0  # seconds
# All but the simulation of old clients and the list of each cipher, which judge nothing; in parts, as no test may take
# two minutes on a slow machine. The protocols are what the others go by. With each a thing that it looks at.
PARTS = {
    "--std": "cipherlist_NULL",
    "--fs --server-preference": "PFS",
    "--server-defaults --headers": "cert_chain_of_trust <cert#2>",
    "--vulnerable": "LUCKY13",
}
SILENT = ["--quiet", "--warnings", "off", "--color", "0", "--nodns", "none"]
ACCEPTED = {
    "engine_problem": "is about the OpenSSL that testssl.sh itself uses",
    "cert_revocation": "is about the authority made for this test, which publishes no list of revoked certificates",
    "HSTS": "is a header for the application to set: it knows whether all of its names speak TLS",
    "security_headers": "are for the application to set",
    "sessionresumption_ticket": "WARN: its own try of a resumption gives up on a busy machine; tried below",
}
HARMLESS = {"OK", "INFO", "DEBUG"}


@pytest.mark.parametrize("part", PARTS)
def test_testssl_finds_nothing_weak(part: str, tmp_path: Path) -> None:
    scan = Program("testssl", "testssl.sh").path()
    authority = Authority(tmp_path)
    now = datetime.now(UTC)
    valid: dict[str, Any] = {"not_before": now - timedelta(days=1), "not_after": now + timedelta(days=90)}  # as usual
    words = ["examples.https.__main__:application"]
    for key in (trustme.KeyType.ECDSA, trustme.KeyType.RSA):
        words += ["--certfile", authority.issue("localhost", "127.0.0.1", key=key, **valid)]
    found = tmp_path / "found.json"
    with ServedCommand(*words, cwd=tmp_path, PYTHONPATH=str(ROOT)) as server:
        address = server.url.removeprefix("https://")
        command = [
            scan,
            *SILENT,
            "--protocols",
            *part.split(),
            "--add-ca",
            authority.file,
            "--jsonfile",
            found,
            address,
        ]
        done = subprocess.run(
            list(map(str, command)),
            env=os.environ,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        server.stop()
    findings = json.loads(found.read_text())
    assert PARTS[part] in {finding["id"] for finding in findings}, done.stdout
    weak = [
        finding
        for finding in findings
        if finding["severity"] not in HARMLESS and finding["id"].split()[0] not in ACCEPTED
    ]
    assert not weak, weak
    assert "Traceback" not in server.stderr


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(version: ssl.TLSVersion, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.create_default_context(cafile=authority.file)
    context.minimum_version = context.maximum_version = version
    session, reused = None, []
    certificate = authority.issue("localhost", "127.0.0.1")
    with ServedCommand("examples.https.__main__:application", "--certfile", certificate, cwd=tmp_path,
                       PYTHONPATH=str(ROOT)) as server:  # fmt: skip
        port = int(server.url.rstrip("/").rpartition(":")[2])
        for _ in range(2):
            with (
                socket.create_connection(("127.0.0.1", port), 60) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as client,
            ):
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert client.recv(12) == b"HTTP/1.1 200"  # tickets of TLS 1.3 came before it
                session, reused = client.session, [*reused, client.session_reused]
    assert reused == [False, True]
