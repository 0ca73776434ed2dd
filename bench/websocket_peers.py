"""What the WebSocket cases compare: each server, its pinned packages, and how it is started.

A line of `argv` may use {python}, {home} (the folder of its packages), {servers}, {port} and {mode}: echo, receive,
broadcast. Every server listens on 127.0.0.1 with one process, without compression, and without pings, which
ws_load does not answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import environments
from bench.environments import OUT, ROOT, compiled, run
from bench.peers import Peer

UVLOOP = "uvloop==0.23.0"


@dataclass(frozen=True)
class Subject:
    """One server to measure.

    Attributes:
        name: What the command line and the tables call it.
        argv: The command, without the words that pin it to a core.
        pip: Exact pins of what is installed by pip, the one whose version is shown first.
        npm: The same for npm.
        environ: Added to its environment.
        left_out: Cases that it cannot take part in, and why.
        load: What ws_load speaks to it: nothing more than WebSocket, or socketio; plain or tls: what sio_load does.
    """

    name: str
    argv: tuple[str, ...]
    pip: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    load: str = ""


@dataclass(frozen=True)
class Ready:
    """A subject that can be started: the words of its command, and the version for the table."""

    subject: Subject
    words: dict[str, str]
    version: str

    def command(self, mode: str, port: int) -> list[str]:
        """The command line of one case."""
        return [word.format_map({**self.words, "mode": mode, "port": port}) for word in self.subject.argv]

    def environ(self) -> dict[str, str]:
        """What is added to its environment."""
        return {name: value.format_map(self.words) for name, value in self.subject.environ.items()}


def command(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_SYSTEM = "its messages are the kernel's and its own: it holds no state of a handler"
_TABLE = (
    Subject(
        "streamserve",
        command(
            "{python} -m streamserve bench.servers.ws_streamserve:{mode} --bind 127.0.0.1:{port}"
            " --websocket-ping-interval 0"
        ),
    ),
    Subject("floor", command("{floor} {port} {mode}"), left_out={"ws-idle": _SYSTEM}),
    Subject(
        "bun",
        command("{home}/node_modules/@oven/bun-linux-x64/bin/bun {servers}/ws_bun.js {mode} {port}"),
        npm=("@oven/bun-linux-x64@1.4.5",),
    ),
    Subject(
        "picows",
        command("{python} -m bench.servers.ws_picows {mode} {port}"),
        pip=("picows==2.3.1", "multidict==7.2.1", "python_socks==3.2.1", "aiofastnet==1.2.0", UVLOOP),
    ),
    Subject(
        "ws",
        command("node {servers}/ws_node.js {mode} {port}"),
        npm=("ws@8.23.0",),
        environ={"NODE_PATH": "{home}/node_modules"},
    ),
    Subject(
        "websockets",
        command("{python} -m bench.servers.ws_websockets {mode} {port}"),
        pip=("websockets==17.4", UVLOOP),
    ),
)
SUBJECTS = {subject.name: subject for subject in _TABLE}


def chosen(names: str, table: Mapping[str, Subject] = SUBJECTS) -> list[Subject]:
    """The subjects of a comma-separated list, in its order.

    Raises:
        ValueError: One of the names is not in the table.
    """
    unknown = [name for name in names.split(",") if name not in table]
    if unknown:
        raise ValueError(f"no such peer: {', '.join(unknown)}; there are {', '.join(table)}")
    return [table[name] for name in names.split(",")]


def prepare(subject: Subject, streamserve_python: Path) -> Ready:
    """Install or build a subject, or find that it is there already.

    Raises:
        PeerUnavailable: That failed; the message says why.
    """
    words = {"python": str(streamserve_python), "servers": str(ROOT / "bench" / "servers")}
    if subject.name == "floor":
        return Ready(subject, {"floor": str(compiled("ws_floor"))}, "")
    if subject.npm:
        return Ready(subject, {**words, "home": str(_npm(subject))}, subject.npm[0].rpartition("@")[2])
    package = subject.pip[0].partition("==")[0] if subject.pip else subject.name
    name = f"ws-{subject.name}" if subject.pip else subject.name
    environment = environments.prepare(Peer(name, package, subject.pip, ()), streamserve_python)
    return Ready(subject, {**words, "python": str(environment.python)}, environment.version)


def _npm(subject: Subject) -> Path:
    home = OUT / "environments" / f"npm-{subject.name}"
    stamp, pins = home / "installed.txt", "\n".join(subject.npm)
    if not stamp.exists() or stamp.read_text() != pins:
        home.mkdir(parents=True, exist_ok=True)
        options = ["--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
        run(["npm", "install", "--prefix", str(home), *options, *subject.npm], subject.name)
        stamp.write_text(pins)
    return home
