"""Packages of npm for tests, installed once for a checkout, into a folder that is ignored.

Where Node or npm is missing, or the package cannot be had, the test is skipped and says why; with
TEST_SERVERS=required, as .ci/run has it, it fails.
"""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.servers.daemon import REQUIRED, Program

FOLDER = Path(__file__).parents[2] / "build" / "node"
INSTALL_TIMEOUT = 120  # seconds; the network may be slow


def package(name: str, version: str) -> Path:
    """Returns the folder for NODE_PATH with this package, of exactly this version, in it."""
    npm = Program("npm", "npm").path()
    folder = FOLDER / f"{name}-{version}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run in this checkout may be at it
        if not (folder / "complete").exists():
            _install(npm, folder, f"{name}@{version}")
    return folder / "node_modules"


def program() -> str:
    """The path of Node."""
    return str(Program("node", "nodejs").path())


def _install(npm: Path, folder: Path, wanted: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    options = "--no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error".split()
    command = [npm, "install", *options, "--prefix", folder, wanted]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        _missing(f"npm did not install {wanted} within {INSTALL_TIMEOUT} s")
    if done.returncode != 0:
        _missing(f"npm cannot install {wanted}: {done.stderr.strip()}")
    (folder / "complete").touch()


def _missing(reason: str) -> NoReturn:
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(reason)
    pytest.skip(reason)
