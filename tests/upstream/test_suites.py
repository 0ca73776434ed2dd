"""Upstream's own tests pass with this engine in upstream's place; deselected.toml says which do not run, and why."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sdist import sources
from tests.upstream.table import SUITES, read_table

ROOT = Path(__file__).parents[2]
TIMEOUT = 300.0  # seconds; the slowest takes 15 on an idle machine

FILES = [(package, file) for package, files in SUITES.items() for file in files]


@pytest.mark.parametrize(("package", "file"), FILES, ids=[f"{package}-{Path(file).stem}" for package, file in FILES])
def test_upstream_tests_pass_on_this_engine(package: str, file: str) -> None:
    folder = sources(package)
    done = subprocess.run(
        [sys.executable, ROOT / "tests/upstream/child.py", package, file],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('suite = "python-socketio/test_nothing"\ntests = ["a"]\nreason = "So."', "is none of"),
        ('suite = "python-socketio/test_server"\ntests = []\nreason = "So."', "a row has tests"),
        ('suite = "python-socketio/test_server"\ntests = ["a"]\nreason = "no sentence"', "a sentence"),
        ('suite = "python-socketio/test_server"\ntests = ["a", "a"]\nreason = "So."', "more than one row"),
    ],
)
def test_refuses_a_row_that_says_too_little(tmp_path: Path, row: str, complaint: str) -> None:
    path = tmp_path / "deselected.toml"
    path.write_text(f"[[deselected]]\n{row}\n")
    with pytest.raises(ValueError, match=complaint):
        read_table(path)
