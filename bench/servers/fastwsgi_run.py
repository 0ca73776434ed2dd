# mypy: disable-error-code="import-not-found, import-untyped"
"""FastWSGI with its own defaults, logging errors only."""

import fastwsgi

from bench.servers.arguments import app_and_port

app, port = app_and_port()
fastwsgi.run(wsgi_app=app, host="127.0.0.1", port=port, loglevel=fastwsgi.LL_ERROR)
