/* What a connection does when its socket is ready, when it stood on the pending list, and
 * when its deadline passed: the turns of the driver, by state.
 *
 * A function that may free its connection says so; after it, nothing touches conn. */

#define _GNU_SOURCE
#include "http/http.h"

#define HEAD_ROOM 256u /* bytes: what is read of a head at least */

/* ---- while a request is with Python ---- */

static void flush(ss_loop *loop, ss_conn *conn) {
    if (ss_stream_flush(loop, &conn->stream) == SS_ERROR)
        return;
    ss_conn_note_progress(loop, conn);
    if (conn->want_drain && conn->stream.out.bytes <= ss_conn_config(conn)->high_water / 4) {
        conn->want_drain = false;
        ss_conn_tell(loop, conn, SS_EVENT_DRAINED);
    }
}

static bool has_body_bytes(ss_loop *loop, ss_conn *conn) {
    return conn->stream.tls ? ss_tls_readable(loop, &conn->stream) : conn->stream.io.ready & SS_READ;
}

static void request_ready(ss_loop *loop, ss_conn *conn) {
    ss_stream *stream = &conn->stream;
    ss_pieces_push(conn);
    if (stream->io.ready & SS_FAIL) {
        ss_conn_fail(loop, conn);
        return;
    }
    if (conn->want_body && has_body_bytes(loop, conn)) {
        conn->want_body = false;
        ss_progress_waited(loop, conn, false);
        ss_conn_tell(loop, conn, SS_EVENT_BODY);
    }
    if (conn->want_end && stream->io.ready & SS_HUP) {
        conn->want_end = false;
        ss_conn_tell(loop, conn, SS_EVENT_BODY);
    }
    if (stream->io.ready & SS_WRITE && (stream->out.first || (stream->tls && conn->want_drain)))
        flush(loop, conn);
    if (stream->dead)
        ss_conn_fail(loop, conn);
    else
        ss_leaving_noted(loop, conn);
}

/* ---- from a head to its request ---- */

static void report(ss_loop *loop, ss_conn *conn) {
    ss_request_report(loop, conn);
    ss_conn_move(loop, conn, SS_CONN_REQUEST);
    conn->chunked_response = conn->left_asked = conn->left_told = false;
    ss_leaving_rest(loop, conn);
    if (!ss_stream_unread(&conn->stream) && !conn->stream.in_held)
        ss_in_release(loop, &conn->stream);
}

/* More of a head or of a small body is to come. */
static void await_bytes(ss_loop *loop, ss_conn *conn) {
    ss_in_settle(loop, &conn->stream, true);
    if (conn->stream.io.ready & SS_READ)
        ss_pending_add(loop, &conn->stream.io);
}

/* Of a body that is awaited, `have` bytes are here by now: its deadline moves. */
static void note_body(ss_loop *loop, ss_conn *conn, uint64_t have) {
    if (have <= conn->body_seen)
        return;
    ss_progress_waited(loop, conn, false);
    ss_progress_body_came(conn, (int64_t)(have - conn->body_seen));
    ss_progress_await_body(loop, conn);
    conn->body_seen = have;
}

/* May free conn. */
static void await_small_body(ss_loop *loop, ss_conn *conn) {
    if (ss_request_buffers_full(loop, conn)) {
        ss_conn_refuse_now(loop, conn, SS_BUFFERS_FULL);
        return;
    }
    note_body(loop, conn, ss_stream_unread(&conn->stream));
    await_bytes(loop, conn);
}

/* Bodies that are awaited may hold half of all buffers: the rest is for who needs less. */
static bool too_much_awaited(const ss_loop *loop, const ss_conn *conn) {
    const ss_listener_config *config = ss_conn_config(conn);
    bool large = conn->piece_left > config->buffered_body;
    return large && config->max_buffers && ss_streams_of(loop)->held_bytes > config->max_buffers / 2;
}

/* More of a chunked body is to come. May free conn. */
static void await_chunks(ss_loop *loop, ss_conn *conn) {
    uint64_t most = ss_conn_config(conn)->max_body;
    bool nothing = !conn->piece_left && !ss_stream_unread(&conn->stream);
    if (most && (conn->piece_left > most || conn->chunked.left > most - conn->piece_left)) {
        ss_conn_refuse_now(loop, conn, SS_BODY_TOO_LARGE);
    } else if (ss_request_buffers_full(loop, conn) || too_much_awaited(loop, conn)) {
        ss_conn_refuse_now(loop, conn, SS_BUFFERS_FULL);
    } else if (conn->piece_left > ss_conn_config(conn)->buffered_chunked) {
        conn->body_seen = 0; /* of what the application reads */
        report(loop, conn);
    } else {
        if (conn->expect_due && nothing)
            (void)ss_response_invite_body(loop, conn);
        conn->expect_due = false;
        await_bytes(loop, conn);
    }
}

/* May free conn. */
static void advance_chunks(ss_loop *loop, ss_conn *conn) {
    uint64_t most = ss_conn_config(conn)->max_body;
    int answer = ss_body_collect(conn);
    note_body(loop, conn, conn->decoded ? conn->body_left : conn->piece_left);
    if (answer == SS_ERROR)
        ss_conn_refuse_now(loop, conn, conn->chunked.refusal);
    else if (answer == SS_NEED_DATA)
        await_chunks(loop, conn);
    else if (most && conn->body_left > most)
        ss_conn_refuse_now(loop, conn, SS_BODY_TOO_LARGE);
    else
        report(loop, conn);
}

/* May free conn. */
static void advance_body(ss_loop *loop, ss_conn *conn) {
    if (conn->chunked_body)
        advance_chunks(loop, conn);
    else if (ss_stream_unread(&conn->stream) >= conn->body_left)
        report(loop, conn);
    else
        await_small_body(loop, conn);
}

/* May free conn. */
static void await_head(ss_loop *loop, ss_conn *conn) {
    if (!conn->partial && !conn->last_chance) /* a server that stops has set a shorter one */
        ss_conn_deadline(loop, conn, ss_conn_config(conn)->head_timeout);
    conn->partial = true;
    ss_in_settle(loop, &conn->stream, true);
    if (ss_request_buffers_full(loop, conn))
        ss_conn_refuse_now(loop, conn, SS_BUFFERS_FULL);
    else if (conn->stream.io.ready & SS_READ)
        ss_pending_add(loop, &conn->stream.io);
}

/* May free conn. */
static void head_complete(ss_loop *loop, ss_conn *conn, ss_memo_entry *block) {
    int answer = ss_request_begin(loop, conn, block);
    if (answer == SS_ERROR) {
        ss_conn_refuse_now(loop, conn, conn->head.refusal);
    } else if (answer != SS_OK) {
        ss_conn_close(loop, conn);
    } else if (ss_request_awaits_body(conn)) {
        ss_conn_move(loop, conn, SS_CONN_BODY);
        conn->partial = false;
        ss_progress_await_body(loop, conn);
        advance_body(loop, conn);
    } else {
        report(loop, conn);
    }
}

/* False: the rest of it is to come, or the connection is gone. The deadline stays that of the accept. */
static bool take_proxy_header(ss_loop *loop, ss_conn *conn) {
    int answer = ss_request_proxy_header(conn);
    if (answer == SS_ERROR) {
        ss_stream_report_refusal(loop, &conn->stream, SS_BAD_PROXY_HEADER, NULL, 0);
        ss_conn_close(loop, conn);
        return false;
    }
    if (answer == SS_OK && ss_stream_unread(&conn->stream))
        return true;
    await_bytes(loop, conn);
    return false;
}

/* Goes as far as the buffered bytes allow, to at most one request. May free conn. */
static void advance(ss_loop *loop, ss_conn *conn) {
    ss_stream *stream = &conn->stream;
    ss_memo_entry *block;
    if (loop->request_count == SS_BATCH) {
        ss_pending_add(loop, &stream->io);
        return;
    }
    if (conn->state == SS_CONN_BODY) {
        advance_body(loop, conn);
        return;
    }
    if (!ss_stream_unread(stream)) {
        ss_in_settle(loop, stream, true);
        return;
    }
    if (conn->proxy_due && !take_proxy_header(loop, conn))
        return;
    switch (ss_request_parse(conn, &block)) {
    case SS_OK:
        head_complete(loop, conn, block);
        break;
    case SS_NEED_DATA:
        await_head(loop, conn);
        break;
    default:
        ss_conn_refuse_now(loop, conn, conn->head.refusal);
        break;
    }
}

/* Nothing more comes. May free conn. */
static void input_ended(ss_loop *loop, ss_conn *conn, bool broken) {
    if (broken)
        ss_conn_close(loop, conn);
    else if (conn->state == SS_CONN_HEAD)
        ss_conn_end(loop, conn);
    else
        ss_conn_refuse_now(loop, conn, SS_BODY_TRUNCATED);
}

/* Reads once into the read buffer and parses; what is left waits for a turn.
 * Requests that are buffered already are parsed before more is read. May free conn. */
static void read_request(ss_loop *loop, ss_conn *conn) {
    ss_stream *stream = &conn->stream;
    uint32_t buffered = ss_stream_unread(stream);
    bool body = conn->state == SS_CONN_BODY;
    bool wants = !buffered || conn->partial || (body && (conn->chunked_body || buffered < conn->body_left));
    if (stream->io.ready & SS_READ && wants) {
        uint32_t room = !body ? HEAD_ROOM : conn->chunked_body ? CHUNKED_ROOM : (uint32_t)conn->body_left - buffered;
        int64_t count = SS_BROKEN;
        if (ss_in_reserve(loop, stream, room) == SS_OK)
            count = ss_stream_receive(loop, stream, stream->in + stream->in_end, stream->in_capacity - stream->in_end);
        if (count == 0 || count == SS_BROKEN) {
            input_ended(loop, conn, count == SS_BROKEN);
            return;
        }
        stream->in_end += count > 0 ? (uint32_t)count : 0;
    }
    advance(loop, conn);
}

/* ---- readiness ---- */

/* TLS failed, or the socket under it. May free conn. */
static void tls_failed(ss_loop *loop, ss_conn *conn) {
    if (conn->state == SS_CONN_REQUEST)
        ss_conn_fail(loop, conn);
    else if (conn->state == SS_CONN_HEAD || conn->state == SS_CONN_BODY)
        ss_conn_linger(loop, conn); /* an alert may be on its way */
    else
        ss_conn_close(loop, conn);
}

/* What TLS needs comes first. False: there is nothing else to do. May free conn then. */
static bool tls_turn(ss_loop *loop, ss_conn *conn) {
    ss_tls *tls = conn->stream.tls;
    int answer = ss_tls_turn(loop, &conn->stream);
    if (answer == SS_ERROR || tls->failed) {
        tls_failed(loop, conn);
        return false;
    }
    if (tls->opened && conn->state == SS_CONN_HEAD)
        ss_conn_deadline(loop, conn, ss_conn_config(conn)->head_timeout);
    tls->opened = false;
    ss_conn_note_progress(loop, conn);
    return answer == SS_OK;
}

/* May free conn. */
void ss_conn_ready(ss_loop *loop, ss_io *io) {
    ss_conn *conn = (ss_conn *)io;
    if (conn->stream.tls && !tls_turn(loop, conn))
        return;
    switch ((enum ss_conn_state)conn->state) {
    case SS_CONN_HEAD:
    case SS_CONN_BODY:
        if (io->ready & SS_READ || ss_stream_unread(&conn->stream))
            read_request(loop, conn);
        break;
    case SS_CONN_REQUEST:
        request_ready(loop, conn);
        break;
    case SS_CONN_FLUSH:
        if (io->ready & SS_WRITE)
            flush(loop, conn);
        if (conn->stream.dead || !ss_stream_unsent(&conn->stream))
            ss_conn_after_response(loop, conn);
        else if (ss_body_pending(conn))
            ss_drop_meanwhile(loop, conn);
        break;
    case SS_CONN_DISCARD:
        ss_drop_rest(loop, conn);
        break;
    case SS_CONN_LINGER:
        if (io->ready & SS_READ)
            ss_drop_input(loop, conn);
        break;
    default:
        break;
    }
}

/* ---- deadlines ---- */

/* May free conn. */
static void head_expired(ss_loop *loop, ss_conn *conn) {
    const ss_tls *tls = conn->stream.tls;
    if (conn->partial && !conn->proxy_due) {
        ss_conn_refuse_now(loop, conn, SS_HEAD_TIMEOUT);
        return;
    }
    if (conn->proxy_due)
        ss_stream_report_refusal(loop, &conn->stream, SS_PROXY_TIMEOUT, NULL, 0);
    if (tls && tls->known && !tls->open)
        ss_stream_report_refusal(loop, &conn->stream, SS_HANDSHAKE_TIMEOUT, NULL, 0);
    ss_conn_end(loop, conn);
}

static void request_expired(ss_loop *loop, ss_conn *conn) {
    if (ss_stream_unsent(&conn->stream)) {
        if (ss_progress_stalled(loop, conn))
            ss_conn_fail(loop, conn);
    } else if (conn->want_body) {
        conn->body_failed = SS_BODY_TIMEOUT;
        conn->want_body = false;
        ss_conn_tell(loop, conn, SS_EVENT_BODY);
    } else {
        ss_leaving_expired(loop, conn);
    }
}

/* May free conn. */
void ss_conn_expired(ss_loop *loop, ss_io *io) {
    ss_conn *conn = (ss_conn *)io;
    switch ((enum ss_conn_state)conn->state) {
    case SS_CONN_HEAD:
        head_expired(loop, conn);
        break;
    case SS_CONN_BODY:
        ss_conn_refuse_now(loop, conn, SS_BODY_TIMEOUT);
        break;
    case SS_CONN_REQUEST:
        request_expired(loop, conn);
        break;
    case SS_CONN_FLUSH:
        if (ss_progress_stalled(loop, conn))
            ss_conn_close(loop, conn);
        break;
    case SS_CONN_DISCARD:
    case SS_CONN_LINGER:
        ss_drop_expired(loop, conn);
        break;
    default:
        ss_conn_close(loop, conn);
        break;
    }
}
