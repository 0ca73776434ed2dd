"""Scratch environments under bench/out/, made when a run first needs them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.peers import Peer

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"
INSTALL_SECONDS = 600


class PeerUnavailable(Exception):
    """A peer cannot be installed, built or started here; the message says why."""


@dataclass(frozen=True)
class Environment:
    """Where a peer's programs are: `python` runs it, `bin` holds its scripts, `version` is what is installed."""

    python: Path
    bin: Path
    version: str


def prepare(peer: Peer, streamserve_python: Path) -> Environment:
    """Make the peer's environment, or find that it is there already.

    Args:
        peer: The peer.
        streamserve_python: The interpreter that can import streamserve. The peers' environments are made with the same
            one, so that all run on one build of Python.

    Raises:
        PeerUnavailable: Installing or compiling failed.
    """
    if peer.name == "floor":
        return Environment(streamserve_python, compiled("floor").parent, "")
    if not peer.requirements:
        return _describe(peer, streamserve_python)
    release = run([str(streamserve_python), "-c", "import platform; print(platform.python_version())"], peer.name)
    home = OUT / "environments" / f"{peer.name}-{release.strip()}"
    stamp = home / "installed.txt"
    pins = "\n".join(peer.requirements)
    if not stamp.exists() or stamp.read_text() != pins:
        run([str(streamserve_python), "-m", "venv", "--clear", str(home)], peer.name)
        run([str(home / "bin" / "pip"), "install", "--quiet", "--no-deps", *peer.requirements], peer.name)
        stamp.write_text(pins)
    return _describe(peer, home / "bin" / "python")


def compiled(name: str) -> Path:
    """Compile bench/NAME.c when it changed, and return the program.

    Raises:
        PeerUnavailable: The compiler is missing or refused it.
    """
    source, program = ROOT / "bench" / f"{name}.c", OUT / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        OUT.mkdir(parents=True, exist_ok=True)
        run(["cc", "-std=gnu11", "-O2", "-o", str(program), str(source)], name)
    return program


def _describe(peer: Peer, python: Path) -> Environment:
    script = f"import importlib.metadata as m; print(m.version({peer.package!r}))"
    return Environment(python, python.parent, run([str(python), "-c", script], peer.name).strip())


def run(command: list[str], name: str) -> str:
    """Runs a command that installs or builds something for a peer, and returns what it wrote.

    Raises:
        PeerUnavailable: It failed; the message names the peer and has its last line.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, cwd=ROOT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerUnavailable(f"{name}: {error}") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise PeerUnavailable(f"{name}: {Path(command[0]).name} failed: {last[0]}")
    return done.stdout
