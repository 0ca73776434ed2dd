"""Frameworks that the README names, served as their users serve them."""

from pathlib import Path

import requests

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
