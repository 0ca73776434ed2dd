"""The one table of what is measured: each peer, its pinned packages, and how it is started.

A peer's packages go into a scratch environment of its own (bench/environments.py). A line of `argv` may use {bin} (that
environment's directory of programs), {python}, {port} and {app}. Every server listens on 127.0.0.1 with one process
that serves, no access log, and limits that let 10,000 connections in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

HELLO_APP = "bench.apps.hello:app"
GEVENT = ("gevent==26.9.0", "greenlet==3.5.6", "zope.event==6.2", "zope.interface==8.7")

ONE_AT_A_TIME = {"sleep": "a handler that sleeps holds up all others"}
CROWDED = "each turn of its loop looks at every connection; 10,000 were not open after a minute"


@dataclass(frozen=True)
class Peer:
    """One server to measure.

    Attributes:
        name: What the command line and the tables call it.
        package: The distribution whose version the tables show; empty for the floor.
        requirements: Exact pins of everything that is installed for it; empty for streamserve, which is not installed
            by us, and for the floor, which is compiled.
        argv: The command, without the words that pin it to a core.
        sleep_app: The application of the sleep case.
        sleep_argv: Words added to the command in the sleep case.
        left_out: Cases that it cannot take part in, and why.
    """

    name: str
    package: str
    requirements: tuple[str, ...]
    argv: tuple[str, ...]
    sleep_app: str = ""
    sleep_argv: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)


def _command(words: str) -> tuple[str, ...]:
    return tuple(words.split())


def _launcher(module: str) -> tuple[str, ...]:
    return ("{python}", "-m", f"bench.servers.{module}", "{app}", "{port}")


_TABLE = (
    Peer(
        name="streamserve",
        package="streamserve",
        requirements=(),
        argv=_command("{python} -m streamserve {app} --bind 127.0.0.1:{port}"),
        sleep_app="bench.apps.sleep_streamserve:app",
    ),
    Peer(
        name="floor",
        package="",
        requirements=(),
        argv=_command("{floor} {port}"),
        left_out={"sleep": "it runs no handler"},
    ),
    Peer(
        name="fastwsgi",
        package="fastwsgi",
        requirements=("fastwsgi==0.0.9", "click==8.5.1", "setuptools==65.5.0"),
        argv=_launcher("fastwsgi_run"),
        left_out=ONE_AT_A_TIME,
    ),
    Peer(
        name="bjoern",
        package="bjoern",
        requirements=("bjoern==3.2.2",),
        argv=_launcher("bjoern_run"),
        left_out=ONE_AT_A_TIME,
    ),
    Peer(
        name="granian",
        package="granian",
        requirements=("granian==2.8.7", "click==8.5.1"),
        argv=_command(
            "{bin}/granian --interface wsgi --http 1 --no-ws --log-level error --backlog 16384 --port {port} {app}"
        ),
        sleep_app="bench.apps.sleep_time:app",
        sleep_argv=_command("--blocking-threads 500"),
    ),
    Peer(
        name="gevent",
        package="gevent",
        requirements=GEVENT,
        argv=_launcher("gevent_run"),
        sleep_app="bench.apps.sleep_gevent:app",
    ),
    Peer(
        name="gunicorn",
        package="gunicorn",
        requirements=("gunicorn==27.0.1", "gunicorn_h1c==0.6.9", "packaging==26.3", *GEVENT),
        argv=_command(
            "{bin}/gunicorn -k gevent --worker-connections 20000 --keep-alive 300 --bind 127.0.0.1:{port} {app}"
        ),
        sleep_app="bench.apps.sleep_gevent:app",
    ),
    Peer(
        name="waitress",
        package="waitress",
        requirements=("waitress==3.0.2",),
        argv=_launcher("waitress_run"),
        left_out={
            "sleep": "four threads, so at most four handlers sleep at a time",
            "idle": CROWDED,
            "many": CROWDED,
        },
    ),
)
PEERS = {peer.name: peer for peer in _TABLE}


def chosen(names: str) -> list[Peer]:
    """The peers of a comma-separated list, in its order.

    Raises:
        ValueError: One of the names is not in the table.
    """
    unknown = [name for name in names.split(",") if name not in PEERS]
    if unknown:
        raise ValueError(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    return [PEERS[name] for name in names.split(",")]
