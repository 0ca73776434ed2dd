"""Applications that keep their data in SQLite, as the tutorials of Django and Flask do, with many who write at once."""

from concurrent.futures import ThreadPoolExecutor

import requests

from tests.apps.conftest import Serve

CLIENTS = 10
POSTS = 5  # of each

FLASK = """
import sqlite3
import time
from flask import Flask, current_app, g, request

app = Flask(__name__)
app.config["DATABASE"] = "flaskr.sqlite"

SCHEMA = "DROP TABLE IF EXISTS post; CREATE TABLE post (id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL);"


def get_db():
    if "db" not in g:
        g.db = sqlite3.connect(current_app.config["DATABASE"], detect_types=sqlite3.PARSE_DECLTYPES)
        g.db.row_factory = sqlite3.Row
    return g.db


@app.teardown_appcontext
def close_db(e=None):
    db = g.pop("db", None)
    if db is not None:
        db.close()


@app.post("/create")
def create():
    db = get_db()
    db.execute("INSERT INTO post (title) VALUES (?)", (request.form["title"],))
    time.sleep(0.01)  # asks another server, with the lock in its hand
    db.commit()
    return "created"


@app.get("/")
def index():
    return [row["title"] for row in get_db().execute("SELECT title FROM post ORDER BY id")]


with app.app_context():
    get_db().executescript(SCHEMA)
"""

DJANGO = """
import time
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection, models, transaction
from django.http import HttpResponse, JsonResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="for a test", DATABASES={"default": {
        "ENGINE": "django.db.backends.sqlite3", "NAME": "django.sqlite", "CONN_MAX_AGE": 60,
    }},
)
application = get_wsgi_application()


class Post(models.Model):
    title = models.TextField()

    class Meta:
        app_label = "blog"


def create(request):
    with transaction.atomic():
        post = Post.objects.create(title=request.POST["title"])
        time.sleep(0.01)
        Post.objects.filter(pk=post.pk).update(title=post.title)
    Post.objects.bulk_create([Post(title="more") for _ in range(2)])
    return HttpResponse("created")


def index(request):
    return JsonResponse(list(Post.objects.exclude(title="more").values_list("title", flat=True)), safe=False)


urlpatterns = [path("create", create), path("", index)]
with connection.schema_editor() as editor:
    editor.create_model(Post)
"""


def create_all(url: str) -> set[str]:
    """Has clients post at once; returns the titles."""

    def create(client: int) -> None:
        with requests.Session() as session:
            for number in range(POSTS):
                answer = session.post(f"{url}/create", data={"title": f"{client}-{number}"}, timeout=60)
                assert (answer.status_code, answer.text) == (200, "created")
                assert session.get(url, timeout=60).status_code == 200

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(create, range(CLIENTS)))
    return {f"{client}-{number}" for client in range(CLIENTS) for number in range(POSTS)}


def test_flasks_tutorial_loses_no_post(serve: Serve) -> None:
    served = serve(FLASK)
    assert create_all(served.url) == set(requests.get(served.url, timeout=60).json())


def test_django_loses_no_post(serve: Serve) -> None:
    served = serve(DJANGO, "application")
    titles = create_all(served.url)
    found = requests.get(served.url, timeout=60).json()
    assert len(found) == len(titles) and set(found) == titles
