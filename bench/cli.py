"""The command line of the benchmark program."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from bench import (
    beside,
    greenlets,
    machine,
    profile,
    report,
    slowloris,
    socketio,
    socketio_peers,
    tls,
    websocket,
    websocket_peers,
    wsgi,
)
from bench.cases import CASES, Setting
from bench.environments import ROOT, PeerUnavailable
from bench.idle import raise_file_limit
from bench.peers import PEERS, chosen
from bench.probe import BROWSER_HEADERS, WrongAnswer


def main() -> int:
    """Run what the arguments ask for; the exit code is 1 when a run was invalid, 2 when it could not begin."""
    options = parser().parse_args()
    try:
        server_core, load_core = machine.cores()
        peers = chosen(options.peers) if hasattr(options, "peers") else []
        table = socketio_peers.SUBJECTS if options.what == "socketio" else websocket_peers.SUBJECTS
        subjects = websocket_peers.chosen(options.subjects, table) if hasattr(options, "subjects") else []
    except (RuntimeError, ValueError) as error:
        print(f"bench: {error}")
        return 2
    facts = machine.describe()
    raise_file_limit()
    os.sched_setaffinity(0, {load_core})
    machine.raise_priority(options.nice)
    print("  ".join(f"{name}: {fact}" for name, fact in facts.items()))
    results = []
    if options.what == "wsgi":
        setting = Setting(server_core, load_core, options.seconds)
        for name in options.case or list(CASES):
            results.append(wsgi.measure(CASES[name], peers, setting, options.rounds, options.python))
            print("\n" + report.table(results[-1]), flush=True)
    elif options.what in ("slowloris", "beside"):
        return _latencies(options, facts, server_core, load_core)
    elif options.what == "tls":
        for name in options.case or tls.NAMES:
            results.append(tls.measure(name, options.rounds, options.seconds, options.python, server_core, load_core))
            print("\n" + report.table(results[-1]), flush=True)
    elif options.what in ("websocket", "socketio"):
        place = websocket.Place(server_core, load_core, options.passes)
        bench = websocket if options.what == "websocket" else socketio
        for name in options.case or list(bench.CASES):
            results.append(bench.measure(name, subjects, options.rounds, options.python, place))
            print("\n" + report.table(results[-1]), flush=True)
    elif options.what == "profile":
        return _profile(options, server_core)
    else:
        where = greenlets.Cores(server_core, load_core)
        results = greenlets.measure(options.case or list(greenlets.CASES), options.rounds, options.python, where)
        print("".join("\n" + report.table(result) + "\n" for result in results), flush=True)
    if options.json:
        report.write_json(options.json, facts, vars(options), results)
    return 1 if report.failed(results) else 0


def _latencies(options: argparse.Namespace, facts: dict[str, str], server_core: int, load_core: int) -> int:
    outcomes: list[Any]
    bench: Any = slowloris if options.what == "slowloris" else beside
    rounds = () if bench is slowloris else (options.rounds,)
    try:
        outcomes = bench.measure(*rounds, options.seconds, options.python, server_core, load_core)
    except (PeerUnavailable, WrongAnswer, RuntimeError, OSError) as error:
        print(f"bench: {error}")
        return 2
    print("\n" + bench.table(outcomes), flush=True)
    if options.json:
        document = {"machine": facts, "options": vars(options), options.what: bench.as_json(outcomes)}
        options.json.write_text(json.dumps(document, indent=1, default=str) + "\n")
    return 0 if all(outcome.met() for outcome in outcomes) else 1


def _profile(options: argparse.Namespace, core: int) -> int:
    headers = BROWSER_HEADERS if options.browser else ()
    try:
        for peer in chosen(options.peers):
            print("\n" + profile.table(peer, profile.profile(peer, options.python, headers, core)), flush=True)
    except (PeerUnavailable, WrongAnswer) as error:
        print(f"bench: {error}")
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The arguments, for main and for the tests."""
    top = argparse.ArgumentParser(
        prog="python -m bench", description="streamserve beside its peers; see bench/README.md"
    )
    commands = top.add_subparsers(dest="what", required=True)
    web = commands.add_parser("wsgi", help="CPU per request and memory per connection of WSGI servers")
    web.add_argument("--case", action="append", choices=list(CASES), help="repeatable; default: all of them")
    web.add_argument("--peers", default=",".join(PEERS), help="comma-separated; default: %(default)s")
    web.add_argument("--seconds", type=int, default=4, help="of load per sample; default: %(default)s")
    green = commands.add_parser("greenlets", help="greenlets and what they wait with, against gevent")
    slow = commands.add_parser("slowloris", help="latency of good clients and RSS under 5,000 slow ones")
    slow.add_argument("--seconds", type=float, default=2.5, help="of each window; default: %(default)s")
    near = commands.add_parser("beside", help="latency of quick requests beside a generator of 10 MB")
    near.add_argument("--seconds", type=float, default=5.0, help="of each side; default: %(default)s")
    count = commands.add_parser("profile", help="user-space instructions per request, by library and function")
    count.add_argument("--peers", default="streamserve", help="comma-separated; default: %(default)s")
    count.add_argument("--browser", action="store_true", help="send a browser's 14 fields")
    green.add_argument(
        "--case", action="append", choices=list(greenlets.CASES), help="repeatable; default: all of them"
    )
    secure = commands.add_parser(
        "tls", help="CPU over TLS: responses against nginx, handshakes against uvicorn, a broadcast"
    )
    secure.add_argument("--case", action="append", choices=tls.NAMES, help="repeatable; default: all of them")
    secure.add_argument("--seconds", type=int, default=4, help="of load per sample; default: %(default)s")
    sockets = commands.add_parser("websocket", help="CPU per message and memory per connection of WebSocket servers")
    events = commands.add_parser("socketio", help="CPU per event and memory per client of Socket.IO servers")
    for command, cases, peers in (
        (sockets, websocket.CASES, websocket_peers.SUBJECTS),
        (events, socketio.CASES, socketio_peers.SUBJECTS),
    ):
        command.add_argument("--case", action="append", choices=list(cases), help="repeatable; default: all")
        names = ",".join(peers)
        command.add_argument("--peers", dest="subjects", default=names, help="comma-separated; default: %(default)s")
        command.add_argument("--passes", type=int, default=4, help="slices of each sample; default: %(default)s")
    for command in (web, green, count, slow, near, secure, sockets, events):
        command.add_argument("--rounds", type=int, default=5, help="samples of each; default: %(default)s")
        command.add_argument("--nice", type=int, default=0, help="priority; -10 (as root) on a machine that others use")
        command.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
        command.add_argument(
            "--python",
            type=Path,
            default=ROOT / ".venv" / "bin" / "python",
            help="the interpreter that has streamserve; default: %(default)s",
        )
    return top
