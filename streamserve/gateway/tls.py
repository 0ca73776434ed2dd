"""HTTPS: the connections of a listener pass through the standard library's TLS, in memory.

The core asks by SS_EVENT_TLS, in the hub: no greenlet waits for a handshake or for a record. What comes is taken from
the socket, decrypted, and fed back to the core; what leaves is encrypted a step at a time, as the socket takes it.

A broadcast is encrypted for each client anew, since each has its own key. All else is done for many clients together:
one event, one call that says what is to be encrypted for whom, and one that takes the ciphertexts.
"""

from __future__ import annotations

import logging
import ssl
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from streamserve.core import ffi, lib
from streamserve.gateway.endpoint import Endpoint
from streamserve.gateway.handshake_turns import HandshakeTurns
from streamserve.gateway.response_head import HeadCache
from streamserve.loop.hub import Hub
from streamserve.tls.client_certificate import certificate_values

if TYPE_CHECKING:
    from streamserve.gateway.environ import Environ
    from streamserve.gateway.exchange import Exchange
    from streamserve.tls.certificates import Certificates
    from streamserve.wsgi import WSGIServer

_log = logging.getLogger("streamserve.wsgi")

TAKEN = 65536
"""Most bytes of ciphertext that are taken from a socket at once."""

STEP = 65536
"""Most bytes of plaintext that are encrypted at once: they and their ciphertext stay in the caches."""

TOGETHER = 64
"""Most connections taken at once: what is sent for them is still in the caches. Of 256 each costs 0.5 us more."""

_RECORD = 16384  # the longest plaintext of a record (RFC 8446 section 5.1)
_PLAIN = TAKEN + 2 * _RECORD  # what the bytes taken can give, with what was left of a record before

_WRITE: int = lib.SS_TLS_WRITE
_ENDED: int = lib.SS_TLS_ENDED
_OPEN: int = lib.SS_TLS_OPEN
_END: int = lib.SS_TLS_END
_RAGGED: int = lib.SS_TLS_RAGGED
_WORDS: int = lib.SS_TLS_WORDS
_WAIT: int = lib.SS_WAIT
_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")  # no TLS record begins with one
_take = lib.ss_tls_take
_feed = lib.ss_tls_feed
_peek = lib.ss_tls_peek
_push = lib.ss_tls_push
_writers = lib.ss_tls_writers
_push_all = lib.ss_tls_push_all
_buffer = ffi.buffer
_cast = ffi.cast


class Session:
    """TLS of one connection: its state in OpenSSL, and the two memories before and behind."""

    __slots__ = ("began", "encrypted", "incoming", "open", "outgoing", "tls", "write")

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.write: Any = self.tls._sslobj.write  # type: ignore[attr-defined]  # spares a call
        self.encrypted = self.outgoing.read
        self.began = False  # its first bytes have come
        self.open = False  # the handshake is complete


class TlsSessions:
    """TLS of the connections of one listener.

    Args:
        server: whose log it uses.
        certificates: what new connections are met with.
    """

    def __init__(self, server: WSGIServer, hub: Hub, certificates: Certificates) -> None:
        self._server = server
        self._core = hub.core
        self._certificates = certificates
        self.sessions: dict[int, Session] = {}
        self._turns = HandshakeTurns(hub, self._advance)
        self.identities: dict[int, dict[str, str]] = {}  # of connections whose clients were asked for a certificate
        self._raw = ffi.new("char[]", TAKEN)
        self._taken: Any = memoryview(ffi.buffer(self._raw)).cast("B")
        self._plain = ffi.new("char[]", _PLAIN)
        self._decrypted: Any = memoryview(ffi.buffer(self._plain)).cast("B")
        self._look = ffi.new("ss_tls_plain *")
        self._records = ffi.new("int64_t[]", TOGETHER * _WORDS)
        self._record_words: Any = memoryview(ffi.buffer(self._records)).cast("B").cast("q")

    def close(self) -> None:
        """Forgets the sessions: their connections are closed."""
        self._turns.close()
        self.sessions.clear()
        self.identities.clear()

    def ask(self, handle: int, wants: int) -> None:
        """One question of the core; see enum ss_tls_want."""
        if wants & _ENDED:
            self.sessions.pop(handle, None)
            self.identities.pop(handle, None)
            self._turns.drop(handle)
            return
        session = self.sessions.get(handle)
        if session is not None and session.open:
            self._advance(handle)
        else:
            self._turns.add(handle)

    def _advance(self, handle: int) -> None:
        try:
            session = self.sessions.get(handle)
            if session is None:
                session = self.sessions[handle] = Session(self._certificates.context)
            self._read(handle, session)
        except BaseException:  # no memory, or a signal's function raised: it must not hang
            lib.ss_tls_fail(self._core, handle)
            raise

    # ---- what comes

    def _read(self, handle: int, session: Session) -> None:
        count = _take(self._core, handle, self._raw, TAKEN)
        if count == _WAIT:
            return
        if count > 0:
            if not session.began and self._is_plain(handle):
                return
            session.began = True
            session.incoming.write(self._taken[:count])
        elif count == 0:
            session.incoming.write_eof()
        else:
            lib.ss_tls_fail(self._core, handle)
            return
        news = 0
        if not session.open:
            if not self._shake_hands(handle, session):
                return
            news = _OPEN
        self._decrypt(handle, session, news)

    def _is_plain(self, handle: int) -> bool:
        """Answers a client that speaks HTTP in the clear: its first byte tells."""
        if self._taken[0] not in _LETTERS:
            return False
        self._server.refusals.note(handle, lib.SS_PLAIN_HTTP)
        lib.ss_tls_refuse_plain(self._core, handle)
        return True

    def _shake_hands(self, handle: int, session: Session) -> bool:
        try:
            session.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._reply(handle, session)
            return False
        except OSError as error:
            self._fail(handle, session, f"the TLS handshake failed: {_reason(error)}")
            return False
        session.open = True
        if self._certificates.asks_clients:
            self.identities[handle] = certificate_values(session.tls)
        self._reply(handle, session)
        return True

    def _decrypt(self, handle: int, session: Session, news: int) -> None:
        tls, incoming, into = session.tls, session.incoming, self._decrypted
        size = 0
        try:
            while True:
                count: Any = tls.read(_PLAIN - size, into[size:])
                size += count
                if count == 0:
                    news |= _END
                    break
                if size > _PLAIN - _RECORD:
                    _feed(self._core, handle, self._plain, size, news)
                    size = news = 0
                elif not incoming.pending and not tls.pending():
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            news |= _END
        except ssl.SSLEOFError:
            news |= _END | _RAGGED
        except OSError as error:
            self._fail(handle, session, f"TLS failed: {_reason(error)}")
            return
        if session.outgoing.pending:
            self._reply(handle, session)
        if size:
            self._turns.requested = True
        if size or news:
            _feed(self._core, handle, self._plain, size, news)

    # ---- what leaves

    def flush(self, handle: int) -> None:
        """Encrypts what the connection has to send, as long as the socket takes it."""
        session = self.sessions.get(handle)
        look, core = self._look, self._core
        if session is None or not session.open or _peek(core, handle, look) < 0:
            return
        write, read = session.tls.write, session.outgoing.read
        size: int = look.length
        try:
            while size > 0:
                count = write(_buffer(look.data, min(size, STEP)))
                goodbye = look.goodbye and count == size
                if goodbye:
                    _say_goodbye(session)
                data = read()
                _push(core, handle, data, len(data), count, goodbye, look)
                size = look.length
            if look.goodbye:
                _say_goodbye(session)
                data = read()
                _push(core, handle, data, len(data), 0, 1, look)
        except OSError as error:
            self._fail(handle, session, f"TLS failed: {_reason(error)}")

    def flush_all(self, listener: int) -> None:
        """Encrypts for all connections of the listener that have something to send, once for each."""
        while True:
            count = _writers(self._core, listener, self._records, TOGETHER)
            if count == 0:
                return
            words = self._record_words[: count * _WORDS].tolist()
            try:
                self._encrypt_all(words)
            except BaseException:  # no memory, or a signal's function raised: none of them must hang
                for handle in words[::_WORDS]:
                    lib.ss_tls_fail(self._core, handle)
                raise

    def _encrypt_all(self, words: list[int]) -> None:
        sessions = self.sessions
        last = size = 0
        plain: Any = None
        pieces: list[bytes] = []
        piece = pieces.append
        stream = iter(words)
        for handle, address, length in zip(stream, stream, stream, strict=True):
            session = sessions.get(handle)
            if session is None or not 0 < length <= _RECORD:
                self.flush(handle)
                piece(b"")
                continue
            if address != last or length != size:  # else it is the same frame
                last, size, plain = address, length, _buffer(_cast("char *", address), length)
            try:
                session.write(plain)  # all of it: partial writes are a mode of OpenSSL's that ssl does not set
                piece(session.encrypted())
            except OSError as error:
                self._fail(handle, session, f"TLS failed: {_reason(error)}")
                piece(b"")
        together = b"".join(pieces)
        lengths = ffi.from_buffer("int64_t[]", array("q", map(len, pieces)))
        _push_all(self._core, self._records, lengths, len(pieces), together, len(together))

    def _reply(self, handle: int, session: Session) -> None:
        """Sends what TLS itself has to say."""
        data = session.outgoing.read()
        if data:
            _push(self._core, handle, data, len(data), 0, 0, self._look)

    def _fail(self, handle: int, session: Session, text: str) -> None:
        self._server.refusals.note_client(handle, text)
        self._reply(handle, session)  # an alert says why
        lib.ss_tls_fail(self._core, handle)


def _say_goodbye(session: Session) -> None:
    """Writes close_notify; the answer to it, which `unwrap` would like to read, does not matter."""
    with suppress(OSError, ValueError):
        session.tls.unwrap()


def _reason(error: OSError) -> str:
    """What OpenSSL says, without its place in the source."""
    reason = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else "the client went away"


class TlsEndpoint(Endpoint):
    """A listener that speaks TLS."""

    def __init__(
        self, server: WSGIServer, hub: Hub, name: str, port: str, head_cache: HeadCache, certificates: Certificates
    ) -> None:
        super().__init__(server, hub, name, port, head_cache)
        self.tls = TlsSessions(server, hub, certificates)
        self.base["wsgi.url_scheme"] = "https"
        self.base["HTTPS"] = "on"
        self.base.update(server.base_env)
        self.sends_files = False
        self._serve_plainly = self.serve
        self.serve = self._serve_encrypted
        self.common_environ = self._identified_environ

    def close(self) -> None:
        super().close()
        self.tls.close()

    def asked(self, connection: int, wants: int) -> None:
        if wants == _WRITE:
            self.tls.flush_all(self.number)
        else:
            self.tls.ask(connection, wants)

    def send_now(self, handle: int) -> None:
        self.tls.flush(handle)

    def _serve_encrypted(self, handle: int, page: int, flags: int) -> Exchange:
        exchange = self._serve_plainly(handle, page, flags)
        self.tls.flush(handle)
        return exchange

    def _identified_environ(self, handle: int, page: int, flags: int) -> Environ:
        environ = self.memory.common(handle, page, flags)
        identity = self.tls.identities.get(handle)
        if identity is not None:
            environ.update(identity)
            if handle in self.again:
                self.again[handle] = environ.copy()
        return environ

    def _uncommon_environ(self, exchange: Exchange, page: int, flags: int) -> Environ:
        environ = super()._uncommon_environ(exchange, page, flags)
        environ.update(self.tls.identities.get(exchange.handle, ()))
        return environ
