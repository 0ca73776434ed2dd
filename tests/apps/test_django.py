"""Django with python-socketio, as python-socketio's documentation has it: its WSGIApp around Django's."""

import queue

import requests

from tests.apps.conftest import Connect, Serve

APP = """
import socketio
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="for a test",
    INSTALLED_APPS=["django.contrib.contenttypes"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "file.sqlite"}},
)
sio = socketio.Server(async_mode="threading")


def news(request, what):
    sio.emit("news", what)
    return HttpResponse(f"told {what}")


@sio.on("count")
def count(sid):
    from django.contrib.contenttypes.models import ContentType
    from django.db import connection

    with connection.schema_editor() as editor:
        editor.create_model(ContentType)
    ContentType.objects.create(app_label="a", model="b")
    return ContentType.objects.count(), sio.get_environ(sid)["HTTP_X_FROM"]


urlpatterns = [path("news/<str:what>/", news)]
application = socketio.WSGIApp(sio, get_wsgi_application())
"""


def test_django_views_emit_and_handlers_query(serve: Serve, connect: Connect) -> None:
    url = serve(APP, "application").url
    heard: queue.Queue[str] = queue.Queue()
    client = connect(url, on={"news": heard.put}, headers={"X-From": "a test"})
    assert list(client.call("count", timeout=60)) == [1, "a test"]
    assert requests.get(f"{url}/news/one/", timeout=60).text == "told one"
    assert heard.get(timeout=60) == "one"
    assert requests.get(f"{url}/nothing/", timeout=60).status_code == 404
