/* The inside of the core: what its files share. Python sees api.h only. */
#ifndef SS_LOOP_H
#define SS_LOOP_H

#include "api/api.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#define SS_SECOND INT64_C(1000000000)
#define SS_SWEEP_GRAIN (SS_SECOND / 10) /* how late a deadline may be found */
#define SS_READ_BUFFER 16384u /* bytes of a pooled read buffer */
#define SS_SPARE_BUFFERS 256u /* most pooled buffers kept when unused */
#define SS_SCRATCH 20480u     /* bytes: a response up to this size leaves in one copy */

/* ---- anything with a descriptor ---- */

enum ss_io_kind { SS_IO_WAKE, SS_IO_FD, SS_IO_LISTENER, SS_IO_CONN };

typedef struct ss_io {
    struct ss_io *next, *previous; /* in the pending list, when `pending` */
    uint32_t index;                /* its slot */
    uint32_t generation;           /* of the slot when this object took it */
    int fd;
    uint8_t kind;
    uint8_t directions; /* SS_READ | SS_WRITE: what the backend is asked for */
    uint8_t ready; /* remembered readiness: set by the backend, cleared by short counts */
    bool pending;
} ss_io;

typedef struct {
    ss_io *io; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
} ss_slot;

typedef struct {
    uint64_t handle;
    uint8_t ready;
} ss_fired;

/* The few functions that a backend is. Readiness is edge-like for the loop: a
 * backend may report a direction again only after its ready bit was cleared. */
typedef struct {
    const char *name;
    bool edges; /* false: it must be told when a direction is not ready any more */
    int (*open)(ss_loop *loop);
    void (*close)(ss_loop *loop);
    int (*add)(ss_loop *loop, const ss_io *io);
    int (*change)(ss_loop *loop, const ss_io *io); /* io->directions did */
    void (*remove)(ss_loop *loop, const ss_io *io);
    int (*wait)(ss_loop *loop, int64_t timeout_ns, ss_fired *fired, int capacity);
} ss_backend;
extern const ss_backend ss_backend_epoll;
extern const ss_backend ss_backend_poll;

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

/* ---- listeners and connections ---- */

typedef struct ss_conn ss_conn;
typedef struct ss_file ss_file; /* file_range.c */

/* The part of a connection that passes through TLS. */
typedef struct ss_tls {
    struct ss_tls *next; /* in loop->tls_ended */
    ss_loop *loop;
    int64_t handle; /* of its connection, also when that is gone */
    int listener;   /* its number */
    char *out;      /* ciphertext: bytes [out_start, out_end) are unsent */
    uint32_t out_start, out_end, out_capacity;
    uint8_t wants; /* enum ss_tls_want: what Python is to be asked... */
    uint8_t told;  /* ...and what it was asked and has not answered */
    bool known;    /* Python was told of it, so it must be told of the end */
    bool open;     /* the handshake is complete */
    bool ended;    /* nothing more will come from the peer */
    bool ragged;   /* and it did not say so */
    bool failed;   /* it broke the protocol, or the socket failed */
    bool goodbye;  /* our close_notify is on its way */
} ss_tls;

typedef struct ss_listener {
    ss_io io;
    ss_listener_config config;
    ss_memo blocks;
    ss_memo targets;
    int number;           /* index in loop->listeners */
    uint32_t connections; /* open ones */
    int64_t resume_at;    /* when accepting tries again after an error, 0: it is not paused */
    int64_t refuse_at;    /* out of descriptors: no connection is refused before */
    int64_t allowed;      /* raw: connections that may still be accepted */
    ss_network *proxies;  /* owned; who begins with a PROXY protocol header */
    uint32_t proxy_count;
    bool draining;
} ss_listener;

enum ss_conn_state {
    SS_CONN_HEAD = 0, /* idle, or reading a request head */
    SS_CONN_BODY,     /* reading a body small enough to be reported with its head */
    SS_CONN_REQUEST,  /* the request is with Python */
    SS_CONN_FLUSH,    /* the response is complete, the output queue is not empty */
    SS_CONN_DISCARD,  /* the response is out, the rest of the request body is dropped */
    SS_CONN_LINGER,   /* our side is shut, input is dropped until the peer closes */
    SS_CONN_CLOSED,
    SS_CONN_STATES
};

struct ss_conn {
    ss_io io;
    ss_listener *listener;
    /* Input: bytes [in_start, in_end) of `in` are unread. */
    char *in;
    uint32_t in_start, in_end, in_capacity;
    uint32_t piece_at, piece_left; /* decoded bytes of a chunk, in `in`, that nobody took yet */
    /* Output: bytes [out_start, out_end) of `out` are unsent. */
    char *out;
    uint32_t out_start, out_end, out_capacity;
    ss_file *file; /* owned: follows the output queue; NULL: nothing does */
    uint8_t state; /* enum ss_conn_state */
    uint8_t body_failed; /* enum ss_refusal that ended the request body */
    uint8_t address_length; /* 4, 16, or 0 for a unix socket */
    bool persist;       /* keep the connection after this response */
    bool chunked_body;
    bool expect_due;    /* the client waits for 100 Continue */
    bool response_started;
    bool want_body;     /* a reader parks for SS_EVENT_BODY */
    bool want_drain;    /* a writer parks for SS_EVENT_DRAINED */
    bool dead;          /* sending failed, or the socket reported an error */
    bool peer_known;    /* its address was reported */
    bool proxy_due;     /* a PROXY protocol header comes first */
    bool partial;       /* some bytes of the next head have come */
    bool last_chance;   /* the server stops: it has a moment for its first request */
    bool http10_keep;   /* HTTP/1.0 client that asked for keep-alive */
    uint64_t body_left; /* of a Content-Length body */
    uint64_t body_seen; /* decoded bytes so far, or dropped ones while discarding */
    char *kept_head;    /* owned copy of the head's bytes, when Python must see them */
    ss_http1 head;
    ss_chunked chunked;
    ss_memo_entry *block;  /* pinned while the request is with Python */
    ss_memo_entry *target; /* likewise */
    ss_memo_entry *last_block; /* not pinned: what this client sent before... */
    uint32_t last_generation;  /* ...if the entry is still of this generation */
    uint16_t port;
    int32_t last_page; /* of the last request, -1: none */
    ss_tls *tls;       /* owned; NULL: bytes come and go in the clear */
    unsigned char address[16];
};

/* ---- the loop ---- */

/* Who was refused: its connection may be closed before Python asks. */
typedef struct {
    uint16_t port;
    uint8_t address_length; /* 4, 16, or 0 for a unix socket */
    unsigned char address[16];
} ss_refused_peer;

typedef struct {
    int64_t when;
    uint32_t slot;
} ss_heap_item;

typedef struct {
    uint32_t position;  /* in the heap, SS_NOWHERE: free */
    uint32_t next_free;
    bool counts;
} ss_timer_slot;
#define SS_NOWHERE UINT32_MAX

struct ss_loop {
    const ss_backend *backend;
    void *backend_state;
    int backend_fd;
    int error; /* errno of the last SS_SYSTEM */

    int64_t now;        /* the time that this turn goes by */
    int64_t entered;    /* see ss_loop_entered; written and read atomically */
    bool manual_clock;
    bool polling; /* inside ss_loop_poll: events may be emitted */

    ss_slot *slots;
    uint64_t *owners; /* by descriptor: the handle that registered it last */
    uint32_t owner_capacity;
    int64_t *deadlines; /* beside slots; 0: none */
    uint32_t slot_count, slot_capacity, slot_free;
    int64_t next_sweep; /* no deadline passes before; INT64_MAX: none */

    ss_io wake;
    ss_io pending;      /* head of the ring of objects with work left over */
    uint32_t pending_count;

    ss_heap_item *heap;
    uint32_t heap_count, heap_capacity;
    ss_timer_slot *timers;
    uint32_t timer_count, timer_capacity, timer_free;
    uint32_t timers_that_count;

    ss_listener **listeners; /* NULL: closed */
    int listener_count;  /* length of the array */
    int listeners_open;

    char *spare;        /* pooled buffers, chained through their first bytes */
    uint32_t spare_count, buffers;
    int reserve_fd;     /* given up to refuse a connection under EMFILE */

    uint32_t fds, connections, requests_out, files, tls;
    ss_tls *tls_ended; /* connections that are over, which Python is to be told */
    int64_t queued_bytes, accepted, polls;
    int64_t held_bytes; /* allocated for input and output of all connections */
    uint32_t request_count, event_count, peer_count, refused_count;
    char peers[SS_PEERS * SS_PEER_BYTES];
    ss_refused_peer refused[SS_REFUSED_PEERS];
    int64_t requests[SS_BATCH * SS_REQUEST_WORDS];
    int64_t events[SS_EVENTS * SS_EVENT_WORDS];
    int64_t date_polls;  /* the poll in whose turn `date` was looked at, -1: none */
    int64_t date_second; /* CLOCK_REALTIME second that `date` shows */
    const char *violation; /* an illegal move of a connection, for ss_verify */
    char date[40];       /* "Date: ...\r\n", 37 bytes */
    char scratch[SS_SCRATCH];
};

static inline bool ss_conn_unsent(const ss_conn *conn) {
    return conn->out_start < conn->out_end || conn->file || (conn->tls && conn->tls->out_start < conn->tls->out_end);
}

static inline int64_t ss_io_handle(const ss_io *io) {
    return (int64_t)((uint64_t)io->generation << 32 | io->index);
}

/* loop.c */
int ss_io_open(ss_loop *loop, ss_io *io, int fd, enum ss_io_kind kind, int directions);
int ss_io_widen(ss_loop *loop, ss_io *io, int directions);
void ss_io_close(ss_loop *loop, ss_io *io, bool closing); /* closing: the fd itself is closed right after */
ss_io *ss_io_find(const ss_loop *loop, int64_t handle, enum ss_io_kind kind);
void ss_pending_add(ss_loop *loop, ss_io *io);
void ss_deadline_set(ss_loop *loop, const ss_io *io, int64_t timeout_ns); /* 0: none */
void ss_event_emit(ss_loop *loop, enum ss_event kind, int listener, int64_t handle, int64_t value);
int64_t ss_clock(const ss_loop *loop);
int64_t ss_clock_coarse(const ss_loop *loop);

/* timers.c */
void ss_timers_fire(ss_loop *loop);
void ss_timers_free(ss_loop *loop);
int64_t ss_timers_next(const ss_loop *loop); /* when the next one is due, INT64_MAX: never */

/* fd.c */
void ss_fd_ready(ss_loop *loop, ss_io *io);

/* listener.c */
void ss_listener_ready(ss_loop *loop, ss_listener *listener);
void ss_listener_free_all(ss_loop *loop);

/* buffer.c */
int ss_in_reserve(ss_loop *loop, ss_conn *conn, uint32_t room);
void ss_in_settle(ss_loop *loop, ss_conn *conn);
void ss_in_release(ss_loop *loop, ss_conn *conn);
int ss_out_append(ss_loop *loop, ss_conn *conn, const char *data, size_t length);
void ss_out_release(ss_loop *loop, ss_conn *conn);
void ss_buffers_free(ss_loop *loop);

/* file_range.c */
int ss_file_attach(ss_loop *loop, ss_conn *conn, int fd, int64_t offset, int64_t count);
void ss_file_release(ss_loop *loop, ss_conn *conn);
void ss_file_flush(ss_loop *loop, ss_conn *conn);

/* proxy_protocol.c */
int ss_proxy_parse(const char *data, uint32_t length, uint32_t *used, struct sockaddr_storage *peer);
bool ss_proxy_expected(const ss_listener *listener, const unsigned char *address, uint8_t length);

/* connection.c */
ss_conn *ss_conn_find(const ss_loop *loop, int64_t handle);
int ss_conn_open(ss_loop *loop, ss_listener *listener, int fd, const struct sockaddr_storage *peer, bool refuse);
void ss_conn_set_peer(ss_conn *conn, const struct sockaddr_storage *peer);
void ss_conn_ready(ss_loop *loop, ss_conn *conn);
void ss_conn_expired(ss_loop *loop, ss_conn *conn);
void ss_conn_close(ss_loop *loop, ss_conn *conn);
void ss_conn_end(ss_loop *loop, ss_conn *conn);
void ss_conn_linger(ss_loop *loop, ss_conn *conn);
void ss_conn_move(ss_loop *loop, ss_conn *conn, enum ss_conn_state state);
void ss_conn_request_done(ss_conn *conn);
void ss_conn_after_response(ss_loop *loop, ss_conn *conn);

/* request.c */
void ss_conn_advance(ss_loop *loop, ss_conn *conn);

/* body.c */
bool ss_body_pending(const ss_conn *conn);
bool ss_body_droppable(const ss_conn *conn);
void ss_body_discard(ss_loop *loop, ss_conn *conn);
int64_t ss_conn_receive(ss_conn *conn, char *into, size_t room); /* count, 0: FIN, SS_WAIT, SS_BROKEN */
int64_t ss_socket_receive(ss_conn *conn, char *into, size_t room); /* likewise, of what is on the wire */

/* output.c */
void ss_conn_flush(ss_loop *loop, ss_conn *conn);
void ss_conn_answer_refusal(ss_loop *loop, ss_conn *conn, enum ss_refusal refusal);
void ss_refusal_report(ss_loop *loop, const ss_conn *conn, enum ss_refusal refusal);

/* tls.c */
int ss_tls_open(ss_loop *loop, ss_conn *conn);
void ss_tls_close(ss_loop *loop, ss_conn *conn);
void ss_tls_tell_ended(ss_loop *loop);
void ss_tls_ask(ss_loop *loop, ss_conn *conn, int what);
int64_t ss_tls_receive(ss_conn *conn);
bool ss_tls_readable(ss_conn *conn);
void ss_tls_flush(ss_loop *loop, ss_conn *conn);
bool ss_tls_ready(ss_loop *loop, ss_conn *conn);
bool ss_tls_owes_goodbye(const ss_conn *conn);

#endif
