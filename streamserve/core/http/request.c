/* From bytes to a request record: the head, by memory or by parsing, and what
 * its framing means for the connection. */

#define _GNU_SOURCE
#include "loop/loop.h"

#include <stdlib.h>

#define LONGEST_TARGET 256u /* bytes of a target that is remembered */

/* A client repeats its headers byte for byte. What this connection sent last is
 * compared first; then the whole block is looked up. */
static ss_memo_entry *recall_block(ss_conn *conn, const char *block, uint32_t length) {
    ss_memo *memo = &conn->listener->blocks;
    ss_memo_entry *last = conn->last_block;
    uint8_t minor = conn->head.minor;
    if (last && last->generation == conn->last_generation && last->minor == minor && last->length <= length &&
        memcmp(last->bytes, block, last->length) == 0) {
        last->used = ++memo->tick;
        return last;
    }
    if (!memo->filled)
        return NULL;
    uint32_t most = conn->listener->config.memo_block_bytes;
    const char *end = memmem(block, length < most ? length : most, "\r\n\r\n", 4);
    return end ? ss_memo_find(memo, block, (uint32_t)(end - block) + 4, minor) : NULL;
}

static void use_block(ss_conn *conn, ss_memo_entry *entry) {
    entry->pins++;
    conn->block = conn->last_block = entry;
    conn->last_generation = entry->generation;
}

static int parse_head(ss_conn *conn, ss_memo_entry **remembered) {
    const ss_http1_limits *limits = &conn->listener->config.limits;
    const char *data = conn->in + conn->in_start;
    uint32_t length = conn->in_end - conn->in_start;
    bool fresh = !conn->partial;
    ss_http1 *head = &conn->head;
    *remembered = NULL;
    if (fresh)
        ss_http1_init(head);
    if (head->block == 0) {
        int answer = ss_http1_line(head, data, length, limits);
        if (answer != SS_OK)
            return answer;
    }
    if (fresh && head->target_form == SS_ORIGIN_FORM) {
        ss_memo_entry *entry = recall_block(conn, data + head->block, length - head->block);
        if (entry && head->block + entry->length <= limits->max_head) {
            head->framing = entry->framing;
            head->end = head->block + entry->length;
            *remembered = entry;
            return SS_OK;
        }
    }
    return ss_http1_fields(head, data, length, limits);
}

static void set_framing(ss_conn *conn) {
    const ss_http1 *head = &conn->head;
    uint32_t flags = head->framing.flags;
    bool wishes = head->minor > 0 ? !(flags & SS_CLOSE) : (flags & SS_KEEP_ALIVE) && !(flags & SS_CLOSE);
    conn->persist = wishes && !conn->listener->draining && head->method_id != SS_CONNECT;
    conn->http10_keep = conn->persist && head->minor == 0;
    conn->chunked_body = (flags & SS_CHUNKED) != 0;
    conn->body_left = head->framing.content_length;
    conn->body_seen = 0;
    conn->body_failed = SS_REFUSAL_NONE;
    conn->response_started = false;
    conn->expect_due = (flags & SS_EXPECT) && (conn->chunked_body || conn->body_left);
    if (conn->chunked_body)
        ss_chunked_init(&conn->chunked);
}

static int64_t request_flags(const ss_conn *conn) {
    const ss_http1 *head = &conn->head;
    int64_t flags = 0;
    flags |= conn->block ? 0 : SS_REQUEST_NEW_BLOCK;
    flags |= conn->target ? 0 : SS_REQUEST_NEW_TARGET;
    flags |= conn->peer_known ? 0 : SS_REQUEST_NEW_PEER;
    flags |= conn->body_left ? SS_REQUEST_HAS_BODY : 0;
    flags |= conn->chunked_body ? SS_REQUEST_CHUNKED : 0;
    flags |= conn->expect_due ? SS_REQUEST_EXPECT : 0;
    flags |= head->minor == 0 ? SS_REQUEST_HTTP10 : 0;
    flags |= head->framing.flags & SS_UPGRADE ? SS_REQUEST_UPGRADE : 0;
    flags |= head->target_form != SS_ORIGIN_FORM ? SS_REQUEST_FORM : 0;
    if (head->method_id != SS_GET)
        flags |= SS_REQUEST_METHOD | (int64_t)head->method_id << SS_METHOD_SHIFT;
    return flags;
}

static int64_t slot_number(const ss_memo *memo, const ss_memo_entry *entry) {
    return entry ? entry - memo->entries : -1;
}

static int64_t page_number(const ss_listener *listener, const ss_conn *conn) {
    int64_t block = conn->block ? slot_number(&listener->blocks, conn->block) : 0;
    int64_t target = conn->target ? slot_number(&listener->targets, conn->target) : 0;
    return block << SS_PAGE_SHIFT | target;
}

static void report(ss_loop *loop, ss_conn *conn) {
    const ss_listener *listener = conn->listener;
    int64_t *words = &loop->requests[loop->request_count++ * SS_REQUEST_WORDS];
    words[0] = listener->number;
    words[1] = ss_io_handle(&conn->io);
    words[2] = page_number(listener, conn);
    words[3] = request_flags(conn);
    if (words[3] == 0 && words[2] == conn->last_page)
        words[3] = SS_REQUEST_AGAIN;
    bool common = words[3] == 0 || words[3] == SS_REQUEST_AGAIN;
    conn->last_page = common ? (int32_t)words[2] : -1; /* any other request in between is a new beginning */
    conn->peer_known = true;
    conn->partial = false;
    ss_conn_move(loop, conn, SS_CONN_REQUEST);
    ss_deadline_set(loop, &conn->io, 0);
    if (conn->in_start == conn->in_end)
        ss_in_release(loop, conn);
}

/* The buffer goes on to hold the body, so a head that Python must see is copied. */
static int keep_head(ss_conn *conn, const char *data) {
    if (conn->block && conn->target && conn->head.method_id != SS_METHOD_OTHER)
        return SS_OK;
    conn->kept_head = malloc(conn->head.end);
    if (!conn->kept_head)
        return SS_NOMEM;
    memcpy(conn->kept_head, data, conn->head.end);
    return SS_OK;
}

/* Whether all connections together hold more than they may. Then nothing new begins; what runs goes on. */
static bool buffers_full(const ss_loop *loop, const ss_conn *conn) {
    int64_t most = conn->listener->config.max_buffers;
    return most && loop->held_bytes > most;
}

static void await_body(ss_loop *loop, ss_conn *conn) {
    if (buffers_full(loop, conn)) {
        ss_conn_answer_refusal(loop, conn, SS_BUFFERS_FULL);
        return;
    }
    ss_deadline_set(loop, &conn->io, conn->listener->config.body_timeout);
    if (conn->io.ready & SS_READ)
        ss_pending_add(loop, &conn->io);
    else
        ss_in_settle(loop, conn);
}

static void head_complete(ss_loop *loop, ss_conn *conn, ss_memo_entry *entry) {
    const ss_listener_config *config = &conn->listener->config;
    const char *data = conn->in + conn->in_start;
    set_framing(conn);
    if (buffers_full(loop, conn)) {
        conn->in_start += conn->head.end;
        ss_conn_answer_refusal(loop, conn, SS_BUFFERS_FULL);
        return;
    }
    if (config->max_body && conn->body_left > config->max_body) {
        conn->in_start += conn->head.end;
        ss_conn_answer_refusal(loop, conn, SS_BODY_TOO_LARGE);
        return;
    }
    if (entry)
        use_block(conn, entry);
    if (conn->head.target_form == SS_ORIGIN_FORM && conn->head.target.length <= LONGEST_TARGET)
        conn->target =
            ss_memo_find(&conn->listener->targets, data + conn->head.target.offset, conn->head.target.length, 0);
    if (conn->target)
        conn->target->pins++;
    if (keep_head(conn, data) != SS_OK) {
        ss_conn_close(loop, conn);
        return;
    }
    conn->in_start += conn->head.end;
    uint32_t buffered = conn->in_end - conn->in_start;
    if (conn->body_left <= config->buffered_body && conn->body_left > buffered && !conn->expect_due) {
        ss_conn_move(loop, conn, SS_CONN_BODY);
        conn->partial = false;
        await_body(loop, conn);
        return;
    }
    report(loop, conn);
}

static void advance_body(ss_loop *loop, ss_conn *conn) {
    if (conn->in_end - conn->in_start >= conn->body_left) {
        report(loop, conn);
        return;
    }
    await_body(loop, conn);
}

/* The header of the PROXY protocol; false: the rest of it, or of the connection, is to come or gone. */
static bool take_proxy_header(ss_loop *loop, ss_conn *conn) {
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    uint32_t used = 0;
    int answer = ss_proxy_parse(conn->in + conn->in_start, conn->in_end - conn->in_start, &used, &peer);
    if (answer == SS_ERROR) {
        ss_refusal_report(loop, conn, SS_BAD_PROXY_HEADER);
        ss_conn_close(loop, conn);
        return false;
    }
    conn->partial = answer == SS_NEED_DATA; /* the deadline stays that of the accept */
    if (answer == SS_OK) {
        conn->proxy_due = false;
        conn->in_start += used;
        if (peer.ss_family != AF_UNSPEC)
            ss_conn_set_peer(conn, &peer);
    }
    if (answer == SS_OK && conn->in_start < conn->in_end)
        return true;
    ss_in_settle(loop, conn);
    if (conn->io.ready & SS_READ)
        ss_pending_add(loop, &conn->io);
    return false;
}

/* Goes as far as the buffered bytes allow, to at most one request. */
void ss_conn_advance(ss_loop *loop, ss_conn *conn) {
    ss_memo_entry *entry;
    if (loop->request_count == SS_BATCH) {
        ss_pending_add(loop, &conn->io);
        return;
    }
    if (conn->state == SS_CONN_BODY) {
        advance_body(loop, conn);
        return;
    }
    if (conn->in_start == conn->in_end) {
        ss_in_settle(loop, conn);
        return;
    }
    if (conn->proxy_due && !take_proxy_header(loop, conn))
        return;
    switch (parse_head(conn, &entry)) {
    case SS_OK:
        head_complete(loop, conn, entry);
        break;
    case SS_NEED_DATA:
        if (!conn->partial && !conn->last_chance) /* a server that stops has set a shorter one */
            ss_deadline_set(loop, &conn->io, conn->listener->config.head_timeout);
        conn->partial = true;
        ss_in_settle(loop, conn);
        if (buffers_full(loop, conn))
            ss_conn_answer_refusal(loop, conn, SS_BUFFERS_FULL);
        else if (conn->io.ready & SS_READ)
            ss_pending_add(loop, &conn->io);
        break;
    default:
        ss_conn_answer_refusal(loop, conn, conn->head.refusal);
        break;
    }
}

/* ---- what Python asks about a head ---- */

const char *ss_conn_head(ss_loop *loop, int64_t handle, ss_http1 *head) {
    const ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn || conn->state != SS_CONN_REQUEST)
        return NULL;
    *head = conn->head;
    return conn->kept_head;
}

static ss_memo_entry *memoise_block(ss_conn *conn) {
    const ss_http1 *head = &conn->head;
    uint32_t length = head->end - head->block;
    if (conn->block || length > conn->listener->config.memo_block_bytes)
        return conn->block;
    ss_memo_entry *entry = ss_memo_add(&conn->listener->blocks, conn->kept_head + head->block, length, head->minor);
    if (entry) {
        entry->framing = head->framing;
        use_block(conn, entry);
    }
    return entry;
}

static ss_memo_entry *memoise_target(ss_conn *conn) {
    const ss_span *target = &conn->head.target;
    if (conn->target || target->length > LONGEST_TARGET)
        return conn->target;
    conn->target = ss_memo_add(&conn->listener->targets, conn->kept_head + target->offset, target->length, 0);
    if (conn->target)
        conn->target->pins++;
    return conn->target;
}

int64_t ss_conn_memoise(ss_loop *loop, int64_t handle, int which) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn || conn->state != SS_CONN_REQUEST || !conn->kept_head)
        return conn ? SS_MISUSE : SS_GONE;
    if (conn->head.target_form != SS_ORIGIN_FORM)
        return -1;
    if (which == 0)
        return slot_number(&conn->listener->blocks, memoise_block(conn));
    return slot_number(&conn->listener->targets, memoise_target(conn));
}

int ss_conn_forget(ss_loop *loop, int64_t handle) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    ss_memo_forget(&conn->listener->blocks);
    ss_memo_forget(&conn->listener->targets);
    return SS_OK;
}
