"""What programs keep per thread serves their next request: connections of Redis and PostgreSQL, as on a thread pool."""

import queue
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

from tests.apps.conftest import Connect, Serve
from tests.support.server import eventually
from tests.support.servers.postgres import Postgres
from tests.support.servers.redis import Redis

CLIENTS = 10
REQUESTS = 40  # of each

THREADS = """
import _thread
import contextvars
import threading
import time

local = threading.local()
variable = contextvars.ContextVar("variable", default=0)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        time.sleep(0.01)
    thread = threading.current_thread()
    assert thread.ident == threading.get_ident() == _thread.get_ident()
    assert thread.is_alive() and thread in threading.enumerate() and thread is not threading.main_thread()
    local.count = getattr(local, "count", 0) + 1
    variable.set(variable.get() + 1)
    answer = f"{thread.name} {id(thread)} {local.count} {variable.get()}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
"""


def all_at_once(url: str, number: int = CLIENTS, each: int = REQUESTS) -> list[str]:
    """What `number` clients that keep their connection are answered, each as often."""

    def ask(_: int) -> list[str]:
        with requests.Session() as client:
            answers = [client.get(url, timeout=60) for _ in range(each)]
            assert {answer.status_code for answer in answers} == {200}
            return [answer.text for answer in answers]

    with ThreadPoolExecutor(number) as pool:
        return [text for texts in pool.map(ask, range(number)) for text in texts]


def test_requests_are_threads_of_a_pool(serve: Serve) -> None:
    url = serve(THREADS).url
    first = [requests.get(url, timeout=60).text.split() for _ in range(3)]
    assert [words[2:] for words in first] == [["1", "1"], ["2", "2"], ["3", "3"]]
    assert len({(name, thread) for name, thread, *_ in first}) == 1 and first[0][0].startswith("request-")
    many = [text.split() for text in all_at_once(f"{url}/wait")]
    assert len({thread for _, thread, *_ in many}) <= CLIENTS
    assert all(local == variable for *_, local, variable in many)


REDIS = """
import contextvars
import threading
import redis

local = threading.local()
variable = contextvars.ContextVar("client")


def app(environ, start_response):
    if environ["PATH_INFO"] == "/local":
        if not hasattr(local, "client"):
            local.client = redis.Redis.from_url(URL, client_name="of-a-local")
        client = local.client
    else:
        client = variable.get(None)
        if client is None:
            client = redis.Redis.from_url(URL, client_name="of-a-context")
            variable.set(client)
    client.incr("visits")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(client.client_id()).encode()]
"""


@pytest.mark.foreign
def test_a_redis_client_per_thread_connects_once(serve: Serve, redis: Redis) -> None:
    url = serve(REDIS.replace("URL", repr(redis.url))).url
    for path in ("/local", "/context"):
        assert len({requests.get(url + path, timeout=60).text for _ in range(20)}) == 1
        assert len(set(all_at_once(url + path))) <= CLIENTS


@pytest.mark.foreign
def test_a_redis_client_of_an_idle_thread_is_closed(serve: Serve, redis: Redis) -> None:
    from redis import Redis as Client

    with Client.from_url(redis.url, decode_responses=True) as admin:

        def open_clients() -> set[str]:
            return {found["id"] for found in admin.client_list() if found["name"].startswith("of-")}

        before = open_clients()
        url = serve(REDIS.replace("URL", repr(redis.url)), "app", "--thread-idle-timeout", "200ms").url
        for path in ("/local", "/context"):
            ident = requests.get(url + path, timeout=60).text
            eventually(lambda ident=ident: ident not in open_clients() - before, "it is closed")


PSYCOPG = """
import threading
import psycopg

local = threading.local()


def app(environ, start_response):
    if not hasattr(local, "connection"):
        local.connection = psycopg.connect(URL, application_name="kept", autocommit=True)
    [pid] = local.connection.execute("SELECT pg_backend_pid() FROM pg_sleep(0.001)").fetchone()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(pid).encode()]
"""


@pytest.mark.foreign
def test_a_psycopg_connection_per_thread_is_opened_once(serve: Serve, postgres: Postgres) -> None:
    url = serve(PSYCOPG.replace("URL", repr(postgres.url))).url
    assert len({requests.get(url, timeout=60).text for _ in range(20)}) == 1
    assert len(set(all_at_once(url))) <= CLIENTS
    assert postgres.opened("kept") <= CLIENTS


DJANGO = """
from django.conf import settings
from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="for a test", DATABASES={{"default": dict(
        ENGINE="django.db.backends.postgresql", NAME="postgres", USER="tests", HOST="127.0.0.1", PORT={port},
        CONN_MAX_AGE={max_age}, OPTIONS={{"application_name": "{name}"}},
    )}},
    CACHES={{"default": {{"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "{redis}"}}}},
)


def query(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid() FROM pg_sleep(0.001)")
        [pid] = cursor.fetchone()
    return HttpResponse(str(pid))


def cached(request):
    cache.set("seen", 1)
    return HttpResponse(str(cache._cache.get_client(None).client_id()))


urlpatterns = [path("", query), path("cached", cached)]
application = get_wsgi_application()
"""


def django(name: str, max_age: int | None, postgres: Postgres, redis: str = "") -> str:
    return DJANGO.format(name=name, max_age=max_age, port=urlsplit(postgres.url).port, redis=redis)


@pytest.mark.foreign
@pytest.mark.parametrize("max_age", [60, None])
def test_django_keeps_no_more_connections_than_requests_ran_at_once(
    serve: Serve, postgres: Postgres, max_age: int | None
) -> None:
    name = f"django-{max_age}"
    url = serve(django(name, max_age, postgres), "application").url
    assert len({requests.get(url, timeout=60).text for _ in range(20)}) == 1
    all_at_once(url)
    assert postgres.opened(name) <= CLIENTS


@pytest.mark.foreign
def test_django_keeps_its_client_of_redis(serve: Serve, postgres: Postgres, redis: Redis) -> None:
    url = serve(django("django-cache", 0, postgres, redis.url), "application").url
    assert len({requests.get(f"{url}/cached", timeout=60).text for _ in range(20)}) == 1


SOCKETIO = """
import threading
import socketio

sio = socketio.Server(async_mode="threading", async_handlers=False)
local = threading.local()


@sio.event
def count(sid):
    local.count = getattr(local, "count", 0) + 1
    return threading.current_thread().name, local.count


app = socketio.WSGIApp(sio)
"""


def test_events_are_handled_under_the_threads_of_requests(serve: Serve, connect: Connect) -> None:
    url = serve(SOCKETIO).url
    clients = [connect(url, on={"never": queue.Queue().put}) for _ in range(2)]
    answers = [tuple(client.call("count", timeout=60)) for client in clients * 10]
    names = {name for name, _ in answers}
    assert all(name.startswith("request-") for name in names)
    if clients[0].transport() == "websocket":
        assert answers == [(answers[0][0], number) for number in range(1, 21)]
    else:  # each has a GET that waits and a POST
        assert len(names) <= 2 * len(clients)
