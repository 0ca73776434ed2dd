/* A connection's life: its states, their legal moves, and what readiness,
 * deadlines and ends do in each.
 *
 * HEAD reads a head (or idles), BODY completes a small body, REQUEST belongs to
 * Python. After the response: FLUSH while output is queued, DISCARD while an
 * unread request body is dropped, and either HEAD again or the end. LINGER is
 * an end with care: our side is shut and input is dropped for a while, because
 * close() with unread input sends RST, which destroys the answer on its way. */

#define _GNU_SOURCE
#include "loop/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TO(state) (1u << (state))
#define LINGER_READS 16        /* reads of one turn while lingering */
#define LINGER_BYTES 1048576u  /* most bytes that are dropped before closing anyway */

static const uint8_t legal_moves[SS_CONN_STATES] = {
    [SS_CONN_HEAD] =
        TO(SS_CONN_BODY) | TO(SS_CONN_REQUEST) | TO(SS_CONN_FLUSH) | TO(SS_CONN_LINGER) | TO(SS_CONN_CLOSED),
    [SS_CONN_BODY] = TO(SS_CONN_REQUEST) | TO(SS_CONN_FLUSH) | TO(SS_CONN_LINGER) | TO(SS_CONN_CLOSED),
    [SS_CONN_REQUEST] =
        TO(SS_CONN_HEAD) | TO(SS_CONN_FLUSH) | TO(SS_CONN_DISCARD) | TO(SS_CONN_LINGER) | TO(SS_CONN_CLOSED),
    [SS_CONN_FLUSH] = TO(SS_CONN_HEAD) | TO(SS_CONN_DISCARD) | TO(SS_CONN_LINGER) | TO(SS_CONN_CLOSED),
    [SS_CONN_DISCARD] = TO(SS_CONN_HEAD) | TO(SS_CONN_FLUSH) | TO(SS_CONN_LINGER) | TO(SS_CONN_CLOSED),
    [SS_CONN_LINGER] = TO(SS_CONN_CLOSED),
    [SS_CONN_CLOSED] = 0,
};

void ss_conn_move(ss_loop *loop, ss_conn *conn, enum ss_conn_state state) {
    if (!(legal_moves[conn->state] & TO(state)))
        loop->violation = "a connection made a move that its table does not have";
    loop->requests_out += state == SS_CONN_REQUEST;
    loop->requests_out -= conn->state == SS_CONN_REQUEST;
    conn->state = (uint8_t)state;
}

ss_conn *ss_conn_find(const ss_loop *loop, int64_t handle) {
    return (ss_conn *)ss_io_find(loop, handle, SS_IO_CONN);
}

void ss_conn_set_peer(ss_conn *conn, const struct sockaddr_storage *peer) {
    if (peer->ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, peer, sizeof v4);
        memcpy(conn->address, &v4.sin_addr, 4);
        conn->address_length = 4;
        conn->port = ntohs(v4.sin_port);
    } else if (peer->ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, peer, sizeof v6);
        bool mapped = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr);
        conn->address_length = mapped ? 4 : 16;
        memcpy(conn->address, v6.sin6_addr.s6_addr + (mapped ? 12 : 0), conn->address_length);
        conn->port = ntohs(v6.sin6_port);
    }
}

int ss_conn_open(ss_loop *loop, ss_listener *listener, int fd, const struct sockaddr_storage *peer, bool refuse) {
    ss_conn *conn = calloc(1, sizeof *conn);
    if (!conn)
        return SS_NOMEM;
    int answer = ss_io_open(loop, &conn->io, fd, SS_IO_CONN, SS_READ | SS_WRITE);
    if (answer != SS_OK) {
        free(conn);
        return answer;
    }
    conn->io.ready = SS_WRITE; /* a new socket's send buffer is empty */
    conn->listener = listener;
    conn->last_page = -1;
    ss_conn_set_peer(conn, peer);
    conn->proxy_due = ss_proxy_expected(listener, conn->address, conn->address_length);
    listener->connections++;
    loop->connections++;
    if (listener->config.tls && ss_tls_open(loop, conn) != SS_OK) {
        ss_conn_close(loop, conn);
        return SS_OK; /* it has taken the descriptor, and closed it */
    }
    if (refuse)
        ss_conn_answer_refusal(loop, conn, SS_OVERLOADED);
    if (listener->config.tls)
        ss_deadline_set(loop, &conn->io, listener->config.handshake_timeout);
    else if (!refuse)
        ss_deadline_set(loop, &conn->io, listener->config.head_timeout);
    return SS_OK;
}

/* The request leaves Python's hands: nothing of it may stay pinned or kept. */
void ss_conn_request_done(ss_conn *conn) {
    if (conn->block)
        conn->block->pins--;
    if (conn->target)
        conn->target->pins--;
    conn->block = conn->target = NULL;
    free(conn->kept_head);
    conn->kept_head = NULL;
    conn->want_body = conn->want_drain = false;
}

void ss_conn_close(ss_loop *loop, ss_conn *conn) {
    ss_conn_request_done(conn);
    ss_conn_move(loop, conn, SS_CONN_CLOSED);
    if (conn->tls)
        ss_tls_close(loop, conn);
    ss_in_release(loop, conn);
    ss_out_release(loop, conn);
    ss_file_release(loop, conn);
    ss_io_close(loop, &conn->io, conn->io.kind == SS_IO_CONN);
    close(conn->io.fd);
    conn->listener->connections--;
    loop->connections--;
    free(conn);
}

/* ---- after the response ---- */

void ss_conn_linger(ss_loop *loop, ss_conn *conn) {
    if (conn->dead || shutdown(conn->io.fd, SHUT_WR) < 0) {
        ss_conn_close(loop, conn);
        return;
    }
    ss_conn_request_done(conn); /* a small body may have been on its way */
    ss_conn_move(loop, conn, SS_CONN_LINGER);
    if (conn->tls)
        ss_tls_close(loop, conn); /* what still comes is dropped as it is */
    loop->now = ss_clock(loop); /* the handler may have taken long: deadlines count from here */
    ss_in_release(loop, conn);
    conn->body_seen = 0;
    ss_deadline_set(loop, &conn->io, conn->listener->config.linger_timeout);
    if (conn->io.ready & SS_READ)
        ss_pending_add(loop, &conn->io);
}

static void begin_next_request(ss_loop *loop, ss_conn *conn) {
    ss_conn_move(loop, conn, SS_CONN_HEAD);
    conn->partial = false;
    ss_in_settle(loop, conn);
    loop->now = ss_clock_coarse(loop);
    ss_deadline_set(loop, &conn->io, conn->listener->config.idle_timeout);
    if (conn->in_start < conn->in_end || conn->io.ready & SS_READ)
        ss_pending_add(loop, &conn->io);
}

/* Waits in FLUSH until what is queued is out, and with TLS our goodbye. */
static void begin_flush(ss_loop *loop, ss_conn *conn, int64_t timeout_ns) {
    if (conn->state != SS_CONN_FLUSH) {
        ss_conn_move(loop, conn, SS_CONN_FLUSH);
        ss_in_settle(loop, conn);
    }
    ss_deadline_set(loop, &conn->io, timeout_ns);
    if (conn->tls)
        ss_tls_ask(loop, conn, SS_TLS_WRITE);
}

/* An end in order, of a connection that idles. */
void ss_conn_end(ss_loop *loop, ss_conn *conn) {
    if (!conn->tls || conn->tls->ragged || !ss_tls_owes_goodbye(conn)) {
        ss_conn_close(loop, conn);
        return;
    }
    conn->persist = false;
    ss_in_release(loop, conn);
    begin_flush(loop, conn, conn->listener->config.linger_timeout);
}

/* The response is complete, as far as the output queue: what comes now? */
void ss_conn_after_response(ss_loop *loop, ss_conn *conn) {
    bool body = ss_body_pending(conn);
    if (conn->dead) {
        ss_conn_close(loop, conn);
    } else if (ss_conn_unsent(conn)) {
        begin_flush(loop, conn, conn->listener->config.write_timeout);
    } else if (body && conn->persist && ss_body_droppable(conn)) {
        ss_conn_move(loop, conn, SS_CONN_DISCARD);
        loop->now = ss_clock(loop);
        conn->body_seen = 0;
        ss_deadline_set(loop, &conn->io, conn->listener->config.linger_timeout);
        ss_pending_add(loop, &conn->io);
    } else if (conn->tls && (body || !conn->persist) && ss_tls_owes_goodbye(conn)) {
        conn->persist = false;
        begin_flush(loop, conn, conn->listener->config.linger_timeout);
    } else if (body || (!conn->persist && (conn->in_start < conn->in_end || conn->io.ready & SS_READ))) {
        ss_conn_linger(loop, conn);
    } else if (!conn->persist) {
        ss_conn_close(loop, conn);
    } else {
        begin_next_request(loop, conn);
    }
}

/* ---- readiness ---- */

/* Reads once into the input buffer and parses; what is left waits for a turn.
 * Requests that are buffered already are parsed before more is read. */
static void read_request(ss_loop *loop, ss_conn *conn) {
    uint32_t buffered = conn->in_end - conn->in_start;
    bool body = conn->state == SS_CONN_BODY;
    if (conn->io.ready & SS_READ && (!buffered || conn->partial || (body && buffered < conn->body_left))) {
        uint32_t room = body ? (uint32_t)conn->body_left - buffered : 256;
        if (ss_in_reserve(loop, conn, room) != SS_OK) {
            ss_conn_close(loop, conn);
            return;
        }
        int64_t count = ss_conn_receive(conn, conn->in + conn->in_end, conn->in_capacity - conn->in_end);
        if (count == 0 || count == SS_BROKEN) {
            if (count == 0 && conn->state == SS_CONN_HEAD)
                ss_conn_end(loop, conn);
            else
                ss_conn_close(loop, conn);
            return;
        }
        if (count > 0)
            conn->in_end += (uint32_t)count;
    }
    ss_conn_advance(loop, conn);
}

static void linger(ss_loop *loop, ss_conn *conn) {
    for (int turn = 0; turn < LINGER_READS; turn++) {
        int64_t count = ss_conn_receive(conn, loop->scratch, sizeof loop->scratch);
        if (count == SS_WAIT)
            return;
        conn->body_seen += count > 0 ? (uint64_t)count : 0;
        if (count <= 0 || conn->body_seen > LINGER_BYTES) {
            ss_conn_close(loop, conn);
            return;
        }
    }
    ss_pending_add(loop, &conn->io);
}

/* The socket is of no more use: whoever waits on it for Python learns it now. */
static void fail_request(ss_loop *loop, ss_conn *conn) {
    conn->dead = true;
    ss_out_release(loop, conn);
    ss_deadline_set(loop, &conn->io, 0);
    if (conn->want_body)
        ss_event_emit(loop, SS_EVENT_BODY, conn->listener->number, ss_io_handle(&conn->io), 0);
    if (conn->want_drain)
        ss_event_emit(loop, SS_EVENT_DRAINED, conn->listener->number, ss_io_handle(&conn->io), 0);
    conn->want_body = conn->want_drain = false;
}

static void request_ready(ss_loop *loop, ss_conn *conn) {
    if (conn->io.ready & SS_FAIL) {
        fail_request(loop, conn);
        return;
    }
    if (conn->want_body && (conn->tls ? ss_tls_readable(conn) : conn->io.ready & SS_READ)) {
        conn->want_body = false;
        ss_event_emit(loop, SS_EVENT_BODY, conn->listener->number, ss_io_handle(&conn->io), 0);
    }
    if (conn->io.ready & SS_WRITE && (conn->out_start < conn->out_end || (conn->tls && conn->want_drain)))
        ss_conn_flush(loop, conn);
    if (conn->dead)
        fail_request(loop, conn);
}

void ss_conn_ready(ss_loop *loop, ss_conn *conn) {
    if (conn->tls && ss_tls_ready(loop, conn))
        return;
    switch ((enum ss_conn_state)conn->state) {
    case SS_CONN_HEAD:
    case SS_CONN_BODY:
        if (conn->io.ready & SS_READ || conn->in_start < conn->in_end)
            read_request(loop, conn);
        break;
    case SS_CONN_REQUEST:
        request_ready(loop, conn);
        break;
    case SS_CONN_FLUSH:
        if (conn->io.ready & SS_WRITE)
            ss_conn_flush(loop, conn);
        if (conn->dead || !ss_conn_unsent(conn))
            ss_conn_after_response(loop, conn);
        break;
    case SS_CONN_DISCARD:
        ss_body_discard(loop, conn);
        break;
    case SS_CONN_LINGER:
        if (conn->io.ready & SS_READ)
            linger(loop, conn);
        break;
    default:
        break;
    }
}

static void idle_expired(ss_loop *loop, ss_conn *conn) {
    if (conn->tls && conn->tls->known && !conn->tls->open)
        ss_refusal_report(loop, conn, SS_HANDSHAKE_TIMEOUT);
    ss_conn_end(loop, conn);
}

void ss_conn_expired(ss_loop *loop, ss_conn *conn) {
    switch ((enum ss_conn_state)conn->state) {
    case SS_CONN_HEAD:
        if (conn->proxy_due)
            ss_refusal_report(loop, conn, SS_BAD_PROXY_HEADER);
        if (conn->partial && !conn->proxy_due)
            ss_conn_answer_refusal(loop, conn, SS_HEAD_TIMEOUT);
        else
            idle_expired(loop, conn);
        break;
    case SS_CONN_BODY:
        ss_conn_answer_refusal(loop, conn, SS_BODY_TIMEOUT);
        break;
    case SS_CONN_REQUEST:
        if (ss_conn_unsent(conn)) {
            fail_request(loop, conn);
        } else if (conn->want_body) {
            conn->body_failed = SS_BODY_TIMEOUT;
            conn->want_body = false;
            ss_event_emit(loop, SS_EVENT_BODY, conn->listener->number, ss_io_handle(&conn->io), 0);
        }
        break;
    default:
        ss_conn_close(loop, conn);
        break;
    }
}

/* ---- what Python asks of a connection ---- */

int ss_conn_abort(ss_loop *loop, int64_t handle, int reset) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (reset) {
        const struct linger hard = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(conn->io.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    }
    ss_conn_close(loop, conn);
    return SS_OK;
}

int ss_conn_detach(ss_loop *loop, int64_t handle, char *into, int64_t capacity, int64_t *taken) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    uint32_t unread = conn->in_end - conn->in_start;
    if (conn->state != SS_CONN_REQUEST || conn->tls || conn->out_start < conn->out_end || (int64_t)unread > capacity)
        return SS_MISUSE;
    int fd = dup(conn->io.fd); /* the connection closes its own descriptor */
    if (fd < 0) {
        loop->error = errno;
        return SS_SYSTEM;
    }
    if (unread)
        memcpy(into, conn->in + conn->in_start, unread);
    *taken = unread;
    conn->io.kind = SS_IO_FD; /* a duplicate lives on, so the backend must forget it by name */
    ss_conn_close(loop, conn);
    return fd;
}

static int address_text(const unsigned char *address, uint8_t length, uint16_t port, char *text, int capacity) {
    text[0] = text[1] = '\0';
    if (length == 0)
        return 2;
    inet_ntop(length == 4 ? AF_INET : AF_INET6, address, text, (socklen_t)capacity);
    size_t host = strlen(text) + 1;
    int written = snprintf(text + host, (size_t)capacity - host, "%u", (unsigned)port);
    return (int)host + written + 1;
}

int ss_conn_address(ss_loop *loop, int64_t handle, int local, char *text, int capacity) {
    const ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn || capacity < INET6_ADDRSTRLEN + 8)
        return conn ? SS_MISUSE : SS_GONE;
    ss_conn own = {.address_length = 0};
    if (local) {
        struct sockaddr_storage name = {0};
        socklen_t length = sizeof name;
        if (getsockname(conn->io.fd, (struct sockaddr *)&name, &length) < 0)
            return SS_BROKEN;
        ss_conn_set_peer(&own, &name);
        conn = &own;
    }
    return address_text(conn->address, conn->address_length, conn->port, text, capacity);
}

int ss_loop_refused(const ss_loop *loop, int64_t place, char *text, int capacity) {
    if (place < 0 || place >= loop->refused_count)
        return SS_GONE;
    if (capacity < INET6_ADDRSTRLEN + 8)
        return SS_MISUSE;
    const ss_refused_peer *peer = &loop->refused[place];
    return address_text(peer->address, peer->address_length, peer->port, text, capacity);
}
