"""A Socket.IO server for each test, and raw clients of its engine."""

from tests.wsgi.conftest import Serve, quick_turns, serve

__all__ = ["Serve", "quick_turns", "serve"]
