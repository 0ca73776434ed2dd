"""The limits that the project has set itself: streamserve's value over a peer's, or its value alone."""

from __future__ import annotations

RATIOS = {
    ("hello", "fastwsgi"): 1.0,
    ("hello", "bjoern"): 0.9,
    ("hello", "gevent"): 1 / 8,
    ("browser", "fastwsgi"): 0.8,
    ("sleep", "gevent"): 1 / 3,
    ("spawn", "gevent"): 1 / 4,
    ("batch", "gevent"): 1 / 8,
    ("sleep0", "gevent"): 0.9,
    ("parked", "gevent"): 1.0,
    ("socketpair", "gevent"): 0.6,
    ("socketpair-timeout", "gevent"): 0.6,
    ("event", "gevent"): 0.7,
    ("queue", "gevent"): 0.7,
    ("pool-map", "gevent"): 0.6,
    ("redis", "gevent"): 0.8,
    ("echo", "gevent"): 0.6,
    ("tls13-1m", "nginx"): 1.3,
    ("tls12-1m", "nginx"): 1.3,
    ("tls13-resumed", "uvicorn"): 1.2,
    ("ws-echo", "bun"): 1.0,
    ("ws-echo", "floor"): 1.3,
    ("ws-receive", "picows"): 1.1,
    ("ws-burst", "single"): 0.3,
    ("ws-broadcast", "floor"): 1.15,
    ("ws-large", "floor"): 1.5,
    ("sio-echo", "bun"): 0.75,
    ("sio-echo", "gevent"): 1 / 7,
    ("sio-burst", "single"): 1 / 3,
    ("sio-broadcast", "floor"): 1.15,
    ("sio-broadcast", "bun"): 0.7,
    ("sio-broadcast", "gevent"): 0.3,
    ("sio-connect", "bun"): 1.0,
    ("semaphore", "gevent"): 3.0,
    ("rlock", "gevent"): 3.0,
    ("queue-free", "gevent"): 3.0,
}
"""At most this share of the peer's value, by case and peer."""

VALUES = {
    ("idle", "streamserve"): 1024.0,
    ("ws-idle", "streamserve"): 1024.0,
    ("sio-idle", "streamserve"): 4096.0,
    ("sio-disconnect", "streamserve"): 50.0,
    ("sio-heartbeat", "streamserve"): 6.0,
    ("many", "streamserve"): 1.2,
    ("recv-ready", "streamserve"): 1.15,
    ("send-ready", "streamserve"): 1.15,
    ("getaddrinfo", "streamserve"): 3.0,
}
"""At most this value, in the unit of the case."""


DIFFERENCES = {
    ("sio-broadcast-tls", "plain"): 2.5,
}
"""At most this much more than the peer's value, in the unit of the case."""


def verdict(case: str, subject: str, value: float, ratio: float, more: float) -> str:
    """The goal that concerns one row of a table, and whether it is met; empty when there is none."""
    row = (case, subject)
    if row in DIFFERENCES and more == more:
        return f"+{more:.2f} <= +{DIFFERENCES[row]:.4g}: {'met' if more <= DIFFERENCES[row] else 'MISSED'}"
    for measured, limit in ((ratio, RATIOS.get(row)), (value, VALUES.get(row))):
        if limit is not None and measured == measured:
            return f"<= {limit:.4g}: {'met' if measured <= limit else 'MISSED'}"
    return ""
