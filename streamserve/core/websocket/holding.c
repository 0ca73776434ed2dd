/* Answers that leave one behind the other.
 *
 * A system call that sends drives the interpreter out of the processor's caches, and the next handler begins with
 * loading it again. So where one poll brought messages of many peers, a few answers are kept and sent in a row: a
 * twentieth of the time of an echo. The first message of a turn leaves at once all the same, and what is kept waits
 * for the handlers of SS_WS_HELD messages, or for the next poll.
 *
 * Handlers are quick, then: one that sends and goes on to compute would have what it sent wait for it. Where that
 * happened, nothing is kept for a while, so it is the exception. */

#include "websocket/websocket.h"

#define MANY 8                     /* messages of a poll */
#define LONG (SS_SECOND / 1000)    /* that something was kept */
#define RESPITE (SS_SECOND * 10)   /* in which nothing is, after that */

/* May this message wait? Nothing of its connection waits that would have to leave before. */
static bool may_wait(ss_loop *loop, const ss_ws *ws, size_t length) {
    ss_ws_batch *batch = ss_ws_batch_of(loop);
    const ss_stream *stream = &ws->stream;
    if (loop->message_count < MANY || loop->polling || batch->poll != loop->polls)
        return false;
    bool first = batch->sent_poll != loop->polls;
    batch->sent_poll = loop->polls;
    return !first && loop->now >= batch->hold_again_at && length <= SS_WS_HELD_SIZE && !stream->tls &&
           !stream->out.first && stream->io.ready & SS_WRITE;
}

bool ss_ws_hold(ss_loop *loop, ss_ws *ws, int first, const char *data, size_t length, bool again) {
    ss_ws_batch *batch = ss_ws_batch_of(loop);
    if (again || !may_wait(loop, ws, length)) {
        if (again)
            ss_ws_let_go(loop); /* what is kept may be its own */
        return false;
    }
    char *frame = batch->held[batch->held_count].frame;
    size_t header = ss_ws_header_put(frame, first, length);
    if (length)
        memcpy(frame + header, data, length);
    batch->held[batch->held_count].handle = ss_io_handle(&ws->stream.io);
    batch->held[batch->held_count].length = header + length;
    if (!batch->held_count)
        batch->held_at = ss_clock(loop);
    loop->turn_ends = ss_ws_let_go;
    if (++batch->held_count == SS_WS_HELD)
        ss_ws_let_go(loop);
    return true;
}

/* Sends what is kept. A failure is told in the connection's turn. */
void ss_ws_let_go(ss_loop *loop) {
    ss_ws_batch *batch = ss_ws_batch_of(loop);
    if (!batch->held_count)
        return;
    int64_t now = ss_clock(loop);
    if (now - batch->held_at > LONG)
        batch->hold_again_at = now + RESPITE;
    for (uint32_t i = 0; i < batch->held_count; i++) {
        ss_ws *ws = ss_ws_find(loop, batch->held[i].handle);
        struct iovec piece = {.iov_base = batch->held[i].frame, .iov_len = batch->held[i].length};
        if (ws && !ws->stream.dead && ss_stream_send(loop, &ws->stream, &piece, 1, false) != SS_OK)
            ss_pending_add(loop, &ws->stream.io);
    }
    batch->held_count = 0;
}
