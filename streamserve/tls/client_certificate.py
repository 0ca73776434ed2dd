"""A client's certificate in the environ, under the names that Apache's mod_ssl uses."""

from __future__ import annotations

import ssl
from typing import Any

_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "emailAddress": "emailAddress",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
_SPECIAL = frozenset(',+"\\<>;')


def certificate_values(tls: ssl.SSLObject) -> dict[str, str]:
    """SSL_CLIENT_VERIFY, and what the certificate says if the client sent one.

    Distinguished names are written as RFC 4514 has them, the last part first.
    """
    der = tls.getpeercert(True)
    if der is None:
        return {"SSL_CLIENT_VERIFY": "NONE"}
    certificate: dict[str, Any] = tls.getpeercert() or {}
    return {
        "SSL_CLIENT_VERIFY": "SUCCESS",  # else there would be no connection
        "SSL_CLIENT_CERT": ssl.DER_cert_to_PEM_cert(der),
        "SSL_CLIENT_S_DN": distinguished_name(certificate.get("subject", ())),
        "SSL_CLIENT_S_DN_CN": _common_name(certificate.get("subject", ())),
        "SSL_CLIENT_I_DN": distinguished_name(certificate.get("issuer", ())),
        "SSL_CLIENT_I_DN_CN": _common_name(certificate.get("issuer", ())),
        "SSL_CLIENT_M_SERIAL": str(certificate.get("serialNumber", "")),
        "SSL_CLIENT_M_VERSION": str(certificate.get("version", "")),
        "SSL_CLIENT_V_START": str(certificate.get("notBefore", "")),
        "SSL_CLIENT_V_END": str(certificate.get("notAfter", "")),
    }


def distinguished_name(parts: Any) -> str:
    """A name as `ssl` gives it, as text: (((("countryName", "DE"),), (("commonName", "a"),)) → "CN=a,C=DE"."""
    shown = ["+".join(f"{_SHORT.get(key, key)}={_escape(value)}" for key, value in part) for part in parts]
    return _native(",".join(reversed(shown)))


def _common_name(parts: Any) -> str:
    for part in parts:
        for key, value in part:
            if key == "commonName":
                return _native(value)
    return ""


def _escape(value: str) -> str:
    escaped = "".join("\\" + letter if letter in _SPECIAL else letter for letter in value)
    if escaped[:1] in (" ", "#"):
        escaped = "\\" + escaped
    if escaped.endswith(" ") and len(value) > 1:
        escaped = escaped[:-1] + "\\ "
    return escaped.replace("\0", "\\00")


def _native(text: str) -> str:
    """Bytes of UTF-8 as PEP 3333 wants them in an environ."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")
