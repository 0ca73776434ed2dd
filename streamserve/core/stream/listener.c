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

#define _GNU_SOURCE
#include "loop/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 64
#define PAUSE SS_SECOND

void ss_listener_defaults(ss_listener_config *config) {
    *config = (ss_listener_config){
        .limits = {.max_line = 8192, .max_head = 65536, .max_fields = 100},
        .head_timeout = 15 * SS_SECOND,
        .body_timeout = 30 * SS_SECOND,
        .write_timeout = 60 * SS_SECOND,
        .idle_timeout = 75 * SS_SECOND,
        .linger_timeout = 2 * SS_SECOND,
        .handshake_timeout = 10 * SS_SECOND,
        .buffered_body = 16384,
        .high_water = 65536,
        .max_connections = 20000,
        .drain_limit = 262144,
        .memo_entries = 1024,
        .memo_block_bytes = 4096,
    };
}

static int number_take(ss_loop *loop) {
    for (int i = 0; i < loop->listener_count; i++)
        if (!loop->listeners[i])
            return i;
    ss_listener **grown = realloc(loop->listeners, (size_t)(loop->listener_count + 1) * sizeof *grown);
    if (!grown)
        return SS_NOMEM;
    loop->listeners = grown;
    loop->listeners[loop->listener_count] = NULL;
    return loop->listener_count++;
}

int ss_listener_open(ss_loop *loop, int fd, const ss_listener_config *config) {
    int answer = SS_NOMEM;
    ss_listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return SS_NOMEM;
    listener->config = *config;
    listener->allowed = INT64_MAX;
    listener->number = number_take(loop);
    uint32_t entries = config->raw ? 0 : config->memo_entries;
    if (listener->number < 0 || ss_memo_init(&listener->blocks, entries) != SS_OK ||
        ss_memo_init(&listener->targets, entries) != SS_OK)
        goto fail;
    answer = ss_io_open(loop, &listener->io, fd, SS_IO_LISTENER, SS_READ);
    if (answer != SS_OK)
        goto fail;
    loop->listeners[listener->number] = listener;
    loop->listeners_open++;
    return listener->number;
fail:
    ss_memo_clear(&listener->blocks);
    ss_memo_clear(&listener->targets);
    free(listener);
    return answer;
}

static ss_listener *find(const ss_loop *loop, int number) {
    return number >= 0 && number < loop->listener_count ? loop->listeners[number] : NULL;
}

static void accept_failed(ss_loop *loop, ss_listener *listener, int error) {
    bool short_of_fds = error == EMFILE || error == ENFILE;
    if (short_of_fds && loop->reserve_fd >= 0 && loop->now >= listener->refuse_at) {
        listener->refuse_at = loop->now + PAUSE;
        close(loop->reserve_fd);
        int fd = accept4(listener->io.fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            close(fd);
        loop->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    listener->resume_at = loop->now + PAUSE;
    ss_deadline_set(loop, &listener->io, PAUSE);
    ss_event_emit(loop, SS_EVENT_ACCEPT_FAILED, listener->number, 0, error);
}

static void hand_over(ss_loop *loop, ss_listener *listener, int fd, const struct sockaddr_storage *peer) {
    int64_t place = loop->peer_count++;
    memcpy(&loop->peers[place * SS_PEER_BYTES], peer, SS_PEER_BYTES);
    listener->allowed--;
    ss_event_emit(loop, SS_EVENT_ACCEPTED, listener->number, fd, place);
}

static void take(ss_loop *loop, ss_listener *listener, int fd, const struct sockaddr_storage *peer) {
    loop->accepted++;
    if (listener->config.raw) {
        hand_over(loop, listener, fd, peer);
        return;
    }
    uint32_t most = listener->config.max_connections;
    if (ss_conn_open(loop, listener, fd, peer, most && listener->connections >= most) != SS_OK)
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
    return !listener->config.raw || (listener->allowed > 0 && loop->peer_count < SS_PEERS);
}

void ss_listener_ready(ss_loop *loop, ss_listener *listener) {
    if (listener->draining || loop->now < listener->resume_at || !(listener->io.ready & SS_READ))
        return;
    listener->resume_at = 0;
    for (int turn = 0; turn < ACCEPTS_PER_TURN && has_room(loop, listener); turn++) {
        struct sockaddr_storage peer = {0};
        socklen_t length = sizeof peer;
        int fd = accept4(listener->io.fd, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
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

int ss_listener_allow(ss_loop *loop, int number, int64_t count) {
    ss_listener *listener = find(loop, number);
    if (!listener)
        return SS_GONE;
    listener->allowed = count;
    listener->resume_at = 0;
    if (count > 0 && listener->io.ready & SS_READ)
        ss_pending_add(loop, &listener->io);
    return SS_OK;
}

int ss_listener_connections(const ss_loop *loop, int number) {
    const ss_listener *listener = find(loop, number);
    return listener ? (int)listener->connections : SS_GONE;
}

/* Calls `visit` for every connection of the listener; it may close that one. */
static void each_connection(ss_loop *loop, const ss_listener *listener, void (*visit)(ss_loop *, ss_conn *)) {
    for (uint32_t index = 0; index < loop->slot_count; index++) {
        ss_io *io = loop->slots[index].io;
        if (io && io->kind == SS_IO_CONN && ((ss_conn *)io)->listener == listener)
            visit(loop, (ss_conn *)io);
    }
}

#define SILENT_GRACE (SS_SECOND / 10) /* at a stop, for a connection that has not sent anything yet */
#define PARTIAL_GRACE SS_SECOND       /* likewise, for the rest of a head */

static bool has_unread(const ss_conn *conn) {
    return conn->partial || conn->in_start < conn->in_end || conn->io.ready & SS_READ;
}

static void close_if_idle(ss_loop *loop, ss_conn *conn) {
    conn->persist = false;
    if (conn->state != SS_CONN_HEAD)
        return;
    if (conn->peer_known && !has_unread(conn)) {
        ss_conn_end(loop, conn);
    } else if (!conn->last_chance) {
        conn->last_chance = true;
        ss_deadline_set(loop, &conn->io, has_unread(conn) ? PARTIAL_GRACE : SILENT_GRACE);
    }
}

/* What the kernel has already accepted for us is served; what comes later is
 * refused by the kernel, once the caller closes the descriptor. */
static void stop_accepting(ss_loop *loop, ss_listener *listener) {
    listener->resume_at = 0;
    for (int turn = 0; turn < 64 && !listener->config.raw; turn++) {
        listener->io.ready |= SS_READ;
        ss_listener_ready(loop, listener);
        if (!(listener->io.ready & SS_READ) || listener->resume_at)
            break;
    }
    listener->draining = true;
    loop->backend->remove(loop, &listener->io);
    listener->io.fd = -1;
}

int ss_listener_drain(ss_loop *loop, int number) {
    ss_listener *listener = find(loop, number);
    int busy = 0;
    if (!listener)
        return SS_GONE;
    loop->now = ss_clock(loop);
    if (!listener->draining)
        stop_accepting(loop, listener);
    each_connection(loop, listener, close_if_idle);
    for (uint32_t index = 0; index < loop->slot_count; index++) {
        const ss_io *io = loop->slots[index].io;
        if (io && io->kind == SS_IO_CONN && ((const ss_conn *)io)->listener == listener)
            busy += ((const ss_conn *)io)->state != SS_CONN_LINGER;
    }
    return busy;
}

int ss_listener_close(ss_loop *loop, int number) {
    ss_listener *listener = find(loop, number);
    if (!listener)
        return SS_GONE;
    each_connection(loop, listener, ss_conn_close);
    ss_io_close(loop, &listener->io, false);
    ss_memo_clear(&listener->blocks);
    ss_memo_clear(&listener->targets);
    free(listener->proxies);
    loop->listeners[number] = NULL;
    loop->listeners_open--;
    free(listener);
    return SS_OK;
}

void ss_listener_free_all(ss_loop *loop) {
    for (int number = 0; number < loop->listener_count; number++)
        ss_listener_close(loop, number);
    free(loop->listeners);
    loop->listeners = NULL;
    loop->listener_count = 0;
}
