"""`python -m bench profile`: the instructions that a server executes per request outside the kernel, by function.

The server runs under callgrind, which counts every instruction and so gives the same answer on a busy machine as on a
quiet one, to about one in a hundred. It says nothing of the kernel, of caches or of time: for those, perf (README.md).
"""

from __future__ import annotations

import re
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.environments import OUT, PeerUnavailable, prepare
from bench.peers import HELLO_APP, Peer
from bench.probe import check, read_answer, request_bytes
from bench.report import align, number
from bench.server import Server, running

CONNECTIONS = 64
WARM_UP_TURNS = 30
TURNS = 60
TOP = 30
LINE = re.compile(r"^\s*([\d,]+) \([ \d.]+%\)\s+\S*?:(\S.*?)(?: \[(\S+)\])?$")


@dataclass(frozen=True)
class Share:
    """Instructions per request spent in one function itself, and the library that holds it."""

    instructions: float
    function: str
    library: str


def profile(peer: Peer, streamserve_python: Path, headers: tuple[tuple[str, str], ...], core: int) -> list[Share]:
    """Count the instructions of one server, the largest share first.

    Raises:
        PeerUnavailable: The peer or valgrind is missing, or the server did not start under it.
        WrongAnswer: An answer was wrong.
    """
    out = OUT / f"callgrind.{peer.name}"
    for old in OUT.glob(out.name + "*"):
        old.unlink()
    under = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}")
    with running(peer, prepare(peer, streamserve_python), HELLO_APP, core, under=under) as server:
        _ask(server, headers, WARM_UP_TURNS)
        _control(server, "--instr=on")
        _ask(server, headers, TURNS)
        _control(server, "--instr=off")
        _control(server, "--dump")
    command = ["callgrind_annotate", "--threshold=100", "--auto=no", f"{out}.1"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return parse(text, TURNS * CONNECTIONS)


def parse(text: str, requests: int) -> list[Share]:
    """Read what callgrind_annotate prints.

    A function stands there once for each source file whose lines were inlined into it, and the library only beside
    some of them: the lines of one name are added up.
    """
    counts: dict[str, int] = {}
    libraries: dict[str, str] = {}
    for line in text.splitlines():
        found = LINE.match(line)
        if found:
            count, function, library = found.groups()
            counts[function] = counts.get(function, 0) + int(count.replace(",", ""))
            if library:
                libraries.setdefault(function, Path(library).name)
    shares = [Share(count / requests, name, libraries.get(name, "?")) for name, count in counts.items()]
    return sorted(shares, key=lambda share: -share.instructions)


def table(peer: Peer, shares: list[Share]) -> str:
    """The libraries, then the functions, as aligned text."""
    total = sum(share.instructions for share in shares)
    libraries: dict[str, float] = {}
    for share in shares:
        libraries[share.library] = libraries.get(share.library, 0) + share.instructions
    rows = [["library", "instructions/request", "share", ""]]
    rows += [[name, *_cells(count, total), ""] for name, count in sorted(libraries.items(), key=lambda item: -item[1])]
    rows += [["all", *_cells(total, total), ""], ["", "", "", ""], ["function", "", "", "library"]]
    rows += [[share.function[:60], *_cells(share.instructions, total), share.library] for share in shares[:TOP]]
    return f"profile: {peer.name}, user-space instructions per request\n" + "\n".join(align(rows))


def _cells(count: float, total: float) -> tuple[str, str]:
    return number(count, 0), number(100 * count / (total or 1), 1) + "%"


def _ask(server: Server, headers: tuple[tuple[str, str], ...], turns: int) -> None:
    """As a loaded server sees it: in each turn a request on every connection before the first answer is read."""
    request = request_bytes(server.port, headers)
    address = ("127.0.0.1", server.port)
    sockets = [socket.create_connection(address, timeout=60) for _ in range(CONNECTIONS)]
    for _ in range(turns):
        for sock in sockets:
            sock.sendall(request)
        for sock in sockets:
            check(read_answer(sock))
    for sock in sockets:
        sock.close()


def _control(server: Server, order: str) -> None:
    command = ["callgrind_control", order, str(server.pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise PeerUnavailable(f"callgrind_control {order}: {(done.stderr or done.stdout).strip()}")
