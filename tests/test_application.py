"""Finding and importing the application."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

import pytest

from streamserve.application import load_app
from streamserve.errors import ConfigurationError

SITE = """
class Site:
    def wsgi(self, environ, start_response):
        return [b"site"]

site = Site()

def application(environ, start_response):
    return [b"application"]

def app(environ, start_response):
    return [b"app"]

def create_app(*words, **settings):
    def made(environ, start_response):
        return [repr((words, settings)).encode()]
    made.site = site
    return made

class Streaming:
    def __init__(self, environ, start_response):
        pass
    def __iter__(self):
        return iter([b"streaming"])

name = "Site"
"""

SOCKET_IO = "from flask import request, session\nfrom streamserve.socketio_server import SocketIOServer\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of which nothing stays behind in sys.path or sys.modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    (tmp_path / "site_module.py").write_text(SITE)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def body(application: WSGIApplication) -> bytes:
    def start_response(*_arguments: Any) -> Any:
        raise AssertionError("these applications do not call it")

    return b"".join(application({}, start_response))


def refusal(spec: str, chdir: str = "") -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_app(spec, chdir)
    assert "\n" not in str(caught.value)
    return caught.value


class TestFinding:
    @pytest.mark.parametrize(
        ("spec", "expected"),
        [
            ("site_module:app", b"app"),
            ("site_module", b"application"),
            (" site_module:app ", b"app"),
            ("site_module:site.wsgi", b"site"),
            ("site_module:create_app()", b"((), {})"),
            ("site_module:create_app('a', 2, debug=True)", b"(('a', 2), {'debug': True})"),
            ('site_module:create_app(["x"], limits={"a": -1})', b"((['x'],), {'limits': {'a': -1}})"),
            ("site_module:create_app().site.wsgi", b"site"),
            ("site_module:Streaming", b"streaming"),
        ],
    )
    def test_calls_what_the_spec_names(self, spec: str, expected: bytes) -> None:
        assert body(load_app(spec)) == expected

    def test_without_attribute_app_comes_after_application(self, project: Path) -> None:
        (project / "second.py").write_text("def app(environ, start_response): return [b'second']")
        assert body(load_app("second")) == b"second"

    def test_module_inside_a_package(self, project: Path) -> None:
        (project / "shop").mkdir()
        (project / "shop" / "web.py").write_text("def app(environ, start_response): return [b'shop']")
        assert body(load_app("shop.web:app")) == b"shop"

    def test_working_directory_comes_first_on_the_path(self, project: Path) -> None:
        load_app("site_module")
        assert sys.path[0] == str(project)
        load_app("site_module")
        assert sys.path.count(str(project)) == 1

    def test_chdir_changes_the_directory_and_imports_from_it(self, project: Path) -> None:
        (project / "elsewhere").mkdir()
        (project / "elsewhere" / "there.py").write_text(
            "import os\nhere = os.getcwd().encode()\ndef app(environ, start_response): return [here]"
        )
        assert body(load_app("there:app", "elsewhere")) == str(project / "elsewhere").encode()

    def test_callable_made_by_a_decorator_that_changes_the_arguments(self, project: Path) -> None:
        (project / "decorated.py").write_text(
            "from werkzeug import Request, Response\n@Request.application\ndef app(request): return Response('x')"
        )
        assert callable(load_app("decorated:app"))

    def test_flask_application(self, project: Path) -> None:
        (project / "web.py").write_text("from flask import Flask\napp = Flask(__name__)")
        assert type(load_app("web")).__name__ == "Flask"


class TestMistakes:
    @pytest.mark.parametrize(
        ("spec", "parts"),
        [
            ("", ["no application is given", "streamserve module:application"]),
            (":app", ["no application is given"]),
            ("nowhere:app", ["no module 'nowhere' in ", "check the name, or give its directory with --chdir"]),
            ("nowhere.deep:app", ["no module 'nowhere'"]),
            ("site_module.deep:app", ["no module 'site_module.deep'"]),
            ("site_module.py", ["give the module, not its file: streamserve site_module"]),
            ("a/b/c.py:app", ["streamserve --chdir a/b c:app"]),
            ("a b:app", ["is not the name of a module"]),
            ("site..module:app", ["is not the name of a module"]),
            ("site_module:aplication", ["module 'site_module' has no attribute 'aplication'", "'application'?"]),
            ("site_module:zzz", ["has no attribute 'zzz'; check the name"]),
            ("site_module:site.wsg", ["'site' has no attribute 'wsg'"]),
            ("site_module:name", ["'site_module:name' is a str, which cannot be called"]),
            ("site_module:name()", ["'name' is a str, not a factory; leave out the parentheses"]),
            ("site_module:", ["not understood after the colon"]),
            ("site_module:1", ["not understood after the colon"]),
            ("site_module:app if 1 else 2", ["not understood"]),
            ("site_module:create_app(", ["not understood"]),
            ("site_module:create_app(name)", ["not understood", "literal arguments"]),
            ("site_module:create_app(**{'a': 1})", ["not understood"]),
            ("site_module:create_app(__import__('os').getcwd())", ["not understood"]),
        ],
    )
    def test_one_line_says_what_and_what_to_do(self, spec: str, parts: list[str]) -> None:
        problem = refusal(spec)
        for part in parts:
            assert part in str(problem)
        assert problem.details == ""

    def test_directory_that_is_not_there(self) -> None:
        line = str(refusal("site_module", "gone"))
        assert line == "cannot change to gone: No such file or directory; give another --chdir"

    def test_module_without_a_default_names_what_it_has(self, project: Path) -> None:
        (project / "unusual.py").write_text("from os.path import join\ndef website(environ, start_response): return []")
        assert "neither application nor app; say which one it is: unusual:website" in str(refusal("unusual"))
        (project / "live.py").write_text(f"{SOCKET_IO}sio = SocketIOServer()")
        assert "say which one it is: live:sio" in str(refusal("live"))
        (project / "empty.py").write_text("")
        assert "empty:NAME" in str(refusal("empty"))

    def test_application_inside_of_a_socket_io_server_leads_to_it(
        self, project: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = f"{SOCKET_IO}def app(environ, start_response): pass\nsio = SocketIOServer(wsgi_app=app)"
        (project / "inside.py").write_text(source)
        load_app("inside:sio")
        assert caplog.messages == []
        load_app("inside:app")
        assert caplog.messages == [
            "inside:app is served without the Socket.IO server that stands around it; for both: inside:sio"
        ]

    def test_object_of_flask_socketio_leads_to_its_application(self, project: Path) -> None:
        source = "from flask import Flask\nfrom flask_socketio import SocketIO\nsocketio = SocketIO(Flask('x'))"
        (project / "shop.py").write_text(source)
        line = str(refusal("shop:socketio"))
        assert line.endswith(
            "is Flask-SocketIO's object; name the Flask application that it was made with, which serves both"
        )

    @pytest.mark.parametrize(
        "source",
        [
            "def app(): pass",
            "def app(environ): pass",
            "def app(a, b, c): pass",
            "class app:\n    def __init__(self, config): pass",
        ],
    )
    def test_callable_with_other_arguments_hints_at_a_factory(self, project: Path, source: str) -> None:
        (project / "factory.py").write_text(source)
        assert "if it makes the application, write factory:app()" in str(refusal("factory:app"))

    @pytest.mark.parametrize(
        "source",
        [
            "async def app(scope, receive, send): pass",
            "class App:\n    async def __call__(self, scope, receive, send): pass\napp = App()",
        ],
    )
    def test_asgi_application_is_named_as_such(self, project: Path, source: str) -> None:
        (project / "asgi.py").write_text(source)
        assert "is an ASGI application" in str(refusal("asgi:app"))


class TestFailures:
    def test_import_error_inside_the_module_shows_its_own_frames(self, project: Path) -> None:
        (project / "outer.py").write_text("\nimport inner\n")
        (project / "inner.py").write_text("import missing_dependency\n")
        problem = refusal("outer:app")
        assert str(problem) == (
            "importing outer failed: ModuleNotFoundError: No module named 'missing_dependency';"
            " install or correct what it imports"
        )
        assert f'File "{project}/outer.py", line 2' in problem.details
        assert f'File "{project}/inner.py", line 1' in problem.details
        assert "importlib" not in problem.details
        assert "streamserve" not in problem.details

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("1 / 0", "ZeroDivisionError: division by zero"),
            ("def app(:", "SyntaxError: invalid syntax (broken.py, line 1)"),
            ("import sys; sys.exit('no database')", "SystemExit: no database"),
            ("raise RuntimeError('first line\\nsecond line')", "RuntimeError: first line;"),
            ("raise RuntimeError", "RuntimeError;"),
            ("raise ExceptionGroup('several', [OSError('x')])", "ExceptionGroup: several (1 sub-exception)"),
            ("from os import nothing", "ImportError: cannot import name 'nothing'"),
        ],
    )
    def test_module_that_fails_shows_where(self, project: Path, source: str, reason: str) -> None:
        (project / "broken.py").write_text(source)
        problem = refusal("broken:app")
        assert f"importing broken failed: {reason}" in str(problem)
        assert f'File "{project}/broken.py", line 1' in problem.details

    def test_causes_are_shown_without_our_frames_too(self, project: Path) -> None:
        (project / "chained.py").write_text(
            "try:\n    import gone\nexcept ImportError as e:\n    raise OSError from e\n"
        )
        details = refusal("chained:app").details
        assert "No module named 'gone'" in details
        assert "direct cause" in details
        assert "importlib" not in details

    def test_factory_that_raises_shows_where(self, project: Path) -> None:
        (project / "making.py").write_text("def create_app(name):\n    raise LookupError(name)\n")
        problem = refusal("making:create_app('x')")
        assert str(problem).startswith("create_app('x') failed: LookupError: x; correct the factory")
        assert f'File "{project}/making.py", line 2, in create_app' in problem.details
        assert "streamserve" not in problem.details

    def test_factory_called_with_the_wrong_arguments(self, project: Path) -> None:
        (project / "making.py").write_text("def create_app(name): pass\n")
        assert "missing 1 required positional argument: 'name'" in str(refusal("making:create_app()"))

    def test_attribute_that_fails_when_it_is_looked_up(self, project: Path) -> None:
        (project / "lazy.py").write_text("def __getattr__(name): raise OSError(name)\n")
        problem = refusal("lazy:app")
        assert "looking up 'app' in module 'lazy' failed: OSError: app" in str(problem)
        assert f'File "{project}/lazy.py", line 1' in problem.details
