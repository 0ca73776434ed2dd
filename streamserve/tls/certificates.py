"""What a TLS listener shows its clients: certificates, chosen by the name that a client asks for (SNI).

All of a server's certificates are loaded anew as a whole, or not at all: connections that are open keep what they
began with, new ones get the new.
"""

from __future__ import annotations

import os
import re
import ssl
from _ssl import _test_decode_cert  # type: ignore[attr-defined]  # the only reader of certificates in the stdlib
from typing import Any

from streamserve.errors import ConfigurationError
from streamserve.settings import Settings

Stamps = dict[str, tuple[int, ...]]
"""What tells a file from the one that it was or will be, for each of the files."""

ALPN = ["http/1.1"]
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_HEADERS = re.compile(rb"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----\s+[A-Za-z-]+:")
_MOST_BYTES = 1 << 20  # that are looked at of a file
_CLIENTS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def load_certificates(settings: Settings) -> Certificates | None:
    """The certificates that the settings name; None where the server is to speak no TLS.

    Raises:
        ConfigurationError: a file cannot be used, or the settings do not go together.
    """
    origin = settings.origin
    defaults = Settings()
    for name in ("keyfile", "keyfile_password", "ca_certs", "client_cert", "ciphers"):
        if not settings.certfile and getattr(settings, name) != getattr(defaults, name):
            raise ConfigurationError(f"{name} ({origin(name)}) is for TLS, which needs a certfile; give one")
    if settings.keyfile and len(settings.keyfile) != len(settings.certfile):
        raise ConfigurationError(
            f"there are {len(settings.keyfile)} keyfiles ({origin('keyfile')}) for {len(settings.certfile)} certfiles"
            f" ({origin('certfile')}); give one for each, in the same order"
        )
    if (settings.client_cert == "none") != (not settings.ca_certs):
        given, missing = ("ca_certs", "client_cert") if settings.ca_certs else ("client_cert", "ca_certs")
        raise ConfigurationError(f"{given} ({origin(given)}) does nothing without {missing}; give both")
    return Certificates(settings) if settings.certfile else None


class Certificates:
    """The certificates of a server, as its settings name them.

    Args:
        settings: certfile, keyfile, keyfile_password, ca_certs, client_cert, tls_min and ciphers.

    Raises:
        ConfigurationError: a file cannot be used; the message names it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.asks_clients = settings.client_cert != "none"
        self._names: dict[str, ssl.SSLContext] = {}
        self.loaded: Stamps = {}  # of the files as they were when they were loaded, or a moment before
        self.context = self._load()

    def reload(self) -> None:
        """Reads the files again; new connections get what they say now.

        Raises:
            ConfigurationError: a file cannot be used; everything stays as it was.
        """
        self.context = self._load()

    def stamps(self) -> Stamps:
        """What the files are now."""
        settings = self._settings
        return {path: _stamp(path) for path in (*settings.certfile, *settings.keyfile, settings.ca_certs) if path}

    @property
    def names(self) -> list[str]:
        """The names that have a certificate of their own, or share one."""
        return sorted(self._names)

    def _load(self) -> ssl.SSLContext:
        settings = self._settings
        stamps = self.stamps()  # first: what changes meanwhile is seen to have changed
        default: ssl.SSLContext | None = None
        names: dict[str, ssl.SSLContext] = {}
        for certfile, keyfile in zip(settings.certfile, settings.keyfile or settings.certfile, strict=True):
            own = certificate_names(certfile)
            # One name may have two certificates, of an elliptic and of an RSA key: the client's ciphers choose.
            context = names[own[0]] if own and own[0] in names else self._context()
            self._load_pair(context, certfile, keyfile)
            for name in own:
                names.setdefault(name, context)
            default = default or context
        assert default is not None
        if len(set(map(id, names.values()))) > 1:
            default.sni_callback = _Choice(names)
        self._names = names
        self.loaded = stamps
        return default

    def _context(self) -> ssl.SSLContext:
        settings = self._settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[settings.tls_min]
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(ALPN)
        if settings.ciphers:
            try:
                context.set_ciphers(settings.ciphers)
            except ssl.SSLError:
                raise ConfigurationError(
                    f"ciphers={settings.ciphers!r} ({settings.origin('ciphers')}) names no cipher that OpenSSL has;"
                    " give a list as `openssl ciphers` takes it, such as ECDHE+AESGCM"
                ) from None
        if settings.ca_certs:
            _load_authorities(context, settings.ca_certs)
        context.verify_mode = _CLIENTS[settings.client_cert]
        return context

    def _load_pair(self, context: ssl.SSLContext, certfile: str, keyfile: str) -> None:
        _need_readable("keyfile", keyfile)
        asked: list[bool] = []

        def password() -> str:  # always given: without it OpenSSL would ask whoever sits at the terminal
            asked.append(True)
            if not self._settings.keyfile_password:
                raise ConfigurationError(
                    f"keyfile={keyfile!r} is encrypted; give keyfile_password, by STREAMSERVE_KEYFILE_PASSWORD or a"
                    f" file, or a key without a password: openssl pkey -in {keyfile} -out ..."
                )
            return self._settings.keyfile_password

        try:
            context.load_cert_chain(certfile, keyfile, password)
        except OSError as error:
            if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
                text = f"keyfile={keyfile!r} is not the key of certfile={certfile!r}; give the pairs in the same order"
            elif asked:
                origin = self._settings.origin("keyfile_password")
                text = f"keyfile={keyfile!r} does not open with keyfile_password ({origin}); give the one of this key"
            else:
                text = f"keyfile={keyfile!r} is no key for certfile={certfile!r} ({_said(error)}); give its PEM file"
            raise ConfigurationError(text) from None


class _Choice:
    """The callback of SNI: leads a handshake to the certificate for the name that the client gave."""

    def __init__(self, names: dict[str, ssl.SSLContext]) -> None:
        self._names = names

    def __call__(self, tls: Any, name: str | None, _context: ssl.SSLContext) -> None:
        context = find_name(self._names, name or "")
        if context is not None:
            tls.context = context


def find_name(names: dict[str, ssl.SSLContext], name: str) -> ssl.SSLContext | None:
    """The entry for a host name: its own, or that of a wildcard for its first label (RFC 6125 section 6.4.3)."""
    name = name.lower().rstrip(".")
    return names.get(name) or names.get("*." + name.partition(".")[2])


def certificate_names(certfile: str) -> list[str]:
    """The DNS names and addresses of the first certificate in a PEM file; without any, its common name.

    Raises:
        ConfigurationError: there is none that can be read.
    """
    _need_readable("certfile", certfile)
    try:
        if _HEADERS.search(_content(certfile)):
            raise ValueError("OpenSSL would ask at the terminal for the password of an encrypted certificate")
        certificate = _test_decode_cert(certfile)
    except (OSError, ValueError):
        raise ConfigurationError(
            f"certfile={certfile!r} holds no certificate; give a PEM file that begins with the server's own"
        ) from None
    names = [value.lower() for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    if not names:
        names = [value.lower() for part in certificate["subject"] for key, value in part if key == "commonName"]
    return names


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MOST_BYTES)


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    _need_readable("ca_certs", path)
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise ConfigurationError(
            f"ca_certs={path!r} holds no certificates ({_said(error)}); give a PEM file of those who sign your clients'"
        ) from None


def _need_readable(name: str, path: str) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        raise ConfigurationError(
            f"{name}={path!r} cannot be read: {error.strerror}; give a PEM file that this user may read"
        ) from None


def _said(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror).replace("_", " ").lower()
