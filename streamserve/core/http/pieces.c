/* Small pieces of a response that follow each other at once share a segment.
 *
 * PEP 3333 forbids to hold a piece back while the application makes the next one, which may take
 * it long, and without a switch nobody of this thread could send it meanwhile. So no piece waits
 * here: each goes to the kernel at once. The first of a turn leaves it at once, too. One that
 * follows within a moment says that more is to come (MSG_MORE), and the kernel waits for a full
 * segment, until what left before is confirmed, or 200 ms, whoever computes up here. Whichever
 * comes first ends that: the last piece, a large one, the first after the moment, and the next
 * poll, that is, as soon as the application waits for anything.
 *
 * What is saved is not the call but the packet, on both sides: most of what a small piece costs. */

#include "http/http.h"

#define SMALL 4096                /* bytes: a larger piece fills segments by itself */
#define MOMENT (SS_SECOND / 1000) /* ns: an application that is slower than this is waited for by nobody */

/* Shall the kernel wait for what follows this part of a response? */
bool ss_pieces_may_wait(const ss_loop *loop, ss_conn *conn, int64_t length, int flags) {
    const ss_stream *stream = &conn->stream;
    if (flags & SS_SEND_LAST || length > SMALL || stream->tls || stream->local)
        return false;
    int64_t now = ss_clock(loop);
    if (conn->left_poll == (uint32_t)loop->polls && now - conn->left_at < MOMENT)
        return true;
    conn->left_poll = (uint32_t)loop->polls;
    conn->left_at = now;
    return false;
}

/* A part of a response was sent. waits: see above. */
void ss_pieces_sent(ss_loop *loop, ss_conn *conn, bool waits) {
    conn->held = waits && !conn->stream.out.first;
    if (conn->held)
        ss_pending_add(loop, &conn->stream.io);
}

/* The turn is over. */
void ss_pieces_push(ss_conn *conn) {
    if (conn->held && !conn->stream.dead)
        ss_socket_push(&conn->stream);
    conn->held = false;
}
