"""Every example that is a WSGI application, in `wsgiref.validate`: neither it nor the server breaks PEP 3333."""

from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.process import ServedCommand
from tests.support.tls import Authority

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds; only a failing test waits so long

# What the validator only warns of is an error here. It writes to wsgi.errors of iterators that nobody closed.
WRAPPER = """
import warnings
from wsgiref.validate import WSGIWarning, validator
from {module} import {name}
warnings.simplefilter("error", WSGIWarning)
validated = validator({name})
"""
REQUESTS: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "hello": [("GET", "/?name=you", {}), ("HEAD", "/", {}), ("POST", "/", {"data": b"not read"})],
    "counter": [
        ("GET", "/", {}),
        ("HEAD", "/", {}),
        ("GET", "/static/counter.js", {}),
        ("POST", "/upload", {"files": {"file": ("name", b"x" * 100_000)}}),
        ("POST", "/upload", {"data": iter([b"chunked", b" and no form"])}),
        ("GET", "/events", {"stream": True, "headers": {"Last-Event-ID": "41"}}),
        ("GET", "/static/missing", {}),
    ],
    "ticker": [("GET", "/", {}), ("HEAD", "/events", {}), ("GET", "/events", {"stream": True})],
    "chat": [
        ("GET", "/", {}),
        ("HEAD", "/", {}),
        ("POST", "/", {"data": b"not read"}),
        ("GET", "/chat.js", {}),
        ("GET", "/socket.io/?EIO=4&transport=polling", {}),
        ("POST", "/socket.io/?EIO=4&transport=polling", {}),
    ],
}
PLAIN: list[tuple[str, str, dict[str, Any]]] = [("GET", "/", {}), ("HEAD", "/", {}), ("GET", "/%C3%A9?a=%20", {})]


def applications() -> list[tuple[str, str]]:
    """(module, name of the application) of each example that has one."""
    found = []
    for file in sorted(ROOT.glob("examples/*/*.py")):
        text = file.read_text()
        marks = {"app": "\napp = ", "sio": "\nsio = ", "application": "\ndef application(environ"}
        name = next((name for name, mark in marks.items() if mark in text), "")
        if name:
            found.append((".".join(file.relative_to(ROOT).with_suffix("").parts), name))
    return found


@pytest.mark.parametrize(("module", "name"), applications())
def test_the_validator_of_wsgiref_has_nothing_to_say(module: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "wrapped.py").write_text(WRAPPER.format(module=module, name=name))
    example = module.split(".")[1]
    arguments = ["wrapped:validated"]
    authority = Authority(tmp_path)
    if example == "https":
        arguments += ["--certfile", authority.issue("127.0.0.1")]
    with ServedCommand(*arguments, cwd=tmp_path, PYTHONPATH=str(ROOT), SECONDS="0.01") as server:
        for method, path, options in REQUESTS.get(example, PLAIN):
            with requests.request(
                method, server.url + path, timeout=PATIENCE, verify=authority.file, **options
            ) as response:
                assert response.status_code < 500, (method, path, server.stderr)
                assert next(response.iter_content(1000), b"") or method == "HEAD"
        server.stop()
    for trouble in ("Traceback", "Error", "Warning", "Iterator"):
        assert trouble not in server.stderr


def test_the_examples_are_found() -> None:
    names = [module.split(".")[1] for module, _ in applications()]
    assert {"hello", "counter", "chat", "side_by_side", "https", "ticker"} <= set(names) and len(set(names)) == len(
        names
    )
