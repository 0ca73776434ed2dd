"""gevent, eventlet and psycogreen, installed beside the tests' environment: no library of it may find them."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WANTED = "gevent==26.9.0 zope.event==6.2 zope.interface==8.7 eventlet==0.41.3 dnspython==2.9.2 psycogreen==1.0.2"


@cache
def python_path() -> str:
    """A PYTHONPATH with the three and this package; they are fetched once for each Python. Skips without a network."""
    release = ".".join(map(str, sys.version_info[:2]))
    home = ROOT / "build" / "other-patchers" / release
    stamp = home / "installed.txt"
    if not stamp.exists() or stamp.read_text() != WANTED:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(home)]
        done = subprocess.run([*install, *WANTED.split()], capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.skip(f"gevent and eventlet cannot be installed here: {done.stderr[-200:]}")
        stamp.write_text(WANTED)
    return f"{ROOT}:{home}"
