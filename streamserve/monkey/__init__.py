"""Monkey patching: the standard library's blocking calls become cooperative, in place.

    from streamserve.monkey import patch_all
    patch_all()

`streamserve module:app` and `streamserve run script.py` do this before they import anything of the program. Elsewhere
call it as early as possible, in the main thread; it also finds what other modules have taken from the standard library
before, and says by a MonkeyPatchWarning what it could not mend.
"""

from streamserve.monkey.originals import get_original, is_module_patched, is_object_patched, saved
from streamserve.monkey.patches import (
    patch_all,
    patch_dns,
    patch_module,
    patch_queue,
    patch_select,
    patch_selectors,
    patch_socket,
    patch_ssl,
    patch_thread,
    patch_time,
)
from streamserve.monkey.psycopg import patch_psycopg
from streamserve.monkey.psycopg2 import patch_psycopg2
from streamserve.monkey.report import MonkeyPatchWarning
from streamserve.monkey.sqlite3 import patch_sqlite3

__all__ = [
    "MonkeyPatchWarning",
    "get_original",
    "is_module_patched",
    "is_object_patched",
    "patch_all",
    "patch_dns",
    "patch_module",
    "patch_psycopg",
    "patch_psycopg2",
    "patch_queue",
    "patch_select",
    "patch_selectors",
    "patch_socket",
    "patch_sqlite3",
    "patch_ssl",
    "patch_thread",
    "patch_time",
    "saved",
]
