"""examples/https, started by the command that its README gives."""

import http.client
import shutil
import ssl
from pathlib import Path

import pytest

from tests.support.example_program import ExampleProgram

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_serves_over_tls_with_a_certificate_of_its_own() -> None:
    with ExampleProgram("examples.https", "127.0.0.1:0") as example:
        pem = ssl.get_server_certificate(("127.0.0.1", example.port), timeout=60)
        context = ssl.create_default_context(cadata=pem)
        client = http.client.HTTPSConnection("127.0.0.1", example.port, context=context, timeout=60)
        client.request("GET", "/")
        assert client.getresponse().read() == b"Reached by https\n"
        client.close()
        assert example.interrupt() == (0, "")


def test_readme_gives_the_command_that_is_tested_here() -> None:
    assert "python -m examples.https 127.0.0.1:8443\n" in (ROOT / "examples/https/README.md").read_text()
