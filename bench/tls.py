"""`python -m bench tls`: server CPU over TLS, A B A B.

A response is compared with nginx (Debian's package), a resumed handshake with uvicorn on uvloop and httptools, and a
broadcast by Socket.IO with the same in the clear (tls_broadcast.py).

Both servers run afresh in each round, on one core, with the same certificate; a sample in which they did not agree on
the cipher of the case does not count. nginx serves a file, streamserve bytes of an application.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import accounting, tls_broadcast, websocket
from bench.environments import ROOT, PeerUnavailable, prepare
from bench.peers import Peer
from bench.report import Result
from bench.samples import Sample
from bench.server import free_port, pinned

CONNECTIONS = 4
START_SECONDS = 60.0
BROADCAST_PASSES = 6


@dataclass(frozen=True)
class Case:
    """What is asked for: bytes of the body, the version and ciphers of the client, the key, and what must result."""

    title: str
    length: int
    version: str
    ciphers: str
    key: str
    cipher: str
    peer: str = "nginx"
    client: str = "bench.tls_load"
    counted: str = "response"


_EC, _RSA = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1", "-newkey rsa:2048"
CASES = {
    "tls13-1m": Case("1 MB, TLS 1.3, P-256", 1 << 20, "TLSv1_3", "", _EC, "TLS_AES_256_GCM_SHA384"),
    "tls12-1m": Case("1 MB, TLS 1.2, RSA", 1 << 20, "TLSv1_2", "AES128+ECDHE", _RSA, "ECDHE-RSA-AES128-GCM-SHA256"),
    "tls13-1k": Case("1 KB, TLS 1.3, P-256", 1024, "TLSv1_3", "", _EC, "TLS_AES_256_GCM_SHA384"),
    "tls13-resumed": Case(
        "resumed handshakes, TLS 1.3, P-256",
        1,
        "TLSv1_3",
        "",
        _EC,
        "TLS_AES_256_GCM_SHA384",
        peer="uvicorn",
        client="bench.tls_handshakes",
        counted="handshake",
    ),
}
NAMES = (*CASES, tls_broadcast.NAME)
UVICORN = Peer(
    name="uvicorn",
    package="uvicorn",
    requirements=("uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0", "click==8.5.1", "h11==0.16.0"),
    argv=(),
)
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 100000000; sendfile on; tcp_nopush on; open_file_cache max=10;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen 127.0.0.1:{port} ssl; root {folder}; ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; ssl_prefer_server_ciphers off;
    }}
}}
"""


@dataclass(frozen=True)
class Place:
    """Where a case is measured: its folder of files, seconds of a sample, cores, and streamserve's interpreter."""

    folder: Path
    seconds: int
    server_core: int
    load_core: int
    python: Path
    uvicorn: Path = Path()


def measure(name: str, rounds: int, seconds: int, python: Path, server_core: int, load_core: int) -> Result:
    """Measure one case: in each round streamserve, then nginx."""
    if name == tls_broadcast.NAME:
        return _broadcasts(rounds, python, server_core, load_core)
    case = CASES[name]
    versions = {"streamserve": _said(str(python), "-m", "streamserve", "--version")}
    unavailable = {}
    uvicorn = Path()
    if case.peer == "nginx":
        versions["nginx"] = _said("nginx", "-v")
    else:
        try:
            made = prepare(UVICORN, python)
            versions["uvicorn"], uvicorn = made.version, made.python
        except PeerUnavailable as error:
            versions["uvicorn"], unavailable["uvicorn"] = "", str(error)
    for subject, version in versions.items():
        if not version:
            unavailable.setdefault(subject, "it is not installed")
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="bench-tls-") as folder:
        place = Place(Path(folder), seconds, server_core, load_core, python, uvicorn)
        os.chmod(folder, 0o755)  # nginx's worker is another user where nginx is started by root
        digest = _make_files(place.folder, case)
        for number in range(rounds):
            for subject in versions:
                if subject in unavailable:
                    continue
                samples.append(_sample(subject, case, place, number, digest))
                print(f"{name} round {number + 1} {subject}: {samples[-1].value:.1f} us", file=sys.stderr, flush=True)
    return Result(name, case.title, f"us CPU/{case.counted}", versions, samples, unavailable)


def _broadcasts(rounds: int, python: Path, server_core: int, load_core: int) -> Result:
    place = websocket.Place(server_core, load_core, BROADCAST_PASSES)
    version = _said(str(python), "-m", "streamserve", "--version")
    with tempfile.TemporaryDirectory(prefix="bench-tls-") as folder:
        _make_files(Path(folder), CASES["tls13-1k"])
        return tls_broadcast.measure(Path(folder), rounds, python, place, version)


def _said(*command: str) -> str:
    """The version in what a program says of itself; "" if it is not there."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    words = (done.stdout + done.stderr).replace("/", " ").split()
    return next((word for word in words if word[0].isdigit()), "?")


def _make_files(folder: Path, case: Case) -> str:
    body = os.urandom(case.length)
    (folder / "body").write_bytes(body)
    command = f"openssl req -x509 {case.key} -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command.split(), *files], check=True, stderr=subprocess.DEVNULL)
    return hashlib.sha256(body).hexdigest()


def _command(subject: str, port: int, place: Place) -> list[str]:
    folder = place.folder
    if subject == "nginx":
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port))
        return ["nginx", "-p", str(folder), "-c", str(config), "-e", str(folder / "nginx.log")]
    if subject == "uvicorn":
        words = f"-m uvicorn bench.apps.asgi:app --port {port} --loop uvloop --http httptools --lifespan off"
        files = ["--ssl-certfile", f"{folder}/cert.pem", "--ssl-keyfile", f"{folder}/key.pem"]
        return [str(place.uvicorn), *words.split(), "--log-level", "warning", *files]
    words = f"-m streamserve bench.apps.body:app --bind 127.0.0.1:{port} --log-level warning"
    return [str(place.python), *words.split(), "--certfile", f"{folder}/cert.pem", "--keyfile", f"{folder}/key.pem"]


@contextlib.contextmanager
def _running(subject: str, place: Place) -> Iterator[tuple[int, int]]:
    """Starts a server; gives its pid and port."""
    port = free_port()
    environ = {**os.environ, "BENCH_BODY": str(place.folder / "body")}
    command = pinned(place.server_core, _command(subject, port, place))
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL)
    try:
        yield process.pid, port
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _load(port: int, case: Case, place: Place, digest: str) -> Iterator[subprocess.Popen[str]]:
    """A client that has connected and checked, and waits for a line to begin."""
    what = [str(port), str(place.folder / "cert.pem"), case.version, case.ciphers]
    what += [str(CONNECTIONS), str(place.seconds), str(case.length), digest]
    command = pinned(place.load_core, [sys.executable, "-m", case.client, *what])
    deadline = time.monotonic() + START_SECONDS
    while True:
        client = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert client.stdout is not None
        if client.stdout.readline() == "ready\n":
            break
        complaint = client.communicate()[1].strip().splitlines()
        said = complaint[-1] if complaint else "no answer"
        if not said.startswith("ConnectionRefusedError") or time.monotonic() > deadline:
            raise PeerUnavailable(said)
        time.sleep(0.05)  # it does not listen yet
    try:
        yield client
    finally:
        client.kill()
        client.communicate()


def _sample(subject: str, case: Case, place: Place, number: int, digest: str) -> Sample:
    try:
        with _running(subject, place) as (pid, port), _load(port, case, place, digest) as client:
            before = accounting.usage(pid)
            output, complaint = client.communicate("begin\n")
            used = accounting.spent(before, accounting.usage(pid))
        seen = json.loads(output)
    except (PeerUnavailable, ValueError, OSError) as error:
        return Sample(subject, number, float("nan"), {}, (str(error),))
    problems = () if seen["cipher"] == case.cipher else (f"the cipher was {seen['cipher']}, not {case.cipher}",)
    if complaint:
        problems += (complaint.strip().splitlines()[-1],)
    details = {**seen, "requests_per_second": seen["requests"] / seen["seconds"], "cpu_ns": used.cpu}
    details["busy"] = used.cpu / 1e9 / seen["seconds"]
    return Sample(subject, number, used.cpu / 1000 / seen["requests"], details, problems)
