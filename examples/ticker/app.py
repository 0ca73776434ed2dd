"""Server-sent events: the time, every few seconds, and a line on the terminal when a client comes or leaves.

The generator sleeps between two events. When its client leaves, `ClientGone` is raised right there, within a second and
not at the next event: `finally` runs, and with it what frees a database cursor or a subscription in a real application.
"""

import os
import time
from collections.abc import Iterable, Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

SECONDS = float(os.environ.get("SECONDS", "10"))
PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Ticker</title>
<style>body { font: 2rem system-ui; display: grid; place-items: center; min-height: 90vh }</style>
<p>The server's time is <time>…</time></p>
<script>
  new EventSource("/events").onmessage = (event) => { document.querySelector("time").textContent = event.data }
</script>
""".encode()


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The page, and the stream of events that it shows."""
    if environ["PATH_INFO"] == "/events":
        headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"), ("X-Accel-Buffering", "no")]
        start_response("200 OK", headers)
        return ticks(f"{environ['REMOTE_ADDR']}:{environ['REMOTE_PORT']}")
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [PAGE]


def ticks(client: str) -> Iterator[bytes]:
    """An event every SECONDS, until the client leaves."""
    print(f"{client} has come", flush=True)
    try:
        while True:
            yield f"data: {time.strftime('%X')}\n\n".encode()
            time.sleep(SECONDS)
    finally:
        print(f"{client} has left", flush=True)
