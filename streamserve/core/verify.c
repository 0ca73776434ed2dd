/* Self-examination: walks every structure and says what does not hold. */

#include "http/http.h"
#include "websocket/websocket.h"

static const char *verify_timers(const ss_loop *loop) {
    uint32_t counted = 0;
    for (uint32_t i = 0; i < loop->heap_count; i++) {
        const ss_heap_item *item = &loop->heap[i];
        if (item->slot >= loop->timer_count || loop->timers[item->slot].position != i)
            return "a timer's slot does not know its place in the heap";
        if (i && loop->heap[(i - 1) / 4].when > item->when)
            return "the timer heap is out of order";
        counted += loop->timers[item->slot].counts;
    }
    if (counted != loop->timers_that_count)
        return "timers_that_count is wrong";
    uint32_t spare = 0;
    for (uint32_t slot = loop->timer_free; slot != SS_NOWHERE; slot = loop->timers[slot].next_free)
        if (++spare > loop->timer_count || loop->timers[slot].position != SS_NOWHERE)
            return "the list of free timers is damaged";
    return spare + loop->heap_count == loop->timer_count ? NULL : "a timer is neither free nor in the heap";
}

static const char *verify_pending(const ss_loop *loop) {
    uint32_t count = 0;
    for (const ss_io *io = loop->pending.next; io != &loop->pending; io = io->next) {
        if (++count > loop->pending_count || !io->pending || io->next->previous != io)
            return "the pending list is damaged";
    }
    return count == loop->pending_count ? NULL : "pending_count is wrong";
}

static const char *verify_output(const ss_output *out) {
    int64_t bytes = 0;
    uint32_t files = 0;
    for (const ss_segment *segment = out->first; segment; segment = segment->next) {
        if (!segment->next && segment != out->last)
            return "an output queue does not know its last segment";
        if (segment->kind == SS_SEGMENT_FILE) {
            files++;
            continue;
        }
        if (segment->start >= segment->end || (segment->kind == SS_SEGMENT_BYTES && segment->end > segment->capacity))
            return "a segment of output has wrong bounds";
        if (segment->kind == SS_SEGMENT_FRAME && (!segment->frame->uses || segment->end > segment->frame->length))
            return "a queue sends more of a frame than there is";
        bytes += segment->end - segment->start;
    }
    return bytes == out->bytes && files == out->files && (out->first || !out->last) ? NULL
                                                                                    : "an output queue is miscounted";
}

static const char *verify_stream(const ss_stream *stream) {
    const char *fault = verify_output(&stream->out);
    if (stream->in_start > stream->in_end || stream->in_end > stream->in_capacity ||
        (!stream->in && stream->in_capacity))
        return "a read buffer's bounds are wrong";
    if (stream->in_held > stream->in_start)
        return "a stream holds back bytes that its buffer does not have";
    if (stream->tls && stream->tls->handle != ss_io_handle(&stream->io))
        return "a stream has the TLS state of another";
    if (stream->tls && stream->tls->shaking == stream->tls->open)
        return "a handshake is not in the list of its listener, or stayed there";
    return fault || !stream->tls ? fault : verify_output(&stream->tls->out);
}

static const char *verify_http(const ss_conn *conn) {
    if (conn->state >= SS_CONN_CLOSED)
        return "a closed connection still has a slot";
    if (conn->stream.tls && conn->state == SS_CONN_LINGER)
        return "a connection has TLS state for too long";
    if (conn->piece_left > conn->stream.in_held)
        return "a decoded piece reaches beyond what was decoded";
    if (conn->state != SS_CONN_REQUEST && conn->state != SS_CONN_BODY &&
        (conn->block || conn->target || conn->kept_head))
        return "a connection without a request keeps parts of one";
    if (conn->stream.out.files && conn->state != SS_CONN_FLUSH)
        return "a connection has a file outside of the end of its response";
    if (conn->state != SS_CONN_REQUEST && (conn->want_body || conn->want_end || conn->want_drain))
        return "a connection without a request has a reader or a writer";
    if (conn->held && !conn->stream.io.pending)
        return "small pieces wait in the kernel, and nobody will push them";
    return NULL;
}

static const char *verify_websocket(const ss_ws *ws) {
    if (ws->state >= SS_WS_CLOSED)
        return "a closed WebSocket still has a slot";
    if (ws->length > ws->capacity || (!ws->message && ws->capacity))
        return "a message has wrong bounds";
    if (ws->state >= SS_WS_FLUSH && (ws->message || ws->in_frame))
        return "a WebSocket that ends still reads a message";
    if (ws->state > SS_WS_CLOSING && !ws->told)
        return "a WebSocket ends, and Python was not told";
    return NULL;
}

typedef struct {
    uint32_t connections, requests, fds, buffers, files, tls;
    int64_t queued, held;
} tally;

static int64_t capacity_of(const ss_output *out) {
    int64_t capacity = 0;
    for (const ss_segment *segment = out->first; segment; segment = segment->next)
        capacity += segment->capacity;
    return capacity;
}

static const char *verify_slot(const ss_loop *loop, uint32_t index, tally *sum) {
    ss_io *io = loop->slots[index].io;
    if (!io)
        return loop->deadlines[index] ? "a free slot has a deadline" : NULL;
    if (io->index != index || io->generation != loop->slots[index].generation)
        return "a slot and its object disagree";
    if (loop->deadlines[index] && loop->deadlines[index] + SS_SWEEP_GRAIN < loop->next_sweep)
        return "a deadline lies more than a grain before the next sweep";
    sum->fds += io->class->urgent;
    const ss_stream *stream = ss_stream_of(io);
    if (!stream)
        return NULL;
    sum->connections++;
    sum->buffers += stream->in != NULL;
    sum->files += stream->out.files;
    sum->queued += stream->out.bytes + (stream->tls ? stream->tls->out.bytes : 0);
    sum->held += stream->in_capacity + capacity_of(&stream->out) + (stream->tls ? capacity_of(&stream->tls->out) : 0);
    sum->tls += stream->tls != NULL;
    const char *fault = verify_stream(stream);
    if (!fault && io->class == &ss_websocket.class) {
        sum->held += ((const ss_ws *)stream)->capacity;
        return verify_websocket((const ss_ws *)stream);
    }
    if (fault || io->class != &ss_http.class)
        return fault;
    sum->requests += ((const ss_conn *)stream)->state == SS_CONN_REQUEST;
    return verify_http((const ss_conn *)stream);
}

static const char *verify_memo(const ss_memo *memo) {
    uint32_t filled = 0;
    for (uint32_t i = 0; i < memo->capacity; i++) {
        filled += memo->entries[i].bytes != NULL;
        if (memo->entries[i].pins && !memo->entries[i].bytes)
            return "an empty memo entry is pinned";
    }
    return filled == memo->filled ? NULL : "a memo's count of entries is wrong";
}

static uint64_t pins_of(const ss_memo *memo) {
    uint64_t pins = 0;
    for (uint32_t i = 0; i < memo->capacity; i++)
        pins += memo->entries[i].pins;
    return pins;
}

/* How many requests hold entries of the memos of a listener. */
static uint64_t held_entries(const ss_loop *loop, const ss_listener *listener) {
    uint64_t held = 0;
    for (uint32_t i = 0; i < loop->slot_count; i++) {
        const ss_io *io = loop->slots[i].io;
        const ss_conn *conn = io && io->class == &ss_http.class ? (const ss_conn *)io : NULL;
        if (conn && conn->stream.listener == listener)
            held += (uint64_t)(conn->block != NULL) + (conn->target != NULL);
    }
    return held;
}

static const char *verify_handshakes(const ss_listener *listener) {
    const ss_tls *previous = NULL;
    uint32_t count = 0;
    for (const ss_tls *tls = listener->first_handshake; tls; previous = tls, tls = tls->next) {
        if (!tls->shaking || tls->open || tls->previous != previous || tls->listener != listener->number)
            return "the list of handshakes is broken";
        count++;
    }
    bool counted = previous == listener->last_handshake && count == listener->handshakes;
    return counted ? NULL : "the handshakes of a listener are miscounted";
}

static const char *verify_listener(const ss_loop *loop, const ss_listener *listener) {
    const ss_http_shared *shared = listener->protocol == &ss_http ? listener->shared : NULL;
    const char *fault = verify_handshakes(listener);
    if (fault || !shared)
        return fault;
    fault = verify_memo(&shared->blocks);
    fault = fault ? fault : verify_memo(&shared->targets);
    if (fault)
        return fault;
    bool same = pins_of(&shared->blocks) + pins_of(&shared->targets) == held_entries(loop, listener);
    return same ? NULL : "memo pins and the requests that hold them differ";
}

static uint32_t requests_out(const ss_streams *streams) {
    uint32_t requests = 0;
    for (int i = 0; i < streams->listener_count; i++)
        if (streams->listeners[i] && streams->listeners[i]->protocol == &ss_http)
            requests += ((const ss_http_shared *)streams->listeners[i]->shared)->requests_out;
    return requests;
}

static const char *verify_writers(const ss_streams *streams) {
    const ss_tls *previous = NULL;
    for (const ss_tls *tls = streams->tls_writers; tls; previous = tls, tls = tls->next)
        if (!tls->writes || tls->previous != previous)
            return "the list of TLS writers is broken";
    return previous == streams->tls_last_writer ? NULL : "the list of TLS writers has another end";
}

static const char *verify_streams(const ss_loop *loop, const ss_streams *streams, tally *sum) {
    const char *fault = NULL;
    for (int i = 0; !fault && i < streams->listener_count; i++)
        if (streams->listeners[i])
            fault = verify_listener(loop, streams->listeners[i]);
    if (fault)
        return fault;
    for (const ss_tls *ended = streams->tls_ended; ended; ended = ended->next)
        sum->tls++;
    fault = verify_writers(streams);
    if (fault)
        return fault;
    if (sum->connections != streams->connections || sum->requests != requests_out(streams) || sum->tls != streams->tls)
        return "a counter of connections, requests or TLS is wrong";
    if (sum->held != streams->held_bytes)
        return "the bytes that connections hold are not what they allocated";
    if (sum->buffers != streams->buffers || sum->queued != streams->queued_bytes || sum->files != streams->files)
        return "a counter of buffers, queued bytes or files is wrong";
    if (loop->busy != streams->connections + (uint32_t)streams->listeners_open)
        return "what keeps the loop from being idle is miscounted";
    return NULL;
}

const char *ss_verify(const ss_loop *loop) {
    const ss_streams *streams = ss_streams_of(loop);
    tally sum = {0};
    const char *fault = loop->violation;
    fault = fault ? fault : verify_timers(loop);
    fault = fault ? fault : verify_pending(loop);
    for (uint32_t index = 0; !fault && index < loop->slot_count; index++)
        fault = verify_slot(loop, index, &sum);
    if (!fault && sum.fds != loop->fds)
        fault = "a counter of descriptors is wrong";
    return fault || !streams ? fault : verify_streams(loop, streams, &sum);
}

static int64_t memo_entries(const ss_streams *streams) {
    int64_t remembered = 0;
    for (int i = 0; i < streams->listener_count; i++) {
        const ss_listener *listener = streams->listeners[i];
        const ss_http_shared *shared = listener && listener->protocol == &ss_http ? listener->shared : NULL;
        remembered += shared ? shared->blocks.filled + shared->targets.filled : 0;
    }
    return remembered;
}

void ss_counts(const ss_loop *loop, int64_t *counts) {
    const ss_streams *streams = ss_streams_of(loop);
    memset(counts, 0, SS_COUNT_KINDS * sizeof *counts);
    counts[SS_COUNT_TIMERS] = loop->heap_count;
    counts[SS_COUNT_FDS] = loop->fds;
    counts[SS_COUNT_POLLS] = loop->polls;
    if (!streams)
        return;
    counts[SS_COUNT_LISTENERS] = streams->listeners_open;
    counts[SS_COUNT_CONNECTIONS] = streams->connections;
    counts[SS_COUNT_REQUESTS] = requests_out(streams);
    counts[SS_COUNT_BUFFERS] = streams->buffers;
    counts[SS_COUNT_SPARE_BUFFERS] = streams->spare_count;
    counts[SS_COUNT_QUEUED_BYTES] = streams->queued_bytes;
    counts[SS_COUNT_MEMO_ENTRIES] = memo_entries(streams);
    counts[SS_COUNT_FILES] = streams->files;
    counts[SS_COUNT_ACCEPTED] = streams->accepted;
    counts[SS_COUNT_TLS] = streams->tls;
    counts[SS_COUNT_HELD_BYTES] = streams->held_bytes;
    counts[SS_COUNT_SKIPPED] = streams->skipped;
    counts[SS_COUNT_OVERLOADED] = streams->overloaded;
}
