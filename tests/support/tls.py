"""Certificates made on the spot, and a client that speaks TLS and takes no ragged end for an end."""

import ssl
from pathlib import Path
from typing import Any

import trustme

from tests.support.client import Client


class Authority:
    """Signs certificates and writes them into a folder.

    Args:
        folder: Where the files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._authority = trustme.CA()
        self.file = str(folder / "authority.pem")
        self._authority.cert_pem.write_to_path(self.file)

    def issue(self, *names: str, key: Any = trustme.KeyType.ECDSA, **options: Any) -> str:
        """Returns the file of a certificate for these names, its chain and its key."""
        path = self.folder / f"{len(list(self.folder.iterdir()))}.pem"
        self._authority.issue_cert(*names, key_type=key, **options).private_key_and_cert_chain_pem.write_to_path(path)
        return str(path)

    def split(self, *names: str) -> tuple[str, str]:
        """Returns the files of a certificate's chain and of its key."""
        number = len(list(self.folder.iterdir()))
        chain, key = self.folder / f"{number}-chain.pem", self.folder / f"{number}-key.pem"
        issued = self._authority.issue_cert(*names, key_type=trustme.KeyType.ECDSA)
        issued.private_key_pem.write_to_path(key)
        for at, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(chain, append=at > 0)
        return str(chain), str(key)

    def trust(self, certificate: str = "") -> ssl.SSLContext:
        """A client's context that trusts this authority, with a certificate of its own if one is given."""
        context = ssl.create_default_context(cafile=self.file)
        if certificate:
            context.load_cert_chain(certificate)
        return context


class TlsClient(Client):
    """A connection over TLS.

    Args:
        address: What getsockname() of the listener said.
        context: Whom to trust.
        name: The server's name, also for SNI.
    """

    def __init__(self, address: Any, context: ssl.SSLContext, name: str = "localhost", **options: Any) -> None:
        super().__init__(address, **options)
        try:
            self.socket: ssl.SSLSocket = context.wrap_socket(
                self.socket, server_hostname=name, suppress_ragged_eofs=False
            )
        except BaseException:
            self.socket.close()
            raise

    def names(self) -> list[str]:
        """The names of the certificate that the server showed."""
        certificate: Any = self.socket.getpeercert()
        return sorted(value for _, value in certificate["subjectAltName"])
