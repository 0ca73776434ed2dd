/* TLS handshakes at once: a bound that lets good clients in while others begin handshakes and never end them.
 *
 * Those of a listener are a list, the oldest first. At the limit a new connection is accepted only if it can take the
 * place of the oldest whose client has kept us waiting for handshake_patience in all, so that dripping helps nobody. A
 * client that means it is through in less: where a thousand come at once, none of them ends for another, and those who
 * find no place wait in the kernel's queue. Time in which it is we who are late does not count.
 *
 * So of a flood that says nothing max_handshakes are accepted in that time, and good clients in their turn. */

#include "stream/stream.h"

#include <poll.h>

#define RETRY (SS_SECOND / 50)
#define LOOKS 16 /* sockets that are asked for bytes which the loop has not reported yet, for one new connection */

void ss_handshakes_join(const ss_loop *loop, ss_listener *listener, ss_tls *tls) {
    ss_tls *last = listener->last_handshake;
    tls->shaking = true;
    tls->silent_since = loop->now;
    tls->next = NULL;
    tls->previous = last;
    *(last ? &last->next : &listener->first_handshake) = tls;
    listener->last_handshake = tls;
    listener->handshakes++;
}

void ss_handshakes_leave(ss_loop *loop, ss_listener *listener, ss_tls *tls) {
    if (!tls->shaking)
        return;
    *(tls->previous ? &tls->previous->next : &listener->first_handshake) = tls->next;
    *(tls->next ? &tls->next->previous : &listener->last_handshake) = tls->previous;
    tls->next = tls->previous = NULL;
    tls->shaking = false;
    listener->handshakes--;
    if (listener->crowded)
        ss_pending_add(loop, &listener->io); /* whoever waits in the kernel's queue */
}

static int64_t kept_waiting(const ss_loop *loop, const ss_tls *tls) {
    return tls->silent + loop->now - tls->silent_since;
}

static bool has_bytes(const ss_stream *stream) {
    struct pollfd look = {.fd = stream->io.fd, .events = POLLIN};
    return poll(&look, 1, 0) != 0;
}

static ss_stream *oldest_silent(const ss_loop *loop, const ss_listener *listener) {
    int looks = 0;
    for (const ss_tls *tls = listener->first_handshake; tls && looks < LOOKS; tls = tls->next) {
        ss_stream *stream = ss_stream_of(ss_io_find(loop, tls->handle));
        if (!stream || tls->told || tls->wants || stream->io.ready & SS_READ ||
            kept_waiting(loop, tls) < listener->config.handshake_patience)
            continue;
        looks++;
        if (!has_bytes(stream))
            return stream;
    }
    return NULL;
}

/* May another connection be accepted? `*instead` is the one that is then to end for it, or NULL. */
bool ss_handshakes_room(ss_loop *loop, ss_listener *listener, ss_stream **instead) {
    uint32_t most = listener->config.max_handshakes;
    *instead = NULL;
    listener->crowded = false;
    if (!most || listener->handshakes < most)
        return true;
    *instead = oldest_silent(loop, listener);
    if (*instead)
        return true;
    listener->crowded = true;
    ss_deadline_set(loop, &listener->io, RETRY);
    return false;
}

/* Frees the stream. */
void ss_handshakes_end(ss_loop *loop, ss_stream *stream) {
    ss_stream_report_refusal(loop, stream, SS_HANDSHAKES_FULL, NULL, 0);
    ss_protocol_of(stream)->close(loop, stream);
}
