/* What HTTP is to its listener: what its connections share, how one begins, and how all of
 * them end when the server stops. */

#include "http/http.h"

#include <stdlib.h>

#define SILENT_GRACE (SS_SECOND / 10) /* at a stop, for a connection that has not sent anything yet */
#define PARTIAL_GRACE SS_SECOND       /* likewise, for the rest of a head */

static void end_listening(ss_listener *listener) {
    ss_http_shared *shared = listener->shared;
    ss_memo_clear(&shared->blocks);
    ss_memo_clear(&shared->targets);
    free(shared);
    listener->shared = NULL;
}

static int begin_listening(ss_listener *listener) {
    uint32_t entries = listener->config.memo_entries;
    ss_http_shared *shared = calloc(1, sizeof *shared);
    if (!shared)
        return SS_NOMEM;
    shared->date_polls = shared->date_second = -1;
    listener->shared = shared;
    if (ss_memo_init(&shared->blocks, entries) == SS_OK && ss_memo_init(&shared->targets, entries) == SS_OK)
        return SS_OK;
    end_listening(listener);
    return SS_NOMEM;
}

/* May free the connection: full says that there are too many. */
static void accepted(ss_loop *loop, ss_stream *stream, bool full) {
    ss_conn *conn = (ss_conn *)stream;
    const ss_listener_config *config = ss_conn_config(conn);
    int64_t handle = ss_io_handle(&stream->io);
    conn->last_page = -1;
    conn->proxy_due = ss_proxy_expected(stream->listener, stream->address, stream->address_length);
    conn->brief = full; /* it is there beyond the limit: not for long */
    if (!full)
        ss_conn_deadline(loop, conn, config->tls ? config->handshake_timeout : config->head_timeout);
    else
        ss_conn_refuse_now(loop, conn, SS_OVERLOADED);
    if (full && config->tls && ss_io_find(loop, handle))
        ss_conn_deadline(loop, conn, config->handshake_timeout); /* it learns of the refusal through TLS */
}

static bool has_unread(const ss_conn *conn) {
    return conn->partial || ss_stream_unread(&conn->stream) || conn->stream.io.ready & SS_READ;
}

/* May free the connection. */
static void stopping(ss_loop *loop, ss_stream *stream) {
    ss_conn *conn = (ss_conn *)stream;
    conn->persist = false;
    stream->ending = conn->state == SS_CONN_FLUSH;
    if (conn->state != SS_CONN_HEAD)
        return;
    if (conn->peer_known && !has_unread(conn)) {
        ss_conn_end(loop, conn);
    } else if (!conn->last_chance) {
        conn->last_chance = true;
        ss_conn_deadline(loop, conn, has_unread(conn) ? PARTIAL_GRACE : SILENT_GRACE);
    }
}

static bool unfinished(const ss_stream *stream) {
    const ss_conn *conn = (const ss_conn *)stream;
    bool uploads = !conn->brief && ss_body_pending(conn); /* a close would be a reset over its answer */
    return conn->state != SS_CONN_LINGER || uploads;
}

static void close_stream(ss_loop *loop, ss_stream *stream) {
    ss_conn_close(loop, (ss_conn *)stream);
}

static void free_io(ss_loop *loop, ss_io *io) {
    ss_conn_close(loop, (ss_conn *)io);
}

const ss_protocol ss_http = {
    .class = {.name = "http",
              .ready = ss_conn_ready,
              .expired = ss_conn_expired,
              .free = free_io,
              .hang_up = true,
              .ends_once = true,
              .stream = true},
    .size = sizeof(ss_conn),
    .listen = begin_listening,
    .unlisten = end_listening,
    .accepted = accepted,
    .stopping = stopping,
    .unfinished = unfinished,
    .close = close_stream,
};

/* ---- opening ---- */

void ss_listener_defaults(ss_listener_config *config) {
    *config = (ss_listener_config){
        .limits = {.max_line = 8192, .max_head = 65536, .max_fields = 100},
        .head_timeout = 15 * SS_SECOND,
        .body_timeout = 30 * SS_SECOND,
        .body_rate = 240,
        .write_timeout = 60 * SS_SECOND,
        .idle_timeout = 75 * SS_SECOND,
        .linger_timeout = 2 * SS_SECOND,
        .discard_timeout = 5 * SS_SECOND,
        .discard_total = 30 * SS_SECOND,
        .handshake_timeout = 10 * SS_SECOND,
        .handshake_patience = SS_SECOND, /* some round trips around the world */
        .max_handshakes = 1000,
        .buffered_body = 16384,
        .high_water = 65536,
        .max_connections = 20000,
        .drain_limit = 262144,
        .memo_entries = 1024,
        .memo_block_bytes = 4096,
    };
}

int ss_listener_open(ss_loop *loop, int fd, const ss_listener_config *config) {
    return ss_listener_begin(loop, fd, config, config->raw ? NULL : &ss_http);
}
