"""Source distributions of PyPI for tests: those of packages that are installed, with the tests that wheels leave out.

Downloaded once for a checkout, into a folder that is ignored. Where one cannot be had the test is skipped and says why;
with TEST_SERVERS=required, as .ci/run has it, it fails.
"""

import fcntl
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

from tests.support.servers.daemon import missing

FOLDER = Path(__file__).parents[2] / "build" / "sdists"
DOWNLOAD_TIMEOUT = 120  # seconds; the network may be slow


def sources(name: str) -> Path:
    """Returns the folder of the sources of an installed package, of exactly the version that is installed."""
    folder = FOLDER / f"{name}-{version(name)}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run in this checkout may be at it
        if not (folder / "complete").exists():
            _fetch(folder, f"{name}=={version(name)}")
    (inner,) = (path for path in folder.iterdir() if path.is_dir())
    return inner


def _fetch(folder: Path, wanted: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    options = f"--quiet --no-deps --no-binary :all: --no-build-isolation --dest {folder}".split()
    command = [sys.executable, "-m", "pip", "download", *options, wanted]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        missing(f"pip did not download the sources of {wanted} within {DOWNLOAD_TIMEOUT} s")
    if done.returncode != 0:
        missing(f"pip cannot download the sources of {wanted}: {done.stderr.strip()}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    (folder / "complete").touch()
