"""Frameworks that the README names, served as their users serve them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.support.client import Client
from tests.support.process import ServedCommand

DJANGO = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

settings.configure(DEBUG=False, ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="for a test")


def greet(request):
    return HttpResponse(f"Hello {request.GET['name']}", headers={"X-Scheme": request.scheme})


def upload(request):
    file = request.FILES["file"]
    return HttpResponse(f"{file.name} {file.size} {request.POST['note']}")


def count(request):
    return StreamingHttpResponse(f"{number}\\n" for number in range(3))


urlpatterns = [path("greet/", greet), path("upload/", upload), path("count/", count)]
application = get_wsgi_application()
"""


def test_django_app(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(DJANGO)
    with ServedCommand("project:application", cwd=tmp_path) as server, requests.Session() as client:
        greeting = client.get(f"{server.url}/greet/", params={"name": "Zoë"}, timeout=60)
        assert (greeting.text, greeting.headers["X-Scheme"]) == ("Hello Zoë", "http")
        files = {"file": ("notes.bin", bytes(3_000_000))}
        answer = client.post(f"{server.url}/upload/", data={"note": "ok"}, files=files, timeout=60)
        assert answer.text == "notes.bin 3000000 ok"
        assert client.get(f"{server.url}/count/", timeout=60).text == "0\n1\n2\n"
        assert client.get(f"{server.url}/missing/", timeout=60).status_code == 404


UPLOAD_DJANGO = """
import logging
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

logging.basicConfig()
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="for a test", LOGGING_CONFIG=None)


def fail(request):
    raise OSError("of the application")


urlpatterns = [
    path("read", lambda request: HttpResponse(len(request.body))),
    path("form", lambda request: HttpResponse(len(request.POST))),
    path("fail", fail),
]
app = get_wsgi_application()
"""

UPLOAD_FLASK = """
from flask import Flask, request

app = Flask(__name__)


@app.post("/read")
def read():
    return str(len(request.get_data()))


@app.post("/form")
def form():
    return str(request.form)
"""


@pytest.mark.parametrize("path", ["/read", "/form"])
@pytest.mark.parametrize(
    ("source", "end"),
    [
        (UPLOAD_FLASK, "half-close"),
        (UPLOAD_FLASK, "reset"),
        (UPLOAD_FLASK, "bad chunk"),
        (UPLOAD_DJANGO, "half-close"),
        (UPLOAD_DJANGO, "reset"),
    ],
    ids=lambda value: value if len(value) < 20 else "django" if "django" in value else "flask",
)
def test_a_broken_upload_is_a_quiet_400(tmp_path: Path, source: str, path: str, end: str) -> None:
    (tmp_path / "site_module.py").write_text(source)
    length = "Transfer-Encoding: chunked" if end == "bad chunk" else "Content-Length: 100000"
    form = "Content-Type: application/x-www-form-urlencoded"
    with ServedCommand("site_module:app", "--access-log", "-", "--buffered-body", "0", cwd=tmp_path) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        client = Client((host, int(port)))
        client.send(f"POST {path} HTTP/1.1\r\nHost: h\r\n{form}\r\n{length}\r\n\r\nzz\r\n".encode())
        if end == "reset":
            assert requests.get(server.url, timeout=60).status_code == 404  # and the upload runs by now
            client.reset()
        else:
            client.finish()
            assert client.response().status == 400
        client.close()
        assert requests.post(f"{server.url}/read", data=b"four", timeout=60).text == "4"
        output = server.stop()
    assert f'"POST {path} HTTP/1.1" 400' in output
    assert "Traceback" not in server.stderr and "ERROR" not in server.stderr


def test_what_fails_in_django_itself_is_logged_behind_a_broken_upload_too(tmp_path: Path) -> None:
    (tmp_path / "site_module.py").write_text(UPLOAD_DJANGO)
    with ServedCommand("site_module:app", cwd=tmp_path) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        with Client((host, int(port))) as client:
            client.send(b"POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nzz")
            client.finish()
            assert client.response().status == 400
        assert requests.get(f"{server.url}/fail", timeout=60).status_code == 500
        server.stop()
    assert "OSError: of the application" in server.stderr


FLASK = """
from flask import Flask, request


def create_app():
    app = Flask(__name__)

    @app.post("/echo")
    def echo():
        return request.get_json()

    @app.get("/count")
    def count():
        return (f"{number}\\n" for number in range(3))

    return app
"""


def test_flask_app_from_a_factory(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(FLASK)
    with ServedCommand("project:create_app()", cwd=tmp_path) as server, requests.Session() as client:
        assert client.post(f"{server.url}/echo", json={"a": ["é", 1]}, timeout=60).json() == {"a": ["é", 1]}
        assert client.get(f"{server.url}/count", timeout=60).text == "0\n1\n2\n"


ASYNC_FLASK = """
import asyncio, threading

from flask import Flask

app = Flask(__name__)
meet = threading.Barrier(2)


@app.get("/")
async def index():
    await asyncio.to_thread(meet.wait, 60)  # both requests are here
    await asyncio.sleep(0.001)
    return "met"


@app.get("/run")
def run():
    return asyncio.run(index())
"""

ASYNC_DJANGO = """
import asyncio, threading

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpResponse
from django.urls import path

database = {"ENGINE": "django.db.backends.sqlite3", "NAME": "file.sqlite"}
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="for a test", DATABASES={"default": database},
    INSTALLED_APPS=["django.contrib.contenttypes"],
)
waiting, queried = threading.Event(), threading.Event()


async def wait(request):
    waiting.set()
    while not queried.is_set():
        await asyncio.sleep(0.001)
    return HttpResponse("waited")


def query(request):
    from django.contrib.contenttypes.models import ContentType

    assert waiting.wait(60)
    try:
        with connection.schema_editor() as editor:
            editor.create_model(ContentType)
        ContentType.objects.create(app_label="a", model="b")
        return HttpResponse(str(ContentType.objects.count()))
    finally:
        queried.set()


urlpatterns = [path("wait/", wait), path("query/", query)]
application = get_wsgi_application()
"""


def answers(url: str, *paths: str) -> list[str]:
    """Asks for all of them at once; the texts of those that were answered with 200."""
    with ThreadPoolExecutor(len(paths)) as pool:
        responses = list(pool.map(lambda path: requests.get(url + path, timeout=60), paths))
    return [response.text if response.ok else f"{response.status_code} for {response.url}" for response in responses]


@pytest.mark.parametrize("path", ["/", "/run"])
def test_async_views_of_flask_run_side_by_side(tmp_path: Path, path: str) -> None:
    (tmp_path / "project.py").write_text(ASYNC_FLASK)
    with ServedCommand("project:app", cwd=tmp_path) as server:
        assert answers(server.url, path, path) == ["met", "met"], server.stderr


def test_django_queries_run_beside_an_async_view(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(ASYNC_DJANGO)
    with ServedCommand("project:application", cwd=tmp_path) as server:
        assert answers(server.url, "/wait/", "/query/") == ["waited", "1"], server.stderr


CHUNKED_DJANGO = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="for a test")


def received(request):
    if "form" in request.GET:
        return HttpResponse(request.POST["word"])
    return HttpResponse(f"{len(request.body)} of {request.META.get('CONTENT_LENGTH')}")


def streamed(request):
    return HttpResponse(len(request.META["wsgi.input"].read()))


urlpatterns = [path("", received), path("streamed", streamed)]
app = get_wsgi_application()
"""

CHUNKED_BOTTLE = """
from bottle import Bottle, request

app = Bottle()


@app.post("/")
def received():
    if "form" in request.query:
        return request.forms["word"]
    return f"{len(request.body.read())} of {request.environ.get('CONTENT_LENGTH')}"


@app.post("/streamed")
def streamed():
    return str(len(request.environ["wsgi.input"].read()))
"""


@pytest.mark.parametrize("source", [CHUNKED_DJANGO, CHUNKED_BOTTLE], ids=["django", "bottle"])
def test_a_chunked_body_is_read_by_frameworks_that_look_at_its_length(tmp_path: Path, source: str) -> None:
    (tmp_path / "site_module.py").write_text(source)
    with ServedCommand("site_module:app", "--buffered-body", "100000", cwd=tmp_path) as server:

        def post(path: str, *pieces: bytes) -> str:
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = requests.post(server.url + path, data=iter(pieces), headers=form, timeout=60)
            return answer.text if answer.ok else f"{answer.status_code}: {answer.text}"

        assert post("/", b"one ", b"two") == "7 of 7"
        assert post("/", bytes(99_000), b"!") == "99001 of 99001"
        assert post("/?form", b"wo", b"rd=cat&a", b"=b") == "cat"
        larger = bytes(60_000), bytes(60_000), b"!"
        assert post("/streamed", *larger) == "120001"
        if "bottle" in source:  # it looks for chunk headers in what is decoded: refused, and not taken for empty
            assert post("/", *larger).startswith("400: ")
        host, _, port = server.url.removeprefix("http://").partition(":")
        for broken in (b"3\r\nabcd\r\n0\r\n\r\n", b"zz\r\n", b"5\r\nab"):
            with Client((host, int(port))) as client:
                client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + broken)
                client.finish()
                assert client.response().status == 400, broken
        server.stop()
    assert "Traceback" not in server.stderr and "ERROR" not in server.stderr
