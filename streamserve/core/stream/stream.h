/* A stream: a connected socket with its peer, read buffer, output queue and transport,
 * and the protocol that it carries.
 *
 * Leaves answer, one driver moves: nothing in this folder closes a stream, moves it to
 * another state or calls its protocol, except the listener with what it has just
 * accepted. What Python does to a transport between two polls (tls.c) puts the stream
 * on the pending list: its protocol sees to it in its turn. */
#ifndef SS_STREAM_H
#define SS_STREAM_H

#include "loop/loop.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define SS_READ_BUFFER 16384u  /* bytes of a pooled read buffer */
#define SS_SPARE_BUFFERS 256u  /* most pooled buffers kept when unused */
#define SS_SCRATCH 20480u      /* bytes: a response up to this size leaves in one copy */
#define SS_MOST_OUT 1073741823 /* bytes of one output queue */

typedef struct ss_stream ss_stream;
typedef struct ss_listener ss_listener;

/* ---- the output queue (output.c, file_range.c) ---- */

/* A message that many streams send: its bytes are kept once. */
struct ss_frame {
    uint32_t uses; /* queues that hold it, and one for its maker */
    uint32_t length;
    char data[];
};

enum ss_segment_kind { SS_SEGMENT_BYTES, SS_SEGMENT_FRAME, SS_SEGMENT_FILE };

typedef struct ss_segment {
    struct ss_segment *next;
    uint8_t kind;
    bool copied;              /* file: its file system cannot sendfile, pread and send do */
    int fd;                   /* file: owned */
    uint32_t start, end;      /* bytes, frame: [start, end) are unsent */
    uint32_t capacity;        /* bytes: of data */
    off_t offset;             /* file: of the first unsent byte... */
    uint64_t left;            /* ...and how many there are */
    ss_frame *frame;          /* frame: shared */
    char data[];              /* bytes: owned */
} ss_segment;

typedef struct {
    ss_segment *first, *last; /* sent in this order */
    int64_t bytes;            /* unsent, of bytes and frames: what high water is about */
    uint32_t files;           /* ranges of files among them */
} ss_output;

/* What stands at the front of a queue. */
typedef struct {
    const char *data;
    size_t length; /* 0: nothing does, or a file */
    bool last;     /* nothing is behind it */
} ss_piece;

/* ---- TLS: a transport in memory (tls.c) ---- */

typedef struct ss_tls {
    struct ss_tls *next;      /* in its listener's handshakes, then in streams->tls_writers, in tls_ended at last */
    struct ss_tls *previous;  /* in the first two */
    int64_t handle;      /* of its connection, also when that is gone */
    int listener;        /* its number */
    ss_output out;       /* ciphertext */
    int64_t silent;      /* ns that its handshake waited for the peer before... */
    int64_t silent_since; /* ...it was told, or since this moment */
    bool wants;          /* Python is to be asked for what the peer sent... */
    bool told;           /* ...or was, and has not answered */
    bool writes;         /* it is in streams->tls_writers */
    bool known;          /* Python was told of it, so it must be told of the end */
    bool shaking;        /* it is among its listener's handshakes: until it is open */
    bool open;           /* the handshake is complete */
    bool opened;         /* ...and the protocol has not seen to it yet */
    bool ended;          /* nothing more will come from the peer */
    bool ragged;         /* and it did not say so */
    bool failed;         /* it broke the protocol, or the socket failed */
    bool goodbye;        /* our close_notify is on its way */
} ss_tls;

/* ---- streams and what they carry ---- */

/* A protocol. The driver of each has its own table of states; an upgrade assigns io.class. */
typedef struct {
    ss_class class;  /* first: of the descriptor. Each function may free the stream */
    size_t size;     /* bytes of a connection, which begins with its ss_stream */
    int (*listen)(ss_listener *listener); /* makes what a listener's connections share: SS_OK or SS_NOMEM */
    void (*unlisten)(ss_listener *listener);
    void (*accepted)(ss_loop *loop, ss_stream *stream, bool full); /* full: there are too many. May free */
    void (*stopping)(ss_loop *loop, ss_stream *stream); /* the server stops: ends what idles. May free */
    bool (*unfinished)(const ss_stream *stream);        /* has it something to finish before a stop is complete? */
    void (*close)(ss_loop *loop, ss_stream *stream);    /* at once. Frees */
    bool (*idles)(const ss_stream *stream); /* needs no turn when bytes have left. NULL: it may need one */
} ss_protocol;

struct ss_stream {
    ss_io io; /* first; its class is that of the protocol */
    ss_listener *listener;
    /* Input: bytes [in_start, in_end) of `in` are unread; `in_held` before them are still needed. */
    char *in;
    uint32_t in_start, in_end, in_capacity, in_held;
    ss_output out;
    ss_tls *tls;            /* owned; NULL: bytes come and go in the clear */
    uint16_t port;          /* of the peer */
    uint8_t address_length; /* 4, 16, or 0 for a unix socket */
    bool local;             /* a unix socket, whatever a proxy says of the peer */
    bool dead;              /* sending failed, or the socket reported an error */
    bool ending;            /* after what is queued comes the end: with TLS, our goodbye before it */
    bool progress;          /* bytes left since the protocol last looked: its write deadline counts anew */
    unsigned char address[16];
};

struct ss_listener {
    ss_io io;
    ss_listener_config config;
    const ss_protocol *protocol; /* of its connections; NULL: they are handed to Python raw */
    void *shared;                /* the protocol's */
    int number;                  /* index in streams->listeners */
    uint32_t connections;        /* open ones */
    ss_tls *first_handshake, *last_handshake; /* its connections whose handshake is not complete, oldest first... */
    uint32_t handshakes;                      /* ...and how many they are */
    bool crowded;                             /* too many: accepting waits until one is over, or for a moment */
    int64_t resume_at;           /* when accepting tries again after an error, 0: it is not paused */
    int64_t refuse_at;           /* out of descriptors: no connection is refused before */
    int64_t allowed;             /* raw: connections that may still be accepted */
    ss_network *proxies;         /* owned; who begins with a PROXY protocol header */
    uint32_t proxy_count;
    bool draining;
    int64_t stop_left;           /* ns, as of the last drain, until it is closed */
};

/* Who was refused: its connection may be closed before Python asks. */
typedef struct {
    uint16_t port;
    uint8_t address_length; /* 4, 16, or 0 for a unix socket */
    unsigned char address[16];
    uint16_t line_start, line_length; /* of what it asked, in refused_lines */
} ss_peer;

/* What all streams of a loop share. */
typedef struct {
    ss_guest guest;
    ss_listener **listeners; /* NULL: closed */
    int64_t *closed_polls;   /* of each number: the poll after which its last listener was closed, -1: none was */
    int listener_count;      /* length of the array */
    int listeners_open;
    int reserve_fd;          /* given up to refuse a connection under EMFILE */
    char *spare;             /* pooled buffers, chained through their first bytes */
    uint32_t spare_count, buffers;
    uint32_t connections, files, tls;
    int64_t queued_bytes, accepted;
    int64_t skipped, overloaded; /* ever: recipients of broadcasts that were over their limit, left out and ended */
    int64_t held_bytes;      /* allocated for input and output of all connections */
    ss_io endings;           /* on the pending list while tls_ended is not empty; it has no slot */
    ss_tls *tls_ended;       /* connections that are over, which Python is to be told */
    ss_io writing; /* on the pending list while a listener's port may not know of its tls_writers; no slot */
    ss_tls *tls_writers, *tls_last_writer; /* connections with plaintext that Python may encrypt now */
    int64_t peers_poll; /* the poll that `peers` and `refused` are of */
    uint32_t peer_count, refused_count;
    void *batch; /* owned, one block of memory: what a protocol reports in a poll */
    char peers[SS_PEERS * SS_PEER_BYTES];
    ss_peer refused[SS_REFUSED_PEERS];
    uint32_t refused_text; /* bytes used of refused_lines */
    char refused_lines[SS_REFUSED_TEXT];
    char scratch[SS_SCRATCH];
} ss_streams;

static inline ss_streams *ss_streams_of(const ss_loop *loop) {
    return (ss_streams *)loop->guest;
}

static inline ss_stream *ss_stream_of(ss_io *io) {
    return io && io->class->stream ? (ss_stream *)io : NULL;
}

static inline const ss_protocol *ss_protocol_of(const ss_stream *stream) {
    return (const ss_protocol *)stream->io.class;
}

static inline uint32_t ss_stream_unread(const ss_stream *stream) {
    return stream->in_end - stream->in_start;
}

static inline bool ss_out_empty(const ss_output *out) {
    return !out->first;
}

/* Is anything still on its way to the peer? */
static inline bool ss_stream_unsent(const ss_stream *stream) {
    return stream->out.first || (stream->tls && stream->tls->out.first);
}

/* socket.c */
int64_t ss_socket_receive(ss_stream *stream, char *into, size_t room); /* count, 0: FIN, SS_WAIT, SS_BROKEN */
ssize_t ss_socket_send(const ss_stream *stream, struct iovec *pieces, size_t count, bool more);
void ss_socket_push(const ss_stream *stream);
int64_t ss_socket_unconfirmed(const ss_stream *stream);
bool ss_socket_full(void); /* after a failure of the kind above: it was EAGAIN */
void ss_stream_set_peer(ss_stream *stream, const struct sockaddr_storage *peer);
int ss_stream_address(const ss_stream *stream, int local, char *text, int capacity);

/* buffer.c */
int ss_in_reserve(ss_loop *loop, ss_stream *stream, uint32_t room);
int ss_in_put(ss_loop *loop, ss_stream *stream, const char *data, uint32_t length);
void ss_in_settle(ss_loop *loop, ss_stream *stream, bool waits);
void ss_in_release(ss_loop *loop, ss_stream *stream);
void ss_buffers_free(ss_streams *streams);

/* output.c */
int ss_out_append(ss_loop *loop, ss_output *out, const struct iovec *pieces, size_t count, size_t skip);
ss_frame *ss_frame_join(const char *head, size_t head_length, const char *data, size_t length);
int ss_out_append_frame(ss_loop *loop, ss_output *out, ss_frame *frame, size_t skip);
void ss_out_put_file(ss_output *out, ss_segment *file);
ss_piece ss_out_front(const ss_output *out);
void ss_out_drop(ss_loop *loop, ss_output *out, size_t count);
void ss_out_release(ss_loop *loop, ss_output *out);
int ss_out_flush(ss_loop *loop, ss_stream *stream, ss_output *out); /* SS_OK: empty; SS_NEED_DATA; SS_ERROR */

/* file_range.c */
ss_segment *ss_file_new(ss_loop *loop, int fd, int64_t offset, int64_t count); /* NULL: see loop->error, 0: no memory */
void ss_file_free(ss_loop *loop, ss_segment *file);
int ss_file_flush(ss_loop *loop, ss_stream *stream, ss_segment *file); /* answers as ss_out_flush */

/* tls.c */
int ss_tls_open(ss_loop *loop, ss_stream *stream);
void ss_tls_close(ss_loop *loop, ss_stream *stream);
void ss_tls_ask_to_write(ss_loop *loop, ss_stream *stream);
int64_t ss_tls_receive(ss_loop *loop, ss_stream *stream);
bool ss_tls_readable(ss_loop *loop, ss_stream *stream);
int ss_tls_flush(ss_loop *loop, ss_stream *stream);
int ss_tls_turn(ss_loop *loop, ss_stream *stream); /* SS_OK: go on; SS_NEED_DATA: the handshake does; SS_ERROR */
bool ss_tls_owes_goodbye(const ss_stream *stream);
void ss_tls_tell_ended(ss_loop *loop, ss_io *endings);
void ss_tls_tell_writers(ss_loop *loop, ss_io *writing);
void ss_tls_forget_ended(ss_loop *loop);

/* Peers are those of one poll. */
static inline void ss_peers_renew(ss_loop *loop) {
    ss_streams *streams = ss_streams_of(loop);
    if (streams->peers_poll != loop->polls)
        streams->peer_count = streams->refused_count = streams->refused_text = 0;
    streams->peers_poll = loop->polls;
}

/* stream.c */
ss_stream *ss_stream_make(ss_loop *loop, ss_listener *listener, int fd, const struct sockaddr_storage *peer);
ss_stream *ss_stream_become(ss_loop *loop, ss_stream *stream, const ss_protocol *protocol);
void ss_stream_close(ss_loop *loop, ss_stream *stream, bool keep_fd); /* releases all that it has, and frees it */
int64_t ss_stream_receive(ss_loop *loop, ss_stream *stream, char *into, size_t room); /* as ss_socket_receive */
int ss_stream_send(ss_loop *loop, ss_stream *stream, struct iovec *pieces, size_t count, bool more);
int ss_stream_send_frame(ss_loop *loop, ss_stream *stream, ss_frame *frame);
int ss_stream_flush(ss_loop *loop, ss_stream *stream); /* answers as ss_out_flush */
/* line: the request's first, as far as it came, NULL: there is none. */
void ss_stream_report_refusal(ss_loop *loop, const ss_stream *stream, enum ss_refusal refusal, const char *line,
                              uint32_t length);

/* listener.c */
ss_streams *ss_streams_make(ss_loop *loop); /* on first use; NULL: no memory */
int ss_listener_begin(ss_loop *loop, int fd, const ss_listener_config *config, const ss_protocol *protocol);
ss_listener *ss_listener_find(const ss_loop *loop, int number);

/* handshakes.c */
void ss_handshakes_join(const ss_loop *loop, ss_listener *listener, ss_tls *tls);
void ss_handshakes_leave(ss_loop *loop, ss_listener *listener, ss_tls *tls);
bool ss_handshakes_room(ss_loop *loop, ss_listener *listener, ss_stream **instead); /* false: it will try again */
void ss_handshakes_end(ss_loop *loop, ss_stream *stream);

/* proxy_protocol.c */
int ss_proxy_parse(const char *data, uint32_t length, uint32_t *used, struct sockaddr_storage *peer);
bool ss_proxy_expected(const ss_listener *listener, const unsigned char *address, uint8_t length);

#endif
