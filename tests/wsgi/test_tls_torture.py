"""TLS clients that do anything: cut, split, garble, repeat and leave out the records of real handshakes and requests.

TLS_TORTURE_SECONDS=600 in the environment tortures for so long on each backend, TLS_TORTURE_SEED=7 in another way.
"""

import os
import random
import shutil
import ssl
import subprocess
import threading
import time
from typing import Any

import pytest
import trustme

from streamserve.core import lib
from tests.support.client import Client
from tests.support.server import Running, eventually
from tests.support.tls import Authority, TlsClient
from tests.wsgi.conftest import Serve
from tests.wsgi.test_torture import FRAGMENTS, app

SECONDS = float(os.environ.get("TLS_TORTURE_SECONDS", "2"))
SEED = int(os.environ.get("TLS_TORTURE_SEED", "16"))
MOST_OPEN = 40
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
RECORDS = [  # out of order at most moments
    b"\x14\x03\x03\x00\x01\x01",  # ChangeCipherSpec
    b"\x15\x03\x03\x00\x02\x01\x00",  # close_notify in the clear
    b"\x15\x03\x03\x00\x02\x02\x28",  # a fatal alert
    b"\x16\x03\x03\x00\x04\x00\x00\x00\x00",  # HelloRequest
    b"\x16\x03\x01\x00\x00",  # an empty handshake record
    b"\x17\x03\x03\x00\x00",  # empty data
    b"\x17\x03\x03\x40\x00" + bytes(16_384),
    b"\x17\x03\x03\xff\xff" + bytes(100),  # longer than a record may be
    b"\x18\x03\x03\x00\x03\x01\x40\x00",  # heartbeat
    b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10",  # SSLv2
    GET,
    b"\x00",
]


class Connection:
    """A socket, a real client of TLS before it, and between them what is still to be sent."""

    def __init__(self, client: Client, context: ssl.SSLContext, session: ssl.SSLSession | None) -> None:
        self.client = client
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost", session=session)
        self.shaken = False
        self.waiting = b""

    def step(self, data: bytes, goodbye: bool) -> None:
        """What a client does next: the handshake, then data or a goodbye, and reads."""
        try:
            if not self.shaken:
                self.tls.do_handshake()
                self.shaken = True
            elif goodbye:
                self.tls.unwrap()
            else:
                self.tls.write(data)
                self.tls.read(65536)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        self.waiting += self.outgoing.read()


class Torturer:
    """One step is one random act on one random connection."""

    def __init__(self, running: Running, contexts: list[ssl.SSLContext], seed: int) -> None:
        self.running = running
        self.contexts = contexts
        self.sessions: dict[ssl.SSLContext, ssl.SSLSession] = {}
        self.chance = random.Random(seed)
        self.open: list[Connection] = []
        self.shaken = 0

    def begin(self) -> None:
        context = self.chance.choice(self.contexts)
        session = self.sessions.get(context) if self.chance.random() < 0.5 else None
        client = self.running.client(timeout=0.0, receive_buffer=self.chance.choice([0, 0, 4096]))
        self.open.append(Connection(client, context, session))

    def step(self) -> None:
        chance = self.chance
        if len(self.open) < MOST_OPEN and chance.random() < 0.2:
            self.begin()
        if not self.open:
            return
        connection = chance.choice(self.open)
        try:
            self.act(connection)
        except BlockingIOError:
            return
        except OSError:  # ssl's too: what is garbled is refused, by either side
            self.forget(connection)

    def act(self, connection: Connection) -> None:
        act = self.chance.random()
        if act < 0.35:
            before = connection.shaken
            connection.step(self.fragment(), self.chance.random() < 0.05)
            if connection.shaken and not before:
                self.shaken += 1
        elif act < 0.65:
            self.send(connection)
        elif act < 0.9:
            self.receive(connection)
        elif act < 0.92:
            connection.client.finish()
        elif act < 0.94:
            connection.waiting += self.chance.choice(RECORDS)
        elif act < 0.96:
            connection.waiting = self.garbled(connection.waiting)
        elif act < 0.975:
            self.forget(connection, reset=self.chance.random() < 0.5)

    def fragment(self) -> bytes:
        data = self.chance.choice(FRAGMENTS)
        return data[: self.chance.randrange(len(data))] if self.chance.random() < 0.3 else data

    def send(self, connection: Connection) -> None:
        """All that waits, or a part of it that ends anywhere."""
        waiting = connection.waiting
        size = len(waiting) if self.chance.random() < 0.6 else self.chance.randrange(len(waiting) + 1)
        connection.waiting = waiting[connection.client.socket.send(waiting[:size]) :]

    def receive(self, connection: Connection) -> None:
        data = connection.client.socket.recv(self.chance.choice([1, 100, 65536]))
        connection.incoming.write(data)
        if connection.shaken and connection.tls.session is not None and connection.tls.session.has_ticket:
            self.sessions[connection.tls.context] = connection.tls.session

    def garbled(self, data: bytes) -> bytes:
        """Some bytes changed, a part said twice, or left out."""
        if not data:
            return data
        at, to = sorted((self.chance.randrange(len(data)), self.chance.randrange(len(data) + 1)))
        way = self.chance.randrange(4)
        if way == 0:
            return data[:at] + bytes((data[at] ^ 1 << self.chance.randrange(8),)) + data[at + 1 :]
        if way == 1:
            return data[:to] + data[at:]
        if way == 2:
            return data[:at] + data[to:]
        return data[:at] + self.chance.randbytes(to - at) + data[to:]

    def forget(self, connection: Connection, reset: bool = False) -> None:
        if connection in self.open:
            self.open.remove(connection)
            connection.client.reset() if reset else connection.client.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificates(authority: Authority) -> tuple[str, str]:
    """Of both kinds of key."""
    return authority.issue("localhost"), authority.issue("localhost", key=trustme.KeyType.RSA)


def contexts(authority: Authority) -> list[ssl.SSLContext]:
    found = []
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = authority.trust()
        context.minimum_version = context.maximum_version = version
        found.append(context)
    return found


def sessions(running: Running) -> int:
    """The connections whose TLS Python still keeps."""
    endpoints: list[Any] = list(running.server._endpoints.values())
    return sum(len(endpoint.tls.sessions) + len(endpoint.tls.identities) for endpoint in endpoints)


def is_served(running: Running, context: ssl.SSLContext) -> bool:
    with TlsClient(running.addresses[0], context) as client:
        client.send(GET)
        return client.response().body == b"ok"


def test_nothing_is_left_of_clients_that_do_anything_to_their_records(
    serve: Serve, authority: Authority, certificates: tuple[str, str]
) -> None:
    deadlines = {"handshake_timeout": 0.3, "head_timeout": 0.2, "body_timeout": 0.2, "write_timeout": 0.2}
    running = serve(
        app, certfile=certificates, concurrency=8, queue=8, max_connections=60, keep_alive_timeout=0.5, **deadlines
    )
    torturer = Torturer(running, contexts(authority), SEED)
    start = time.monotonic()
    # On a slow machine most handshakes meet their deadline: then it goes on until enough came about.
    while (passed := time.monotonic() - start) < SECONDS or (torturer.shaken <= 10 and passed < SECONDS + 60):
        for _ in range(50):
            torturer.step()
        running.verify()
    assert torturer.shaken > 10, "hardly a handshake came about: too much was garbled"
    running.examine()
    assert not sessions(running)
    trust = authority.trust()
    eventually(lambda: served_in_time(running, trust), "it serves")


def served_in_time(running: Running, context: ssl.SSLContext) -> bool:
    """As is_served; a request that comes later than its short deadlines is not."""
    try:
        return is_served(running, context)
    except (AssertionError, OSError):
        return False


def test_a_flood_of_handshakes_that_stop_halfway_keeps_nobody_else_out(
    serve: Serve, authority: Authority, certificates: tuple[str, str]
) -> None:
    running = serve(app, certfile=certificates, handshake_timeout=4.0)
    context, trust = contexts(authority)[1], authority.trust()
    for number in range(300):
        connection = Connection(running.client(), context, None)
        connection.step(b"", False)
        connection.client.send(connection.waiting[: len(connection.waiting) - number % 2])
        if number % 50 == 0:
            assert is_served(running, trust)
    assert is_served(running, trust)
    eventually(lambda: not running.count(lib.SS_COUNT_TLS), "the deadline has ended them")
    assert not sessions(running)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.foreign
def test_a_client_that_renegotiates_is_refused(
    serve: Serve, authority: Authority, certificates: tuple[str, str]
) -> None:
    running = serve(app, certfile=certificates)
    words = f"openssl s_client -tls1_2 -CAfile {authority.file} -connect 127.0.0.1:{running.port} -servername localhost"
    with subprocess.Popen(
        words.split(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ
    ) as client:
        assert client.stdin is not None and client.stdout is not None
        patience = threading.Timer(60, client.kill)  # if it is not refused, it waits for more to say
        patience.start()
        client.stdin.write(b"R\n")
        client.stdin.flush()
        said = client.stdout.read()
        patience.cancel()
    assert b"RENEGOTIATING" in said and b"no renegotiation" in said, said
    assert is_served(running, authority.trust())


def test_records_in_the_clear_end_the_connection(
    serve: Serve, authority: Authority, certificates: tuple[str, str]
) -> None:
    running = serve(app, certfile=certificates, handshake_timeout=0.5)
    for record in RECORDS:
        with running.client() as client:
            client.send(record)
            client.finish()
            try:
                answer = client.rest()
            except ConnectionResetError:
                continue
            assert answer[:1] in (b"", b"\x15") or (record == GET and answer.startswith(b"HTTP/1.1 400 ")), record
    eventually(lambda: not running.count(lib.SS_COUNT_TLS), "the core forgot them")
