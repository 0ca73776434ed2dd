"""patch_all(socketio=True): programs of python-socketio run on the engine here, unchanged."""

import pytest

from tests.monkey.test_reports import reported
from tests.support.program import printed

PATCH = "from streamserve.monkey import *; patch_all(socketio=True)\n"
SHOW = """
import sys
def whose(cls):
    return [base.__module__ for base in cls.__mro__ if base.__name__ in ("EngineServer", "SocketIOServer")]
"""


def test_patching_imports_nothing_of_either_package() -> None:
    assert printed(PATCH + "import sys; print([n for n in sys.modules if 'socketio' in n or 'engineio' in n])") == [
        "['streamserve.socketio_patch']"
    ]


@pytest.mark.parametrize(
    "program",
    [
        "import socketio, engineio; a, b = socketio.Server, engineio.Server",
        "import engineio, socketio; b, a = engineio.Server, socketio.Server",
        "from socketio import Server as a; from engineio import Server as b",
        "from streamserve.socketio_server import SocketIOServer; from socketio import Server as a;"
        "from engineio import Server as b; assert a is SocketIOServer",
        "from streamserve.engine.server import EngineServer; from socketio import *; a = Server;"
        "from engineio import Server as b; assert b is EngineServer",
        "import flask_socketio; io = flask_socketio.SocketIO(); io.init_app(None);"
        "a, b = type(io.server), type(io.server.eio)",
    ],
)
def test_whatever_is_imported_first_the_servers_are_ours(program: str) -> None:
    assert printed(PATCH + SHOW + program + "\nprint(*whose(a), *whose(b))") == [
        "streamserve.socketio_server streamserve.engine.server"
    ]


def test_without_the_argument_the_packages_stay_as_they_are() -> None:
    assert printed(
        "from streamserve.monkey import *; patch_all()\n"
        "import socketio; print(socketio.Server.__module__, is_module_patched('socketio'))"
    ) == ["socketio.server False"]


def test_classes_of_a_program_derive_from_ours() -> None:
    assert printed(
        PATCH
        + SHOW
        + """
from socketio import Server
class Mine(Server):
    def hello(self):
        return self.eio.async_mode
print(*whose(Mine), Mine(async_mode="threading").hello())
"""
    ) == ["streamserve.socketio_server streamserve"]


@pytest.mark.parametrize("mode", [None, "streamserve", "threading", "gevent", "gevent_uwsgi", "eventlet"])
def test_any_mode_of_upstream_means_ours_and_the_log_says_so_at_info(mode: str | None) -> None:
    lines = printed(
        "import logging, sys\n"
        "logging.basicConfig(level='INFO', stream=sys.stdout, format='%(levelname)s %(message)s')\n"
        f"{PATCH}import socketio, engineio\n"
        f"for make in (socketio.Server, engineio.Server): print(make(async_mode={mode!r}).async_mode)"
    )
    assert [line for line in lines if "means" not in line and "initialized" not in line] == ["streamserve"] * 2
    told = [line for line in lines if "means" in line]
    assert len(told) == (0 if mode in (None, "streamserve") else 2)
    assert all(line.startswith(f"INFO async_mode={mode!r} means streamserve's") for line in told)


def test_a_mode_that_upstream_has_not_is_refused_patched_too() -> None:
    (line,) = printed(
        PATCH + "import socketio\ntry: socketio.Server(async_mode='trio')\nexcept Exception as error: print(error)"
    )
    assert line.startswith("async_mode='trio' is another server's")


def test_originals_can_be_had_and_asked_about() -> None:
    assert printed(
        PATCH
        + """
print(is_module_patched("socketio"), is_object_patched("engineio", "Server"), is_object_patched("socketio", "Client"))
print(get_original("socketio", "Server").__module__, get_original("engineio", "Server").__module__)
print(is_module_patched("socketio"), is_object_patched("engineio", "Server"), is_object_patched("socketio", "Client"))
patch_all(socketio=True)
import socketio
print(socketio.Server.__module__, socketio.server.Server.__module__)
"""
    ) == [
        "True True False",
        "socketio.server engineio.server",
        "True True False",
        "streamserve.socketio_server socketio.server",
    ]


class TestImportedBefore:
    def test_names_that_were_taken_are_replaced(self) -> None:
        assert printed(
            f"from socketio import Server; import socketio, engineio\n{PATCH}{SHOW}"
            "print(*whose(Server), *whose(socketio.Server), *whose(engineio.Server), socketio.server.Server.__module__)"
        ) == ["streamserve.socketio_server streamserve.socketio_server streamserve.engine.server socketio.server"]

    def test_nothing_is_reported_of_the_packages_alone(self) -> None:
        assert reported("import socketio, engineio, flask_socketio", "socketio=True") == []

    def test_servers_and_classes_are_named(self) -> None:
        lines = reported(
            "import socketio\nclass Mine(socketio.Server): pass\nearly = [socketio.Server(), Mine()]",
            "socketio=True",
        )
        assert lines == [
            "servers made before patching stay upstream's: engineio.server.Server",
            "subclasses of socketio.Server made before patching stay upstream's: __main__.Mine",
            "servers made before patching stay upstream's: __main__.Mine, socketio.server.Server",
        ]
