"""What every test gets without asking, and the servers that it may ask for."""

from tests.support.servers.fixtures import mariadb, postgres, redis

__all__ = ["mariadb", "postgres", "redis"]
