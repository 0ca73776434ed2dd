/* WebSocket on a stream: the connection, its states, and what its files say to each other.
 *
 * websocket.c is the driver: it alone changes a state, sets a deadline, or frees. messages.c
 * reads frames and answers; sending.c is what Python asks for. */
#ifndef SS_WEBSOCKET_H
#define SS_WEBSOCKET_H

#include "stream/stream.h"
#include "websocket/frame.h"

enum ss_ws_state {
    SS_WS_OPEN = 0,  /* messages go both ways */
    SS_WS_CLOSING,   /* our Close is sent, the peer's is awaited; its messages are dropped */
    SS_WS_FLUSH,     /* nothing more is read; what is queued, with our Close at its end, goes out */
    SS_WS_LINGER,    /* our side is shut, input is dropped until the peer closes */
    SS_WS_CLOSED,
    SS_WS_STATES
};

typedef struct ss_ws ss_ws;

/* A protocol above WebSocket that the core speaks in part. */
typedef struct {
    /* A small text message came whole; its payload lies at ss_ws_room. False: it is reported as it is. */
    bool (*take)(ss_loop *loop, ss_ws *ws, const char *payload, size_t length);
    /* In the place of the ping. False: the peer is gone. */
    bool (*expired)(ss_loop *loop, ss_ws *ws);
} ss_ws_dialect;

/* A server may hold many that idle, so each byte counts: the wide fields come first, a poll is named by its lower half,
 * and what is only there while bytes come lies elsewhere, in `message` or in the read buffer. */
struct ss_ws {
    ss_stream stream;             /* first */
    const ss_ws_dialect *dialect; /* NULL: messages are Python's */
    int64_t heard_at;             /* when something came last */
    int64_t asked_at;             /* when the ping went out to which nothing has come yet */
    char *message;                /* owned; what has come of one, or of a large one that Python is to take... */
    uint32_t length, capacity;    /* ...of it */
    uint32_t frame_left;          /* of the payload of the data frame that is being read, behind in_start */
    uint32_t sent_poll;           /* the poll in whose turn something was sent */
    uint32_t taken_poll;          /* see `taken` */
    uint32_t max_message, out_limit; /* see ss_ws_config */
    uint32_t ping_interval_ms, ping_timeout_ms, close_timeout_ms;
    unsigned char mask[4]; /* of that frame... */
    uint8_t mask_phase;    /* ...and which of its bytes comes next */
    bool in_frame, frame_fin;
    bool in_message; /* the message's first frame has come, its last has not */
    bool taken;      /* `message` is Python's until the poll after taken_poll */
    uint8_t opcode;  /* of the message's first frame, with SS_WS_COMPRESSED */
    ss_utf8 utf8;    /* of text */
    uint8_t state;   /* enum ss_ws_state */
    uint16_t code;   /* enum ss_ws_code: how it ended, for Python; 0: it has not */
    bool told;       /* Python had the Close record: nothing more is reported */
    bool want_drain; /* a writer parks for SS_EVENT_DRAINED */
    bool paused;     /* nothing is read: Python has enough */
    bool asked;      /* a ping is out */
    bool silent;     /* it was not answered, and the dialect has that told */
    bool leaving;    /* the server stops: the deadline is the moment of our Close */
    bool deflate, drop; /* see ss_ws_config */
    bool events;     /* of its dialect: Python wants events told apart */
};
_Static_assert(sizeof(ss_ws) <= 240, "an idle WebSocket takes more: see whether it must");

extern const ss_protocol ss_websocket; /* websocket.c */

#define SS_WS_SENT_HEADER 10 /* bytes at most: without a mask */
#define SS_WS_HELD 16        /* messages at most that are kept: the first waits for the handlers of the others */
#define SS_WS_HELD_SIZE 1024 /* bytes of such a message at most */

/* What the WebSockets of a loop share: the records of one poll, and what is sent in its turn; see holding.c. */
typedef struct ss_ws_batch {
    int64_t sent_poll; /* the poll in whose turn one of them sent something */
    int64_t held_at, hold_again_at;
    uint32_t held_count;
    struct {
        int64_t handle;
        size_t length;
        char frame[SS_WS_SENT_HEADER + SS_WS_HELD_SIZE];
    } held[SS_WS_HELD];
    int64_t poll; /* of which the records are */
    uint32_t used;  /* bytes of payloads */
    uint32_t kinds; /* of the records: a bit for each opcode; the lowest: one that is unlike the others */
    int64_t records[SS_MESSAGES * SS_MESSAGE_WORDS];
    char payloads[SS_WS_PAYLOAD_BYTES];
} ss_ws_batch;

static inline ss_ws_batch *ss_ws_batch_of(const ss_loop *loop) {
    return ss_streams_of(loop)->batch;
}

static inline ss_ws *ss_ws_find(const ss_loop *loop, int64_t handle) {
    ss_io *io = ss_io_find(loop, handle);
    return io && io->class == &ss_websocket.class ? (ss_ws *)io : NULL;
}

static inline uint32_t ss_ms_of(int64_t ns) {
    int64_t ms = ns / 1000000 + (ns % 1000000 > 0);
    return ms > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)ms;
}

/* This poll reported a large message, which Python takes when the poll is over: nothing ends the connection before. */
static inline bool ss_ws_held_for_python(const ss_loop *loop, const ss_ws *ws) {
    return ws->taken && ws->taken_poll == (uint32_t)loop->polls;
}

/* records.c */
bool ss_ws_has_room(ss_loop *loop, size_t length); /* for one more record with such a payload */
char *ss_ws_room(ss_loop *loop);                   /* where the payload goes; the record follows */
void ss_ws_report(ss_loop *loop, ss_ws *ws, int opcode, uint64_t length, bool large);
/* A small message of which the part from `start` on counts; extra: more for its last word, above the offset. */
void ss_ws_report_part(ss_loop *loop, ss_ws *ws, int kind, size_t length, size_t start, int64_t extra);
bool ss_ws_report_close(ss_loop *loop, ss_ws *ws, unsigned code, const char *reason,
                        size_t length); /* false: no room */

/* messages.c */
int ss_ws_read(ss_loop *loop,
               ss_ws *ws); /* SS_NEED_DATA; SS_OK: there is more to do; SS_ERROR: ws->code says how it ends */
void ss_ws_message_release(ss_loop *loop, ss_ws *ws);

/* holding.c */
bool ss_ws_hold(ss_loop *loop, ss_ws *ws, int first, const char *data, size_t length,
                bool again); /* false: it is to be sent or queued; again: something was in this turn */
void ss_ws_let_go(ss_loop *loop);

/* sending.c */
int ss_ws_transmit(ss_loop *loop, ss_ws *ws, int first, const char *data, size_t length); /* SS_OK or SS_BROKEN */
int ss_ws_transmit_close(ss_loop *loop, ss_ws *ws, unsigned code, const char *reason, size_t length);

/* websocket.c. Each may free ws. */
void ss_ws_begin(ss_loop *loop, ss_ws *ws);
void ss_ws_begin_closing(ss_loop *loop, ss_ws *ws); /* our Close was sent */

#endif
