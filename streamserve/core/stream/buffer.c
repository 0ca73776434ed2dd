/* Memory of connections: read buffers that come and go, and output queues.
 *
 * A connection that has nothing to parse holds no read buffer. Bytes arrive in a
 * pooled buffer of SS_READ_BUFFER; what is left over at the end of a turn (half
 * a head or body from a slow client, requests behind a response that a slow client
 * does not take) moves into a block of about its own size, so that
 * ten thousand slow clients cost what they sent and not ten thousand buffers.
 * Blocks grow by doubling, which keeps the copying linear. The loop knows what all of
 * them hold together (held_bytes): over the limit, requests are refused (request.c). */

#include "loop/loop.h"

#include <stdlib.h>

static char *pool_take(ss_loop *loop) {
    char *buffer = loop->spare;
    if (!buffer)
        return malloc(SS_READ_BUFFER);
    memcpy(&loop->spare, buffer, sizeof loop->spare);
    loop->spare_count--;
    return buffer;
}

static void pool_give(ss_loop *loop, char *buffer, uint32_t capacity) {
    if (capacity != SS_READ_BUFFER || loop->spare_count >= SS_SPARE_BUFFERS) {
        free(buffer);
        return;
    }
    memcpy(buffer, &loop->spare, sizeof loop->spare);
    loop->spare = buffer;
    loop->spare_count++;
}

void ss_buffers_free(ss_loop *loop) {
    while (loop->spare)
        free(pool_take(loop));
}

void ss_in_release(ss_loop *loop, ss_conn *conn) {
    if (!conn->in)
        return;
    loop->held_bytes -= conn->in_capacity;
    pool_give(loop, conn->in, conn->in_capacity);
    loop->buffers--;
    conn->in = NULL;
    conn->in_start = conn->in_end = conn->in_capacity = 0;
    conn->piece_at = conn->piece_left = 0;
}

/* Moves [from, in_end) to the start of a buffer of `capacity` bytes. */
static int in_move(ss_loop *loop, ss_conn *conn, uint32_t from, uint32_t capacity) {
    uint32_t kept = conn->in_end - from;
    char *buffer = capacity == SS_READ_BUFFER ? pool_take(loop) : malloc(capacity);
    if (!buffer)
        return SS_NOMEM;
    if (kept)
        memcpy(buffer, conn->in + from, kept);
    if (conn->in)
        pool_give(loop, conn->in, conn->in_capacity);
    else
        loop->buffers++;
    loop->held_bytes += (int64_t)capacity - conn->in_capacity;
    conn->in = buffer;
    conn->in_capacity = capacity;
    conn->in_start -= from;
    conn->piece_at -= conn->piece_left ? from : conn->piece_at;
    conn->in_end = kept;
    return SS_OK;
}

/* The first byte of `in` that is still needed. */
static uint32_t first_needed(const ss_conn *conn) {
    return conn->piece_left ? conn->piece_at : conn->in_start;
}

/* Makes room for at least `room` more bytes behind in_end. */
int ss_in_reserve(ss_loop *loop, ss_conn *conn, uint32_t room) {
    if (conn->in_capacity - conn->in_end >= room)
        return SS_OK;
    uint32_t from = conn->in ? first_needed(conn) : 0;
    uint32_t needed = conn->in_end - from + room;
    if (!conn->piece_left && conn->in_capacity >= needed && from >= conn->in_capacity / 2) {
        memmove(conn->in, conn->in + from, conn->in_end - from);
        conn->in_end -= from;
        conn->in_start = 0;
        return SS_OK;
    }
    uint32_t capacity = SS_READ_BUFFER;
    while (capacity < needed)
        capacity *= 2;
    return in_move(loop, conn, from, capacity);
}

/* At the end of a turn: gives back what is empty, shrinks what is nearly so. */
void ss_in_settle(ss_loop *loop, ss_conn *conn) {
    if (!conn->in)
        return;
    uint32_t from = first_needed(conn);
    uint32_t kept = conn->in_end - from;
    if (kept == 0) {
        ss_in_release(loop, conn);
        return;
    }
    bool waits = conn->state <= SS_CONN_BODY || conn->state == SS_CONN_FLUSH; /* for a client that may be slow */
    if (conn->in_capacity == SS_READ_BUFFER && kept < SS_READ_BUFFER / 4 && waits)
        (void)in_move(loop, conn, from, kept < 256 ? 512 : kept * 2); /* on failure it stays as large as it is */
}

/* ---- output ---- */

int ss_out_append(ss_loop *loop, ss_conn *conn, const char *data, size_t length) {
    uint32_t used = conn->out_end - conn->out_start;
    if (length > UINT32_MAX / 4 - used)
        return SS_NOMEM;
    if (conn->out_capacity - conn->out_end < length) {
        size_t capacity = conn->out_capacity ? conn->out_capacity : length; /* most are the rest of one response */
        while (capacity < used + length)
            capacity *= 2;
        char *out = malloc(capacity);
        if (!out)
            return SS_NOMEM;
        if (used)
            memcpy(out, conn->out + conn->out_start, used);
        free(conn->out);
        loop->held_bytes += (int64_t)capacity - conn->out_capacity;
        conn->out = out;
        conn->out_capacity = (uint32_t)capacity;
        conn->out_start = 0;
        conn->out_end = used;
    }
    if (length)
        memcpy(conn->out + conn->out_end, data, length);
    conn->out_end += (uint32_t)length;
    loop->queued_bytes += (int64_t)length;
    return SS_OK;
}

void ss_out_release(ss_loop *loop, ss_conn *conn) {
    loop->queued_bytes -= conn->out_end - conn->out_start;
    loop->held_bytes -= conn->out_capacity;
    free(conn->out);
    conn->out = NULL;
    conn->out_start = conn->out_end = conn->out_capacity = 0;
}
