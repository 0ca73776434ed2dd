"""A WSGI application as people write them, blocking: Redis, then PostgreSQL, then another HTTP server.

/gated waits at each of them until the test lets it through, /timed as many seconds as the variable SECONDS says.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
import redis
import requests

PATIENT = {"socket_timeout": None, "socket_connect_timeout": None}
REDIS = redis.Redis.from_url(os.environ["REDIS_URL"], max_connections=1000, **PATIENT)
DATABASE = os.environ["DATABASE_URL"]
OTHER = os.environ["HTTP_URL"]
SECONDS = os.environ["SECONDS"]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    with psycopg.connect(DATABASE, autocommit=True) as connection:
        if path == "/gated":
            REDIS.blmove("gate", "gate", 0)
            connection.execute("SELECT pg_advisory_xact_lock_shared(1)")
        else:
            REDIS.blpop(["never"], timeout=float(SECONDS))
            connection.execute("SELECT pg_sleep(%s)", [float(SECONDS)])
        backend = connection.info.backend_pid
    answer = requests.get(OTHER + path, timeout=300).text
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{backend} {answer}".encode()]
