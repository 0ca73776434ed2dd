"""Two slow servers for whoever has none at hand, each started when it is first asked for, in this process.

They listen on a free port of 127.0.0.1 and end with the process.
"""

from collections.abc import Callable, Iterable
from functools import cache
from http import HTTPStatus
from typing import Any

from streamserve import sleep
from streamserve.server import StreamServer
from streamserve.wsgi import WSGIServer

MAX_LINE = 1000  # bytes of a line of SMTP (RFC 5321, 4.5.3.1.6)


@cache
def slow_http_server(seconds: float) -> str:
    """The URL of a server that answers after so many seconds."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        sleep(seconds)
        status = HTTPStatus.OK
        start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain")])
        return [b"That took a while.\n"]

    server = WSGIServer("127.0.0.1:0", answer, log=None)
    server.start()
    return "http://{}:{}/".format(*server.sockets[0].getsockname())


@cache
def slow_mail_server(seconds: float) -> str:
    """The address, host:port, of an SMTP server that accepts each message after so many seconds and forgets it."""

    def talk(socket: Any, _address: Any) -> None:
        with socket.makefile("rwb") as stream:
            say(stream, "220 side-by-side")
            while line := stream.readline(MAX_LINE):
                verb = line[:4].upper().strip()
                say(stream, REPLIES.get(verb, "502 not implemented"))
                if verb == b"DATA":
                    skip_message(stream)
                    sleep(seconds)
                    say(stream, "250 accepted")
                elif verb == b"QUIT":
                    return

    server = StreamServer("127.0.0.1:0", talk)
    server.start()
    return f"127.0.0.1:{server.server_port}"


REPLIES = {
    b"EHLO": "250 side-by-side",
    b"HELO": "250 side-by-side",
    b"MAIL": "250 fine",
    b"RCPT": "250 fine",
    b"RSET": "250 fine",
    b"NOOP": "250 fine",
    b"DATA": "354 go on, and end with a dot",
    b"QUIT": "221 goodbye",
}


def say(stream: Any, reply: str) -> None:
    stream.write(reply.encode() + b"\r\n")
    stream.flush()


def skip_message(stream: Any) -> None:
    while (line := stream.readline(MAX_LINE)) and line != b".\r\n":
        pass
