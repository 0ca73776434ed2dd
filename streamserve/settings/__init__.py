"""One table of settings: what can be set, how values are read, and where they come from."""

from streamserve.settings.table import Entry, Settings, entries

__all__ = ["Entry", "Settings", "entries"]
