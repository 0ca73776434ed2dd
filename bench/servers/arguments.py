"""What every launcher is given: `python -m bench.servers.NAME module:app PORT`."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


def app_and_port() -> tuple[WSGIApplication, int]:
    """Import the application named by the first argument; the second is the port on 127.0.0.1."""
    module, _, attribute = sys.argv[1].partition(":")
    app: WSGIApplication = getattr(importlib.import_module(module), attribute)
    return app, int(sys.argv[2])
