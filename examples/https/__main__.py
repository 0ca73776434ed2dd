"""A page over https, with a certificate that is made on the spot."""

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from streamserve import signal_handler
from streamserve.errors import ConfigurationError
from streamserve.settings import Settings
from streamserve.wsgi import WSGIServer


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Says how it was reached."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"Reached by {environ['wsgi.url_scheme']}\n".encode()]


def make_certificate(folder: Path) -> tuple[str, str]:
    """Writes a certificate for this machine, valid for a week and signed by itself, and its key; returns both files."""
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 7 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"]
    subprocess.run(
        [*command.split(), *names, "-keyout", key, "-out", certificate], check=True, stderr=subprocess.DEVNULL
    )
    return certificate, key


def main(where: str = "127.0.0.1:8443") -> None:
    """Serves until Ctrl-C or SIGTERM."""
    if shutil.which("openssl") is None:
        sys.exit("the certificate is made by the program openssl, which is not installed")
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = make_certificate(Path(folder))
        try:
            settings = Settings(certfile=(certificate,), keyfile=(key,))
            server = WSGIServer(where, application, settings=settings)
            signal_handler(signal.SIGTERM, server.stop)
            server.start()
            print(f"serving https://{server.addresses[0]}, trusted by: curl --cacert {certificate}", flush=True)
            server.serve_forever()
        except ConfigurationError as problem:
            sys.exit(str(problem))
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main(*sys.argv[1:2])
