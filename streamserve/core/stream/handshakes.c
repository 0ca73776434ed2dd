/* TLS handshakes at once: a bound that lets good clients in while others begin handshakes and never end them.
 *
 * Those of a listener are a list, the oldest first. At the limit a new connection is accepted only if it can take the
 * place of the oldest that keeps us waiting: a client that means it is through in a few round trips, so it has gone
 * from the list long before it would be the oldest, unless so many come in that time. Whose bytes are here keeps
 * its place: it is we who are late. Where that is the case of most of them, the processor is what there is not enough
 * of; then new ones wait in the kernel's queue, for to end one would waste what was done for it. */

#include "stream/stream.h"

#include <poll.h>

#define LOOKS 16 /* sockets that are asked for bytes which the loop has not reported yet, for one new connection */

void ss_handshakes_join(ss_listener *listener, ss_tls *tls) {
    ss_tls *last = listener->last_handshake;
    tls->shaking = true;
    tls->next = NULL;
    tls->previous = last;
    *(last ? &last->next : &listener->first_handshake) = tls;
    listener->last_handshake = tls;
    listener->handshakes++;
}

void ss_handshakes_leave(ss_listener *listener, ss_tls *tls) {
    if (!tls->shaking)
        return;
    *(tls->previous ? &tls->previous->next : &listener->first_handshake) = tls->next;
    *(tls->next ? &tls->next->previous : &listener->last_handshake) = tls->previous;
    tls->next = tls->previous = NULL;
    tls->shaking = false;
    listener->handshakes--;
    listener->handshakes_told -= tls->told;
}

static bool has_bytes(const ss_stream *stream) {
    struct pollfd look = {.fd = stream->io.fd, .events = POLLIN};
    return poll(&look, 1, 0) != 0;
}

static ss_stream *oldest_silent(const ss_loop *loop, const ss_listener *listener) {
    int looks = 0;
    for (const ss_tls *tls = listener->first_handshake; tls && looks < LOOKS; tls = tls->next) {
        ss_stream *stream = ss_stream_of(ss_io_find(loop, tls->handle));
        if (!stream || tls->told || tls->wants || stream->io.ready & SS_READ)
            continue;
        looks++;
        if (!has_bytes(stream))
            return stream;
    }
    return NULL;
}

/* May another connection be accepted? `*instead` is the one that is then to end for it, or NULL. */
bool ss_handshakes_room(const ss_loop *loop, const ss_listener *listener, ss_stream **instead) {
    uint32_t most = listener->config.max_handshakes;
    *instead = NULL;
    if (!most || listener->handshakes < most)
        return true;
    if (listener->handshakes_told > most / 2)
        return false;
    *instead = oldest_silent(loop, listener);
    return *instead;
}

/* Frees the stream. */
void ss_handshakes_end(ss_loop *loop, ss_stream *stream) {
    ss_stream_report_refusal(loop, stream, SS_HANDSHAKES_FULL, NULL, 0);
    ss_protocol_of(stream)->close(loop, stream);
}
