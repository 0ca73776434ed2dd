"""Certificates are loaded anew when their files change, as certbot and Kubernetes change them: nobody sends a signal.

A look is a stat of each file, through symbolic links: whoever swaps a link, or the folder behind one, has changed the
file. What is being written is left alone until two looks in a row see the same.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from streamserve.errors import ConfigurationError

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub
    from streamserve.tls.certificates import Certificates, Stamps

_log = logging.getLogger("streamserve.wsgi")

SETTLED = 1.0
"""Seconds for which changed files have to rest before they are loaded: certificate and key are seldom one write."""


class CertificateWatch:
    """Looks at the files every few seconds, by a timer that keeps no loop alive.

    Args:
        certificates: what is loaded anew.
        seconds: between two looks; 0: there are none.
    """

    def __init__(self, certificates: Certificates, seconds: float) -> None:
        self._certificates = certificates
        self._seconds = seconds
        self._hub: Hub | None = None
        self._timer = -1
        self._seen: Stamps = {}  # by the last look
        self._refused: Stamps = {}  # which could not be used, and the log has said so

    def open(self, hub: Hub) -> None:
        """Begins to look; also in a child of fork, whose loop has none of its parent's timers."""
        self._hub = hub
        if self._seconds:
            self._start(self._seconds)

    def close(self) -> None:
        """Looks no more."""
        if self._hub is not None and self._timer >= 0:
            self._hub.stop_timer(self._timer, self)
        self._hub = None
        self._timer = -1

    def fire(self) -> None:
        """The timer's end: a look is due, but not among the events of a poll."""
        self._timer = -1
        if self._hub is not None:
            self._hub.run_callback(self.look)

    def look(self) -> None:
        """Loads the files if they have changed and come to rest; what cannot be used is tried again by each look."""
        wait = self._seconds
        try:
            now = self._certificates.stamps()
            if now != self._certificates.loaded and now != self._seen:
                wait = min(SETTLED, wait)
            elif now != self._certificates.loaded:
                self._reload(now)
            self._seen = now
        finally:
            if self._hub is not None:
                self._start(wait)

    def _reload(self, now: Stamps) -> None:
        before = self._certificates.loaded
        changed = ", ".join(name for name, stamp in now.items() if stamp != before.get(name))
        try:
            self._certificates.reload()
        except ConfigurationError as problem:
            if now != self._refused:
                _log.warning("%s changed, but the certificates stay as they were: %s", changed, problem)
            self._refused = now
        else:
            _log.info("%s changed: the certificates were reloaded", changed)
            self._refused = {}

    def _start(self, seconds: float) -> None:
        assert self._hub is not None
        self._timer = self._hub.start_timer(seconds, self, counts=False)
