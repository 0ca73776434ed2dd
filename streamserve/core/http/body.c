/* Request bodies: read by Python, or dropped when Python did not.
 *
 * Nothing is read from the socket before somebody asks, so a slow application
 * slows its client down and nothing piles up. A Content-Length body goes from
 * the socket into the reader's own memory. */

#define _GNU_SOURCE
#include "loop/loop.h"

#include <errno.h>

#define DISCARD_READS 16   /* reads of one turn while a body is dropped */
#define CHUNKED_ROOM 4608u /* bytes: the longest chunk line, and some data behind it */

/* One recv. A short count means that the socket is drained, unless FIN is
 * behind it; then the bit stays, for the read that returns 0. */
int64_t ss_socket_receive(ss_conn *conn, char *into, size_t room) {
    ssize_t count;
    do
        count = recv(conn->io.fd, into, room, 0);
    while (count < 0 && errno == EINTR);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        conn->io.ready &= (uint8_t)~SS_READ;
        return SS_WAIT;
    }
    if (count < 0)
        return SS_BROKEN;
    if (count > 0 && (size_t)count < room && !(conn->io.ready & SS_HUP))
        conn->io.ready &= (uint8_t)~SS_READ;
    return count;
}

int64_t ss_conn_receive(ss_conn *conn, char *into, size_t room) {
    return conn->tls ? ss_tls_receive(conn) : ss_socket_receive(conn, into, room);
}

bool ss_body_pending(const ss_conn *conn) {
    return conn->chunked_body ? !conn->chunked.done : conn->body_left > 0;
}

/* May the rest be dropped so that the connection lives? Not when the client
 * still waits for 100 Continue (nobody knows whether it will send the body), and
 * not when the rest is large. */
bool ss_body_droppable(const ss_conn *conn) {
    if (conn->expect_due || conn->body_failed)
        return false;
    return conn->chunked_body || conn->body_left <= conn->listener->config.drain_limit;
}

static int64_t failed(ss_conn *conn, enum ss_refusal refusal) {
    conn->body_failed = (uint8_t)refusal;
    conn->persist = false;
    return SS_BROKEN;
}

static int64_t received_none(ss_conn *conn, int64_t count) {
    if (count == SS_BROKEN)
        conn->dead = true;
    return count == 0 ? failed(conn, SS_BODY_TRUNCATED) : count;
}

static int64_t read_length(ss_loop *loop, ss_conn *conn, char *into, size_t capacity) {
    size_t wanted = conn->body_left < capacity ? (size_t)conn->body_left : capacity;
    uint32_t buffered = conn->in_end - conn->in_start;
    int64_t count;
    if (wanted == 0)
        return 0;
    if (buffered) {
        count = (int64_t)(wanted < buffered ? wanted : buffered);
        memcpy(into, conn->in + conn->in_start, (size_t)count);
        conn->in_start += (uint32_t)count;
        if (conn->in_start == conn->in_end)
            ss_in_release(loop, conn);
    } else {
        if (!(conn->io.ready & SS_READ))
            return SS_WAIT;
        count = ss_conn_receive(conn, into, wanted);
        if (count <= 0)
            return received_none(conn, count);
    }
    conn->body_left -= (uint64_t)count;
    return count;
}

/* Copies out of the decoded piece that is waiting. */
static int64_t take_piece(ss_loop *loop, ss_conn *conn, char *into, size_t capacity) {
    uint32_t count = conn->piece_left < capacity ? conn->piece_left : (uint32_t)capacity;
    memcpy(into, conn->in + conn->piece_at, count);
    conn->piece_at += count;
    conn->piece_left -= count;
    conn->body_seen += count;
    if (!conn->piece_left && conn->in_start == conn->in_end)
        ss_in_release(loop, conn);
    uint64_t most = conn->listener->config.max_body;
    if (most && conn->body_seen > most && conn->state == SS_CONN_REQUEST)
        return failed(conn, SS_BODY_TOO_LARGE);
    return count;
}

static int64_t fill(ss_loop *loop, ss_conn *conn) {
    if (!(conn->io.ready & SS_READ))
        return SS_WAIT;
    if (ss_in_reserve(loop, conn, CHUNKED_ROOM) != SS_OK) {
        conn->dead = true;
        return SS_BROKEN;
    }
    int64_t count = ss_conn_receive(conn, conn->in + conn->in_end, conn->in_capacity - conn->in_end);
    if (count <= 0)
        return received_none(conn, count);
    conn->in_end += (uint32_t)count;
    return count;
}

static int64_t read_chunked(ss_loop *loop, ss_conn *conn, char *into, size_t capacity) {
    while (!conn->piece_left) {
        if (conn->chunked.done)
            return 0;
        uint32_t used = 0;
        ss_span body = {0};
        int answer = SS_NEED_DATA;
        if (conn->in_start < conn->in_end)
            answer =
                ss_chunked_next(&conn->chunked, conn->in + conn->in_start, conn->in_end - conn->in_start, &used, &body);
        if (answer == SS_ERROR)
            return failed(conn, conn->chunked.refusal);
        if (answer == SS_OK) {
            conn->piece_at = conn->in_start + body.offset;
            conn->piece_left = body.length;
        }
        conn->in_start += used;
        if (answer == SS_NEED_DATA) {
            int64_t count = fill(loop, conn);
            if (count <= 0)
                return count;
        }
    }
    return take_piece(loop, conn, into, capacity);
}

static int64_t read_body(ss_loop *loop, ss_conn *conn, char *into, size_t capacity) {
    if (conn->dead || conn->body_failed)
        return SS_BROKEN;
    if (conn->chunked_body)
        return read_chunked(loop, conn, into, capacity);
    return read_length(loop, conn, into, capacity);
}

/* 100 goes out once, when the application wants a body of which nothing came. */
static void invite_body(ss_loop *loop, ss_conn *conn) {
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (conn->response_started || conn->in_start < conn->in_end)
        return;
    ssize_t count = conn->tls ? 0 : send(conn->io.fd, line, sizeof line - 1, MSG_NOSIGNAL);
    size_t sent = count > 0 ? (size_t)count : 0;
    if (sent == sizeof line - 1 || ss_out_append(loop, conn, line + sent, sizeof line - 1 - sent) != SS_OK)
        return;
    if (conn->tls)
        ss_tls_ask(loop, conn, SS_TLS_WRITE);
    else
        conn->io.ready &= (uint8_t)~SS_WRITE;
}

int64_t ss_conn_read(ss_loop *loop, int64_t handle, char *into, int64_t capacity) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (conn->state != SS_CONN_REQUEST || capacity <= 0)
        return SS_MISUSE;
    int64_t count = read_body(loop, conn, into, (size_t)capacity);
    if (count == SS_WAIT && conn->expect_due) {
        conn->io.ready |= SS_READ; /* it may have come since the last poll */
        count = read_body(loop, conn, into, (size_t)capacity);
        if (count == SS_WAIT)
            invite_body(loop, conn);
    }
    conn->expect_due = false;
    if (count == SS_WAIT) {
        loop->now = ss_clock(loop);
        conn->want_body = true;
        ss_deadline_set(loop, &conn->io, conn->listener->config.body_timeout);
    }
    return count;
}

int ss_conn_broken(ss_loop *loop, int64_t handle) {
    const ss_conn *conn = ss_conn_find(loop, handle);
    return conn ? conn->body_failed : SS_GONE;
}

/* State DISCARD: drops what is left of the body, within its limit. */
void ss_body_discard(ss_loop *loop, ss_conn *conn) {
    for (int turn = 0; turn < DISCARD_READS; turn++) {
        uint64_t seen = conn->body_seen;
        int64_t count = read_body(loop, conn, loop->scratch, sizeof loop->scratch);
        if (count == SS_WAIT)
            return;
        conn->body_seen = seen + (count > 0 ? (uint64_t)count : 0);
        if (count < 0 || conn->body_seen > conn->listener->config.drain_limit)
            conn->persist = false;
        if (count <= 0 || !conn->persist) {
            ss_conn_after_response(loop, conn);
            return;
        }
    }
    ss_pending_add(loop, &conn->io);
}
