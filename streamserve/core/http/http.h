/* HTTP/1 on a stream: the connection, its states, and what its files say to each other.
 *
 * connection.c, readiness.c, dropping.c, progress.c and leaving.c are the driver: they alone change a state, set
 * a deadline, or free. The others answer: request.c reads heads, body.c bodies, response.c writes.
 * exchange.c is what Python asks for, and protocol.c what HTTP is to its listener. */
#ifndef SS_HTTP_H
#define SS_HTTP_H

#include "stream/stream.h"

/* ---- memo of header blocks and targets (memo.c) ---- */

typedef struct {
    uint64_t hash;
    char *bytes; /* owned; NULL: empty */
    uint32_t length;
    uint32_t pins;       /* requests with Python that name this slot */
    uint32_t generation; /* counts replacements */
    uint32_t used;       /* tick of the last hit, for choosing a victim */
    uint8_t minor;       /* minor HTTP version the block was parsed under */
    ss_framing framing;
} ss_memo_entry;

typedef struct {
    ss_memo_entry *entries; /* `capacity` of them, in sets of SS_MEMO_WAYS */
    uint32_t capacity;      /* a power of two */
    uint32_t tick;
    uint32_t filled;
} ss_memo;
#define SS_MEMO_WAYS 4u

int ss_memo_init(ss_memo *memo, uint32_t capacity);
void ss_memo_clear(ss_memo *memo);
void ss_memo_forget(ss_memo *memo);
ss_memo_entry *ss_memo_find(ss_memo *memo, const char *bytes, uint32_t length, uint8_t minor);
ss_memo_entry *ss_memo_add(ss_memo *memo, const char *bytes, uint32_t length, uint8_t minor);

/* ---- connections ---- */

/* What the HTTP connections of a listener share (listener->shared). */
typedef struct {
    ss_memo blocks;
    ss_memo targets;
    uint32_t requests_out; /* connections whose request is with Python */
    int64_t date_polls;    /* the poll in whose turn `date` was looked at, -1: none */
    int64_t date_second;   /* CLOCK_REALTIME second that `date` shows */
    char date[40];         /* "Date: ...\r\n", 37 bytes */
} ss_http_shared;

enum ss_conn_state {
    SS_CONN_HEAD = 0, /* idle, or reading a request head */
    SS_CONN_BODY,     /* reading a body that is to be reported with its head: small, or chunked */
    SS_CONN_REQUEST,  /* the request is with Python */
    SS_CONN_FLUSH,    /* the response is complete, the output queue is not empty */
    SS_CONN_DISCARD,  /* the response is out, the rest of the request body is dropped */
    SS_CONN_LINGER,   /* our side is shut, input is dropped until the peer closes */
    SS_CONN_CLOSED,
    SS_CONN_STATES
};

typedef struct {
    ss_stream stream; /* first */
    uint8_t state;    /* enum ss_conn_state */
    uint8_t body_failed; /* enum ss_refusal that ended the request body */
    uint8_t stalls;   /* how often the write deadline was looked at without progress */
    bool persist;     /* keep the connection after this response */
    bool chunked_body;
    bool decoded;     /* it was chunked, and is complete in the buffer: body_left is its length */
    bool expect_due;  /* the client waits for 100 Continue */
    bool response_started;
    bool end_tells;   /* only the end of the connection tells that of the response: until then a close is a reset */
    bool brief;       /* what still comes means nothing: it is dropped for a moment only */
    bool want_body;   /* a reader parks for SS_EVENT_BODY */
    bool want_end;    /* whoever makes the response is to be told, by SS_EVENT_BODY, that the peer hung up */
    bool want_drain;  /* a writer parks for SS_EVENT_DRAINED */
    bool chunked_response;
    bool held;        /* small pieces may wait in the kernel for more: see pieces.c */
    bool left_asked;  /* a client that sent FIN was asked whether it has left, see leaving.c */
    bool left_told;   /* SS_EVENT_LEFT was told of this request */
    bool peer_known;  /* its address was reported */
    bool proxy_due;   /* a PROXY protocol header comes first */
    bool partial;     /* some bytes of the next head have come */
    bool last_chance; /* the server stops: it has a moment for its first request */
    bool http10_keep; /* HTTP/1.0 client that asked for keep-alive */
    int64_t left_at; /* ns: when a small piece left that did not wait for more... */
    uint32_t left_poll; /* ...and in whose turn, see pieces.c */
    uint32_t piece_left; /* decoded bytes of a chunk that nobody took yet: they begin stream.in_held before in_start */
    uint64_t body_left; /* of a Content-Length body */
    uint64_t body_seen; /* decoded bytes so far, or dropped ones while discarding */
    int64_t body_since; /* ns: when somebody began to wait for the body... */
    int64_t body_credit; /* ...and how long that may last: see progress.c */
    int64_t unconfirmed; /* bytes of the response that the kernel held when its deadline was looked at */
    int64_t drop_until; /* ns: an upload is dropped no longer, 0: as long as it goes on */
    char *kept_head; /* owned copy of the head's bytes, when Python must see them */
    ss_http1 head;
    ss_chunked chunked;
    ss_memo_entry *block; /* pinned while the request is with Python */
    ss_memo_entry *target; /* likewise */
    ss_memo_entry *last_block; /* not pinned: what this client sent before... */
    uint32_t last_generation; /* ...if the entry is still of this generation */
    int32_t last_page; /* of the last request, -1: none */
} ss_conn;

extern const ss_protocol ss_http; /* protocol.c */

static inline ss_http_shared *ss_http_shared_of(const ss_conn *conn) {
    return conn->stream.listener->shared;
}

static inline const ss_listener_config *ss_conn_config(const ss_conn *conn) {
    return &conn->stream.listener->config;
}

/* The connection of a handle; NULL: gone, or it speaks HTTP no longer. */
static inline ss_conn *ss_conn_find(const ss_loop *loop, int64_t handle) {
    ss_io *io = ss_io_find(loop, handle);
    return io && io->class == &ss_http.class ? (ss_conn *)io : NULL;
}

/* request.c */
int ss_request_parse(ss_conn *conn, ss_memo_entry **remembered);
int ss_request_begin(ss_loop *loop, ss_conn *conn, ss_memo_entry *block);
bool ss_request_awaits_body(const ss_conn *conn);
void ss_request_report(ss_loop *loop, ss_conn *conn);
void ss_request_release(ss_conn *conn);
int ss_request_proxy_header(ss_conn *conn);
const char *ss_request_first_line(const ss_conn *conn, uint32_t *length);
bool ss_request_buffers_full(const ss_loop *loop, const ss_conn *conn);

/* body.c */
#define CHUNKED_ROOM 4608u /* bytes: the longest chunk line, and some data behind it */
bool ss_body_pending(const ss_conn *conn);
bool ss_body_droppable(const ss_conn *conn);
int ss_body_collect(ss_conn *conn);
int64_t ss_body_read(ss_loop *loop, ss_conn *conn, char *into, size_t capacity);

/* response.c */
#define SS_RESPONSE_PIECES 4
int ss_response_send(ss_loop *loop, ss_conn *conn, struct iovec *pieces, int flags, bool more);
int ss_response_send_head(ss_loop *loop, ss_conn *conn, struct iovec head, int64_t body_length, int flags);
int ss_response_refuse(ss_loop *loop, ss_conn *conn, enum ss_refusal refusal);
int ss_response_invite_body(ss_loop *loop, ss_conn *conn);

/* pieces.c */
bool ss_pieces_may_wait(const ss_loop *loop, ss_conn *conn, int64_t length, int flags);
void ss_pieces_sent(ss_loop *loop, ss_conn *conn, bool waits);
void ss_pieces_push(ss_conn *conn);

/* connection.c */
void ss_conn_move(ss_loop *loop, ss_conn *conn, enum ss_conn_state state);
void ss_conn_deadline(ss_loop *loop, const ss_conn *conn, int64_t timeout_ns); /* 0: none */
void ss_conn_tell(ss_loop *loop, const ss_conn *conn, enum ss_event kind);
void ss_conn_end_tells(ss_conn *conn, bool tells);
void ss_conn_note_progress(ss_loop *loop, ss_conn *conn);
void ss_conn_fail(ss_loop *loop, ss_conn *conn);
void ss_conn_await_body(ss_loop *loop, ss_conn *conn);
void ss_conn_response_goes_on(ss_loop *loop, ss_conn *conn, bool stalled);
ss_stream *ss_conn_hand_on(ss_loop *loop, ss_conn *conn, const ss_protocol *protocol); /* frees conn */
int ss_conn_leave(ss_loop *loop, ss_conn *conn); /* frees conn; returns its descriptor */
void ss_conn_close(ss_loop *loop, ss_conn *conn); /* frees conn */
void ss_conn_end(ss_loop *loop, ss_conn *conn); /* may free conn, like all that follow */
void ss_conn_linger(ss_loop *loop, ss_conn *conn);
void ss_conn_after_response(ss_loop *loop, ss_conn *conn);
void ss_conn_response_ended(ss_loop *loop, ss_conn *conn);
void ss_conn_refuse_now(ss_loop *loop, ss_conn *conn, enum ss_refusal refusal);

/* progress.c */
void ss_progress_await_body(ss_loop *loop, ss_conn *conn);
void ss_progress_waited(ss_loop *loop, ss_conn *conn, bool goes_on);
void ss_progress_body_came(ss_conn *conn, int64_t count);
void ss_progress_await_room(ss_loop *loop, ss_conn *conn);
void ss_progress_last_chance(ss_loop *loop, ss_conn *conn, int64_t timeout_ns);
bool ss_progress_stalled(ss_loop *loop, ss_conn *conn);

/* leaving.c */
void ss_leaving_rest(ss_loop *loop, ss_conn *conn);
void ss_leaving_noted(ss_loop *loop, ss_conn *conn);
void ss_leaving_expired(ss_loop *loop, ss_conn *conn);
void ss_leaving_tell(ss_loop *loop, ss_conn *conn);

/* dropping.c */
void ss_drop_begin(ss_loop *loop, ss_conn *conn);
void ss_drop_unread(ss_loop *loop, ss_conn *conn);
void ss_drop_meanwhile(ss_loop *loop, ss_conn *conn); /* may free conn, like those that follow */
void ss_drop_rest(ss_loop *loop, ss_conn *conn);
void ss_drop_input(ss_loop *loop, ss_conn *conn);
void ss_drop_expired(ss_loop *loop, ss_conn *conn);

/* readiness.c */
void ss_conn_ready(ss_loop *loop, ss_io *io);
void ss_conn_expired(ss_loop *loop, ss_io *io);

#endif
