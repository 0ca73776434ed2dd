/* Read buffers of streams, which come and go.
 *
 * A stream that has nothing to parse holds no read buffer. Bytes arrive in a
 * pooled buffer of SS_READ_BUFFER; what is left over at the end of a turn (half
 * a head or body from a slow client, requests behind a response that a slow client
 * does not take) moves into a block of about its own size, so that
 * ten thousand slow clients cost what they sent and not ten thousand buffers.
 * Blocks grow by doubling, which keeps the copying linear. The loop knows what all of
 * them hold together (held_bytes): over the limit, requests are refused. */

#include "stream/stream.h"

#include <stdlib.h>

static char *pool_take(ss_streams *streams) {
    char *buffer = streams->spare;
    if (!buffer)
        return malloc(SS_READ_BUFFER);
    memcpy(&streams->spare, buffer, sizeof streams->spare);
    streams->spare_count--;
    return buffer;
}

static void pool_give(ss_streams *streams, char *buffer, uint32_t capacity) {
    if (capacity != SS_READ_BUFFER || streams->spare_count >= SS_SPARE_BUFFERS) {
        free(buffer);
        return;
    }
    memcpy(buffer, &streams->spare, sizeof streams->spare);
    streams->spare = buffer;
    streams->spare_count++;
}

void ss_buffers_free(ss_streams *streams) {
    while (streams->spare)
        free(pool_take(streams));
}

void ss_in_release(ss_loop *loop, ss_stream *stream) {
    ss_streams *streams = ss_streams_of(loop);
    if (!stream->in)
        return;
    streams->held_bytes -= stream->in_capacity;
    pool_give(streams, stream->in, stream->in_capacity);
    streams->buffers--;
    stream->in = NULL;
    stream->in_start = stream->in_end = stream->in_capacity = stream->in_held = 0;
}

/* Moves [from, in_end) to the start of a buffer of `capacity` bytes. */
static int in_move(ss_loop *loop, ss_stream *stream, uint32_t from, uint32_t capacity) {
    ss_streams *streams = ss_streams_of(loop);
    uint32_t kept = stream->in_end - from;
    char *buffer = capacity == SS_READ_BUFFER ? pool_take(streams) : malloc(capacity);
    if (!buffer)
        return SS_NOMEM;
    if (kept)
        memcpy(buffer, stream->in + from, kept);
    if (stream->in)
        pool_give(streams, stream->in, stream->in_capacity);
    else
        streams->buffers++;
    streams->held_bytes += (int64_t)capacity - stream->in_capacity;
    stream->in = buffer;
    stream->in_capacity = capacity;
    stream->in_start -= from;
    stream->in_end = kept;
    return SS_OK;
}

/* Makes room for at least `room` more bytes behind in_end. */
int ss_in_reserve(ss_loop *loop, ss_stream *stream, uint32_t room) {
    if (stream->in_capacity - stream->in_end >= room)
        return SS_OK;
    uint32_t from = stream->in_start - stream->in_held;
    uint32_t needed = stream->in_end - from + room;
    if (stream->in_capacity >= needed && from >= stream->in_capacity / 2) {
        memmove(stream->in, stream->in + from, stream->in_end - from);
        stream->in_end -= from;
        stream->in_start -= from;
        return SS_OK;
    }
    uint32_t capacity = SS_READ_BUFFER;
    while (capacity < needed)
        capacity *= 2;
    return in_move(loop, stream, from, capacity);
}

/* Bytes that came another way than from the socket. */
int ss_in_put(ss_loop *loop, ss_stream *stream, const char *data, uint32_t length) {
    if (!length)
        return SS_OK;
    if (ss_in_reserve(loop, stream, length) != SS_OK)
        return SS_NOMEM;
    memcpy(stream->in + stream->in_end, data, length);
    stream->in_end += length;
    return SS_OK;
}

/* At the end of a turn: gives back what is empty, and if the stream now waits for a peer
 * that may be slow, shrinks what is nearly so. */
void ss_in_settle(ss_loop *loop, ss_stream *stream, bool waits) {
    if (!stream->in)
        return;
    uint32_t from = stream->in_start - stream->in_held;
    uint32_t kept = stream->in_end - from;
    if (kept == 0)
        ss_in_release(loop, stream);
    else if (stream->in_capacity == SS_READ_BUFFER && kept < SS_READ_BUFFER / 4 && waits)
        (void)in_move(loop, stream, from, kept < 256 ? 512 : kept * 2); /* on failure it stays as large as it is */
}
