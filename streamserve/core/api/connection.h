/* Listeners, connections, and what Python does with a request. */
#ifndef SS_API_CONNECTION_H
#define SS_API_CONNECTION_H
#include "api/http.h"
#include "api/loop.h"

typedef struct {
    ss_http1_limits limits;
    uint64_t max_body;         /* bytes, 0: no limit */
    int64_t max_buffers;       /* bytes of all connections of the loop; above it requests get 503; 0: no limit */
    int64_t head_timeout;      /* ns, each; 0: none */
    int64_t body_timeout;      /* how long a body may pause... */
    int64_t body_rate;         /* ...and the bytes a second that it must come with over that time; 0: any */
    int64_t write_timeout;
    int64_t idle_timeout;      /* keep-alive */
    int64_t linger_timeout;    /* how long input that means nothing is dropped before a close */
    int64_t discard_timeout;   /* the rest of an upload that was answered early: the longest pause in it... */
    int64_t discard_total;     /* ...and how long it is dropped in all */
    int64_t left_after;        /* a client that sends FIN while its request is with Python is asked so much later
                                * whether it has left: SS_EVENT_LEFT. 0: that is never told */
    uint32_t buffered_body;    /* a Content-Length body up to this size is read before the request is reported */
    uint32_t buffered_chunked; /* likewise a chunked one, which then counts as one of a known length; 0: none */
    uint32_t high_water;       /* bytes of queued output at which a writer should park */
    uint32_t max_connections;  /* of this listener; 0: no limit */
    uint32_t drain_limit;      /* unread body bytes dropped to keep a connection alive */
    uint32_t memo_entries;     /* header blocks and targets remembered, each; 0: none */
    uint32_t memo_block_bytes; /* longest header block that is remembered */
    int32_t raw;               /* 1: report SS_EVENT_ACCEPTED, do not speak HTTP */
    int32_t left_by_fin;       /* 1: every client that sends FIN has left */
    int32_t tls;               /* 1: the bytes pass through Python's TLS (SS_EVENT_TLS) */
    int64_t handshake_timeout; /* ns: from accept to the end of the TLS handshake; 0: none */
    int64_t handshake_patience; /* ns that a client may keep us waiting where there are too many of them */
    uint32_t max_handshakes;   /* of this listener at once; 0: no limit (stream/handshakes.c) */
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
 * have something to finish; call it again to learn whether they have.
 * left: ns until the caller closes the listener, whatever is unfinished. */
int ss_listener_drain(ss_loop *loop, int listener, int64_t left);
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
/* The bytes of a body that came with its head, which are still to be read. */
int64_t ss_conn_body_left(ss_loop *loop, int64_t conn);
int ss_conn_broken(ss_loop *loop, int64_t conn);   /* enum ss_refusal that broke the body, else 0 */
/* Whether the peer of a request has hung up, or sends no more; SS_GONE, SS_MISUSE. While it
 * has not, an SS_EVENT_BODY will come when it does. */
int ss_conn_hung_up(ss_loop *loop, int64_t conn);

enum ss_send_flag {
    SS_SEND_HEAD = 1,      /* complete `head` with Date, framing and Connection, and the empty line */
    SS_SEND_LENGTH = 2,    /* with HEAD: add Content-Length: body_length */
    SS_SEND_CHUNKED = 4,   /* frame body as one chunk; with HEAD: add Transfer-Encoding */
    SS_SEND_LAST = 8,      /* the response ends with this call */
    SS_SEND_CLOSE = 16,    /* the connection ends after the response */
    SS_SEND_NO_BODY = 32,  /* with HEAD: the head alone goes out (HEAD, 204, 304) */
    SS_SEND_DATED = 64     /* with HEAD: `head` has a Date of its own */
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
/* Takes the descriptor of a request's connection out of the core, with the unread bytes behind the
 * head, copied to `into`. Returns the fd, owned by the caller, with *taken bytes of input copied.
 * SS_MISUSE: output is queued, the body is half decoded, TLS is in between, or `capacity` is too small. */
int ss_conn_detach(ss_loop *loop, int64_t conn, char *into, int64_t capacity, int64_t *taken);
/* The reverse: a connected socket becomes a connection of the listener, as if these bytes had just come.
 * Returns its handle, and the fd is the core's; or a failure, and it stays the caller's. */
int64_t ss_conn_adopt(ss_loop *loop, int listener, int fd, const char *unread, int64_t length);

/* ---- frames: bytes that many connections send, kept once (stream/output.c) ---- */

/* A frame is used by the thread of one loop only. */
typedef struct ss_frame ss_frame;
ss_frame *ss_frame_new(const char *data, int64_t length); /* copies them; NULL: no memory */
ss_frame *ss_frames_join(ss_frame *const *frames,
                         int64_t count); /* one of several, with their bytes; NULL: no memory */
void ss_frame_free(ss_frame *frame); /* queues that still hold it go on; NULL is nothing */
/* Sends a frame as a part of a response whose head has left. Returns what ss_conn_send returns. */
int64_t ss_conn_send_frame(ss_loop *loop, int64_t conn, ss_frame *frame);

#endif
