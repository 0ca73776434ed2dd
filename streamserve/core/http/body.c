/* Request bodies: read by Python, or dropped when Python did not.
 *
 * Nothing is read from the socket before somebody asks, so a slow application
 * slows its client down and nothing piles up. A Content-Length body goes from
 * the socket into the reader's own memory. Small bodies alone are awaited before the
 * application runs: a chunked one is decoded in place then, and is one of a known length,
 * which is what applications understand. The buffer grows as its bytes come. */

#include "http/http.h"

bool ss_body_pending(const ss_conn *conn) {
    return conn->chunked_body ? !conn->chunked.done : conn->body_left > 0;
}

/* Does a chunked body end within what was read? */
static bool ends_at_hand(const ss_conn *conn) {
    ss_chunked probe = conn->chunked;
    const char *data = conn->stream.in + conn->stream.in_start;
    uint32_t left = ss_stream_unread(&conn->stream), used;
    ss_span body;
    while (left && !probe.done) {
        if (ss_chunked_next(&probe, data, left, &used, &body) != SS_OK)
            return false;
        data += used;
        left -= used;
    }
    return probe.done;
}

/* May the rest be dropped so that the connection lives? Not when the client
 * still waits for 100 Continue (nobody knows whether it will send the body),
 * not when the rest is large, or nobody knows how large. */
bool ss_body_droppable(const ss_conn *conn) {
    if (conn->expect_due || conn->body_failed)
        return false;
    if (conn->chunked_body)
        return ends_at_hand(conn);
    return conn->body_left <= ss_conn_config(conn)->drain_limit || conn->body_left <= ss_stream_unread(&conn->stream);
}

static int64_t failed(ss_conn *conn, enum ss_refusal refusal) {
    conn->body_failed = (uint8_t)refusal;
    conn->persist = false;
    conn->brief |= refusal != SS_BODY_TOO_LARGE;
    return SS_BROKEN;
}

static int64_t received_none(ss_conn *conn, int64_t count) {
    if (count == SS_BROKEN)
        conn->stream.dead = true;
    return count == 0 ? failed(conn, SS_BODY_TRUNCATED) : count;
}

static int64_t read_length(ss_loop *loop, ss_conn *conn, char *into, size_t capacity) {
    ss_stream *stream = &conn->stream;
    size_t wanted = conn->body_left < capacity ? (size_t)conn->body_left : capacity;
    uint32_t buffered = ss_stream_unread(stream);
    int64_t count;
    if (wanted == 0)
        return 0;
    if (buffered) {
        count = (int64_t)(wanted < buffered ? wanted : buffered);
        memcpy(into, stream->in + stream->in_start, (size_t)count);
        stream->in_start += (uint32_t)count;
        if (!ss_stream_unread(stream))
            ss_in_release(loop, stream);
    } else {
        if (!(stream->io.ready & SS_READ))
            return SS_WAIT;
        count = ss_stream_receive(loop, stream, into, wanted);
        if (count <= 0)
            return received_none(conn, count);
    }
    conn->body_left -= (uint64_t)count;
    return count;
}

/* Copies out of the decoded piece that is waiting: it begins in_held before in_start. */
static int64_t take_piece(ss_loop *loop, ss_conn *conn, char *into, size_t capacity) {
    ss_stream *stream = &conn->stream;
    uint32_t count = conn->piece_left < capacity ? conn->piece_left : (uint32_t)capacity;
    memcpy(into, stream->in + stream->in_start - stream->in_held, count);
    conn->piece_left -= count;
    stream->in_held = conn->piece_left ? stream->in_held - count : 0;
    conn->body_seen += count;
    if (!conn->piece_left && !ss_stream_unread(stream))
        ss_in_release(loop, stream);
    uint64_t most = ss_conn_config(conn)->max_body;
    if (most && conn->body_seen > most && conn->state == SS_CONN_REQUEST)
        return failed(conn, SS_BODY_TOO_LARGE);
    return count;
}

static int64_t fill(ss_loop *loop, ss_conn *conn) {
    ss_stream *stream = &conn->stream;
    if (!(stream->io.ready & SS_READ))
        return SS_WAIT;
    if (ss_in_reserve(loop, stream, CHUNKED_ROOM) != SS_OK) {
        stream->dead = true;
        return SS_BROKEN;
    }
    int64_t count = ss_stream_receive(loop, stream, stream->in + stream->in_end, stream->in_capacity - stream->in_end);
    if (count <= 0)
        return received_none(conn, count);
    stream->in_end += (uint32_t)count;
    return count;
}

/* Decodes up to the next piece. SS_OK: it is there, or the body has ended; SS_NEED_DATA; SS_ERROR. */
static int decode(ss_conn *conn) {
    ss_stream *stream = &conn->stream;
    uint32_t used = 0;
    ss_span body = {0};
    if (!ss_stream_unread(stream))
        return SS_NEED_DATA;
    int answer = ss_chunked_next(&conn->chunked, stream->in + stream->in_start, ss_stream_unread(stream), &used, &body);
    if (answer == SS_ERROR)
        return SS_ERROR;
    stream->in_start += used;
    if (answer == SS_OK) {
        conn->piece_left = body.length;
        stream->in_held = body.length ? used - body.offset : 0;
    }
    return answer;
}

/* The chunk that has begun, with what came before it, is more than may come: also where its bytes never come. */
static bool announced_too_much(const ss_conn *conn) {
    uint64_t most = ss_conn_config(conn)->max_body;
    return most && conn->state == SS_CONN_REQUEST &&
           (conn->body_seen > most || conn->chunked.left > most - conn->body_seen);
}

static int64_t read_chunked(ss_loop *loop, ss_conn *conn, char *into, size_t capacity) {
    while (!conn->piece_left) {
        if (conn->chunked.done)
            return 0;
        switch (decode(conn)) {
        case SS_OK:
            break;
        case SS_NEED_DATA: {
            if (announced_too_much(conn))
                return failed(conn, SS_BODY_TOO_LARGE);
            int64_t count = fill(loop, conn);
            if (count <= 0)
                return count;
            break;
        }
        default:
            return failed(conn, conn->chunked.refusal);
        }
    }
    return take_piece(loop, conn, into, capacity);
}

/* Only decoded bytes shall stand before the unread ones. */
static void close_gap(ss_conn *conn) {
    ss_stream *stream = &conn->stream;
    uint32_t gap = stream->in_held - conn->piece_left;
    if (!gap)
        return;
    char *unread = stream->in + stream->in_start;
    memmove(unread - gap, unread, ss_stream_unread(stream));
    stream->in_start -= gap;
    stream->in_end -= gap;
    stream->in_held -= gap;
}

/* Decodes, in place, what has come of a body that is awaited; the decoded bytes are one piece, which waits.
 * SS_OK: it has ended, and is one of a known length from now on; SS_NEED_DATA, also where it has become larger
 * than what is awaited; SS_ERROR: conn->chunked.refusal says why. */
int ss_body_collect(ss_conn *conn) {
    ss_stream *stream = &conn->stream;
    uint32_t most = ss_conn_config(conn)->buffered_chunked;
    while (!conn->chunked.done && ss_stream_unread(stream) && conn->piece_left <= most) {
        char *raw = stream->in + stream->in_start;
        uint32_t used = 0;
        ss_span body = {0};
        int answer = ss_chunked_next(&conn->chunked, raw, ss_stream_unread(stream), &used, &body);
        if (answer == SS_ERROR)
            return answer;
        memmove(raw - stream->in_held + conn->piece_left, raw + body.offset, body.length);
        conn->piece_left += body.length;
        stream->in_start += used;
        stream->in_held += used;
        if (answer == SS_NEED_DATA)
            break;
    }
    close_gap(conn);
    if (!conn->chunked.done)
        return SS_NEED_DATA;
    stream->in_start -= stream->in_held;
    conn->body_left = conn->piece_left;
    stream->in_held = conn->piece_left = 0;
    conn->chunked_body = false;
    conn->decoded = true;
    return SS_OK;
}

/* Decoded bytes of the body: the count, 0 at its end, SS_WAIT, or SS_BROKEN: conn->body_failed
 * says why where the peer broke the framing. */
int64_t ss_body_read(ss_loop *loop, ss_conn *conn, char *into, size_t capacity) {
    if (conn->stream.dead || conn->body_failed)
        return SS_BROKEN;
    if (conn->chunked_body)
        return read_chunked(loop, conn, into, capacity);
    return read_length(loop, conn, into, capacity);
}
