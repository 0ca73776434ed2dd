"""TLS of a StreamServer: the context that its arguments stand for, the handshake, and the goodbye."""

from __future__ import annotations

import ssl
from typing import Any

from streamserve.errors import ConfigurationError
from streamserve.green.ssl import SSLSocket

GOODBYE = 0.0
"""Seconds to wait for the peer's answer to our goodbye: none, it is only for the peer to know that nothing was cut."""


class Encryption:
    """How connections are encrypted.

    Args:
        ssl_context: a context for servers; or the parts of one:
        certfile, keyfile, password: the certificate chain and its key, PEM files.
        cert_reqs, ca_certs: whether clients must have a certificate, and a PEM file of who may have signed it.
        ciphers: as OpenSSL writes them.
        ssl_version: a protocol constant of `ssl`; None: TLS 1.2 and later.
        suppress_ragged_eofs: a client that vanishes without a goodbye reads as an end of data, not as an error.
        do_handshake_on_connect: False: the handler does the handshake.
        server_side: nothing but True.

    Raises:
        ConfigurationError: a certificate or key cannot be used; the message says why.
        TypeError: an argument is missing or makes no sense.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        suppress_ragged_eofs: bool = True,
        do_handshake_on_connect: bool = True,
        server_side: bool = True,
        **parts: Any,
    ) -> None:
        if not server_side:
            raise TypeError("server_side=False makes no server: leave it out")
        if ssl_context is not None and parts:
            raise TypeError(f"{', '.join(parts)} belongs into the ssl_context: give one or the other")
        if ssl_context is not None and ssl_context.protocol is ssl.PROTOCOL_TLS_CLIENT:
            raise ConfigurationError("ssl_context is one for clients: make it with ssl.PROTOCOL_TLS_SERVER")
        self.context = ssl_context if ssl_context is not None else _make_context(**parts)
        self.suppress_ragged_eofs = suppress_ragged_eofs
        self.handshakes = do_handshake_on_connect

    def accept(self, connection: Any, timeout: float) -> Any:
        """Makes the handshake on an accepted connection, which then belongs to the SSLSocket that is returned.

        Args:
            timeout: seconds for all of it.

        Raises:
            OSError: the client did not come to an agreement in time; ssl.SSLError says why.
        """
        encrypted: Any = SSLSocket._create(  # type: ignore[attr-defined]
            connection,
            server_side=True,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=self.suppress_ragged_eofs,
            context=self.context,
        )
        if self.handshakes:
            try:
                encrypted.settimeout(timeout)
                encrypted.do_handshake()
                encrypted.settimeout(None)
            except BaseException:
                encrypted.close()
                raise
        return encrypted

    def say_goodbye(self, encrypted: Any) -> None:
        """Tells the peer that all was sent, without waiting for its answer; it may be gone."""
        try:
            encrypted.settimeout(GOODBYE)
            encrypted.unwrap()
        except (OSError, ValueError):
            pass


def _make_context(
    *,
    certfile: Any = None,
    keyfile: Any = None,
    password: Any = None,
    cert_reqs: ssl.VerifyMode = ssl.CERT_NONE,
    ca_certs: Any = None,
    ciphers: str | None = None,
    ssl_version: Any = None,
) -> ssl.SSLContext:
    if certfile is None:
        raise TypeError("TLS needs ssl_context=, or certfile= (and keyfile=, if the key is not in the same file)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if ssl_version is None else ssl_version)
    part, value = "", None
    try:
        part, value = "certfile", certfile
        context.load_cert_chain(certfile, keyfile, password)
        if ca_certs is not None:
            part, value = "ca_certs", ca_certs
            context.load_verify_locations(ca_certs)
        if ciphers is not None:
            part, value = "ciphers", ciphers
            context.set_ciphers(ciphers)
    except OSError as error:
        key = f" with keyfile={keyfile!r}" if part == "certfile" and keyfile is not None else ""
        remedy = (
            "ciphers as OpenSSL writes them" if part == "ciphers" else "a PEM file that can be read, and its own key"
        )
        raise ConfigurationError(f"{part}={value!r}{key} cannot be used: {error}; give {remedy}") from error
    context.verify_mode = cert_reqs
    return context
