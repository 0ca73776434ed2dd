"""Applications of Flask-SocketIO as its documentation shows them, unmodified, with real clients."""

import queue
from typing import Any

import pytest
import requests
import socketio

from tests.apps.conftest import Connect, Serve

APP = """
from flask import Flask, request, session
from flask_socketio import (
    ConnectionRefusedError, Namespace, SocketIO, close_room, disconnect, emit, join_room, leave_room, rooms, send
)

app = Flask(__name__)
app.config["SECRET_KEY"] = "for a test"
socketio = SocketIO(app, manage_session=MANAGE, async_mode=MODE)
thread = None


@app.route("/login/<name>")
def login(name):
    session["name"] = name
    return f"{name} is in"


@app.route("/tell/<room>/<what>")
def tell(room, what):
    socketio.emit("news", {"what": what}, to=room)
    return "told"


@app.route("/mode")
def mode():
    return socketio.async_mode


def count():
    for number in range(3):
        socketio.sleep(0.001)
        socketio.emit("tick", number)


@socketio.on("connect")
def connect(auth):
    global thread
    if auth and "refuse" in auth:
        raise ConnectionRefusedError("not you")
    if auth and "count" in auth and thread is None:
        thread = socketio.start_background_task(count)
    emit("welcome", {"sid": request.sid, "name": session.get("name")})


@socketio.on("disconnect")
def disconnected(reason):
    socketio.emit("left", reason)


@socketio.on("join")
def join(room):
    join_room(room)
    return sorted(room for room in rooms() if room != request.sid)


@socketio.on("leave")
def leave(room):
    leave_room(room)


@socketio.on("close")
def close(room):
    close_room(room)


@socketio.on("say")
def say(room, what):
    emit("news", {"what": what}, to=room, include_self=False)


@socketio.event
def everyone(what):
    emit("news", {"what": what}, broadcast=True)


@socketio.on("message")
def message(text):
    send(text.upper())


@socketio.on("json")
def json(data):
    send(data, json=True)


@socketio.on("remember")
def remember(value):
    session["value"] = value


@socketio.on("recall")
def recall():
    return session.get("name"), session.get("value")


@socketio.on("ask me")
def ask_me():
    emit("question", "age", callback=lambda age: socketio.emit("answer", age))


@socketio.on("question back")
def question_back():
    return socketio.call("question", "age", to=request.sid, timeout=60)


@socketio.on("go away")
def go_away():
    disconnect()


@socketio.on("binary")
def binary(data):
    return data[::-1]


@socketio.on("fail")
def fail():
    raise ValueError("on purpose")


@socketio.on("*")
def any_event(event, *args):
    return event, list(args)


@socketio.on_error()
def failed(error):
    return f"{type(error).__name__}: {error} in {request.event['message']}"


class Chat(Namespace):
    def on_connect(self):
        self.members = getattr(self, "members", 0) + 1

    def on_say(self, what):
        emit("said", what, broadcast=True)
        return self.members

    def on_fail(self):
        raise KeyError("here")


socketio.on_namespace(Chat("/chat"))


@socketio.on_error_default
def failed_elsewhere(error):
    return f"{request.namespace}: {type(error).__name__}"
"""


def source(manage: bool = True, mode: str | None = None) -> str:
    return APP.replace("MANAGE", repr(manage)).replace("MODE", repr(mode))


class Ears:
    """What a client has heard, event by event."""

    def __init__(self, *events: str) -> None:
        self.heard: dict[str, queue.Queue[Any]] = {event: queue.Queue() for event in events}
        self.on = {event: box.put for event, box in self.heard.items()}

    def next(self, event: str) -> Any:
        return self.heard[event].get(timeout=60)

    def empty(self, event: str) -> bool:
        return self.heard[event].empty()


def call(client: socketio.Client, event: str, *args: Any, namespace: str = "/") -> Any:
    answer = client.call(event, args, namespace=namespace, timeout=60)
    return list(answer) if isinstance(answer, tuple) else answer


def test_rooms_broadcasts_and_routes_reach_whom_they_should(serve: Serve, connect: Connect) -> None:
    url = serve(source()).url
    ears = [Ears("news") for _ in range(3)]
    ann, bob, eve = (connect(url, on=each.on) for each in ears)
    assert call(ann, "join", "red") == ["red"] and call(bob, "join", "red") == ["red"]
    assert call(ann, "join", "blue") == ["blue", "red"]
    call(ann, "say", "red", "one")
    assert requests.get(f"{url}/tell/red/two", timeout=60).text == "told"
    call(bob, "leave", "red")
    requests.get(f"{url}/tell/red/three", timeout=60)
    call(ann, "close", "red")
    requests.get(f"{url}/tell/red/nobody", timeout=60)
    call(eve, "everyone", "end")
    heard = [[each.next("news")["what"] for _ in range(number)] for each, number in zip(ears, (3, 3, 1), strict=True)]
    assert heard == [["two", "three", "end"], ["one", "two", "end"], ["end"]]
    assert all(each.empty("news") for each in ears)


def test_a_background_task_that_connecting_starts_ticks(serve: Serve, connect: Connect) -> None:
    ears = Ears("tick", "welcome")
    client = connect(serve(source()).url, on=ears.on, auth={"count": True})
    assert ears.next("welcome") == {"sid": client.get_sid(), "name": None}
    assert [ears.next("tick") for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("manage", [True, False], ids=["managed", "of Flask"])
def test_sessions_begin_as_that_of_the_page(serve: Serve, connect: Connect, manage: bool) -> None:
    url = serve(source(manage)).url
    ears = Ears("welcome")
    login = requests.get(f"{url}/login/ann", timeout=60)
    client = connect(url, on=ears.on, headers={"Cookie": f"session={login.cookies['session']}"})
    assert ears.next("welcome")["name"] == "ann"
    call(client, "remember", 5)
    assert call(client, "recall") == ["ann", 5 if manage else None], "a session in a cookie stays as it was at connect"
    assert call(connect(url), "recall") == [None, None]


def test_answers_go_both_ways(serve: Serve, connect: Connect) -> None:
    ears = Ears("message", "json", "answer")
    client = connect(serve(source()).url, on={**ears.on, "question": lambda what: {"age": 42}[what]})
    client.send("hello")
    assert ears.next("message") == "HELLO"
    client.emit("json", {"a": [1]})
    assert ears.next("json") == {"a": [1]}
    client.emit("ask me")
    assert ears.next("answer") == 42
    assert call(client, "question back") == 42
    assert call(client, "binary", b"\x00\x01") == b"\x01\x00"
    assert call(client, "whatever", 1, "two") == ["whatever", [1, "two"]]


def test_errors_go_to_their_handlers_whose_answer_is_the_acknowledgement(serve: Serve, connect: Connect) -> None:
    client = connect(serve(source()).url, namespaces=["/", "/chat"])
    assert call(client, "fail") == "ValueError: on purpose in fail"
    assert call(client, "fail", namespace="/chat") == "/chat: KeyError"


def test_namespaces_of_classes_are_apart(serve: Serve, connect: Connect) -> None:
    url = serve(source()).url
    ears = Ears("said@/chat", "said")
    clients = [connect(url, on=ears.on, namespaces=["/", "/chat"]) for _ in range(2)]
    assert call(clients[0], "say", "hi", namespace="/chat") == 2
    assert [ears.next("said@/chat") for _ in range(2)] == ["hi", "hi"] and ears.empty("said")


def test_a_client_may_be_refused_or_sent_away(serve: Serve, connect: Connect) -> None:
    url = serve(source()).url
    refusals: queue.Queue[Any] = queue.Queue()
    with pytest.raises(socketio.exceptions.ConnectionError):
        connect(url, on={"connect_error": refusals.put}, auth={"refuse": True})
    assert refusals.get(timeout=60) == {"message": "not you"}
    watcher = Ears("left")
    connect(url, on=watcher.on)
    leaver = Ears("disconnect")
    connect(url, on=leaver.on).emit("go away")
    assert watcher.next("left") == "server disconnect"
    assert leaver.next("disconnect") == "server disconnect"


@pytest.mark.parametrize("mode", [None, "threading", "gevent", "eventlet"])
def test_any_mode_is_this_server(serve: Serve, mode: str | None) -> None:
    server = serve(source(mode=mode))
    assert requests.get(f"{server.url}/mode", timeout=60).text == "streamserve"
