"""`socketio.run(app)` of Flask-SocketIO serves with WSGIServer.

Its own `run` starts the server that the async mode names, Werkzeug's, eventlet's or gevent's, and does nothing for a
mode it does not know.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

from streamserve.loop.greenlet import Greenlet
from streamserve.settings import Settings
from streamserve.wsgi import WSGIServer, announce

__all__ = ["replace_run"]

_log = logging.getLogger("streamserve.engine")


STOP_TIMEOUT = 1.0
"""Seconds that requests may run on after `socketio.stop()`: as many as gevent gives them. Polls wait longer."""


def replace_run(package: ModuleType) -> None:
    """Makes `run` and `stop` of a program's SocketIO those of this server.

    Args:
        package: flask_socketio.
    """
    package.SocketIO.run = _run
    package.SocketIO.stop = _stop


def _run(self: Any, app: Any, host: str | None = None, port: int | None = None, **options: Any) -> None:
    """Serves the application until it is stopped.

    Args:
        host, port: by default 127.0.0.1 and the port of the application's SERVER_NAME, or 5000.
        options: debug, use_reloader, reloader_options, extra_files, log_output, keyfile and certfile as upstream has
            them. Others are those of other servers: they are ignored, and the log says so.
    """
    debug = app.debug = options.pop("debug", app.debug)
    reloads = options.pop("use_reloader", debug)
    reloader = dict(options.pop("reloader_options", {}))
    if extra_files := options.pop("extra_files", None):
        reloader["extra_files"] = extra_files
    if debug:
        from werkzeug.debug import DebuggedApplication

        self.sockio_mw.wsgi_app = DebuggedApplication(self.sockio_mw.wsgi_app, evalex=True)
    log = "default" if options.pop("log_output", debug) else None
    certificate = {name: options.pop(name) for name in ("certfile", "keyfile") if options.get(name)}
    options.pop("allow_unsafe_werkzeug", None)
    if options:
        _log.warning("socketio.run: another server's arguments are ignored: %s", ", ".join(sorted(options)))
    address = (host or "127.0.0.1", _port(app) if port is None else port)

    def serve() -> None:
        self.wsgi_server = WSGIServer(address, app, log=log, settings=Settings(**certificate))
        self.wsgi_server.start()
        announce(self.wsgi_server, app.name)
        self.wsgi_server.serve_forever()

    if not reloads:
        return serve()
    from werkzeug._reloader import run_with_reloader  # as upstream does

    run_with_reloader(serve, **reloader)


def _port(app: Any) -> int:
    _, colon, port = (app.config["SERVER_NAME"] or "").rpartition(":")
    return int(port) if colon else 5000


def _stop(self: Any) -> None:
    """Stops what `run` serves; a handler calls it."""
    Greenlet.spawn(self.wsgi_server.stop, STOP_TIMEOUT)  # it waits for what runs, so for the handler
