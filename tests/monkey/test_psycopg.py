"""psycopg 3 is told to wait by the patched `select`."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.foreign  # imports other people's C

SHOW = "import psycopg; print(psycopg.waiting.wait.__name__)"
PATCH = "from streamserve.monkey import patch_all; patch_all()"


def run(*lines: str, **environ: str) -> str:
    environment = {**os.environ, **environ}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_waits_in_c_without_patching() -> None:
    assert run(SHOW) == "wait_c"


def test_waits_by_poll_when_it_is_imported_after_patching() -> None:
    assert run(PATCH, SHOW) == "wait_poll"


def test_waits_by_poll_when_it_was_imported_before() -> None:
    assert run("import psycopg", PATCH, SHOW) == "wait_poll"


def test_choice_of_the_user_stays() -> None:
    assert run(PATCH, SHOW, PSYCOPG_WAIT_FUNC="wait_selector") == "wait_selector"


def test_psycopg_alone_can_be_patched_beside_select() -> None:
    assert run("from streamserve.monkey import *", "patch_select(); patch_psycopg()", SHOW) == "wait_poll"
