"""A process that gevent or eventlet has patched is refused: what stands here would be made of their parts.

Both take epoll away and put their own locks, sockets and sleep where this package takes the native ones. Looked at
before anything else of the package is imported, since importing the rest fails.
"""

from __future__ import annotations

import sys

from streamserve.errors import ConfigurationError

__all__ = ["refuse_patched"]

TRACES = (("gevent.monkey", "saved"), ("eventlet.patcher", "already_patched"))
"""Modules, and what of them is not empty once they have patched."""


def refuse_patched() -> None:
    """Refuses to go on where others have patched the standard library.

    Raises:
        ConfigurationError: They have.
    """
    for name, attribute in TRACES:
        if getattr(sys.modules.get(name), attribute, None):
            package = name.partition(".")[0]
            raise ConfigurationError(
                f"{package} has patched the standard library before streamserve could, and only one may; remove its"
                " patching (monkey.patch_all(), monkey_patch(), python -m gevent.monkey): streamserve does it itself"
            )
