"""The database servers as fixtures: real ones, started once for all tests of a run that ask for them."""

from collections.abc import Iterator

import pytest

from tests.support.servers.mariadb import MariaDB
from tests.support.servers.postgres import Postgres
from tests.support.servers.redis import Redis


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    with MariaDB() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server
