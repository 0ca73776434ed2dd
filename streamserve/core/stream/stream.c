/* A stream's birth and end, and its bytes, whatever its transport. */

#include "stream/stream.h"

#include <stdlib.h>
#include <unistd.h>

/* A stream of the listener's protocol, with its descriptor registered. The descriptor is
 * taken over only on success; NULL: see loop->error, 0 for no memory. */
ss_stream *ss_stream_make(ss_loop *loop, ss_listener *listener, int fd, const struct sockaddr_storage *peer) {
    ss_streams *streams = ss_streams_of(loop);
    ss_stream *stream = calloc(1, listener->protocol->size);
    loop->error = 0;
    if (!stream)
        return NULL;
    if (ss_io_open(loop, &stream->io, fd, &listener->protocol->class, SS_READ | SS_WRITE) != SS_OK)
        goto fail;
    stream->io.ready = SS_WRITE; /* a new socket's send buffer is empty */
    stream->listener = listener;
    stream->local = peer->ss_family == AF_UNIX;
    ss_stream_set_peer(stream, peer);
    if (listener->config.tls && ss_tls_open(loop, stream) != SS_OK) {
        ss_io_close(loop, &stream->io, false);
        goto fail;
    }
    listener->connections++;
    streams->connections++;
    loop->busy++;
    return stream;
fail:
    free(stream);
    return NULL;
}

/* The same stream, for another protocol: what the old one kept of it is the caller's to release
 * before. The old structure is freed; NULL: no memory, and nothing has changed. */
ss_stream *ss_stream_become(ss_loop *loop, ss_stream *stream, const ss_protocol *protocol) {
    ss_stream *after = calloc(1, protocol->size);
    if (!after)
        return NULL;
    ss_pending_remove(loop, &stream->io);
    *after = *stream;
    after->io.class = &protocol->class;
    loop->slots[after->io.index].io = &after->io;
    free(stream);
    return after;
}

void ss_stream_close(ss_loop *loop, ss_stream *stream, bool keep_fd) {
    int fd = stream->io.fd;
    if (stream->tls)
        ss_tls_close(loop, stream);
    ss_in_release(loop, stream);
    ss_out_release(loop, &stream->out);
    ss_io_close(loop, &stream->io, !keep_fd);
    if (!keep_fd)
        close(fd);
    stream->listener->connections--;
    ss_streams_of(loop)->connections--;
    loop->busy--;
    free(stream);
}

int64_t ss_stream_receive(ss_loop *loop, ss_stream *stream, char *into, size_t room) {
    return stream->tls ? ss_tls_receive(loop, stream) : ss_socket_receive(stream, into, room);
}

/* ---- sending ---- */

static int broken(ss_stream *stream) {
    stream->dead = true;
    return SS_BROKEN;
}

/* The count that the socket took at once, 0 also where it must wait, SS_BROKEN. */
static ssize_t send_now(ss_stream *stream, struct iovec *pieces, size_t count, bool more) {
    if (!(stream->io.ready & SS_WRITE) || stream->out.first || stream->tls)
        return 0;
    ssize_t sent = ss_socket_send(stream, pieces, count, more);
    if (sent >= 0)
        return sent;
    return ss_socket_full() ? 0 : broken(stream);
}

/* Something could not leave: who tells when it can? */
static void await_room(ss_loop *loop, ss_stream *stream) {
    if (stream->tls)
        ss_tls_ask_to_write(loop, stream);
    else
        stream->io.ready &= (uint8_t)~SS_WRITE;
}

/* Sends the pieces at once if the socket is willing, and queues what it leaves. With TLS
 * all is queued: Python is to encrypt it. more: a file follows. SS_OK or SS_BROKEN. */
int ss_stream_send(ss_loop *loop, ss_stream *stream, struct iovec *pieces, size_t count, bool more) {
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += pieces[i].iov_len;
    ssize_t sent = send_now(stream, pieces, count, more);
    if (sent == (ssize_t)total)
        return SS_OK;
    if (sent < 0)
        return SS_BROKEN;
    await_room(loop, stream);
    return ss_out_append(loop, &stream->out, pieces, count, (size_t)sent) == SS_OK ? SS_OK : broken(stream);
}

/* The same for a frame that other streams send, too: what the socket leaves is queued by its pointer. */
int ss_stream_send_frame(ss_loop *loop, ss_stream *stream, ss_frame *frame) {
    struct iovec piece = {.iov_base = frame->data, .iov_len = frame->length};
    ssize_t sent = send_now(stream, &piece, 1, false);
    if (sent == (ssize_t)frame->length)
        return SS_OK;
    if (sent < 0)
        return SS_BROKEN;
    await_room(loop, stream);
    return ss_out_append_frame(loop, &stream->out, frame, (size_t)sent) == SS_OK ? SS_OK : broken(stream);
}

int ss_stream_flush(ss_loop *loop, ss_stream *stream) {
    return stream->tls ? ss_tls_flush(loop, stream) : ss_out_flush(loop, stream, &stream->out);
}

/* ---- refusals ---- */

/* Python learns of it for its logs: who it was is kept until the next poll. */
/* What finds no room is told without. */
static void keep_line(ss_streams *streams, ss_peer *peer, const char *line, uint32_t length) {
    peer->line_start = (uint16_t)streams->refused_text;
    peer->line_length = 0;
    if (!line || length > sizeof streams->refused_lines - streams->refused_text)
        return;
    memcpy(streams->refused_lines + streams->refused_text, line, length);
    peer->line_length = (uint16_t)length;
    streams->refused_text += length;
}

void ss_stream_report_refusal(ss_loop *loop, const ss_stream *stream, enum ss_refusal refusal, const char *line,
                              uint32_t length) {
    ss_streams *streams = ss_streams_of(loop);
    int64_t place = SS_REFUSED_PEERS;
    if (!loop->polling)
        return;
    ss_peers_renew(loop);
    if (streams->refused_count < SS_REFUSED_PEERS) {
        place = streams->refused_count++;
        ss_peer *peer = &streams->refused[place];
        peer->port = stream->port;
        peer->address_length = stream->address_length;
        memcpy(peer->address, stream->address, sizeof peer->address);
        keep_line(streams, peer, line, length);
    }
    ss_event_emit(loop, SS_EVENT_REFUSED, stream->listener->number, place, refusal);
}
