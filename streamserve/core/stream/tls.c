/* Where the bytes of a connection pass through Python's TLS.
 *
 * The core knows no cipher. A connection of a TLS listener has an ss_tls, and
 * asks Python by SS_EVENT_TLS when ciphertext has come and somebody wants bytes
 * (SS_TLS_READ), or when plaintext is to leave (SS_TLS_WRITE). Python takes
 * ciphertext from the socket (ss_tls_take) and gives plaintext (ss_tls_feed)
 * into the input buffer, where it meets the same parser, states and deadlines as
 * bytes that came in the clear. What the core sends waits as plaintext in the
 * output queue of the connection; Python looks at it (ss_tls_peek) and gives the
 * ciphertext for it (ss_tls_push), which is sent, or queued here.
 *
 * Back-pressure: ciphertext is taken only when the plaintext before it is used
 * up, plaintext only when the ciphertext before it is sent. So either queue is
 * bounded by one step of Python's, whatever the peer does.
 *
 * Python is asked once until it has answered. Between two polls nobody would
 * read the event: there the question waits on the pending list.
 *
 * An end is told to Python by SS_TLS_ENDED, also one that Python made, so that
 * it forgets what it keeps. Ends between two polls wait in loop->tls_ended. */

#define _GNU_SOURCE
#include "loop/loop.h"

#include <errno.h>
#include <stdlib.h>

#define ENDS_PER_POLL 128
#define MOST_UNSENT 524288u /* bytes of ciphertext: only a peer that makes us answer and reads nothing gets there */

int ss_tls_open(ss_loop *loop, ss_conn *conn) {
    ss_tls *tls = calloc(1, sizeof *tls);
    if (!tls)
        return SS_NOMEM;
    tls->loop = loop;
    tls->handle = ss_io_handle(&conn->io);
    tls->listener = conn->listener->number;
    conn->tls = tls;
    loop->tls++;
    return SS_OK;
}

static void release(ss_loop *loop, ss_tls *tls) {
    loop->queued_bytes -= tls->out_end - tls->out_start;
    loop->held_bytes -= tls->out_capacity;
    free(tls->out);
    tls->out = NULL;
    tls->out_start = tls->out_end = tls->out_capacity = 0;
}

/* From now on the connection is a plain one. */
void ss_tls_close(ss_loop *loop, ss_conn *conn) {
    ss_tls *tls = conn->tls;
    conn->tls = NULL;
    release(loop, tls);
    if (tls->known) {
        tls->next = loop->tls_ended;
        loop->tls_ended = tls;
    } else {
        loop->tls--;
        free(tls);
    }
}

static void emit(ss_loop *loop, const ss_tls *tls, int what) {
    ss_event_emit(loop, SS_EVENT_TLS, tls->listener, tls->handle, what);
}

void ss_tls_tell_ended(ss_loop *loop) {
    for (int count = 0; loop->tls_ended && count < ENDS_PER_POLL; count++) {
        ss_tls *tls = loop->tls_ended;
        loop->tls_ended = tls->next;
        emit(loop, tls, SS_TLS_ENDED);
        loop->tls--;
        free(tls);
    }
}

/* ---- asking Python ---- */

static void tell(ss_loop *loop, ss_tls *tls) {
    emit(loop, tls, tls->wants);
    tls->told |= tls->wants;
    tls->wants = 0;
    tls->known = true;
}

void ss_tls_ask(ss_loop *loop, ss_conn *conn, int what) {
    ss_tls *tls = conn->tls;
    if ((tls->wants | tls->told) & what || (what == SS_TLS_WRITE && !tls->open))
        return;
    tls->wants |= (uint8_t)what;
    if (loop->polling)
        tell(loop, tls);
    else
        ss_pending_add(loop, &conn->io);
}

static void answered(ss_tls *tls, int what) {
    tls->wants &= (uint8_t)~what;
    tls->told &= (uint8_t)~what;
}

static uint32_t unsent(const ss_tls *tls) {
    return tls->out_end - tls->out_start;
}

/* What ss_conn_receive is here: the bytes come by ss_tls_feed, into the input buffer. */
int64_t ss_tls_receive(ss_conn *conn) {
    ss_tls *tls = conn->tls;
    if (tls->failed || unsent(tls) > MOST_UNSENT)
        return SS_BROKEN;
    if (tls->ended)
        return 0;
    ss_tls_ask(tls->loop, conn, SS_TLS_READ);
    return SS_WAIT;
}

/* Is there something for a reader? If not, and the socket has something, Python is asked for it. */
bool ss_tls_readable(ss_conn *conn) {
    if (conn->in_start < conn->in_end || conn->piece_left)
        return true;
    return conn->io.ready & SS_READ && ss_tls_receive(conn) != SS_WAIT;
}

/* ---- readiness ---- */

static bool send_some(ss_conn *conn, const char *data, size_t length, size_t *sent) {
    while (*sent < length) {
        ssize_t count = send(conn->io.fd, data + *sent, length - *sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            return false;
        *sent += count > 0 ? (size_t)count : 0;
        if (*sent < length) {
            conn->io.ready &= (uint8_t)~SS_WRITE;
            break;
        }
    }
    return true;
}

/* A handshake has one deadline for all of it, an idle connection its own. */
static void set_write_deadline(ss_loop *loop, const ss_conn *conn) {
    const ss_listener_config *config = &conn->listener->config;
    bool sends = conn->state == SS_CONN_REQUEST || conn->state == SS_CONN_FLUSH;
    if (!sends || !conn->tls->open)
        return;
    if (ss_conn_unsent(conn))
        ss_deadline_set(loop, &conn->io, config->write_timeout);
    else if (conn->state == SS_CONN_REQUEST)
        ss_deadline_set(loop, &conn->io, conn->want_body ? config->body_timeout : 0);
}

/* What ss_conn_flush is here. */
void ss_tls_flush(ss_loop *loop, ss_conn *conn) {
    ss_tls *tls = conn->tls;
    size_t sent = 0;
    if (unsent(tls) && conn->io.ready & SS_WRITE) {
        if (!send_some(conn, tls->out + tls->out_start, unsent(tls), &sent)) {
            conn->dead = true;
            return;
        }
        tls->out_start += (uint32_t)sent;
        loop->queued_bytes -= (int64_t)sent;
        if (!unsent(tls))
            release(loop, tls);
        if (sent)
            set_write_deadline(loop, conn);
    }
    if (tls->open && !unsent(tls) && conn->out_start < conn->out_end)
        ss_tls_ask(loop, conn, SS_TLS_WRITE);
}

/* First what TLS needs. True: there is nothing else to do, the handshake goes on or the connection is over. */
bool ss_tls_ready(ss_loop *loop, ss_conn *conn) {
    ss_tls *tls = conn->tls;
    if (tls->wants)
        tell(loop, tls);
    if (unsent(tls))
        ss_tls_flush(loop, conn);
    if (conn->dead && conn->state != SS_CONN_REQUEST) {
        ss_conn_close(loop, conn);
        return true;
    }
    if (!tls->open && conn->io.ready & SS_READ)
        ss_tls_ask(loop, conn, SS_TLS_READ);
    return !tls->open;
}

/* The connection ends after what is queued: is the peer still to be told (RFC 8446 section 6.1)? */
bool ss_tls_owes_goodbye(const ss_conn *conn) {
    const ss_tls *tls = conn->tls;
    return tls->open && !tls->goodbye && !tls->failed && !conn->dead;
}

/* ---- what Python does ---- */

static ss_conn *find(const ss_loop *loop, int64_t handle) {
    ss_conn *conn = ss_conn_find(loop, handle);
    return conn && conn->tls ? conn : NULL;
}

int64_t ss_tls_take(ss_loop *loop, int64_t handle, char *into, int64_t capacity) {
    ss_conn *conn = find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (capacity <= 0)
        return SS_MISUSE;
    answered(conn->tls, SS_TLS_READ);
    int64_t count = ss_socket_receive(conn, into, (size_t)capacity);
    if (conn->io.ready & SS_READ) /* there is more, and what came may not be a whole record */
        ss_pending_add(loop, &conn->io);
    return count;
}

int ss_tls_feed(ss_loop *loop, int64_t handle, const char *data, int64_t length, int flags) {
    ss_conn *conn = find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (length < 0 || length > INT32_MAX / 4)
        return SS_MISUSE;
    if (length) {
        if (ss_in_reserve(loop, conn, (uint32_t)length) != SS_OK) {
            ss_conn_close(loop, conn);
            return SS_NOMEM;
        }
        memcpy(conn->in + conn->in_end, data, (size_t)length);
        conn->in_end += (uint32_t)length;
    }
    if (flags & SS_TLS_OPEN) {
        conn->tls->open = true;
        loop->now = ss_clock(loop);
        if (conn->state == SS_CONN_HEAD)
            ss_deadline_set(loop, &conn->io, conn->listener->config.head_timeout);
        else
            ss_tls_flush(loop, conn); /* the answer of a server that is full */
    }
    if (flags & SS_TLS_END) {
        conn->tls->ended = true;
        conn->tls->ragged = flags & SS_TLS_RAGGED;
        conn->io.ready |= SS_READ; /* for the read that returns 0 */
    }
    ss_pending_add(loop, &conn->io);
    return SS_OK;
}

static void look(const ss_conn *conn, ss_tls_plain *plain) {
    bool takes = conn->tls->open && !unsent(conn->tls) && !conn->dead;
    plain->data = conn->out + (takes ? conn->out_start : 0);
    plain->length = takes ? conn->out_end - conn->out_start : 0;
    plain->goodbye = takes && conn->state == SS_CONN_FLUSH && !conn->persist && ss_tls_owes_goodbye(conn);
}

int ss_tls_peek(ss_loop *loop, int64_t handle, ss_tls_plain *plain) {
    ss_conn *conn = find(loop, handle);
    *plain = (ss_tls_plain){0};
    if (!conn)
        return SS_GONE;
    answered(conn->tls, SS_TLS_WRITE);
    look(conn, plain);
    return SS_OK;
}

static int queue(ss_loop *loop, ss_tls *tls, const char *data, size_t length) {
    uint32_t used = unsent(tls);
    if (length > UINT32_MAX / 4 - used)
        return SS_NOMEM;
    if (tls->out_capacity - tls->out_end < length) {
        uint32_t capacity = used + (uint32_t)length;
        char *out = malloc(capacity);
        if (!out)
            return SS_NOMEM;
        if (used)
            memcpy(out, tls->out + tls->out_start, used);
        free(tls->out);
        loop->held_bytes += (int64_t)capacity - tls->out_capacity;
        tls->out = out;
        tls->out_capacity = capacity;
        tls->out_start = 0;
        tls->out_end = used;
    }
    memcpy(tls->out + tls->out_end, data, length);
    tls->out_end += (uint32_t)length;
    loop->queued_bytes += (int64_t)length;
    return SS_OK;
}

/* The socket is of no use: a request learns it in its turn, anything else ends here. */
static int lost(ss_loop *loop, ss_conn *conn) {
    conn->dead = conn->tls->failed = true;
    if (conn->state == SS_CONN_REQUEST) {
        conn->io.ready |= SS_READ | SS_FAIL;
        ss_pending_add(loop, &conn->io);
        return SS_BROKEN;
    }
    ss_conn_close(loop, conn);
    return SS_GONE;
}

static int transmit(ss_loop *loop, ss_conn *conn, const char *data, size_t length) {
    size_t sent = 0;
    if (conn->io.ready & SS_WRITE && !unsent(conn->tls) && !send_some(conn, data, length, &sent))
        return SS_BROKEN;
    return sent < length ? queue(loop, conn->tls, data + sent, length - sent) : SS_OK;
}

int ss_tls_push(ss_loop *loop, int64_t handle, const char *data, int64_t length, int64_t taken, int goodbye,
                ss_tls_plain *plain) {
    ss_conn *conn = find(loop, handle);
    *plain = (ss_tls_plain){0};
    if (!conn)
        return SS_GONE;
    if (length < 0 || taken < 0 || taken > conn->out_end - conn->out_start)
        return SS_MISUSE;
    conn->out_start += (uint32_t)taken;
    loop->queued_bytes -= taken;
    if (conn->out_start == conn->out_end)
        ss_out_release(loop, conn);
    conn->tls->goodbye |= goodbye != 0;
    if (length && !conn->dead && transmit(loop, conn, data, (size_t)length) != SS_OK)
        return lost(loop, conn);
    if (ss_conn_unsent(conn))
        loop->now = ss_clock(loop);
    set_write_deadline(loop, conn);
    if (conn->state == SS_CONN_FLUSH && !ss_conn_unsent(conn) && (conn->persist || !ss_tls_owes_goodbye(conn))) {
        ss_conn_after_response(loop, conn);
        return SS_OK;
    }
    if (conn->want_drain)
        ss_pending_add(loop, &conn->io);
    look(conn, plain);
    return SS_OK;
}

int ss_tls_fail(ss_loop *loop, int64_t handle) {
    ss_conn *conn = find(loop, handle);
    if (!conn)
        return SS_GONE;
    conn->tls->failed = true;
    loop->now = ss_clock(loop);
    if (conn->state == SS_CONN_REQUEST)
        (void)lost(loop, conn);
    else if (conn->state == SS_CONN_HEAD || conn->state == SS_CONN_BODY)
        ss_conn_linger(loop, conn); /* an alert may be on its way */
    else
        ss_conn_close(loop, conn);
    return SS_OK;
}

int ss_tls_refuse_plain(ss_loop *loop, int64_t handle) {
    ss_conn *conn = find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (conn->state != SS_CONN_HEAD || conn->tls->open)
        return SS_MISUSE;
    loop->now = ss_clock(loop);
    ss_tls_close(loop, conn);
    ss_conn_answer_refusal(loop, conn, SS_PLAIN_HTTP);
    return SS_OK;
}
