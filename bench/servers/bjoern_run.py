# mypy: disable-error-code="import-not-found, import-untyped"
"""bjoern with its own defaults."""

import bjoern

from bench.servers.arguments import app_and_port

app, port = app_and_port()
bjoern.run(app, "127.0.0.1", port)
