/* The whole public face of the core. cffi and the C compiler read this one
 * file (core/build.py drops the lines that begin with '#' for cffi, except
 * plain numeric constants), so it holds declarations and nothing else.
 *
 * Words used below:
 *   handle   63-bit integer, generation << 32 | index. A handle whose object
 *            was closed is recognised: calls on it answer SS_GONE.
 *   now      monotonic time in integer nanoseconds.
 *   span     32-bit offset and length into a buffer that the caller holds.
 */
#ifndef SS_API_H
#define SS_API_H
#include <stddef.h>
#include <stdint.h>

/* ---- answers ---------------------------------------------------------- */

enum ss_answer {
    SS_OK = 0,        /* a result is there */
    SS_NEED_DATA = 1, /* call again with more bytes, or park until told */
    SS_ERROR = 2      /* it failed; the reason is in the object */
};

/* Negative answers of functions that return a count or a handle. */
enum ss_failure {
    SS_GONE = -1,    /* no such object: closed, or its number is reused */
    SS_WAIT = -2,    /* nothing yet: park until the event arrives */
    SS_BROKEN = -3,  /* the peer is gone, or broke the protocol or a deadline */
    SS_NOMEM = -4,   /* out of memory */
    SS_SYSTEM = -5,  /* a system call failed; ss_loop_errno() tells which error */
    SS_IDLE = -6,    /* ss_loop_poll: nothing can ever happen */
    SS_MISUSE = -7   /* the call does not fit the state of the object */
};

/* ---- HTTP/1 head parser (http1.c) -------------------------------------- */

/* Why a request was refused. Status and words: ss_refusal_status, _text. */
enum ss_refusal {
    SS_REFUSAL_NONE = 0,
    SS_BAD_LINE_END,          /* bare LF, bare CR, second empty line      400 */
    SS_BAD_REQUEST_LINE,      /* not exactly: method SP target SP version 400 */
    SS_BAD_METHOD,            /* not a token, or longer than 32 bytes     400 */
    SS_BAD_TARGET,            /* bytes or form not allowed                400 */
    SS_BAD_VERSION,           /* not HTTP/digit.digit                     400 */
    SS_VERSION_UNSUPPORTED,   /* major version other than 1               505 */
    SS_BAD_FIELD_NAME,        /* not a token, empty, blank before colon   400 */
    SS_BAD_FIELD_VALUE,       /* a control character                      400 */
    SS_OBS_FOLD,              /* a line beginning with blank              400 */
    SS_BAD_HOST,              /* missing, repeated or malformed           400 */
    SS_BAD_CONTENT_LENGTH,    /* not 1*DIGIT, too large, or repeated      400 */
    SS_LENGTH_AND_CODING,     /* Content-Length beside Transfer-Encoding  400 */
    SS_BAD_CODING,            /* chunked is not the final, only coding    400 */
    SS_UNKNOWN_CODING,        /* a coding that is not implemented         501 */
    SS_DUPLICATE_FIELD,       /* a field that may stand once              400 */
    SS_EXPECTATION_FAILED,    /* Expect other than 100-continue           417 */
    SS_LINE_TOO_LONG,         /* request line over its limit              414 */
    SS_HEAD_TOO_LARGE,        /* head over its limit in bytes             431 */
    SS_TOO_MANY_FIELDS,       /* head over its limit in fields            431 */
    SS_BAD_CHUNK,             /* chunk size, extension or line end        400 */
    SS_BAD_TRAILER,           /* trailer field malformed, or forbidden    400 */
    SS_BODY_TOO_LARGE,        /* body over its limit                      413 */
    SS_HEAD_TIMEOUT,          /* head deadline passed                     408 */
    SS_BODY_TIMEOUT,          /* body made no progress in time            408 */
    SS_BODY_TRUNCATED,        /* peer closed before the end of the body   400 */
    SS_OVERLOADED,            /* over the connection or request limit     503 */
    SS_BAD_FORWARDED,         /* forwarded headers contradict each other  400 */
    SS_BUFFERS_FULL,          /* the buffers of all connections: limit    503 */
    SS_PLAIN_HTTP,            /* no TLS on a port that speaks it          400 */
    SS_HANDSHAKE_TIMEOUT,     /* TLS handshake deadline passed; closed without an answer */
    SS_BAD_PROXY_HEADER,      /* PROXY protocol: malformed, missing, late: no answer */
    SS_REFUSAL_COUNT
};
int ss_refusal_status(int refusal);        /* HTTP status, 0 if unknown */
const char *ss_refusal_text(int refusal);  /* one clause in words */

typedef struct {
    uint32_t offset;
    uint32_t length;
} ss_span;

typedef struct {
    uint32_t max_line;   /* bytes of the request line, without CRLF */
    uint32_t max_head;   /* bytes of the head, from its first byte to its last */
    uint32_t max_fields; /* header fields */
} ss_http1_limits;

enum ss_method {
    SS_METHOD_OTHER = 0,
    SS_GET,
    SS_HEAD,
    SS_POST,
    SS_PUT,
    SS_DELETE,
    SS_OPTIONS,
    SS_PATCH,
    SS_CONNECT,
    SS_TRACE
};
enum ss_target_form {
    SS_ORIGIN_FORM = 0,   /* begins with '/' */
    SS_ABSOLUTE_FORM,     /* http:// or https://, with a non-empty authority */
    SS_AUTHORITY_FORM,    /* only with CONNECT */
    SS_ASTERISK_FORM      /* only with OPTIONS */
};

/* What the header block says about framing and the connection. */
enum ss_framing_flag {
    SS_HAS_LENGTH = 1,    /* Content-Length present */
    SS_CHUNKED = 2,       /* Transfer-Encoding: chunked */
    SS_CLOSE = 4,         /* Connection lists close */
    SS_KEEP_ALIVE = 8,    /* Connection lists keep-alive */
    SS_EXPECT = 16,       /* Expect: 100-continue (as sent; 1.0 ignores it) */
    SS_UPGRADE = 32,      /* Connection lists upgrade, and Upgrade is present */
    SS_HOST = 64          /* Host present and not empty */
};
typedef struct {
    uint64_t content_length; /* 0 unless SS_HAS_LENGTH */
    uint32_t flags;          /* enum ss_framing_flag */
    uint32_t fields;         /* header fields in the block */
} ss_framing;

/* One request head, parsed in steps. All offsets count from the `data` that
 * each call is given; the caller passes the same bytes again, with more
 * behind them, after SS_NEED_DATA. No byte is looked at twice for a line end. */
typedef struct {
    ss_span method;
    ss_span target;
    uint32_t block;      /* offset of the header block: first byte after the request line's CRLF */
    uint32_t end;        /* offset just past the head, once both calls said SS_OK */
    ss_framing framing;
    uint32_t scanned;    /* private: no LF before this offset of the current line */
    uint32_t line;       /* private: offset of the current line */
    uint8_t stage;       /* private: which line comes next */
    uint8_t method_id;   /* enum ss_method */
    uint8_t minor;       /* minor version as sent: 0 to 9 */
    uint8_t target_form; /* enum ss_target_form */
    uint16_t seen;       /* private: which of the fields that matter came by */
    uint16_t refusal;    /* enum ss_refusal, set with SS_ERROR */
} ss_http1;

void ss_http1_init(ss_http1 *head);
/* The request line. SS_OK: method, target, minor, target_form, block are set. */
int ss_http1_line(ss_http1 *head, const char *data, uint32_t length, const ss_http1_limits *limits);
/* The header block, after ss_http1_line said SS_OK. SS_OK: end and framing are
 * set and everything that RFC 9112 asks of one head alone holds. */
int ss_http1_fields(ss_http1 *head, const char *data, uint32_t length, const ss_http1_limits *limits);

/* ---- chunked transfer coding (chunked.c) -------------------------------- */

typedef struct {
    uint64_t left;       /* private: bytes of the current chunk still to come */
    uint32_t scanned;    /* private: no LF before this offset of the current line */
    uint32_t extensions; /* private: bytes of chunk extensions so far */
    uint32_t trailer_bytes;  /* private */
    uint16_t trailer_fields; /* private */
    uint16_t refusal;    /* enum ss_refusal, set with SS_ERROR */
    uint8_t stage;       /* private */
    uint8_t done;        /* 1 once the final CRLF was consumed */
} ss_chunked;

void ss_chunked_init(ss_chunked *chunked);
/* Decodes the next piece. `*used` bytes of data were consumed and must not be
 * passed again. SS_OK with body->length > 0: a piece of the body, inside data
 * (offset + length <= *used). SS_OK with length 0: the body and its trailer
 * section are complete. SS_NEED_DATA: pass the rest again with more behind. */
int ss_chunked_next(ss_chunked *chunked, const char *data, uint32_t length, uint32_t *used, ss_span *body);

/* ---- the loop (loop.c) --------------------------------------------------- */

typedef struct ss_loop ss_loop;

enum ss_backend_id { SS_BACKEND_EPOLL = 0, SS_BACKEND_POLL = 1 };

/* What ss_loop_poll reports besides requests: three words each
 * [kind, handle, value]. */
enum ss_event {
    SS_EVENT_TIMER = 1,  /* handle: the timer's slot */
    SS_EVENT_FD,         /* handle: of ss_fd_open; value: what is ready, SS_READ | SS_WRITE | SS_HUP | SS_FAIL */
    SS_EVENT_WOKEN,      /* another thread or a signal handler called ss_loop_wake */
    SS_EVENT_ACCEPTED,   /* handle: a raw listener's; value: the new fd, owned by the reader | peer << 32 */
    SS_EVENT_BODY,       /* handle: a connection whose ss_conn_read said SS_WAIT: read again */
    SS_EVENT_DRAINED,    /* handle: a connection whose output queue fell below low water */
    SS_EVENT_REFUSED,    /* handle: a listener; value: enum ss_refusal | peer << 32; the answer is on its way */
    SS_EVENT_ACCEPT_FAILED, /* handle: a listener; value: errno; accepting pauses for a second */
    SS_EVENT_TLS /* handle: a connection; value: enum ss_tls_want | listener << SS_TLS_LISTENER_SHIFT */
};
#define SS_READ 1
#define SS_WRITE 2
#define SS_HUP 4  /* the peer sent FIN, or urgent data is there: a short count does not mean drained */
#define SS_FAIL 8 /* error, or both directions are shut */

/* Requests: four words each
 * [listener, connection handle, page, flags | method << SS_METHOD_SHIFT].
 * page is block slot << SS_PAGE_SHIFT | target slot: what Python remembers of a
 * header block and a target. The last word is zero in the common case: GET,
 * HTTP/1.1, no body, block and target known to Python, peer address fetched
 * before. The method is given (and not zero) where it is not GET. */
enum ss_request_flag {
    SS_REQUEST_NEW_BLOCK = 1,   /* no block slot: build the template, then ss_conn_memoise */
    SS_REQUEST_NEW_TARGET = 2,  /* no target slot: likewise */
    SS_REQUEST_NEW_PEER = 4,    /* first request of this connection */
    SS_REQUEST_HAS_BODY = 8,    /* a Content-Length above zero */
    SS_REQUEST_CHUNKED = 16,    /* a body of unknown length */
    SS_REQUEST_EXPECT = 32,     /* the client waits for 100 Continue */
    SS_REQUEST_HTTP10 = 64,     /* HTTP/1.0 */
    SS_REQUEST_UPGRADE = 128,   /* the client offers an upgrade */
    SS_REQUEST_FORM = 256,      /* target is not in origin form */
    SS_REQUEST_METHOD = 512,    /* the method is not GET: bits from SS_METHOD_SHIFT on name it */
    SS_REQUEST_AGAIN = 1024     /* alone: zero, and the page is that of this connection's last request */
};
#define SS_REQUEST_WORDS 4
#define SS_METHOD_SHIFT 16
#define SS_PAGE_SHIFT 14    /* a memo has at most 1 << 14 entries */
#define SS_EVENT_WORDS 3
#define SS_BATCH 256        /* most requests of one poll */
#define SS_EVENTS 4096      /* most events of one poll */
#define SS_PEERS 256        /* most connections that raw listeners accept in one poll */
#define SS_PEER_BYTES 32    /* of each one's address */
#define SS_REFUSED_PEERS 256 /* most refusals of one poll whose peers are remembered */

ss_loop *ss_loop_new(int backend);
void ss_loop_free(ss_loop *loop);
const char *ss_loop_backend(const ss_loop *loop);
/* Waits at most timeout_ns (-1: until something happens, or not at all if nothing
 * can; -2: until something happens, if only to a descriptor; 0: not at all) and
 * fills the two arrays of ss_loop_requests and ss_loop_events. Returns
 * requests | events << 16, or SS_IDLE, or SS_SYSTEM. A signal ends the wait. */
int64_t ss_loop_poll(ss_loop *loop, int64_t timeout_ns);
/* What the last ss_loop_poll returned, if it did not fail: for a caller that lost it. */
int64_t ss_loop_found(const ss_loop *loop);
int64_t *ss_loop_requests(ss_loop *loop); /* SS_BATCH * SS_REQUEST_WORDS words */
int64_t *ss_loop_events(ss_loop *loop);   /* SS_EVENTS * SS_EVENT_WORDS words */
/* SS_PEERS * SS_PEER_BYTES: the sockaddr of each peer of the last poll that SS_EVENT_ACCEPTED
 * counts, cut off to that length (a unix socket's is not to be had here). */
const char *ss_loop_peers(const ss_loop *loop);
/* The peer that an SS_EVENT_REFUSED of the last poll counts, as of ss_conn_address: its
 * connection may be gone already. SS_GONE: there were too many. */
int ss_loop_refused(const ss_loop *loop, int64_t peer, char *text, int capacity);
int ss_loop_errno(const ss_loop *loop);
/* From any thread or signal handler. */
void ss_loop_wake(ss_loop *loop);
int64_t ss_loop_now(ss_loop *loop);    /* reads the clock */
/* From now on time stands at now_ns and moves only by this call (tests). */
void ss_loop_set_clock(ss_loop *loop, int64_t now_ns);
/* When ss_loop_poll last returned to its caller, 0 while it waits: a watchdog
 * in another thread reads it. */
int64_t ss_loop_entered(const ss_loop *loop);
int ss_loop_fileno(const ss_loop *loop); /* the backend's own descriptor, -1 if none */
/* Ends everything inside: connections, listeners, timers, descriptors. The loop itself
 * stays until ss_loop_free, and answers SS_GONE to those that still ask it. In a child
 * after fork it leaves the parent's registrations alone. */
void ss_loop_abandon(ss_loop *loop);

/* ---- timers (timers.c) ---------------------------------------------------- */

/* Returns a slot >= 0; the slot is free again once the timer fired or stopped.
 * `counts` 0: the timer alone does not keep the loop from being idle. */
int64_t ss_timer_start(ss_loop *loop, int64_t delay_ns, int counts);
void ss_timer_stop(ss_loop *loop, int64_t slot);

/* ---- readiness of any descriptor (fd.c) ---------------------------------- */

/* Registers fd, once; it stays the caller's. Each edge of the directions
 * (SS_READ | SS_WRITE) is an SS_EVENT_FD; with directions 0 readiness only ends
 * the poll. Returns a handle or SS_SYSTEM (a regular file: EPERM, registered
 * already: EEXIST). */
int64_t ss_fd_open(ss_loop *loop, int fd, int directions);
/* closing: the fd itself is closed right after, or was. */
int ss_fd_close(ss_loop *loop, int64_t handle, int closing);
/* From now on of these directions too; what is ready now comes as an edge. SS_SYSTEM on failure. */
int ss_fd_widen(ss_loop *loop, int64_t handle, int directions);
/* A system call found these directions not ready. Without effect where the
 * backend is made of edges (epoll); others report a direction once until then. */
int ss_fd_drained(ss_loop *loop, int64_t handle, int directions);

/* ---- listeners and connections (listener.c, connection.c, output.c) ------- */

typedef struct {
    ss_http1_limits limits;
    uint64_t max_body;         /* bytes, 0: no limit */
    int64_t max_buffers;       /* bytes of all connections of the loop; above it requests get 503; 0: no limit */
    int64_t head_timeout;      /* ns, each; 0: none */
    int64_t body_timeout;
    int64_t write_timeout;
    int64_t idle_timeout;      /* keep-alive */
    int64_t linger_timeout;    /* how long a refused connection is drained */
    uint32_t buffered_body;    /* a Content-Length body up to this size is read before the request is reported */
    uint32_t high_water;       /* bytes of queued output at which a writer should park */
    uint32_t max_connections;  /* of this listener; 0: no limit */
    uint32_t drain_limit;      /* unread body bytes dropped to keep a connection alive */
    uint32_t memo_entries;     /* header blocks and targets remembered, each; 0: none */
    uint32_t memo_block_bytes; /* longest header block that is remembered */
    int32_t raw;               /* 1: report SS_EVENT_ACCEPTED, do not speak HTTP */
    int32_t tls;               /* 1: the bytes pass through Python's TLS (SS_EVENT_TLS) */
    int64_t handshake_timeout; /* ns: from accept to the end of the TLS handshake; 0: none */
} ss_listener_config;
void ss_listener_defaults(ss_listener_config *config);
/* fd: bound, listening, non-blocking; it stays the caller's. Returns an index >= 0. */
int ss_listener_open(ss_loop *loop, int fd, const ss_listener_config *config);
/* A network of addresses. */
typedef struct {
    unsigned char address[16]; /* the first `length` bytes, in network order */
    uint8_t length;            /* 4 or 16 */
    uint8_t bits;              /* of the prefix */
} ss_network;
/* Connections from these networks, and from unix sockets if there are any, begin with a header
 * of the PROXY protocol, version 1 or 2; the others do not. The array is copied. */
int ss_listener_proxies(ss_loop *loop, int listener, const ss_network *networks, int64_t count);
/* From now on a raw listener accepts `count` connections and no more; at first there is no
 * limit. What comes later waits in the kernel. Ends a pause after SS_EVENT_ACCEPT_FAILED too. */
int ss_listener_allow(ss_loop *loop, int listener, int64_t count);
/* Stops accepting (the fd may then be closed), closes idle connections, makes the
 * running requests the last ones of theirs. Returns how many connections still
 * have something to finish; call it again to learn whether they have. */
int ss_listener_drain(ss_loop *loop, int listener);
int ss_listener_connections(const ss_loop *loop, int listener);
/* Ends every connection at once and forgets the listener. */
int ss_listener_close(ss_loop *loop, int listener);

/* A request that was reported belongs to Python until Python ends it: by
 * SS_SEND_LAST, ss_conn_refuse, ss_conn_abort or ss_conn_detach. Until then its
 * handle is valid, whatever the peer does. */

/* The request head of a connection whose request is with Python. NULL: gone. */
const char *ss_conn_head(ss_loop *loop, int64_t conn, ss_http1 *head);
/* After Python built a template for the head's block (which = 0) or target
 * (which = 1): remember it. Returns the slot under which later requests report
 * it, or -1 when it is not to be remembered. */
int64_t ss_conn_memoise(ss_loop *loop, int64_t conn, int which);
/* Python could not keep what it promised: all that is remembered for the listener is forgotten. */
int ss_conn_forget(ss_loop *loop, int64_t conn);
/* Peer and local address as text: "host\0port\0", or "\0\0" for unix sockets.
 * Returns the length or a failure. */
int ss_conn_address(ss_loop *loop, int64_t conn, int local, char *text, int capacity);

/* Reads decoded body bytes. Returns the count, 0 at the end of the body,
 * SS_WAIT (an SS_EVENT_BODY will come), SS_BROKEN or SS_GONE. */
int64_t ss_conn_read(ss_loop *loop, int64_t conn, char *into, int64_t capacity);
/* The first read that finds nothing sends 100 Continue to a client that waits for it. */
int ss_conn_broken(ss_loop *loop, int64_t conn);   /* enum ss_refusal that broke the body, else 0 */

enum ss_send_flag {
    SS_SEND_HEAD = 1,      /* complete `head` with Date, framing and Connection, and the empty line */
    SS_SEND_LENGTH = 2,    /* with HEAD: add Content-Length: body_length */
    SS_SEND_CHUNKED = 4,   /* frame body as one chunk; with HEAD: add Transfer-Encoding */
    SS_SEND_LAST = 8,      /* the response ends with this call */
    SS_SEND_CLOSE = 16,    /* the connection ends after the response */
    SS_SEND_NO_BODY = 32   /* with HEAD: the head alone goes out (HEAD, 204, 304) */
};
/* Sends a part of the response: all of it is taken; what the socket does not
 * take is queued. Returns the bytes now queued, or SS_GONE, SS_BROKEN, SS_MISUSE.
 * At or above high_water park until SS_EVENT_DRAINED. With SS_SEND_LAST the
 * request is over and the handle no longer Python's, even on SS_BROKEN. */
int64_t ss_conn_send(ss_loop *loop, int64_t conn, const char *head, int64_t head_length, const char *body,
                     int64_t body_length, int flags);
/* A whole response at once: a head that is known, and its body. */
typedef struct {
    const char *data; /* status line and fields, each with its CRLF */
    int64_t length;
    int32_t flags;    /* of ss_conn_send */
} ss_response_head;
int64_t ss_conn_respond(ss_loop *loop, int64_t conn, const ss_response_head *head, const char *body,
                        int64_t body_length);
/* Sends an interim response (1xx), complete with its empty line, before the response begins.
 * Returns what ss_conn_send returns. */
int64_t ss_conn_interim(ss_loop *loop, int64_t conn, const char *data, int64_t length);
/* A whole response whose body are `count` bytes of a regular file from `offset` on: the core
 * takes them as the client does, by sendfile(2). fd stays the caller's. The connection ends if
 * the file turns out to be shorter. SS_SYSTEM, SS_NOMEM, SS_MISUSE: nothing was sent, and the
 * request is still Python's; else it is over. SIGPIPE must not be at its default. */
int64_t ss_conn_send_file(ss_loop *loop, int64_t conn, const ss_response_head *head, int fd, int64_t offset,
                          int64_t count);
/* Answers a request with the refusal's status and closes the connection. */
int ss_conn_refuse(ss_loop *loop, int64_t conn, int refusal);
/* Ends the connection now; 1: with a reset. */
int ss_conn_abort(ss_loop *loop, int64_t conn, int reset);
/* How many bytes wait in the output queue. */
int64_t ss_conn_queued(ss_loop *loop, int64_t conn);
/* Takes the descriptor out of the core; unread bytes go to `into`. Returns the
 * fd, owned by the caller, with *taken bytes of input copied. */
int ss_conn_detach(ss_loop *loop, int64_t conn, char *into, int64_t capacity, int64_t *taken);

/* ---- TLS by Python (tls.c) ---------------------------------------------------- */

enum ss_tls_want {
    SS_TLS_READ = 1,  /* take ciphertext and feed what it says; for an unknown handle: begin a handshake */
    SS_TLS_WRITE = 2, /* peek at the plaintext and push ciphertext for it */
    SS_TLS_ENDED = 4  /* alone: the connection is over */
};
enum ss_tls_news {
    SS_TLS_OPEN = 1,  /* the handshake is complete */
    SS_TLS_END = 2,   /* nothing more will come */
    SS_TLS_RAGGED = 4 /* with END: the peer did not say so (no close_notify) */
};
#define SS_TLS_LISTENER_SHIFT 8
typedef struct {
    const char *data; /* valid until the next call for this connection */
    int64_t length;   /* bytes to encrypt now: 0 while ciphertext waits for the socket */
    int32_t goodbye;  /* close_notify is due behind them */
} ss_tls_plain;
/* Reads ciphertext from the socket. Returns the count, 0 at FIN, SS_WAIT, SS_BROKEN or SS_GONE. */
int64_t ss_tls_take(ss_loop *loop, int64_t conn, char *into, int64_t capacity);
/* Plaintext that has come, and news (enum ss_tls_news). */
int ss_tls_feed(ss_loop *loop, int64_t conn, const char *data, int64_t length, int news);
/* What is to be encrypted now. */
int ss_tls_peek(ss_loop *loop, int64_t conn, ss_tls_plain *plain);
/* Ciphertext, in place of the first `taken` bytes of plaintext; goodbye: close_notify is in it.
 * Shows what is to be encrypted next. */
int ss_tls_push(ss_loop *loop, int64_t conn, const char *data, int64_t length, int64_t taken, int goodbye,
                ss_tls_plain *plain);
/* The peer broke TLS; an alert was pushed before. The connection ends. */
int ss_tls_fail(ss_loop *loop, int64_t conn);
/* Instead of a handshake HTTP came: answers in the clear, and ends. */
int ss_tls_refuse_plain(ss_loop *loop, int64_t conn);

/* ---- self-examination (verify.c) ------------------------------------------ */

/* NULL, or the sentence that does not hold. */
const char *ss_verify(const ss_loop *loop);
enum ss_count {
    SS_COUNT_TIMERS = 0,
    SS_COUNT_FDS,
    SS_COUNT_LISTENERS,
    SS_COUNT_CONNECTIONS,
    SS_COUNT_REQUESTS,     /* connections whose request is with Python */
    SS_COUNT_BUFFERS,      /* read buffers in use */
    SS_COUNT_SPARE_BUFFERS,
    SS_COUNT_QUEUED_BYTES, /* output queues */
    SS_COUNT_MEMO_ENTRIES,
    SS_COUNT_FILES,        /* files of which a part is still to be sent */
    SS_COUNT_ACCEPTED,     /* ever */
    SS_COUNT_POLLS,        /* ever */
    SS_COUNT_TLS,          /* connections of which Python keeps the TLS state */
    SS_COUNT_HELD_BYTES,   /* input and output buffers of connections, as allocated */
    SS_COUNT_KINDS
};
void ss_counts(const ss_loop *loop, int64_t *counts); /* SS_COUNT_KINDS words */

#endif
