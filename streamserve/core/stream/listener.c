/* Listeners: accept in batches, refuse politely when full, survive EMFILE.
 *
 * Out of descriptors, accept fails while the connection stays in the kernel's
 * queue, and an edge-triggered listener would never hear of it again. So one
 * descriptor is held in reserve: it is closed, the connection is accepted and
 * closed, the reserve is opened again; then accepting pauses for a second. Who
 * knows that a descriptor is free again ends the pause (ss_listener_allow); that
 * refuses nobody before the second is over.
 *
 * A raw listener hands its connections to Python, and accepts no more of them
 * than it was allowed to: what it leaves in the kernel's queue is not lost. */

#define LARGE_BLOCK (8u << 20) /* bytes; twice as much may stay with the process when it is free */
#define _GNU_SOURCE
#include "stream/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 64
#define PAUSE SS_SECOND

/* ---- what all streams of a loop share ---- */

static const ss_class endings_class = {.name = "endings of TLS", .ready = ss_tls_tell_ended};
static const ss_class writing_class = {.name = "writers of TLS", .ready = ss_tls_tell_writers};

static void streams_free(ss_loop *loop, ss_guest *guest) {
    ss_streams *streams = (ss_streams *)guest;
    for (int number = 0; number < streams->listener_count; number++)
        ss_listener_close(loop, number);
    free(streams->listeners);
    free(streams->closed_polls);
    ss_tls_forget_ended(loop);
    ss_pending_remove(loop, &streams->endings);
    ss_pending_remove(loop, &streams->writing);
    ss_buffers_free(streams);
    free(streams->batch);
    if (streams->reserve_fd >= 0)
        close(streams->reserve_fd);
    free(streams);
}

/* glibc gives every freed block of over 128 KB back to the system, and gets it page by page, until it has seen a larger
 * one freed: so it sees one here. A message of 1 MB costs half as much then. What malloc was told by its
 * environment stays as it is. */
static void expect_large_blocks(void) {
    void *volatile block = malloc(LARGE_BLOCK);
    free(block);
}

ss_streams *ss_streams_make(ss_loop *loop) {
    if (loop->guest)
        return ss_streams_of(loop);
    ss_streams *streams = calloc(1, sizeof *streams);
    if (!streams)
        return NULL;
    streams->guest.free = streams_free;
    streams->endings.class = &endings_class;
    streams->writing.class = &writing_class;
    streams->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    loop->guest = &streams->guest;
    expect_large_blocks();
    return streams;
}

const char *ss_loop_peers(ss_loop *loop) {
    ss_streams *streams = ss_streams_make(loop);
    return streams ? streams->peers : NULL;
}

/* ---- opening ---- */

/* A number is free again once there was a poll: what the last one reported may still name the listener that had it. */
static int number_take(const ss_loop *loop, ss_streams *streams) {
    for (int i = 0; i < streams->listener_count; i++)
        if (!streams->listeners[i] && streams->closed_polls[i] != loop->polls)
            return i;
    size_t count = (size_t)streams->listener_count + 1;
    ss_listener **listeners = realloc(streams->listeners, count * sizeof *listeners);
    if (listeners)
        streams->listeners = listeners;
    int64_t *polls = realloc(streams->closed_polls, count * sizeof *polls);
    if (polls)
        streams->closed_polls = polls;
    if (!listeners || !polls)
        return SS_NOMEM;
    listeners[count - 1] = NULL;
    polls[count - 1] = -1;
    return streams->listener_count++;
}

static void listener_ready(ss_loop *loop, ss_io *io);
static void listener_expired(ss_loop *loop, ss_io *io);
static void listener_free(ss_loop *loop, ss_io *io);

static const ss_class listener_class = {
    .name = "listener", .ready = listener_ready, .expired = listener_expired, .free = listener_free};

/* Returns its number. protocol NULL: what it accepts is handed to Python. */
int ss_listener_begin(ss_loop *loop, int fd, const ss_listener_config *config, const ss_protocol *protocol) {
    ss_streams *streams = ss_streams_make(loop);
    ss_listener *listener = calloc(1, sizeof *listener);
    int answer = SS_NOMEM;
    if (!streams || !listener)
        goto fail;
    listener->config = *config;
    listener->protocol = protocol;
    listener->allowed = INT64_MAX;
    listener->number = number_take(loop, streams);
    if (listener->number < 0 || (protocol && protocol->listen(listener) != SS_OK))
        goto fail;
    answer = ss_io_open(loop, &listener->io, fd, &listener_class, SS_READ);
    if (answer != SS_OK)
        goto fail_shared;
    streams->listeners[listener->number] = listener;
    streams->listeners_open++;
    loop->busy++;
    return listener->number;
fail_shared:
    if (protocol)
        protocol->unlisten(listener);
fail:
    free(listener);
    return answer;
}

ss_listener *ss_listener_find(const ss_loop *loop, int number) {
    const ss_streams *streams = ss_streams_of(loop);
    return streams && number >= 0 && number < streams->listener_count ? streams->listeners[number] : NULL;
}

/* ---- accepting ---- */

static void accept_failed(ss_loop *loop, ss_listener *listener, int error) {
    ss_streams *streams = ss_streams_of(loop);
    bool short_of_fds = error == EMFILE || error == ENFILE;
    if (short_of_fds && streams->reserve_fd >= 0 && loop->now >= listener->refuse_at) {
        listener->refuse_at = loop->now + PAUSE;
        close(streams->reserve_fd);
        int fd = accept4(listener->io.fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            close(fd);
        streams->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    listener->resume_at = loop->now + PAUSE;
    ss_deadline_set(loop, &listener->io, PAUSE);
    ss_event_emit(loop, SS_EVENT_ACCEPT_FAILED, listener->number, 0, error);
}

static void hand_over(ss_loop *loop, ss_listener *listener, int fd, const struct sockaddr_storage *peer) {
    ss_streams *streams = ss_streams_of(loop);
    int64_t place = streams->peer_count++;
    memcpy(&streams->peers[place * SS_PEER_BYTES], peer, SS_PEER_BYTES);
    listener->allowed--;
    ss_event_emit(loop, SS_EVENT_ACCEPTED, listener->number, fd, place);
}

static void take(ss_loop *loop, ss_listener *listener, int fd, const struct sockaddr_storage *peer) {
    uint32_t most = listener->config.max_connections;
    bool full = most && listener->connections >= most;
    ss_streams_of(loop)->accepted++;
    if (!listener->protocol) {
        hand_over(loop, listener, fd, peer);
        return;
    }
    ss_stream *stream = ss_stream_make(loop, listener, fd, peer);
    if (stream)
        listener->protocol->accepted(loop, stream, full);
    else
        close(fd);
}

/* Errors of the connection that was to be accepted, not of the listener (accept(2)). */
static bool passing(int error) {
    return error == ECONNABORTED || error == EINTR || error == EPROTO || error == EPERM || error == ENETDOWN ||
           error == ENOPROTOOPT || error == EHOSTDOWN || error == ENONET || error == EHOSTUNREACH ||
           error == EOPNOTSUPP || error == ENETUNREACH;
}

static bool has_room(const ss_loop *loop, const ss_listener *listener) {
    if (loop->event_count >= SS_EVENTS / 2)
        return false;
    return listener->protocol || (listener->allowed > 0 && ss_streams_of(loop)->peer_count < SS_PEERS);
}

static void listener_ready(ss_loop *loop, ss_io *io) {
    ss_listener *listener = (ss_listener *)io;
    if (listener->draining || loop->now < listener->resume_at || !(listener->io.ready & SS_READ))
        return;
    listener->resume_at = 0;
    ss_peers_renew(loop);
    for (int turn = 0; turn < ACCEPTS_PER_TURN && has_room(loop, listener); turn++) {
        ss_stream *instead;
        if (!ss_handshakes_room(loop, listener, &instead))
            return;
        struct sockaddr_storage peer = {0};
        socklen_t length = sizeof peer;
        int fd = accept4(listener->io.fd, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            if (instead)
                ss_handshakes_end(loop, instead);
            take(loop, listener, fd, &peer);
            continue;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            listener->io.ready &= (uint8_t)~SS_READ;
            return;
        }
        if (!passing(errno)) {
            accept_failed(loop, listener, errno);
            return;
        }
    }
    if (listener->allowed > 0)
        ss_pending_add(loop, &listener->io);
}

/* A pause is over. */
static void listener_expired(ss_loop *loop, ss_io *io) {
    ss_pending_add(loop, io);
}

int ss_listener_allow(ss_loop *loop, int number, int64_t count) {
    ss_listener *listener = ss_listener_find(loop, number);
    if (!listener)
        return SS_GONE;
    listener->allowed = count;
    listener->resume_at = 0;
    if (count > 0 && listener->io.ready & SS_READ)
        ss_pending_add(loop, &listener->io);
    return SS_OK;
}

int ss_listener_connections(const ss_loop *loop, int number) {
    const ss_listener *listener = ss_listener_find(loop, number);
    return listener ? (int)listener->connections : SS_GONE;
}

/* ---- stopping ---- */

/* Calls `visit` for every connection of the listener; it may close that one. */
static void each_connection(ss_loop *loop, const ss_listener *listener, void (*visit)(ss_loop *, ss_stream *)) {
    for (uint32_t index = 0; index < loop->slot_count; index++) {
        ss_stream *stream = ss_stream_of(loop->slots[index].io);
        if (stream && stream->listener == listener)
            visit(loop, stream);
    }
}

static void stop_connection(ss_loop *loop, ss_stream *stream) {
    ss_protocol_of(stream)->stopping(loop, stream);
}

static void close_connection(ss_loop *loop, ss_stream *stream) {
    ss_protocol_of(stream)->close(loop, stream);
}

/* What the kernel has already accepted for us is served; what comes later is
 * refused by the kernel, once the caller closes the descriptor. */
static void stop_accepting(ss_loop *loop, ss_listener *listener) {
    listener->resume_at = 0;
    for (int turn = 0; turn < 64 && listener->protocol; turn++) {
        listener->io.ready |= SS_READ;
        listener_ready(loop, &listener->io);
        if (!(listener->io.ready & SS_READ) || listener->resume_at)
            break;
    }
    listener->draining = true;
    loop->backend->remove(loop, &listener->io);
    listener->io.fd = -1;
}

int ss_listener_drain(ss_loop *loop, int number, int64_t left) {
    ss_listener *listener = ss_listener_find(loop, number);
    int busy = 0;
    if (!listener)
        return SS_GONE;
    loop->now = ss_clock(loop);
    if (!listener->draining)
        stop_accepting(loop, listener);
    listener->stop_left = left > 0 ? left : 0;
    each_connection(loop, listener, stop_connection);
    for (uint32_t index = 0; index < loop->slot_count; index++) {
        const ss_stream *stream = ss_stream_of(loop->slots[index].io);
        if (stream && stream->listener == listener)
            busy += ss_protocol_of(stream)->unfinished(stream);
    }
    return busy;
}

/* Ends every connection, and the listener. */
static void listener_free(ss_loop *loop, ss_io *io) {
    ss_listener *listener = (ss_listener *)io;
    ss_streams *streams = ss_streams_of(loop);
    each_connection(loop, listener, close_connection);
    ss_io_close(loop, io, false);
    if (listener->protocol)
        listener->protocol->unlisten(listener);
    streams->listeners[listener->number] = NULL;
    streams->closed_polls[listener->number] = loop->polls;
    streams->listeners_open--;
    loop->busy--;
    free(listener->proxies);
    free(listener);
}

int ss_listener_close(ss_loop *loop, int number) {
    ss_listener *listener = ss_listener_find(loop, number);
    if (!listener)
        return SS_GONE;
    listener_free(loop, &listener->io);
    return SS_OK;
}
