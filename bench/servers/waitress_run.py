# mypy: disable-error-code="import-not-found, import-untyped"
"""waitress with its four threads; its limits raised and poll() chosen, so that many connections are possible at all."""

import waitress

from bench.servers.arguments import app_and_port

app, port = app_and_port()
waitress.serve(
    app,
    listen=f"127.0.0.1:{port}",
    connection_limit=20_000,
    channel_timeout=300,
    asyncore_use_poll=True,
)
