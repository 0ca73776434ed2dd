/* From bytes to a request record: the head, by memory or by parsing, and what
 * its framing means for the connection. */

#define _GNU_SOURCE
#include "http/http.h"

#include <stdlib.h>

#define LONGEST_TARGET 256u /* bytes of a target that is remembered */

/* A client repeats its headers byte for byte. What this connection sent last is
 * compared first; then the whole block is looked up. */
static ss_memo_entry *recall_block(ss_conn *conn, const char *block, uint32_t length) {
    ss_memo *memo = &ss_http_shared_of(conn)->blocks;
    ss_memo_entry *last = conn->last_block;
    uint8_t minor = conn->head.minor;
    if (last && last->generation == conn->last_generation && last->minor == minor && last->length <= length &&
        memcmp(last->bytes, block, last->length) == 0) {
        last->used = ++memo->tick;
        return last;
    }
    if (!memo->filled)
        return NULL;
    uint32_t most = ss_conn_config(conn)->memo_block_bytes;
    const char *end = memmem(block, length < most ? length : most, "\r\n\r\n", 4);
    return end ? ss_memo_find(memo, block, (uint32_t)(end - block) + 4, minor) : NULL;
}

static void use_block(ss_conn *conn, ss_memo_entry *entry) {
    entry->pins++;
    conn->block = conn->last_block = entry;
    conn->last_generation = entry->generation;
}

/* SS_OK: conn->head is a whole request head, and `remembered` its block if it is known; SS_NEED_DATA;
 * SS_ERROR: conn->head.refusal says why. */
int ss_request_parse(ss_conn *conn, ss_memo_entry **remembered) {
    const ss_http1_limits *limits = &ss_conn_config(conn)->limits;
    const char *data = conn->stream.in + conn->stream.in_start;
    uint32_t length = ss_stream_unread(&conn->stream);
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
    conn->persist = wishes && !conn->stream.listener->draining && head->method_id != SS_CONNECT;
    conn->http10_keep = conn->persist && head->minor == 0;
    conn->chunked_body = (flags & SS_CHUNKED) != 0;
    conn->decoded = false;
    conn->body_left = head->framing.content_length;
    conn->body_seen = 0;
    conn->body_credit = ss_conn_config(conn)->body_timeout;
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
    flags |= conn->decoded ? SS_REQUEST_DECODED : 0;
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

static int64_t page_number(const ss_conn *conn) {
    const ss_http_shared *shared = ss_http_shared_of(conn);
    int64_t block = conn->block ? slot_number(&shared->blocks, conn->block) : 0;
    int64_t target = conn->target ? slot_number(&shared->targets, conn->target) : 0;
    return block << SS_PAGE_SHIFT | target;
}

/* Writes the record of a request. */
void ss_request_report(ss_loop *loop, ss_conn *conn) {
    int64_t *words = &loop->requests[loop->request_count++ * SS_REQUEST_WORDS];
    words[0] = conn->stream.listener->number;
    words[1] = ss_io_handle(&conn->stream.io);
    words[2] = page_number(conn);
    words[3] = request_flags(conn);
    if (words[3] == 0 && words[2] == conn->last_page)
        words[3] = SS_REQUEST_AGAIN;
    bool common = words[3] == 0 || words[3] == SS_REQUEST_AGAIN;
    conn->last_page = common ? (int32_t)words[2] : -1; /* any other request in between is a new beginning */
    conn->peer_known = true;
    conn->partial = false;
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
bool ss_request_buffers_full(const ss_loop *loop, const ss_conn *conn) {
    int64_t most = ss_conn_config(conn)->max_buffers;
    return most && ss_streams_of(loop)->held_bytes > most;
}

static enum ss_refusal judge(const ss_loop *loop, const ss_conn *conn) {
    uint64_t most = ss_conn_config(conn)->max_body;
    if (ss_request_buffers_full(loop, conn))
        return SS_BUFFERS_FULL;
    return most && conn->body_left > most ? SS_BODY_TOO_LARGE : SS_REFUSAL_NONE;
}

/* A head is complete: takes it out of the buffer, and pins what is remembered of it. SS_OK,
 * SS_NOMEM, or SS_ERROR: conn->head.refusal says why. */
int ss_request_begin(ss_loop *loop, ss_conn *conn, ss_memo_entry *block) {
    const char *data = conn->stream.in + conn->stream.in_start;
    const ss_span *target = &conn->head.target;
    set_framing(conn);
    conn->head.refusal = (uint16_t)judge(loop, conn);
    if (conn->head.refusal != SS_REFUSAL_NONE)
        return SS_ERROR;
    conn->stream.in_start += conn->head.end;
    if (block)
        use_block(conn, block);
    if (conn->head.target_form == SS_ORIGIN_FORM && target->length <= LONGEST_TARGET)
        conn->target = ss_memo_find(&ss_http_shared_of(conn)->targets, data + target->offset, target->length, 0);
    if (conn->target)
        conn->target->pins++;
    return keep_head(conn, data);
}

/* Does the body come with its head, if it is awaited, and has not come yet? */
bool ss_request_awaits_body(const ss_conn *conn) {
    if (conn->chunked_body)
        return ss_conn_config(conn)->buffered_chunked > 0;
    bool small = conn->body_left <= ss_conn_config(conn)->buffered_body;
    return small && conn->body_left > ss_stream_unread(&conn->stream) && !conn->expect_due;
}

/* The request leaves Python's hands: nothing of it may stay pinned or kept. */
void ss_request_release(ss_conn *conn) {
    if (conn->block)
        conn->block->pins--;
    if (conn->target)
        conn->target->pins--;
    conn->block = conn->target = NULL;
    free(conn->kept_head);
    conn->kept_head = NULL;
    conn->want_body = conn->want_end = conn->want_drain = false;
}

/* The first line of a request, as far as it came, for the log; NULL: it is no longer here. */
const char *ss_request_first_line(const ss_conn *conn, uint32_t *length) {
    const ss_stream *stream = &conn->stream;
    const char *line = conn->kept_head;
    uint32_t size = conn->head.end, end = 0;
    if (!line && conn->state == SS_CONN_HEAD && stream->in) {
        line = stream->in + stream->in_start;
        size = ss_stream_unread(stream);
    }
    for (; line && size && (*line == '\r' || *line == '\n'); size--)
        line++;
    while (line && end < size && end < SS_REFUSED_LINE && line[end] != '\r' && line[end] != '\n')
        end++;
    *length = end;
    return line;
}

/* The header of the PROXY protocol, which comes before the first head. SS_OK: it is taken. */
int ss_request_proxy_header(ss_conn *conn) {
    ss_stream *stream = &conn->stream;
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    uint32_t used = 0;
    int answer = ss_proxy_parse(stream->in + stream->in_start, ss_stream_unread(stream), &used, &peer);
    conn->partial = answer == SS_NEED_DATA;
    if (answer == SS_OK) {
        conn->proxy_due = false;
        stream->in_start += used;
        if (peer.ss_family != AF_UNSPEC)
            ss_stream_set_peer(stream, &peer);
    }
    return answer;
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
    if (conn->block || length > ss_conn_config(conn)->memo_block_bytes)
        return conn->block;
    ss_memo_entry *entry =
        ss_memo_add(&ss_http_shared_of(conn)->blocks, conn->kept_head + head->block, length, head->minor);
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
    conn->target = ss_memo_add(&ss_http_shared_of(conn)->targets, conn->kept_head + target->offset, target->length, 0);
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
        return slot_number(&ss_http_shared_of(conn)->blocks, memoise_block(conn));
    return slot_number(&ss_http_shared_of(conn)->targets, memoise_target(conn));
}

int ss_conn_forget(ss_loop *loop, int64_t handle) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    ss_memo_forget(&ss_http_shared_of(conn)->blocks);
    ss_memo_forget(&ss_http_shared_of(conn)->targets);
    return SS_OK;
}
