"""Types of the C core's door, by hand after api.h; tests/test_repository.py holds the two together.

What each function does and when stands in api.h. A pointer is a `CData`, the
structs of api.h are classes here with their fields, and `const char *` takes
`bytes` as they are. These classes exist for the type checker alone.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, overload

class CData:
    """Anything that cffi hands out: a pointer, an array, a struct."""

    def __getitem__(self, index: int | slice, /) -> Any: ...
    def __setitem__(self, index: int | slice, value: Any, /) -> None: ...
    def __add__(self, count: int, /) -> CData: ...
    def __sub__(self, other: Any, /) -> Any: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __bool__(self) -> bool: ...
    def __enter__(self) -> CData: ...
    def __exit__(self, *exc_info: object) -> None: ...

class Span(CData):
    offset: int
    length: int

class Http1Limits(CData):
    max_line: int
    max_head: int
    max_fields: int

class Framing(CData):
    content_length: int
    flags: int
    fields: int

class Http1(CData):
    method: Span
    target: Span
    block: int
    end: int
    framing: Framing
    scanned: int
    line: int
    stage: int
    method_id: int
    minor: int
    target_form: int
    seen: int
    refusal: int

class Chunked(CData):
    left: int
    scanned: int
    extensions: int
    trailer_bytes: int
    trailer_fields: int
    refusal: int
    stage: int
    done: int

class GuardConfig(CData):
    fd: int
    report: int
    patience: int
    graceful: int
    numbers: int

class WsConfig(CData):
    ping_interval: int
    ping_timeout: int
    close_timeout: int
    max_message: int
    out_limit: int
    deflate: int
    held: int
    drop: int

class EngineConfig(CData):
    ping_interval: int
    ping_timeout: int
    max_message: int
    out_limit: int
    events: int

class EnginePacket(CData):
    id: int
    json: int
    head: int

class ListenerConfig(CData):
    limits: Http1Limits
    max_body: int
    max_buffers: int
    head_timeout: int
    body_timeout: int
    body_rate: int
    write_timeout: int
    idle_timeout: int
    linger_timeout: int
    discard_timeout: int
    discard_total: int
    left_after: int
    buffered_body: int
    buffered_chunked: int
    high_water: int
    max_connections: int
    drain_limit: int
    memo_entries: int
    memo_block_bytes: int
    raw: int
    left_by_fin: int
    tls: int
    handshake_timeout: int
    handshake_patience: int
    max_handshakes: int

class TlsPlain(CData):
    data: CData
    length: int
    goodbye: int

class Network(CData):
    address: CData
    length: int
    bits: int

class ResponseHead(CData):
    data: CData
    length: int
    flags: int

class Buffer:
    """The bytes behind a pointer, without a copy."""

    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __getitem__(self, index: int | slice, /) -> bytes: ...
    def __setitem__(self, index: int | slice, value: bytes, /) -> None: ...
    def __len__(self) -> int: ...

class FFI:
    NULL: CData
    errno: int
    error: type[Exception]

    @overload
    def new(self, cdecl: Literal["ss_http1 *"], init: Any = ..., /) -> Http1: ...
    @overload
    def new(self, cdecl: Literal["ss_tls_plain *"], init: Any = ..., /) -> TlsPlain: ...
    @overload
    def new(self, cdecl: Literal["ss_http1_limits *"], init: Any = ..., /) -> Http1Limits: ...
    @overload
    def new(self, cdecl: Literal["ss_chunked *"], init: Any = ..., /) -> Chunked: ...
    @overload
    def new(self, cdecl: Literal["ss_span *"], init: Any = ..., /) -> Span: ...
    @overload
    def new(self, cdecl: Literal["ss_listener_config *"], init: Any = ..., /) -> ListenerConfig: ...
    @overload
    def new(self, cdecl: Literal["ss_response_head *"], init: Any = ..., /) -> ResponseHead: ...
    @overload
    def new(self, cdecl: str, init: Any = ..., /) -> CData: ...
    def addressof(self, cdata: CData, *fields_or_indexes: str | int) -> CData: ...
    def buffer(self, cdata: CData, size: int = ..., /) -> Buffer: ...
    def cast(self, cdecl: str, source: CData | int, /) -> CData: ...
    @overload
    def from_buffer(self, source: Any, /, *, require_writable: bool = ...) -> CData: ...
    @overload
    def from_buffer(self, cdecl: str, source: Any, /, require_writable: bool = ...) -> CData: ...
    def gc(self, cdata: CData, destructor: Callable[[CData], None] | None, size: int = ...) -> CData: ...
    def memmove(self, dest: Any, src: Any, n: int) -> None: ...
    def release(self, cdata: CData, /) -> None: ...
    def sizeof(self, cdecl: str | CData, /) -> int: ...
    def string(self, cdata: CData, maxlen: int = ...) -> bytes: ...
    def typeof(self, cdecl: Any, /) -> Any: ...
    def unpack(self, cdata: CData, length: int) -> Any: ...

class Lib:
    # enum ss_answer
    SS_OK: int
    SS_NEED_DATA: int
    SS_ERROR: int

    # enum ss_failure
    SS_GONE: int
    SS_WAIT: int
    SS_BROKEN: int
    SS_NOMEM: int
    SS_SYSTEM: int
    SS_IDLE: int
    SS_MISUSE: int
    SS_ELSEWHERE: int
    SS_WOKEN: int

    # enum ss_refusal
    SS_REFUSAL_NONE: int
    SS_BAD_LINE_END: int
    SS_BAD_REQUEST_LINE: int
    SS_BAD_METHOD: int
    SS_BAD_TARGET: int
    SS_BAD_VERSION: int
    SS_VERSION_UNSUPPORTED: int
    SS_BAD_FIELD_NAME: int
    SS_BAD_FIELD_VALUE: int
    SS_OBS_FOLD: int
    SS_BAD_HOST: int
    SS_BAD_CONTENT_LENGTH: int
    SS_LENGTH_AND_CODING: int
    SS_BAD_CODING: int
    SS_UNKNOWN_CODING: int
    SS_DUPLICATE_FIELD: int
    SS_EXPECTATION_FAILED: int
    SS_LINE_TOO_LONG: int
    SS_HEAD_TOO_LARGE: int
    SS_TOO_MANY_FIELDS: int
    SS_BAD_CHUNK: int
    SS_BAD_TRAILER: int
    SS_BODY_TOO_LARGE: int
    SS_HEAD_TIMEOUT: int
    SS_BODY_TIMEOUT: int
    SS_BODY_TRUNCATED: int
    SS_OVERLOADED: int
    SS_BAD_FORWARDED: int
    SS_BUFFERS_FULL: int
    SS_PLAIN_HTTP: int
    SS_TLS_HELLO: int
    SS_HANDSHAKE_TIMEOUT: int
    SS_HANDSHAKES_FULL: int
    SS_BAD_PROXY_HEADER: int
    SS_PROXY_TIMEOUT: int
    SS_REFUSAL_COUNT: int
    def ss_refusal_status(self, refusal: int, /) -> int: ...
    def ss_refusal_text(self, refusal: int, /) -> CData: ...

    # enum ss_method
    SS_METHOD_OTHER: int
    SS_GET: int
    SS_HEAD: int
    SS_POST: int
    SS_PUT: int
    SS_DELETE: int
    SS_OPTIONS: int
    SS_PATCH: int
    SS_CONNECT: int
    SS_TRACE: int

    # enum ss_target_form
    SS_ORIGIN_FORM: int
    SS_ABSOLUTE_FORM: int
    SS_AUTHORITY_FORM: int
    SS_ASTERISK_FORM: int

    # enum ss_framing_flag
    SS_HAS_LENGTH: int
    SS_CHUNKED: int
    SS_CLOSE: int
    SS_KEEP_ALIVE: int
    SS_EXPECT: int
    SS_UPGRADE: int
    SS_HOST: int
    def ss_http1_init(self, head: Http1, /) -> None: ...
    def ss_http1_line(self, head: Http1, data: bytes | CData, length: int, limits: Http1Limits, /) -> int: ...
    def ss_http1_fields(self, head: Http1, data: bytes | CData, length: int, limits: Http1Limits, /) -> int: ...
    def ss_chunked_init(self, chunked: Chunked, /) -> None: ...
    def ss_chunked_next(
        self, chunked: Chunked, data: bytes | CData, length: int, used: CData, body: Span, /
    ) -> int: ...

    # enum ss_backend_id
    SS_BACKEND_EPOLL: int
    SS_BACKEND_POLL: int

    # enum ss_event
    SS_EVENT_TIMER: int
    SS_EVENT_FD: int
    SS_EVENT_WOKEN: int
    SS_EVENT_ACCEPTED: int
    SS_EVENT_BODY: int
    SS_EVENT_DRAINED: int
    SS_EVENT_REFUSED: int
    SS_EVENT_ACCEPT_FAILED: int
    SS_EVENT_TLS: int
    SS_EVENT_LEFT: int
    SS_EVENT_LISTENER_SHIFT: int
    SS_READ: int
    SS_WRITE: int
    SS_HUP: int
    SS_FAIL: int

    # enum ss_request_flag
    SS_REQUEST_NEW_BLOCK: int
    SS_REQUEST_NEW_TARGET: int
    SS_REQUEST_NEW_PEER: int
    SS_REQUEST_HAS_BODY: int
    SS_REQUEST_CHUNKED: int
    SS_REQUEST_DECODED: int
    SS_REQUEST_EXPECT: int
    SS_REQUEST_HTTP10: int
    SS_REQUEST_UPGRADE: int
    SS_REQUEST_FORM: int
    SS_REQUEST_METHOD: int
    SS_REQUEST_AGAIN: int
    SS_REQUEST_WORDS: int
    SS_METHOD_SHIFT: int
    SS_PAGE_SHIFT: int
    SS_EVENT_WORDS: int
    SS_BATCH: int
    SS_EVENTS: int
    SS_PEERS: int
    SS_PEER_BYTES: int
    SS_REFUSED_PEERS: int
    SS_REFUSED_LINE: int
    SS_REFUSED_TEXT: int
    def ss_loop_new(self, backend: int, /) -> CData: ...
    def ss_loop_free(self, loop: CData, /) -> None: ...
    def ss_loop_backend(self, loop: CData, /) -> CData: ...
    def ss_loop_poll(self, loop: CData, timeout_ns: int, /) -> int: ...
    def ss_loop_found(self, loop: CData, /) -> int: ...
    def ss_loop_requests(self, loop: CData, /) -> CData: ...
    def ss_loop_events(self, loop: CData, /) -> CData: ...
    def ss_loop_peers(self, loop: CData, /) -> CData: ...
    def ss_loop_refused(self, loop: CData, peer: int, text: CData, capacity: int, /) -> int: ...
    def ss_loop_refused_line(self, loop: CData, peer: int, text: CData, capacity: int, /) -> int: ...
    def ss_loop_errno(self, loop: CData, /) -> int: ...
    def ss_loop_wake(self, loop: CData, /) -> None: ...
    def ss_loop_now(self, loop: CData, /) -> int: ...
    def ss_loop_set_clock(self, loop: CData, now_ns: int, /) -> None: ...
    def ss_loop_entered(self, loop: CData, /) -> int: ...
    def ss_loop_fileno(self, loop: CData, /) -> int: ...
    def ss_loop_abandon(self, loop: CData, /) -> None: ...
    def ss_timer_start(self, loop: CData, delay_ns: int, counts: int, /) -> int: ...
    def ss_timer_stop(self, loop: CData, slot: int, /) -> None: ...
    def ss_fd_open(self, loop: CData, fd: int, directions: int, /) -> int: ...
    def ss_fd_close(self, loop: CData, handle: int, closing: int, /) -> int: ...
    def ss_fd_widen(self, loop: CData, handle: int, directions: int, /) -> int: ...
    def ss_fd_drained(self, loop: CData, handle: int, directions: int, /) -> int: ...
    def ss_fd_unread(self, fd: int, /) -> int: ...
    def ss_listener_defaults(self, config: ListenerConfig, /) -> None: ...
    def ss_listener_open(self, loop: CData, fd: int, config: ListenerConfig, /) -> int: ...
    def ss_listener_proxies(self, loop: CData, listener: int, networks: CData, count: int, /) -> int: ...
    def ss_listener_allow(self, loop: CData, listener: int, count: int, /) -> int: ...
    def ss_listener_drain(self, loop: CData, listener: int, left: int, /) -> int: ...
    def ss_listener_connections(self, loop: CData, listener: int, /) -> int: ...
    def ss_listener_close(self, loop: CData, listener: int, /) -> int: ...
    def ss_conn_head(self, loop: CData, conn: int, head: Http1, /) -> CData: ...
    def ss_conn_memoise(self, loop: CData, conn: int, which: int, /) -> int: ...
    def ss_conn_forget(self, loop: CData, conn: int, /) -> int: ...
    def ss_conn_address(self, loop: CData, conn: int, local: int, text: CData, capacity: int, /) -> int: ...
    def ss_conn_read(self, loop: CData, conn: int, into: CData, capacity: int, /) -> int: ...
    def ss_conn_body_left(self, loop: CData, conn: int, /) -> int: ...
    def ss_conn_broken(self, loop: CData, conn: int, /) -> int: ...
    def ss_conn_hung_up(self, loop: CData, conn: int, /) -> int: ...

    # enum ss_send_flag
    SS_SEND_HEAD: int
    SS_SEND_LENGTH: int
    SS_SEND_CHUNKED: int
    SS_SEND_LAST: int
    SS_SEND_CLOSE: int
    SS_SEND_NO_BODY: int
    SS_SEND_DATED: int
    def ss_conn_send(
        self,
        loop: CData,
        conn: int,
        head: bytes | CData,
        head_length: int,
        body: bytes | CData,
        body_length: int,
        flags: int,
        /,
    ) -> int: ...
    def ss_conn_respond(
        self, loop: CData, conn: int, head: ResponseHead, body: bytes | CData, body_length: int, /
    ) -> int: ...
    def ss_conn_interim(self, loop: CData, conn: int, data: bytes, length: int, /) -> int: ...
    def ss_conn_send_file(
        self, loop: CData, conn: int, head: ResponseHead, fd: int, offset: int, count: int, /
    ) -> int: ...
    def ss_conn_refuse(self, loop: CData, conn: int, refusal: int, /) -> int: ...
    def ss_conn_abort(self, loop: CData, conn: int, reset: int, /) -> int: ...
    def ss_conn_queued(self, loop: CData, conn: int, /) -> int: ...
    def ss_conn_detach(self, loop: CData, conn: int, into: CData, capacity: int, taken: CData, /) -> int: ...
    def ss_conn_adopt(self, loop: CData, listener: int, fd: int, unread: bytes | CData, length: int, /) -> int: ...
    def ss_frame_new(self, data: bytes | CData, length: int, /) -> CData: ...
    def ss_frames_join(self, frames: CData, count: int, /) -> CData: ...
    def ss_frame_free(self, frame: CData, /) -> None: ...
    def ss_conn_send_frame(self, loop: CData, conn: int, frame: CData, /) -> int: ...

    # enum ss_ws_opcode
    SS_WS_CONTINUATION: int
    SS_WS_TEXT: int
    SS_WS_BINARY: int
    SS_WS_CLOSE: int
    SS_WS_PING: int
    SS_WS_PONG: int

    # enum ss_ws_code
    SS_WS_NORMAL: int
    SS_WS_GOING_AWAY: int
    SS_WS_PROTOCOL_ERROR: int
    SS_WS_NO_CODE: int
    SS_WS_ABNORMAL: int
    SS_WS_BAD_DATA: int
    SS_WS_TOO_BIG: int
    SS_WS_FAILED: int
    SS_WS_OVERLOADED: int
    SS_WS_COMPRESSED: int
    SS_WS_LENGTH_SHIFT: int
    SS_MESSAGE_WORDS: int
    SS_MESSAGES: int
    SS_WS_PAYLOAD_BYTES: int
    SS_WS_SMALL: int
    def ss_guard_new(self, config: CData, /) -> CData: ...
    def ss_guard_tick(self, guard: CData, count: int, last: int, /) -> None: ...
    def ss_guard_free(self, guard: CData, /) -> None: ...
    ss_ws_text_end: CData
    def ss_loop_messages(self, loop: CData, /) -> CData: ...
    def ss_ws_alike(self, loop: CData, /) -> int: ...
    def ss_ws_payloads(self, loop: CData, /) -> CData: ...
    def ss_ws_take(self, loop: CData, conn: int, /) -> CData: ...
    def ss_ws_upgrade(self, loop: CData, conn: int, head: bytes | CData, length: int, config: WsConfig, /) -> int: ...
    def ss_ws_send(
        self, loop: CData, conn: int, opcode: int, data: bytes | CData, length: int, flags: int, /
    ) -> int: ...
    def ss_ws_send_text(self, loop: CData, conn: int, data: bytes, length: int, /) -> int: ...
    def ss_ws_queued(self, loop: CData, conn: int, /) -> int: ...
    def ss_ws_close(self, loop: CData, conn: int, code: int, reason: bytes | CData, length: int, /) -> int: ...
    def ss_ws_reading(self, loop: CData, conn: int, on: int, /) -> int: ...
    def ss_ws_frame_new(self, opcode: int, data: bytes | CData, length: int, flags: int, /) -> CData: ...
    def ss_ws_broadcast(
        self, loop: CData, conns: CData, count: int, but: CData, but_count: int, frame: CData, skipped: CData, /
    ) -> int: ...

    # enum ss_engine_kind
    SS_ENGINE_EVENT: int
    SS_ENGINE_ACK: int
    SS_ENGINE_PONG: int
    SS_ENGINE_OTHER: int
    SS_ENGINE_MOST_DIGITS: int
    SS_ENGINE_OFFSET_MASK: int
    SS_ENGINE_HEAD_SHIFT: int
    SS_ENGINE_HEAD_MASK: int
    SS_ENGINE_ID_SHIFT: int
    def ss_engine_read(self, packet: EnginePacket, data: bytes | CData, length: int, /) -> int: ...
    def ss_engine_begin(self, loop: CData, conn: int, config: EngineConfig, /) -> int: ...
    def ss_engine_answered(self, loop: CData, conn: int, /) -> int: ...
    SS_ENGINE_MOST_TEXT: int
    def ss_engine_acknowledge(self, loop: CData, conn: int, id: int, text: bytes, length: int, /) -> int: ...

    # enum ss_tls_want
    SS_TLS_READ: int
    SS_TLS_WRITE: int
    SS_TLS_ENDED: int

    # enum ss_tls_news
    SS_TLS_OPEN: int
    SS_TLS_END: int
    SS_TLS_RAGGED: int
    def ss_tls_take(self, loop: CData, conn: int, into: CData, capacity: int, /) -> int: ...
    def ss_tls_feed(self, loop: CData, conn: int, data: bytes | CData, length: int, news: int, /) -> int: ...
    def ss_tls_peek(self, loop: CData, conn: int, plain: TlsPlain, /) -> int: ...
    def ss_tls_push(
        self,
        loop: CData,
        conn: int,
        data: bytes | CData,
        length: int,
        taken: int,
        goodbye: int,
        plain: TlsPlain,
        /,
    ) -> int: ...
    SS_TLS_WORDS: int
    def ss_tls_writers(self, loop: CData, listener: int, records: CData, most: int, /) -> int: ...
    def ss_tls_push_all(
        self, loop: CData, records: CData, lengths: CData, count: int, data: bytes | CData, length: int, /
    ) -> int: ...
    def ss_tls_fail(self, loop: CData, conn: int, /) -> int: ...
    def ss_tls_refuse_plain(self, loop: CData, conn: int, /) -> int: ...
    def ss_verify(self, loop: CData, /) -> CData: ...

    # enum ss_count
    SS_COUNT_TIMERS: int
    SS_COUNT_FDS: int
    SS_COUNT_LISTENERS: int
    SS_COUNT_CONNECTIONS: int
    SS_COUNT_REQUESTS: int
    SS_COUNT_BUFFERS: int
    SS_COUNT_SPARE_BUFFERS: int
    SS_COUNT_QUEUED_BYTES: int
    SS_COUNT_MEMO_ENTRIES: int
    SS_COUNT_FILES: int
    SS_COUNT_ACCEPTED: int
    SS_COUNT_POLLS: int
    SS_COUNT_TLS: int
    SS_COUNT_HELD_BYTES: int
    SS_COUNT_SKIPPED: int
    SS_COUNT_OVERLOADED: int
    SS_COUNT_KINDS: int
    def ss_counts(self, loop: CData, counts: CData, /) -> None: ...

ffi: FFI
lib: Lib
