"""patch_all and its parts: what is replaced, and that each may be called again."""

import socket
import threading
from pathlib import Path

import pytest

from streamserve.monkey import get_original, is_module_patched, is_object_patched, patch_all
from tests.support.program import printed


def test_originals_of_what_is_not_patched_are_the_things_themselves() -> None:
    assert get_original("threading", "Lock") is threading.Lock
    assert get_original("socket", ["socket", "AF_INET"]) == [socket.socket, socket.AF_INET]
    assert not is_module_patched("threading") and not is_object_patched("socket", "socket")


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="'sockets'"):
        patch_all(sockets=True)


def test_second_call_adds_to_the_first() -> None:
    assert printed(
        """
from streamserve.monkey import *
patch_all(socket=False, dns=False, ssl=False, queue=False)
print([is_module_patched(name) for name in ("threading", "time", "socket", "ssl", "queue")])
import threading, time
before = threading.Lock, time.sleep
patch_all(), patch_all()
print([is_module_patched(name) for name in ("socket", "ssl", "queue")], before == (threading.Lock, time.sleep))
print(get_original("time", "sleep").__module__, is_object_patched("threading", "Lock"))
"""
    ) == ["[True, True, False, False, False]", "[True, True, True] True", "time True"]


@pytest.mark.parametrize(
    ("call", "patched"),
    [
        ("patch_socket()", "socket"),
        ("patch_dns()", "socket"),
        ("patch_time()", "time"),
        ("patch_select()", "select selectors"),
        ("patch_selectors()", "selectors"),
        ("patch_queue()", "queue"),
        ("patch_thread()", "_thread threading"),
        ("patch_ssl()", "ssl"),
        ("patch_all(subprocess=False, os=False, sys=True, thread=False, ssl=False)", "select selectors socket time"),
    ],
)
def test_parts_patch_only_what_they_name(call: str, patched: str) -> None:
    assert printed(f"from streamserve.monkey import *; {call}; print(*sorted(saved))") == [patched]


def test_socket_without_dns_leaves_names_alone() -> None:
    assert printed(
        """
from streamserve.monkey import *
patch_socket(dns=False)
print(is_object_patched("socket", "socket"), is_object_patched("socket", "getaddrinfo"))
"""
    ) == ["True False"]


def test_patch_module_replaces_names_and_what_was_taken_of_them() -> None:
    assert printed(
        """
import types, sys
mine, taker = types.ModuleType("mine"), types.ModuleType("taker")
sys.modules.update(mine=mine, taker=taker)
mine.work = taker.taken = lambda: "slow"
source = types.ModuleType("source")
source.work = lambda: "quick"
source.more = 1
source.__implements__ = ["work", "more"]
from streamserve.monkey import *
patch_module("mine", source)
print(mine.work(), taker.taken(), mine.more, get_original("mine", "work")(), is_object_patched("mine", "more"))
"""
    ) == ["quick quick 1 slow False"]


def test_tls_contexts_are_changed_and_never_replaced() -> None:
    assert printed(
        """
import ssl
early, kinds = ssl.create_default_context(), (ssl.SSLContext, ssl.SSLSocket)
early.minimum_version = ssl.TLSVersion.TLSv1_2
from streamserve.monkey import *
patch_all()
print((ssl.SSLContext, ssl.SSLSocket) == kinds, early.sslsocket_class.__module__)
late = ssl.create_default_context()
late.minimum_version = ssl.TLSVersion.TLSv1_2
late.options |= ssl.OP_NO_COMPRESSION
print(late.verify_mode.name, get_original("ssl", "sslsocket_class") is ssl.SSLSocket)
"""
    ) == ["True streamserve.green.ssl", "CERT_REQUIRED True"]


def test_module_that_is_waited_for_gets_its_action_when_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "awaited.py").write_text("value = 1\n")
    assert printed(
        f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from streamserve.loop.imports import after_import
seen, finders = [], len(sys.meta_path)
after_import("awaited", lambda module: seen.append(module.value))
import json.decoder
assert not seen
import awaited
print(seen, len(sys.meta_path) == finders, awaited.__spec__.loader is awaited.__loader__)
print(type(awaited.__loader__).__name__)
after_import("awaited", lambda module: seen.append("again"))
after_import("never_there", seen.append)
try:
    import never_there
except ModuleNotFoundError as error:
    print(seen, error)
"""
    ) == ["[1] True True", "SourceFileLoader", "[1, 'again'] No module named 'never_there'"]
