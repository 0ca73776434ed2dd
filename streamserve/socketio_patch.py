"""Unmodified Socket.IO programs on this engine: `socketio.Server` and `engineio.Server` become streamserve's.

`monkey.patch_all(socketio=True)` comes here. Neither package is imported for it: when the program imports one, the name
`Server` is taken out of it, and whoever asks for that name first has ours loaded. So a module of this package may be
what imports python-socketio, and finds upstream's class where it is defined, in `socketio.server`.
"""

from __future__ import annotations

import gc
import sys
from types import ModuleType
from typing import Any

from streamserve.loop.imports import after_import
from streamserve.monkey.existing import descendants
from streamserve.monkey.originals import announce, get_original, is_object_patched, remember
from streamserve.monkey.references import is_ours, replace_references
from streamserve.monkey.report import report

__all__ = ["patch_socketio"]

PACKAGES = ("engineio", "socketio")


def patch_socketio() -> None:
    """Makes the servers of python-socketio and python-engineio streamserve's, now or when they are imported.

    Any `async_mode` that upstream has for threads and greenlets means this server from then on, and `socketio.run(app)`
    of Flask-SocketIO serves with it.
    """
    early = [name for name in PACKAGES if name in sys.modules and not is_object_patched(name, "Server")]
    for name in PACKAGES:
        announce(name, "Server")
        after_import(name, _take_out)
    after_import("flask_socketio", _replace_run)
    for name in early:
        _mend(sys.modules[name])


def _take_out(package: ModuleType) -> None:
    """Has `Server` looked up when it is first asked for."""
    if "Server" not in package.__dict__ or is_ours(package.Server.__module__):
        return
    remember(package, "Server", package.Server)
    del package.Server

    def lookup(name: str) -> Any:
        if name != "Server":
            raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")
        package.Server = _ours(package.__name__)  # type: ignore[attr-defined]
        return package.Server

    package.__dict__["__getattr__"] = lookup


def _replace_run(package: ModuleType) -> None:
    from streamserve.flask_socketio_patch import replace_run

    replace_run(package)


def _ours(package: str) -> type:
    if package == "engineio":
        from streamserve.engine.server import EngineServer

        return EngineServer
    from streamserve.socketio_server import SocketIOServer

    return SocketIOServer


def _mend(package: ModuleType) -> None:
    """Replaces the class where others have taken it before, and names what cannot be replaced."""
    original = get_original(package.__name__, "Server")
    replace_references({id(original): (original, package.Server)})
    sys.modules[original.__module__].Server = original  # type: ignore[attr-defined]  # ours derives from it
    derived = [cls for cls in descendants(original) if cls.__module__.partition(".")[0] not in PACKAGES]
    if derived:
        named = ", ".join(sorted(f"{cls.__module__}.{cls.__qualname__}" for cls in derived))
        report(f"subclasses of {package.__name__}.Server made before patching stay upstream's: {named}")
    kinds = {original, *derived}
    made = sorted({f"{type(item).__module__}.{type(item).__qualname__}" for item in _objects(kinds)})
    if made:
        report(f"servers made before patching stay upstream's: {', '.join(made)}")


def _objects(kinds: set[type]) -> list[Any]:
    return [item for item in gc.get_objects() if type(item) in kinds]
