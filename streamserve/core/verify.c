/* Self-examination: walks every structure and says what does not hold. */

#include "loop/loop.h"

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

static const char *verify_connection(const ss_conn *conn) {
    if (conn->state >= SS_CONN_CLOSED)
        return "a closed connection still has a slot";
    if (conn->in_start > conn->in_end || conn->in_end > conn->in_capacity || (!conn->in && conn->in_capacity))
        return "an input buffer's bounds are wrong";
    if (conn->out_start > conn->out_end || conn->out_end > conn->out_capacity)
        return "an output queue's bounds are wrong";
    if (conn->tls && (conn->tls->out_start > conn->tls->out_end || conn->tls->out_end > conn->tls->out_capacity))
        return "a queue of ciphertext has wrong bounds";
    if (conn->tls && (conn->tls->handle != ss_io_handle(&conn->io) || conn->state == SS_CONN_LINGER))
        return "a connection has the TLS state of another, or for too long";
    if (conn->piece_left && conn->piece_at + conn->piece_left > conn->in_start)
        return "a decoded piece reaches beyond what was decoded";
    if (conn->state != SS_CONN_REQUEST && conn->state != SS_CONN_BODY &&
        (conn->block || conn->target || conn->kept_head))
        return "a connection without a request keeps parts of one";
    if (conn->file && conn->state != SS_CONN_FLUSH)
        return "a connection has a file outside of the end of its response";
    if (conn->state != SS_CONN_REQUEST && (conn->want_body || conn->want_drain))
        return "a connection without a request has a reader or a writer";
    return NULL;
}

typedef struct {
    uint32_t connections, requests, fds, buffers, files, used, tls;
    int64_t queued;
} tally;

static const char *verify_slot(const ss_loop *loop, uint32_t index, tally *sum) {
    const ss_io *io = loop->slots[index].io;
    if (!io)
        return loop->deadlines[index] ? "a free slot has a deadline" : NULL;
    sum->used++;
    if (io->index != index || io->generation != loop->slots[index].generation)
        return "a slot and its object disagree";
    if (loop->deadlines[index] && loop->deadlines[index] + SS_SWEEP_GRAIN < loop->next_sweep)
        return "a deadline lies more than a grain before the next sweep";
    if (io->kind == SS_IO_FD)
        sum->fds++;
    if (io->kind != SS_IO_CONN)
        return NULL;
    const ss_conn *conn = (const ss_conn *)io;
    sum->connections++;
    sum->requests += conn->state == SS_CONN_REQUEST;
    sum->buffers += conn->in != NULL;
    sum->files += conn->file != NULL;
    sum->queued += conn->out_end - conn->out_start;
    sum->queued += conn->tls ? conn->tls->out_end - conn->tls->out_start : 0;
    sum->tls += conn->tls != NULL;
    return verify_connection(conn);
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

static const char *verify_memos(const ss_loop *loop) {
    uint64_t pins = 0, held = 0;
    for (int i = 0; i < loop->listener_count; i++) {
        const ss_listener *listener = loop->listeners[i];
        if (!listener)
            continue;
        const char *fault = verify_memo(&listener->blocks);
        fault = fault ? fault : verify_memo(&listener->targets);
        if (fault)
            return fault;
        pins += pins_of(&listener->blocks) + pins_of(&listener->targets);
    }
    for (uint32_t i = 0; i < loop->slot_count; i++) {
        const ss_io *io = loop->slots[i].io;
        if (!io || io->kind != SS_IO_CONN)
            continue;
        held += ((const ss_conn *)io)->block != NULL;
        held += ((const ss_conn *)io)->target != NULL;
    }
    return pins == held ? NULL : "memo pins and the requests that hold them differ";
}

static int64_t conn_bytes(const ss_conn *conn) {
    int64_t ciphertext = conn->tls ? conn->tls->out_capacity : 0;
    return (int64_t)conn->in_capacity + conn->out_capacity + ciphertext;
}

static int64_t held_bytes(const ss_loop *loop) {
    int64_t held = 0;
    for (uint32_t index = 0; index < loop->slot_count; index++) {
        const ss_io *io = loop->slots[index].io;
        if (io && io->kind == SS_IO_CONN)
            held += conn_bytes((const ss_conn *)io);
    }
    return held;
}

const char *ss_verify(const ss_loop *loop) {
    tally sum = {0};
    const char *fault = loop->violation;
    fault = fault ? fault : verify_timers(loop);
    fault = fault ? fault : verify_pending(loop);
    for (uint32_t index = 0; !fault && index < loop->slot_count; index++)
        fault = verify_slot(loop, index, &sum);
    fault = fault ? fault : verify_memos(loop);
    if (fault)
        return fault;
    if (sum.connections != loop->connections || sum.requests != loop->requests_out || sum.fds != loop->fds)
        return "a counter of connections, requests or descriptors is wrong";
    for (const ss_tls *ended = loop->tls_ended; ended; ended = ended->next)
        sum.tls++;
    if (sum.tls != loop->tls)
        return "a counter of TLS connections is wrong";
    if (held_bytes(loop) != loop->held_bytes)
        return "the bytes that connections hold are not what they allocated";
    if (sum.buffers != loop->buffers || sum.queued != loop->queued_bytes || sum.files != loop->files)
        return "a counter of buffers, queued bytes or files is wrong";
    return NULL;
}

void ss_counts(const ss_loop *loop, int64_t *counts) {
    int64_t remembered = 0;
    for (int i = 0; i < loop->listener_count; i++)
        if (loop->listeners[i])
            remembered += loop->listeners[i]->blocks.filled + loop->listeners[i]->targets.filled;
    counts[SS_COUNT_TIMERS] = loop->heap_count;
    counts[SS_COUNT_FDS] = loop->fds;
    counts[SS_COUNT_LISTENERS] = loop->listeners_open;
    counts[SS_COUNT_CONNECTIONS] = loop->connections;
    counts[SS_COUNT_REQUESTS] = loop->requests_out;
    counts[SS_COUNT_BUFFERS] = loop->buffers;
    counts[SS_COUNT_SPARE_BUFFERS] = loop->spare_count;
    counts[SS_COUNT_QUEUED_BYTES] = loop->queued_bytes;
    counts[SS_COUNT_MEMO_ENTRIES] = remembered;
    counts[SS_COUNT_FILES] = loop->files;
    counts[SS_COUNT_ACCEPTED] = loop->accepted;
    counts[SS_COUNT_POLLS] = loop->polls;
    counts[SS_COUNT_TLS] = loop->tls;
    counts[SS_COUNT_HELD_BYTES] = loop->held_bytes;
}
