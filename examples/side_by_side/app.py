"""One view that asks three slow services side by side: it takes as long as the slowest of them.

Nothing here is asynchronous: psycopg, redis-py, requests and smtplib block, each in a greenlet of its own, and
`streamserve` has patched the standard library before it imported this file.

Environment:
    DATABASE_URL, REDIS_URL: The database to query; both, one or none. Without one its row is missing, and the page
        says so.
    HTTP_URL: What to fetch. Default: a slow server that this example starts.
    MAIL_SERVER: host:port of an SMTP server, which gets one message for each view. Default: one that this example
        starts, and that throws the messages away.
    SECONDS: How long a query, and each of the servers of this example, takes. Default: 1.
"""

import os
import smtplib
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from functools import partial
from time import monotonic
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
from flask import Flask, Response, render_template

import streamserve
from examples.side_by_side.services import slow_http_server, slow_mail_server

TIMEOUT = 30.0  # seconds that a service may take
SECONDS = float(os.environ.get("SECONDS", "1"))
DATABASE_URL = os.environ.get("DATABASE_URL")
REDIS_URL = os.environ.get("REDIS_URL")
HTTP_URL = os.environ.get("HTTP_URL")
MAIL_SERVER = os.environ.get("MAIL_SERVER")

# Who has no such database needs no driver for it. Not in the view: an import takes longer than many a query.
if DATABASE_URL:
    import psycopg
if REDIS_URL:
    import redis

app = Flask(__name__)


class Part(NamedTuple):
    """Something to do, and who is asked for it."""

    name: str
    service: str
    action: Callable[[], str]


class Row(NamedTuple):
    """What became of a part. Times are in seconds since the view began."""

    name: str
    service: str
    start: float
    end: float
    answer: str
    failed: bool

    @property
    def seconds(self) -> float:
        return self.end - self.start


@app.get("/")
def handle_view() -> str:
    begin = monotonic()
    greenlets = [streamserve.spawn(run, part, begin) for part in parts()]
    streamserve.joinall(greenlets, raise_error=True)
    rows = [greenlet.value for greenlet in greenlets]
    return render_template("index.html", rows=rows, total=monotonic() - begin, database=DATABASE_URL or REDIS_URL)


def run(part: Part, begin: float) -> Row:
    """Does one part; a service that fails costs its row, not the page."""
    start = monotonic() - begin
    try:
        answer, failed = part.action(), False
    except Exception as error:
        app.logger.exception("%s failed", part.name)
        answer, failed = f"{type(error).__name__}: {error}", True
    return Row(part.name, part.service, start, monotonic() - begin, answer, failed)


# ---- the parts


def parts() -> Iterator[Part]:
    if DATABASE_URL:
        yield Part("PostgreSQL query", host(DATABASE_URL), partial(query_postgres, DATABASE_URL))
    if REDIS_URL:
        yield Part("Redis command", host(REDIS_URL), partial(ask_redis, REDIS_URL))
    own = "this example's own slow server"
    yield Part("HTTP request", host(HTTP_URL) if HTTP_URL else own, fetch)
    yield Part("E-mail", MAIL_SERVER or own, send_mail)


def query_postgres(url: str) -> str:
    with psycopg.connect(url, connect_timeout=int(TIMEOUT)) as connection:
        row = connection.execute("SELECT current_setting('server_version') FROM pg_sleep(%s)", [SECONDS]).fetchone()
    return f"PostgreSQL {row[0]} slept" if row else "no row"


def ask_redis(url: str) -> str:
    with redis.Redis.from_url(url, socket_timeout=SECONDS + TIMEOUT) as client:
        client.blpop(["side-by-side:nobody-fills-this"], timeout=SECONDS)
        return f"Redis {client.info('server')['redis_version']} waited for a list"


def fetch() -> str:
    response = requests.get(HTTP_URL or slow_http_server(SECONDS), timeout=TIMEOUT)
    return f"{response.status_code} {response.reason}, {len(response.content)} bytes"


def send_mail() -> str:
    message = EmailMessage()
    message["From"] = message["To"] = "side-by-side@example.com"
    message["Subject"] = "Sent while the others waited"
    message.set_content("One view, several services, the time of the slowest.\n")
    name, _, port = (MAIL_SERVER or slow_mail_server(SECONDS)).rpartition(":")
    with smtplib.SMTP(name, int(port), timeout=TIMEOUT) as client:
        client.send_message(message)
    return "accepted"


def host(url: str) -> str:
    """The part of a URL that may be shown: no password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or parts.path


@app.after_request
def forbid_foreign_resources(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    return response
