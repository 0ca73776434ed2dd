/* A connection's life: its states, their legal moves, and what is done on entering each.
 *
 * This file, readiness.c, dropping.c and progress.c are the driver of HTTP: they alone change
 * a state, set a deadline or free. What may free its connection says so.
 *
 * HEAD reads a head (or idles), BODY completes a small body, REQUEST belongs to
 * Python. After the response: FLUSH while output is queued, DISCARD while an
 * unread request body is dropped, and either HEAD again or the end. LINGER is
 * an end with care: our side is shut and input is dropped for a while, because
 * close() with unread input sends RST, which destroys the answer on its way.
 *
 * Where only the end of the connection tells that of the response (HTTP/1.0 without a
 * length), SO_LINGER makes every close a reset until all of it is out: whatever cuts it
 * (an error, a deadline, a stop, a killed process), it never looks whole. */

#define _GNU_SOURCE
#include "http/http.h"

#include <stdlib.h>

#define TO(state) (1u << (state))

static const uint8_t legal_moves[SS_CONN_STATES] = {
    [SS_CONN_HEAD] =
        TO(SS_CONN_BODY) | TO(SS_CONN_REQUEST) | TO(SS_CONN_FLUSH) | TO(SS_CONN_LINGER) | TO(SS_CONN_CLOSED),
    [SS_CONN_BODY] = TO(SS_CONN_REQUEST) | TO(SS_CONN_FLUSH) | TO(SS_CONN_LINGER) | TO(SS_CONN_CLOSED),
    [SS_CONN_REQUEST] =
        TO(SS_CONN_HEAD) | TO(SS_CONN_FLUSH) | TO(SS_CONN_DISCARD) | TO(SS_CONN_LINGER) | TO(SS_CONN_CLOSED),
    [SS_CONN_FLUSH] = TO(SS_CONN_HEAD) | TO(SS_CONN_DISCARD) | TO(SS_CONN_LINGER) | TO(SS_CONN_CLOSED),
    [SS_CONN_DISCARD] = TO(SS_CONN_HEAD) | TO(SS_CONN_FLUSH) | TO(SS_CONN_LINGER) | TO(SS_CONN_CLOSED),
    [SS_CONN_LINGER] = TO(SS_CONN_CLOSED),
    [SS_CONN_CLOSED] = 0,
};

void ss_conn_move(ss_loop *loop, ss_conn *conn, enum ss_conn_state state) {
    if (!(legal_moves[conn->state] & TO(state)))
        loop->violation = "a connection made a move that its table does not have";
    ss_http_shared *shared = ss_http_shared_of(conn);
    shared->requests_out += state == SS_CONN_REQUEST;
    shared->requests_out -= conn->state == SS_CONN_REQUEST;
    conn->stream.ending = conn->stream.progress = false;
    conn->state = (uint8_t)state;
}

void ss_conn_deadline(ss_loop *loop, const ss_conn *conn, int64_t timeout_ns) {
    ss_deadline_set(loop, &conn->stream.io, timeout_ns);
}

void ss_conn_tell(ss_loop *loop, const ss_conn *conn, enum ss_event kind) {
    ss_event_emit(loop, kind, conn->stream.listener->number, ss_io_handle(&conn->stream.io), 0);
}

/* ---- ends ---- */

/* From now on, or no longer, a close is a reset. */
void ss_conn_end_tells(ss_conn *conn, bool tells) {
    const struct linger how = {.l_onoff = tells, .l_linger = 0};
    if (conn->end_tells != tells)
        (void)setsockopt(conn->stream.io.fd, SOL_SOCKET, SO_LINGER, &how, sizeof how);
    conn->end_tells = tells;
}

/* Frees conn. */
void ss_conn_close(ss_loop *loop, ss_conn *conn) {
    ss_request_release(conn);
    ss_conn_move(loop, conn, SS_CONN_CLOSED);
    ss_stream_close(loop, &conn->stream, false);
}

/* The request is over, and the connection speaks another protocol from now on: conn is freed.
 * NULL: no memory, and the connection is closed. */
ss_stream *ss_conn_hand_on(ss_loop *loop, ss_conn *conn, const ss_protocol *protocol) {
    ss_request_release(conn);
    ss_conn_move(loop, conn, SS_CONN_CLOSED);
    ss_stream *stream = ss_stream_become(loop, &conn->stream, protocol);
    if (!stream)
        ss_stream_close(loop, &conn->stream, false);
    return stream;
}

/* Frees conn; its descriptor, which is the caller's now, stays open. */
int ss_conn_leave(ss_loop *loop, ss_conn *conn) {
    int fd = conn->stream.io.fd;
    ss_conn_end_tells(conn, false);
    ss_request_release(conn);
    ss_conn_move(loop, conn, SS_CONN_CLOSED);
    ss_stream_close(loop, &conn->stream, true);
    return fd;
}

/* May free conn. */
void ss_conn_linger(ss_loop *loop, ss_conn *conn) {
    ss_stream *stream = &conn->stream;
    if (stream->dead || shutdown(stream->io.fd, SHUT_WR) < 0) {
        ss_conn_close(loop, conn);
        return;
    }
    ss_request_release(conn); /* a small body may have been on its way */
    ss_conn_move(loop, conn, SS_CONN_LINGER);
    if (stream->tls)
        ss_tls_close(loop, stream); /* what still comes is dropped as it is */
    loop->now = ss_clock(loop);     /* the handler may have taken long: deadlines count from here */
    ss_drop_unread(loop, conn);
    conn->brief |= !ss_body_pending(conn);
    ss_drop_begin(loop, conn);
    if (stream->io.ready & SS_READ)
        ss_pending_add(loop, &stream->io);
}

/* Waits in FLUSH until what is queued is out, and with TLS our goodbye. */
static void begin_flush(ss_loop *loop, ss_conn *conn, bool goodbye) {
    if (conn->state != SS_CONN_FLUSH) {
        ss_conn_move(loop, conn, SS_CONN_FLUSH);
        ss_in_settle(loop, &conn->stream, true);
    }
    conn->stream.ending = !conn->persist;
    if (goodbye)
        ss_progress_last_chance(loop, conn, ss_conn_config(conn)->linger_timeout);
    else
        ss_progress_await_room(loop, conn);
    if (conn->stream.tls)
        ss_tls_ask_to_write(loop, &conn->stream);
    if (ss_body_pending(conn) && conn->stream.io.ready & SS_READ)
        ss_pending_add(loop, &conn->stream.io); /* who sends all of it before it reads must get on */
}

/* An end in order, of a connection that idles. May free conn. */
void ss_conn_end(ss_loop *loop, ss_conn *conn) {
    const ss_tls *tls = conn->stream.tls;
    if (!tls || tls->ragged || !ss_tls_owes_goodbye(&conn->stream)) {
        ss_conn_close(loop, conn);
        return;
    }
    conn->persist = false;
    ss_in_release(loop, &conn->stream);
    begin_flush(loop, conn, true);
}

static void begin_next_request(ss_loop *loop, ss_conn *conn) {
    ss_stream *stream = &conn->stream;
    ss_conn_move(loop, conn, SS_CONN_HEAD);
    conn->partial = false;
    ss_in_settle(loop, stream, true);
    loop->now = ss_clock_coarse(loop);
    ss_conn_deadline(loop, conn, ss_conn_config(conn)->idle_timeout);
    if (ss_stream_unread(stream) || stream->io.ready & SS_READ)
        ss_pending_add(loop, &stream->io);
}

static void begin_discard(ss_loop *loop, ss_conn *conn) {
    ss_conn_move(loop, conn, SS_CONN_DISCARD);
    loop->now = ss_clock(loop);
    ss_drop_begin(loop, conn);
    ss_pending_add(loop, &conn->stream.io);
}

/* The response is complete, as far as the output queue: what comes now? May free conn. */
void ss_conn_after_response(ss_loop *loop, ss_conn *conn) {
    ss_stream *stream = &conn->stream;
    bool body = ss_body_pending(conn);
    if (stream->dead) {
        ss_conn_close(loop, conn);
        return;
    }
    if (ss_stream_unsent(stream)) {
        begin_flush(loop, conn, false);
        return;
    }
    ss_conn_end_tells(conn, false);
    if (body && conn->persist && ss_body_droppable(conn)) {
        begin_discard(loop, conn);
    } else if (stream->tls && (body || !conn->persist) && ss_tls_owes_goodbye(stream)) {
        conn->persist = false;
        begin_flush(loop, conn, true);
    } else if (body || (!conn->persist && (ss_stream_unread(stream) || stream->io.ready & SS_READ))) {
        ss_conn_linger(loop, conn);
    } else if (!conn->persist) {
        ss_conn_close(loop, conn);
    } else {
        begin_next_request(loop, conn);
    }
}

/* The request leaves Python's hands. May free conn. */
void ss_conn_response_ended(ss_loop *loop, ss_conn *conn) {
    ss_request_release(conn);
    ss_conn_after_response(loop, conn);
}

/* Does what follows mean nothing? Not where the head was only too large, or the server too busy for it. */
static bool is_garbage(const ss_conn *conn, enum ss_refusal refusal) {
    int status = ss_refusal_status((int)refusal);
    bool understood = status == 413 || status == 414 || status == 417 || status == 431 || status == 503;
    return refusal == SS_BODY_TIMEOUT || (conn->state == SS_CONN_HEAD && !understood);
}

/* One answer, and the end: nothing more of this connection is parsed. May free conn. */
void ss_conn_refuse_now(ss_loop *loop, ss_conn *conn, enum ss_refusal refusal) {
    uint32_t length;
    const char *line = ss_request_first_line(conn, &length);
    conn->persist = false;
    conn->brief |= is_garbage(conn, refusal);
    conn->response_started = true;
    conn->body_failed = (uint8_t)refusal;
    conn->chunked_body = false;
    conn->body_left = UINT64_MAX; /* whatever comes is dropped, not parsed */
    (void)ss_response_refuse(loop, conn, refusal);
    ss_stream_report_refusal(loop, &conn->stream, refusal, line, length);
    ss_conn_response_ended(loop, conn);
}

/* ---- while a request is with Python ---- */

/* A reader parks until bytes of the body come, or do not in time. */
void ss_conn_await_body(ss_loop *loop, ss_conn *conn) {
    loop->now = ss_clock(loop);
    conn->want_body = true;
    ss_progress_await_body(loop, conn);
}

/* Something is queued and the response goes on. stalled: something was before. */
void ss_conn_response_goes_on(ss_loop *loop, ss_conn *conn, bool stalled) {
    conn->want_drain = conn->stream.out.bytes >= ss_conn_config(conn)->high_water;
    if (!stalled) /* more to send is no progress of the client */
        ss_progress_await_room(loop, conn);
}

/* The socket is of no more use: whoever waits on it for Python learns it now. */
void ss_conn_fail(ss_loop *loop, ss_conn *conn) {
    conn->stream.dead = true;
    ss_out_release(loop, &conn->stream.out);
    ss_conn_deadline(loop, conn, 0);
    if (conn->want_body || conn->want_end)
        ss_conn_tell(loop, conn, SS_EVENT_BODY);
    if (conn->want_drain)
        ss_conn_tell(loop, conn, SS_EVENT_DRAINED);
    conn->want_body = conn->want_end = conn->want_drain = false;
    ss_leaving_tell(loop, conn);
}

/* Bytes left: the client takes what it is sent, so its deadline counts anew. A TLS
 * handshake has one for all of it. */
void ss_conn_note_progress(ss_loop *loop, ss_conn *conn) {
    ss_stream *stream = &conn->stream;
    bool sends = conn->state == SS_CONN_REQUEST || conn->state == SS_CONN_FLUSH;
    if (!stream->progress)
        return;
    stream->progress = false;
    if (!sends || (stream->tls && !stream->tls->open))
        return;
    if (ss_stream_unsent(stream))
        ss_progress_await_room(loop, conn);
    else if (conn->state == SS_CONN_REQUEST && conn->want_body)
        ss_progress_waited(loop, conn, true);
    else if (conn->state == SS_CONN_REQUEST)
        ss_leaving_rest(loop, conn);
}
