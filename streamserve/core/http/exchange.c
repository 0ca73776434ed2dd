/* What Python does with a request: it reads the body, sends the response, ends it.
 *
 * A request that was reported belongs to Python until one of these ends it; then the
 * driver decides what comes (connection.c), and conn may be gone. */

#define _GNU_SOURCE
#include "http/http.h"

#include <errno.h>
#include <fcntl.h>

/* ---- the body of the request ---- */

/* 100 goes out once, when the application wants a body of which nothing came. */
static void invite_body(ss_loop *loop, ss_conn *conn) {
    if (!conn->response_started && !ss_stream_unread(&conn->stream))
        (void)ss_response_invite_body(loop, conn);
}

int64_t ss_conn_read(ss_loop *loop, int64_t handle, char *into, int64_t capacity) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (conn->state != SS_CONN_REQUEST || capacity <= 0)
        return SS_MISUSE;
    int64_t count = ss_body_read(loop, conn, into, (size_t)capacity);
    if (count == SS_WAIT && conn->expect_due) {
        conn->stream.io.ready |= SS_READ; /* it may have come since the last poll */
        count = ss_body_read(loop, conn, into, (size_t)capacity);
        if (count == SS_WAIT)
            invite_body(loop, conn);
    }
    conn->expect_due = false;
    if (count > 0)
        ss_progress_body_came(conn, count);
    if (count == SS_WAIT)
        ss_conn_await_body(loop, conn);
    return count;
}

int64_t ss_conn_body_left(ss_loop *loop, int64_t handle) {
    const ss_conn *conn = ss_conn_find(loop, handle);
    return conn ? (int64_t)conn->body_left : SS_GONE;
}

int ss_conn_broken(ss_loop *loop, int64_t handle) {
    const ss_conn *conn = ss_conn_find(loop, handle);
    return conn ? conn->body_failed : SS_GONE;
}

int ss_conn_hung_up(ss_loop *loop, int64_t handle) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (conn->state != SS_CONN_REQUEST)
        return SS_MISUSE;
    bool ended = conn->stream.dead || conn->stream.io.ready & (SS_HUP | SS_FAIL);
    conn->want_end = !ended;
    return ended;
}

/* ---- the response ---- */

static bool misused(const ss_conn *conn, int flags, int64_t body_length) {
    if (conn->state != SS_CONN_REQUEST || body_length < 0)
        return true;
    return ((flags & SS_SEND_HEAD) != 0) == conn->response_started;
}

/* Whether the connection outlives this response must be known when its head is sent.
 * Who still waits for 100 Continue will not get it any more: nobody knows whether
 * it sends its body. */
static void decide_persistence(ss_conn *conn, int flags) {
    if (conn->expect_due)
        conn->persist = false;
    if (conn->stream.listener->draining || flags & SS_SEND_CLOSE)
        conn->persist = false;
    if (ss_body_pending(conn) && !ss_body_droppable(conn))
        conn->persist = false;
}

/* What the end of this response will be, before its head leaves. */
static void decide_end(ss_conn *conn, int flags) {
    decide_persistence(conn, flags);
    if ((flags & (SS_SEND_CLOSE | SS_SEND_LAST | SS_SEND_CHUNKED | SS_SEND_NO_BODY | SS_SEND_LENGTH)) == SS_SEND_CLOSE)
        ss_conn_end_tells(conn, true);
}

/* A part of the response was sent, as `answer` says: what is queued of it, or what failed. May free conn. */
static int64_t after_part(ss_loop *loop, ss_conn *conn, int answer, int flags, bool stalled) {
    int64_t queued = conn->stream.out.bytes;
    if (queued)
        loop->now = ss_clock(loop);
    if (flags & SS_SEND_LAST)
        ss_conn_response_ended(loop, conn);
    else if (answer == SS_OK && queued)
        ss_conn_response_goes_on(loop, conn, stalled);
    return answer == SS_OK ? queued : answer;
}

int64_t ss_conn_send(ss_loop *loop, int64_t handle, const char *head, int64_t head_length, const char *body,
                     int64_t body_length, int flags) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (misused(conn, flags, body_length) || head_length < 0)
        return SS_MISUSE;
    if (flags & SS_SEND_HEAD)
        decide_end(conn, flags);
    else if (flags & SS_SEND_CLOSE)
        conn->persist = false;
    conn->response_started = true;
    conn->chunked_response = (flags & SS_SEND_CHUNKED) != 0;
    struct iovec pieces[SS_RESPONSE_PIECES] = {
        {.iov_base = (char *)(uintptr_t)head, .iov_len = flags & SS_SEND_HEAD ? (size_t)head_length : 0},
        {0},
        {.iov_base = (char *)(uintptr_t)body, .iov_len = (size_t)body_length},
        {0},
    };
    bool stalled = conn->stream.out.first != NULL;
    bool waits = !stalled && ss_pieces_may_wait(loop, conn, body_length, flags);
    int answer = conn->stream.dead ? SS_BROKEN : ss_response_send(loop, conn, pieces, flags, waits);
    ss_pieces_sent(loop, conn, waits);
    return after_part(loop, conn, answer, flags, stalled);
}

int64_t ss_conn_respond(ss_loop *loop, int64_t handle, const ss_response_head *head, const char *body,
                        int64_t body_length) {
    return ss_conn_send(loop, handle, head->data, head->length, body, body_length, head->flags);
}

int64_t ss_conn_send_frame(ss_loop *loop, int64_t handle, ss_frame *frame) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (misused(conn, 0, 0))
        return SS_MISUSE;
    bool stalled = conn->stream.out.first != NULL;
    int answer = conn->stream.dead ? SS_BROKEN : ss_stream_send_frame(loop, &conn->stream, frame);
    return after_part(loop, conn, answer, 0, stalled);
}

int64_t ss_conn_interim(ss_loop *loop, int64_t handle, const char *data, int64_t length) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (conn->state != SS_CONN_REQUEST || conn->response_started || length < 0)
        return SS_MISUSE;
    bool stalled = conn->stream.out.first != NULL;
    struct iovec piece = {.iov_base = (char *)(uintptr_t)data, .iov_len = (size_t)length};
    int answer = conn->stream.dead ? SS_BROKEN : ss_stream_send(loop, &conn->stream, &piece, 1, false);
    return after_part(loop, conn, answer, 0, stalled);
}

int64_t ss_conn_send_file(ss_loop *loop, int64_t handle, const ss_response_head *head, int fd, int64_t offset,
                          int64_t count) {
    ss_conn *conn = ss_conn_find(loop, handle);
    int flags = head->flags | SS_SEND_HEAD | SS_SEND_LAST;
    if (!conn)
        return SS_GONE;
    if (misused(conn, flags, count) || conn->stream.tls || flags & (SS_SEND_CHUNKED | SS_SEND_NO_BODY))
        return SS_MISUSE;
    ss_segment *file = count ? ss_file_new(loop, fd, offset, count) : NULL;
    if (count && !file)
        return loop->error ? SS_SYSTEM : SS_NOMEM;
    decide_persistence(conn, flags);
    conn->response_started = true;
    loop->now = ss_clock(loop);
    struct iovec start = {.iov_base = (char *)(uintptr_t)head->data, .iov_len = (size_t)head->length};
    int answer = conn->stream.dead ? SS_BROKEN : ss_response_send_head(loop, conn, start, count, flags);
    if (file)
        ss_out_put_file(&conn->stream.out, file);
    if (answer == SS_OK && conn->stream.io.ready & SS_WRITE)
        (void)ss_stream_flush(loop, &conn->stream); /* a failure is seen below: it is dead */
    ss_conn_response_ended(loop, conn);
    return answer;
}

int64_t ss_conn_queued(ss_loop *loop, int64_t handle) {
    const ss_conn *conn = ss_conn_find(loop, handle);
    return conn ? conn->stream.out.bytes : SS_GONE;
}

/* ---- other ends ---- */

int ss_conn_refuse(ss_loop *loop, int64_t handle, int refusal) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (conn->state != SS_CONN_REQUEST || conn->response_started)
        return SS_MISUSE;
    loop->now = ss_clock(loop);
    ss_conn_refuse_now(loop, conn, (enum ss_refusal)refusal);
    return SS_OK;
}

int ss_tls_refuse_plain(ss_loop *loop, int64_t handle) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn || !conn->stream.tls)
        return SS_GONE;
    if (conn->state != SS_CONN_HEAD || conn->stream.tls->open)
        return SS_MISUSE;
    loop->now = ss_clock(loop);
    ss_tls_close(loop, &conn->stream);
    ss_conn_refuse_now(loop, conn, SS_PLAIN_HTTP);
    return SS_OK;
}

int ss_conn_abort(ss_loop *loop, int64_t handle, int reset) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (reset) {
        const struct linger hard = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(conn->stream.io.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    }
    ss_conn_close(loop, conn);
    return SS_OK;
}

int ss_conn_address(ss_loop *loop, int64_t handle, int local, char *text, int capacity) {
    const ss_conn *conn = ss_conn_find(loop, handle);
    return conn ? ss_stream_address(&conn->stream, local, text, capacity) : SS_GONE;
}

/* ---- leaving the core, and coming in from outside ---- */

int ss_conn_detach(ss_loop *loop, int64_t handle, char *into, int64_t capacity, int64_t *taken) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    const ss_stream *stream = &conn->stream;
    uint32_t unread = ss_stream_unread(stream);
    if (conn->state != SS_CONN_REQUEST || stream->tls || stream->out.first || conn->piece_left || conn->decoded ||
        (int64_t)unread > capacity)
        return SS_MISUSE;
    if (unread)
        memcpy(into, stream->in + stream->in_start, unread);
    *taken = unread;
    return ss_conn_leave(loop, conn);
}

int64_t ss_conn_adopt(ss_loop *loop, int number, int fd, const char *unread, int64_t length) {
    ss_listener *listener = ss_listener_find(loop, number);
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof peer;
    if (!listener)
        return SS_GONE;
    if (!listener->protocol || listener->config.tls || listener->draining || length < 0 || length > INT32_MAX / 4)
        return SS_MISUSE;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        getpeername(fd, (struct sockaddr *)&peer, &size) < 0) {
        loop->error = errno;
        return SS_SYSTEM;
    }
    ss_stream *stream = ss_stream_make(loop, listener, fd, &peer);
    if (!stream)
        return loop->error ? SS_SYSTEM : SS_NOMEM;
    if (ss_in_put(loop, stream, unread, (uint32_t)length) != SS_OK) {
        ss_stream_close(loop, stream, true);
        return SS_NOMEM;
    }
    loop->now = ss_clock(loop);
    listener->protocol->accepted(loop, stream, false);
    ((ss_conn *)stream)->proxy_due = false; /* it came before what was read */
    ss_pending_add(loop, &stream->io);
    return ss_io_handle(&stream->io);
}
