"""Applications of python-socketio, unmodified: whatever server they were written for, this one serves them."""

import json
import queue

import pytest
import requests

from tests.apps.conftest import Connect, Serve

APP = """
import socketio

sio = socketio.Server(async_mode={mode!r})


@sio.event
def connect(sid, environ, auth):
    sio.enter_room(sid, auth["room"])


@sio.event
def shout(sid, text):
    sio.emit("heard", text.upper(), room="loud")
    return type(sio).__module__, sio.transport(sid)


def page(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"page"]


app = socketio.WSGIApp(sio, page, static_files={{"/me": "project.py"}})
"""


@pytest.mark.parametrize("mode", [None, "threading", "gevent", "gevent_uwsgi", "eventlet"])
def test_an_app_that_names_a_mode_is_served_by_this_engine(serve: Serve, connect: Connect, mode: str | None) -> None:
    server = serve(APP.format(mode=mode))
    heard: queue.Queue[str] = queue.Queue()
    client = connect(server.url, on={"heard": heard.put}, auth={"room": "loud"})
    assert list(client.call("shout", "hey", timeout=60)) == ["streamserve.socketio_server", client.transport()]
    assert heard.get(timeout=60) == "HEY"
    assert requests.get(server.url, timeout=60).text == "page"
    assert "import socketio" in requests.get(server.url + "/me", timeout=60).text


def test_the_command_serves_a_server_itself(serve: Serve, connect: Connect) -> None:
    server = serve(APP.format(mode="gevent"), "sio")
    assert (
        connect(server.url, auth={"room": "loud"}).call("shout", "hey", timeout=60)[0] == "streamserve.socketio_server"
    )
    assert requests.get(server.url, timeout=60).status_code == 404


ENGINE = """
import engineio

eio = engineio.Server(async_mode="eventlet")


@eio.on("message")
def message(sid, data):
    eio.send(sid, data)


app = engineio.WSGIApp(eio)
"""


def test_an_app_of_python_engineio_is_served(serve: Serve) -> None:
    url = serve(ENGINE).url + "/engine.io/?EIO=4&transport=polling"
    sid = json.loads(requests.get(url, timeout=60).text[1:])["sid"]
    assert requests.post(f"{url}&sid={sid}", data="4hello", timeout=60).text == "ok"
    assert requests.get(f"{url}&sid={sid}", timeout=60).text == "4hello"


def test_without_patching_upstream_serves_its_app_over_polling(serve: Serve) -> None:
    url = (
        serve(ENGINE.replace("eventlet", "threading"), "app", "--no-patch").url + "/engine.io/?EIO=4&transport=polling"
    )
    sid = json.loads(requests.get(url, timeout=60).text[1:])["sid"]
    assert requests.post(f"{url}&sid={sid}", data="4hello", timeout=60).text == "OK"
