/* Input that nobody reads any more is dropped: after an early answer the rest of the upload.
 *
 * A client may send all of its body before it reads (a proxy that buffers, most libraries).
 * To close over what it sends is a reset, on which it drops the answer; not to read it
 * blocks it for ever. So the rest is dropped while it makes progress, with the longest pause
 * and the whole time bounded: in DISCARD when the connection lives on, in LINGER, behind our
 * shutdown, when it does not, and in FLUSH already, beside an answer that it does not take yet.
 *
 * What means nothing (after a malformed head or chunk, or behind the last request) is dropped
 * briefly: for a moment, and a megabyte at most. */

#include "http/http.h"

#define DROP_READS 16        /* reads of one turn */
#define BRIEF_BYTES 1048576u /* most of what means nothing that is dropped before closing anyway */

/* Something came: the pause begins anew, the whole time does not. */
static void went_on(ss_loop *loop, const ss_conn *conn) {
    int64_t pause = ss_conn_config(conn)->discard_timeout;
    if (conn->drop_until) {
        int64_t left = conn->drop_until > loop->now ? conn->drop_until - loop->now : 1;
        if (!pause || left < pause)
            pause = left;
    }
    ss_conn_deadline(loop, conn, pause);
}

void ss_drop_begin(ss_loop *loop, ss_conn *conn) {
    int64_t total = ss_conn_config(conn)->discard_total;
    conn->body_seen = 0;
    conn->drop_until = total && !conn->brief ? loop->now + total : 0;
    if (conn->brief)
        ss_conn_deadline(loop, conn, ss_conn_config(conn)->linger_timeout);
    else
        went_on(loop, conn);
}

static void count_dropped(ss_conn *conn, uint64_t count) {
    if (!conn->chunked_body)
        conn->body_left -= count < conn->body_left ? count : conn->body_left;
}

/* The connection ends: nothing that it has read is parsed any more. */
void ss_drop_unread(ss_loop *loop, ss_conn *conn) {
    count_dropped(conn, ss_stream_unread(&conn->stream));
    ss_in_release(loop, &conn->stream);
    conn->piece_left = 0;
}

/* One read of a connection that ends. The count, 0: the peer has ended, SS_WAIT, SS_BROKEN. */
static int64_t drop_bytes(ss_loop *loop, ss_conn *conn) {
    ss_drop_unread(loop, conn);
    if (!(conn->stream.io.ready & SS_READ))
        return SS_WAIT;
    int64_t count = ss_stream_receive(loop, &conn->stream, ss_streams_of(loop)->scratch, SS_SCRATCH);
    conn->body_seen += count > 0 ? (uint64_t)count : 0;
    count_dropped(conn, count > 0 ? (uint64_t)count : 0);
    return count;
}

/* One read of a body behind which a request may come. The count, 0 at its end, SS_WAIT, SS_BROKEN. */
static int64_t drop_body(ss_loop *loop, ss_conn *conn) {
    uint64_t seen = conn->body_seen;
    int64_t count = ss_body_read(loop, conn, ss_streams_of(loop)->scratch, SS_SCRATCH);
    if (count == SS_WAIT)
        return count;
    conn->body_seen = seen + (count > 0 ? (uint64_t)count : 0);
    if (count < 0)
        conn->persist = false;
    return count;
}

/* In FLUSH: a client that sends all of its body before it reads may go on. May free conn. */
void ss_drop_meanwhile(ss_loop *loop, ss_conn *conn) {
    for (int turn = 0; turn < DROP_READS; turn++) {
        if (!ss_body_pending(conn))
            return;
        int64_t count = conn->persist ? drop_body(loop, conn) : drop_bytes(loop, conn);
        if (count == SS_BROKEN && !conn->persist && !conn->body_failed) {
            conn->stream.dead = true;
            ss_conn_after_response(loop, conn);
            return;
        }
        if (count <= 0)
            return;
    }
    ss_pending_add(loop, &conn->stream.io);
}

/* In DISCARD. May free conn. */
void ss_drop_rest(ss_loop *loop, ss_conn *conn) {
    for (int turn = 0; turn < DROP_READS; turn++) {
        int64_t count = drop_body(loop, conn);
        if (count == SS_WAIT)
            return;
        if (count <= 0 || !conn->persist) {
            ss_conn_after_response(loop, conn);
            return;
        }
        went_on(loop, conn);
    }
    ss_pending_add(loop, &conn->stream.io);
}

/* In LINGER. May free conn. */
void ss_drop_input(ss_loop *loop, ss_conn *conn) {
    for (int turn = 0; turn < DROP_READS; turn++) {
        int64_t count = drop_bytes(loop, conn);
        if (count == SS_WAIT)
            return;
        if (count <= 0 || (conn->brief && conn->body_seen > BRIEF_BYTES)) {
            ss_conn_close(loop, conn);
            return;
        }
        if (!conn->brief && !ss_body_pending(conn)) { /* all of it is here, and the peer has its answer */
            conn->brief = true;
            ss_drop_begin(loop, conn);
        } else if (!conn->brief) {
            went_on(loop, conn);
        }
    }
    ss_pending_add(loop, &conn->stream.io);
}

/* The deadline passed in DISCARD or LINGER. May free conn. */
void ss_drop_expired(ss_loop *loop, ss_conn *conn) {
    conn->persist = false;
    conn->brief = true;
    if (conn->state == SS_CONN_DISCARD)
        ss_conn_after_response(loop, conn);
    else
        ss_conn_close(loop, conn);
}
