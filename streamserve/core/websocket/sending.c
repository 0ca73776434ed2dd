/* What Python asks of a WebSocket: messages out, Close, and who is read.
 *
 * The first message of a turn of the loop leaves at once. What follows in the same turn for the same peer is
 * queued, and leaves together when the next poll begins: many small messages are one system call.
 * To a peer of which this turn has several messages, the first one waits too: see records.c. And where the turn has
 * messages of many peers, the answers to some of them leave one behind the other: see holding.c. */

#include "websocket/websocket.h"

#define LAST 0x80        /* FIN: every message of ours is one frame */
#define COMPRESSED 0x40  /* RSV1 */
#define TOGETHER 16384 /* bytes of one turn that wait for its end */
#define ONE_PIECE 1024 /* bytes: copying a shorter message behind its header costs less than sendmsg does */

/* What was queued leaves at the end of the turn; where it has become much, now: a queue that grows for want of a
 * turn is not one that a slow peer lets grow. */
static void let_leave(ss_loop *loop, ss_stream *stream) {
    if (stream->out.bytes >= TOGETHER && stream->io.ready & SS_WRITE && !stream->tls)
        (void)ss_stream_flush(loop, stream);
    ss_pending_add(loop, &stream->io);
}

/* Was something sent in this turn before? Something is now. */
static bool sent_in_turn(const ss_loop *loop, ss_ws *ws) {
    bool again = ws->sent_poll == (uint32_t)loop->polls;
    ws->sent_poll = (uint32_t)loop->polls;
    return again;
}

/* SS_OK, or SS_BROKEN: the stream is dead. */
int ss_ws_transmit(ss_loop *loop, ss_ws *ws, int first, const char *data, size_t length) {
    ss_stream *stream = &ws->stream;
    bool again = sent_in_turn(loop, ws);
    if (ss_ws_hold(loop, ws, first, data, length, again))
        return SS_OK;
    char start[SS_WS_SENT_HEADER + ONE_PIECE];
    struct iovec pieces[2] = {
        {.iov_base = start, .iov_len = ss_ws_header_put(start, first, length)},
        {.iov_base = (char *)(uintptr_t)data, .iov_len = length},
    };
    size_t count = 2;
    if (length <= ONE_PIECE) {
        if (length)
            memcpy(start + pieces[0].iov_len, data, length);
        pieces[0].iov_len += length;
        count = 1;
    }
    if (!again || stream->tls)
        return ss_stream_send(loop, stream, pieces, count, false);
    if (ss_out_append(loop, &stream->out, pieces, count, 0) != SS_OK) {
        stream->dead = true;
        return SS_BROKEN;
    }
    let_leave(loop, stream);
    return stream->dead ? SS_BROKEN : SS_OK;
}

int ss_ws_transmit_close(ss_loop *loop, ss_ws *ws, unsigned code, const char *reason, size_t length) {
    char payload[SS_WS_MOST_CONTROL];
    payload[0] = (char)(code >> 8);
    payload[1] = (char)code;
    if (length)
        memcpy(payload + 2, reason, length);
    return ss_ws_transmit(loop, ws, LAST | SS_WS_CLOSE, payload, code ? length + 2 : 0);
}

static bool sendable(int opcode, int64_t length) {
    if (opcode == SS_WS_PING || opcode == SS_WS_PONG)
        return length >= 0 && length <= SS_WS_MOST_CONTROL;
    return (opcode == SS_WS_TEXT || opcode == SS_WS_BINARY) && length >= 0 && length <= SS_MOST_OUT;
}

static int first_byte(int opcode, int flags) {
    return LAST | opcode | (flags & SS_WS_COMPRESSED ? COMPRESSED : 0);
}

/* Between two polls a failure cannot be reported: the connection's turn does. */
static int64_t after_sending(ss_loop *loop, ss_ws *ws, int answer) {
    int64_t queued = ws->stream.out.bytes;
    if (answer != SS_OK) {
        ss_pending_add(loop, &ws->stream.io);
        return SS_BROKEN;
    }
    ws->want_drain = queued >= ws->stream.listener->config.high_water;
    return queued;
}

int64_t ss_ws_send(ss_loop *loop, int64_t handle, int opcode, const char *data, int64_t length, int flags) {
    if (ss_loop_is_elsewhere(loop))
        return SS_ELSEWHERE;
    ss_ws *ws = ss_ws_find(loop, handle);
    if (!ws || ws->state != SS_WS_OPEN || ws->code)
        return SS_GONE;
    if (!sendable(opcode, length) || (flags & SS_WS_COMPRESSED && !ws->deflate))
        return SS_MISUSE;
    if (ws->stream.dead)
        return SS_BROKEN;
    return after_sending(loop, ws, ss_ws_transmit(loop, ws, first_byte(opcode, flags), data, (size_t)length));
}

int64_t ss_ws_send_text(ss_loop *loop, int64_t handle, const char *data, int64_t length) {
    return ss_ws_send(loop, handle, SS_WS_TEXT, data, length, 0);
}

int64_t ss_ws_queued(ss_loop *loop, int64_t handle) {
    const ss_ws *ws = ss_ws_find(loop, handle);
    return ws && !ws->stream.dead ? ws->stream.out.bytes : SS_GONE;
}

int ss_ws_close(ss_loop *loop, int64_t handle, int code, const char *reason, int64_t length) {
    ss_ws *ws = ss_ws_find(loop, handle);
    if (!ws || ws->state != SS_WS_OPEN || ws->code)
        return SS_GONE;
    if ((code && !ss_ws_code_valid((unsigned)code)) || length < 0 || length > (int64_t)SS_WS_MOST_CONTROL - 2 ||
        (!code && length))
        return SS_MISUSE;
    if (ss_ws_transmit_close(loop, ws, (unsigned)code, reason, (size_t)length) != SS_OK) {
        ss_pending_add(loop, &ws->stream.io);
        return SS_BROKEN;
    }
    ss_ws_begin_closing(loop, ws);
    return SS_OK;
}

int ss_ws_reading(ss_loop *loop, int64_t handle, int on) {
    ss_ws *ws = ss_ws_find(loop, handle);
    if (!ws)
        return SS_GONE;
    ws->paused = !on && ws->state == SS_WS_OPEN;
    if (on)
        ss_pending_add(loop, &ws->stream.io);
    return SS_OK;
}

const char *ss_ws_take(ss_loop *loop, int64_t handle) {
    const ss_ws *ws = ss_ws_find(loop, handle);
    return ws && ws->taken ? ws->message : NULL;
}

/* ---- to many at once ---- */

ss_frame *ss_ws_frame_new(int opcode, const char *data, int64_t length, int flags) {
    char header[SS_WS_SENT_HEADER];
    if (!sendable(opcode, length))
        return NULL;
    size_t size = ss_ws_header_put(header, first_byte(opcode, flags), (uint64_t)length);
    return ss_frame_join(header, size, data, (size_t)length);
}

/* Would its queue be over its limit with so many bytes more? One message alone may be. What was queued in this turn has
 * had no chance yet to leave. */
static bool overfull(ss_loop *loop, ss_ws *ws, uint32_t length) {
    ss_stream *stream = &ws->stream;
    if (stream->out.bytes + length > ws->out_limit && stream->out.bytes && stream->io.ready & SS_WRITE && !stream->tls)
        (void)ss_stream_flush(loop, stream);
    return stream->out.bytes + length > ws->out_limit && stream->out.bytes;
}

/* SS_OK: it has it. SS_WAIT: it is over its limit. SS_GONE. */
static int deliver(ss_loop *loop, ss_ws *ws, ss_frame *frame) {
    ss_stream *stream = &ws->stream;
    if (ws->state != SS_WS_OPEN || ws->code || stream->dead)
        return SS_GONE;
    if (overfull(loop, ws, frame->length))
        return stream->dead ? SS_GONE : SS_WAIT;
    bool again = sent_in_turn(loop, ws) && !stream->tls;
    if (again)
        ss_ws_let_go(loop);
    int answer = (again || stream->out.first) && !stream->tls ? ss_out_append_frame(loop, &stream->out, frame, 0)
                                                              : ss_stream_send_frame(loop, stream, frame);
    if (again && answer == SS_OK)
        let_leave(loop, stream);
    if (answer == SS_OK && !stream->dead)
        return SS_OK;
    stream->dead = true;
    ss_pending_add(loop, &stream->io);
    return SS_GONE;
}

static bool among(int64_t handle, const int64_t *some, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (some[i] == handle)
            return true;
    return false;
}

int64_t ss_ws_broadcast(ss_loop *loop, const int64_t *handles, int64_t count, const int64_t *but, int64_t but_count,
                        ss_frame *frame, int64_t *skipped) {
    int64_t delivered = 0;
    *skipped = 0;
    for (int64_t i = 0; i < count; i++) {
        if (among(handles[i], but, but_count))
            continue;
        ss_ws *ws = ss_ws_find(loop, handles[i]);
        int answer = ws ? deliver(loop, ws, frame) : SS_GONE;
        delivered += answer == SS_OK;
        if (answer != SS_WAIT)
            continue;
        ++*skipped;
        ss_streams_of(loop)->skipped += ws->drop;
        ss_streams_of(loop)->overloaded += !ws->drop;
        if (!ws->drop) {
            ws->code = SS_WS_OVERLOADED;
            ss_pending_add(loop, &ws->stream.io);
        }
    }
    return delivered;
}
