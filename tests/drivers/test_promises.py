"""Drivers under patching, each against its real server, keep the promises of `promises.py`.

The scripts run under `streamserve run`, as a user's script does.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.promises import GREENLETS, NAP, POOL

pytestmark = pytest.mark.foreign  # other people's C, in processes of their own

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("promises.py")
TIMEOUT = 200.0  # seconds; the script gives up before, and says where it stands

SERVERS = {
    "redis_py": "redis",
    "psycopg3": "postgres",
    "psycopg3_guarded": "postgres",
    "psycopg2_green": "postgres",
    "pymysql_queue": "mariadb",
    "mysql_connector": "mariadb",
}
every_client = pytest.mark.parametrize("client", [name for name in SERVERS if name != "psycopg3_guarded"])
PYTHON_HALF = {"PSYCOPG_IMPL": "python"}


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Any:
    """Runs one promise with one client, and returns what it saw."""

    def run(client: str, promise: str, **environ: str) -> dict[str, Any]:
        server = request.getfixturevalue(SERVERS[client])
        command = [sys.executable, "-m", "streamserve", "run", str(SCRIPT), client, promise, server.url]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr, result.stderr
        report: dict[str, Any] = json.loads(result.stdout)
        return report

    return run


def assert_overlap(report: dict[str, Any]) -> None:
    # That all were in the server at once is proved before the report; one after the other they would take 50 naps.
    assert report["seconds"] < GREENLETS * NAP / 3


@every_client
def test_slow_queries_of_many_greenlets_take_the_time_of_one(keep: Any, client: str) -> None:
    assert_overlap(keep(client, "overlap"))


@every_client
def test_pool_opens_no_connection_beyond_its_size(keep: Any, client: str) -> None:
    report = keep(client, "pool_limit")
    assert report == {"served": GREENLETS, "open": POOL, "used": POOL, "opened": POOL}


@every_client
def test_transaction_keeps_its_connection_while_others_switch_in(keep: Any, client: str) -> None:
    report = keep(client, "transactions")
    assert report == {"changed": [], "connections": POOL, "seen before": 0, "seen after": 2 * POOL}


@every_client
def test_greenlet_killed_in_a_query_leaves_the_pool_whole(keep: Any, client: str) -> None:
    assert keep(client, "kills") == {"killed": POOL, "served": 2 * POOL}


@pytest.mark.parametrize("client", SERVERS)
def test_greenlet_killed_in_line_for_a_connection_leaves_the_pool_whole(keep: Any, client: str) -> None:
    assert keep(client, "kills_in_line") == {"killed": 2 * POOL, "served": 2 * POOL}


def test_psycopg_without_its_c_half_overlaps_too(keep: Any) -> None:
    assert_overlap(keep("psycopg3", "overlap", **PYTHON_HALF))
