"""What the Socket.IO cases compare; see websocket_peers.py. {mode} is app, or beating: with a ping a second."""

from __future__ import annotations

from bench.peers import GEVENT
from bench.websocket_peers import Subject, command

_NOT_SPOKEN = "it speaks no Socket.IO: only what it costs to send to many compares"
_ONLY_BROADCAST = dict.fromkeys(
    ("sio-echo", "sio-burst", "sio-idle", "sio-connect", "sio-disconnect", "sio-heartbeat"), _NOT_SPOKEN
)
_TABLE = (
    Subject(
        "streamserve",
        command("{python} -m streamserve bench.servers.sio_streamserve:{mode} --bind 127.0.0.1:{port}"),
        load="socketio",
    ),
    Subject("floor", command("{floor} {port} broadcast"), left_out=_ONLY_BROADCAST),
    Subject(
        "bun",
        command("{home}/node_modules/@oven/bun-linux-x64/bin/bun {servers}/sio_bun.js {mode} {port}"),
        npm=("@socket.io/bun-engine@0.1.2", "socket.io@4.8.4", "@oven/bun-linux-x64@1.4.5"),
        environ={"NODE_PATH": "{home}/node_modules"},
        load="socketio",
    ),
    Subject(
        "node",
        command("node {servers}/sio_node.js {mode} {port}"),
        npm=("socket.io@4.8.4",),
        environ={"NODE_PATH": "{home}/node_modules"},
        load="socketio",
    ),
    Subject(
        "gevent",
        command("{python} bench/servers/sio_gevent.py {mode} {port}"),
        pip=(
            "python-socketio==5.18.1",
            "python-engineio==4.15.1",
            "bidict==0.24.1",
            "simple-websocket==1.1.0",
            "wsproto==1.3.2",
            "h11==0.16.0",
            "typing_extensions==4.15.0",
            "gevent-websocket==0.10.1",
            *GEVENT,
        ),
        load="socketio",
    ),
)
SUBJECTS = {subject.name: subject for subject in _TABLE}
