"""The process that serves: it loads the application, listens, and stops when it is told to."""

import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from socket import socket as Socket
from wsgiref.types import WSGIApplication

from streamserve import spawn
from streamserve.application import load_app
from streamserve.cluster.forced_end import ForcedEnd
from streamserve.cluster.own_signals import on_signal
from streamserve.debug.oversight import print_greenlets_on_signal, watch_loop
from streamserve.errors import ConfigurationError
from streamserve.listening.addresses import open_listeners
from streamserve.logs.server_log import configure_logging, write_past_locks
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hubs import set_default_backend
from streamserve.settings import Settings
from streamserve.wsgi import WSGIServer, announce

__all__ = ["Worker"]

log = logging.getLogger("streamserve")


class Worker:
    """One serving process.

    Args:
        settings: What to serve, and how.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def run(self) -> int:
        """Serves until SIGINT, SIGTERM or SIGHUP has stopped the server.

        The first signal lets the running requests finish, for at most graceful_timeout; the second ends them. If one of
        them blocks the loop, it ends this process. With TLS SIGHUP reloads the certificates instead.

        Returns:
            The exit code, 0.

        Raises:
            ConfigurationError: The application cannot be loaded, or an address not opened.
        """
        with ExitStack() as cleanup:
            cleanup.callback(
                print_greenlets_on_signal(write_past_locks)
            )  # before the application, whose own handler counts more
            set_default_backend(self.settings.loop_backend)  # before the application can make a hub
            application = load_app(
                self.settings.app,
                self.settings.chdir,
                patch=self.settings.patch,
                begin=lambda: cleanup.callback(watch_loop(self.settings.block_warning, write_past_locks)),
            )
            configure_logging(self.settings.log_level, self.settings.log_config)
            listeners = open_listeners(self.settings.bind, self.settings.backlog, self.settings.unix_file)
            for listener in listeners:
                cleanup.callback(listener.close)
            server = self._make_server(listeners, application)
            cleanup.callback(server.close)
            shutdown = Shutdown(server, self.settings.graceful_timeout)
            stopping = [signal.SIGINT, signal.SIGTERM]
            if server.certificates is None:
                stopping.append(signal.SIGHUP)  # its terminal was closed
            else:
                cleanup.callback(on_signal(signal.SIGHUP, reload_certificates, server))
            for number in stopping:
                cleanup.callback(on_signal(number, shutdown.ask, number))
            cleanup.callback(ForcedEnd(stopping, self.settings.graceful_timeout, flushes(server)).close)
            server.start()
            announce(server, self.settings.app)
            server.serve_forever()
            shutdown.finish()
        return 0

    def _make_server(self, listeners: list[Socket], application: WSGIApplication) -> WSGIServer:
        try:
            return WSGIServer(listeners, application, settings=self.settings)
        except OSError as error:  # of its parts only the access log is not open yet
            raise ConfigurationError(
                f"access_log={self.settings.access_log!r} ({self.settings.origin('access_log')}) cannot be opened:"
                f" {error.strerror}; give a file that can be written, or -"
            ) from error


def flushes(server: WSGIServer) -> list[Callable[[], object]]:
    """What writes that which is still to be written: the access log's lines, and what the application printed."""
    logs = [] if server.access_log is None else [server.access_log.flush]
    return [*logs, *(stream.flush for stream in (sys.stdout, sys.stderr) if stream is not None)]


def reload_certificates(server: WSGIServer) -> None:
    """Reads the certificate files again; if one of them cannot be used, says so and keeps what there is."""
    try:
        server.reload_certificates()
    except ConfigurationError as problem:
        log.error("SIGHUP: the certificates stay as they were: %s", problem)
    else:
        log.info("SIGHUP: the certificates were reloaded")


class Shutdown:
    """What happens between the first signal and the end.

    Args:
        server: The server to stop.
        timeout: Seconds that running requests may take.
    """

    def __init__(self, server: WSGIServer, timeout: float) -> None:
        self.server = server
        self.timeout = timeout
        self.stopper: Greenlet | None = None
        self.began = 0.0
        self.interrupted = 0  # requests that ran when the second signal came

    def ask(self, signum: int) -> None:
        """Stops the server gracefully, or at once if it was asked before."""
        name = signal.Signals(signum).name
        running = self.server.active
        if self.stopper is None:
            rest = f"{_requests(running)} may take {self.timeout:g} s, a second signal stops at once"
            log.info("%s: stopping; %s", name, rest if running else "no request is running")
            self.began = time.monotonic()
            self.stopper = spawn(self.server.stop, self.timeout)
        else:
            log.warning("%s came again: stopping at once, with %s", name, _requests(running))
            self.interrupted = running
            self.stopper.kill(block=False)
            self.server.close()

    def finish(self) -> None:
        """Says how the stop went, once the server has ended."""
        if self.stopper is not None:
            answer = self.stopper.get()
            cut_off = (
                answer if isinstance(answer, int) else self.interrupted
            )  # a killed greenlet gives its GreenletExit
            log.info("stopped after %.2f s; %s cut off", time.monotonic() - self.began, _requests(cut_off))


def _requests(number: int) -> str:
    return "1 request" if number == 1 else f"{number} requests"
