/* The output queue: segments in the order in which they leave, and one loop that sends them.
 *
 * A segment is bytes that the queue owns, a frame that many queues share, or a range of
 * a file. Bytes that follow bytes fill the room behind them; new segments are about as
 * large as what is queued already, so that many small pieces are copied once each and
 * cost few segments. High water counts bytes, of whatever kind; a file's are on a disk. */

#include "stream/stream.h"

#include <stdlib.h>

#define MOST_ROOM 65536u /* bytes that a segment holds ready for more, at most */
#define LEAST_ROOM 2048u /* the same of a second one: small pieces come in flocks */
#define MOST_PIECES 64u  /* segments of one sendmsg */

/* ---- frames ---- */

ss_frame *ss_frame_join(const char *head, size_t head_length, const char *data, size_t length) {
    ss_frame *frame = malloc(sizeof *frame + head_length + length);
    if (!frame)
        return NULL;
    frame->uses = 1;
    frame->length = (uint32_t)(head_length + length);
    if (head_length)
        memcpy(frame->data, head, head_length);
    if (length)
        memcpy(frame->data + head_length, data, length);
    return frame;
}

ss_frame *ss_frame_new(const char *data, int64_t length) {
    return length < 0 || length > SS_MOST_OUT ? NULL : ss_frame_join(NULL, 0, data, (size_t)length);
}

ss_frame *ss_frames_join(ss_frame *const *frames, int64_t count) {
    int64_t length = 0;
    for (int64_t i = 0; i < count; i++)
        length += frames[i]->length;
    ss_frame *joined = length > SS_MOST_OUT ? NULL : malloc(sizeof *joined + (size_t)length);
    if (!joined)
        return NULL;
    joined->uses = 1;
    joined->length = 0;
    for (int64_t i = 0; i < count; i++) {
        memcpy(joined->data + joined->length, frames[i]->data, frames[i]->length);
        joined->length += frames[i]->length;
    }
    return joined;
}

void ss_frame_free(ss_frame *frame) {
    if (frame && --frame->uses == 0)
        free(frame);
}

/* ---- the queue ---- */

static const char *data_of(const ss_segment *segment) {
    return segment->kind == SS_SEGMENT_FRAME ? segment->frame->data : segment->data;
}

static void segment_free(ss_loop *loop, ss_segment *segment) {
    if (segment->kind == SS_SEGMENT_FILE) {
        ss_file_free(loop, segment);
        return;
    }
    if (segment->kind == SS_SEGMENT_FRAME)
        ss_frame_free(segment->frame);
    ss_streams_of(loop)->held_bytes -= segment->capacity;
    free(segment);
}

static ss_segment *segment_new(ss_loop *loop, enum ss_segment_kind kind, size_t capacity) {
    ss_segment *segment = malloc(sizeof *segment + capacity);
    if (!segment)
        return NULL;
    *segment = (ss_segment){.kind = (uint8_t)kind, .fd = -1, .capacity = (uint32_t)capacity};
    ss_streams_of(loop)->held_bytes += segment->capacity;
    return segment;
}

static void put(ss_output *out, ss_segment *segment) {
    if (out->last)
        out->last->next = segment;
    else
        out->first = segment;
    out->last = segment;
}

static void count_queued(ss_loop *loop, ss_output *out, int64_t bytes) {
    out->bytes += bytes;
    ss_streams_of(loop)->queued_bytes += bytes;
}

/* Takes ownership of a file's range. */
void ss_out_put_file(ss_output *out, ss_segment *file) {
    put(out, file);
    out->files++;
}

/* The last segment, if it is bytes and has room; else a new one. */
static ss_segment *room_for(ss_loop *loop, ss_output *out, size_t length) {
    ss_segment *last = out->last;
    if (last && last->kind == SS_SEGMENT_BYTES && last->capacity - last->end >= length)
        return last;
    size_t capacity = out->bytes < MOST_ROOM ? (size_t)out->bytes : MOST_ROOM;
    capacity = out->first && capacity < LEAST_ROOM ? LEAST_ROOM : capacity;
    ss_segment *segment = segment_new(loop, SS_SEGMENT_BYTES, capacity > length ? capacity : length);
    if (segment)
        put(out, segment);
    return segment;
}

/* Queues the pieces without their first `skip` bytes. */
int ss_out_append(ss_loop *loop, ss_output *out, const struct iovec *pieces, size_t count, size_t skip) {
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += pieces[i].iov_len;
    if (total <= skip)
        return SS_OK;
    total -= skip;
    if (total > (size_t)(SS_MOST_OUT - out->bytes))
        return SS_NOMEM;
    ss_segment *segment = room_for(loop, out, total);
    if (!segment)
        return SS_NOMEM;
    for (size_t i = 0; i < count; i++) {
        size_t gone = skip < pieces[i].iov_len ? skip : pieces[i].iov_len;
        size_t length = pieces[i].iov_len - gone;
        skip -= gone;
        if (!length)
            continue;
        memcpy(segment->data + segment->end, (const char *)pieces[i].iov_base + gone, length);
        segment->end += (uint32_t)length;
    }
    count_queued(loop, out, (int64_t)total);
    return SS_OK;
}

/* Queues a frame without its first `skip` bytes, by its pointer. */
int ss_out_append_frame(ss_loop *loop, ss_output *out, ss_frame *frame, size_t skip) {
    int64_t length = (int64_t)frame->length - (int64_t)skip;
    if (length <= 0)
        return SS_OK;
    ss_segment *segment = length > SS_MOST_OUT - out->bytes ? NULL : segment_new(loop, SS_SEGMENT_FRAME, 0);
    if (!segment)
        return SS_NOMEM;
    segment->frame = frame;
    segment->start = (uint32_t)skip;
    segment->end = frame->length;
    frame->uses++;
    put(out, segment);
    count_queued(loop, out, length);
    return SS_OK;
}

static void remove_first(ss_loop *loop, ss_output *out) {
    ss_segment *first = out->first;
    out->first = first->next;
    if (!out->first)
        out->last = NULL;
    out->files -= first->kind == SS_SEGMENT_FILE;
    segment_free(loop, first);
}

/* The first `count` bytes are out; no file is among them. */
void ss_out_drop(ss_loop *loop, ss_output *out, size_t count) {
    count_queued(loop, out, -(int64_t)count);
    while (count) {
        ss_segment *first = out->first;
        size_t length = first->end - first->start;
        if (count < length) {
            first->start += (uint32_t)count;
            return;
        }
        count -= length;
        remove_first(loop, out);
    }
}

/* What is at the front: the bytes of the first segment. */
ss_piece ss_out_front(const ss_output *out) {
    const ss_segment *first = out->first;
    if (!first || first->kind == SS_SEGMENT_FILE)
        return (ss_piece){.data = NULL, .length = 0, .last = !first};
    return (ss_piece){.data = data_of(first) + first->start, .length = first->end - first->start, .last = !first->next};
}

void ss_out_release(ss_loop *loop, ss_output *out) {
    if (!out->first)
        return;
    count_queued(loop, out, -out->bytes);
    while (out->first)
        remove_first(loop, out);
}

/* ---- sending ---- */

/* The bytes up to the next file; true: one follows. */
static bool gather(const ss_output *out, struct iovec *pieces, size_t *count, size_t *total) {
    const ss_segment *segment = out->first;
    *count = *total = 0;
    for (; segment && segment->kind != SS_SEGMENT_FILE && *count < MOST_PIECES; segment = segment->next) {
        size_t length = segment->end - segment->start;
        pieces[(*count)++] =
            (struct iovec){.iov_base = (char *)(uintptr_t)(data_of(segment) + segment->start), .iov_len = length};
        *total += length;
    }
    return segment && segment->kind == SS_SEGMENT_FILE;
}

static int flush_bytes(ss_loop *loop, ss_stream *stream, ss_output *out) {
    struct iovec pieces[MOST_PIECES];
    size_t count, total;
    bool more = gather(out, pieces, &count, &total);
    ssize_t sent = ss_socket_send(stream, pieces, count, more);
    if (sent < 0 && !ss_socket_full()) {
        stream->dead = true;
        return SS_ERROR;
    }
    if (sent > 0) {
        stream->progress = true;
        ss_out_drop(loop, out, (size_t)sent);
    }
    if (sent < (ssize_t)total) {
        stream->io.ready &= (uint8_t)~SS_WRITE;
        return SS_NEED_DATA;
    }
    return SS_OK;
}

/* Sends until the queue is empty (SS_OK), the socket full or a file's turn over
 * (SS_NEED_DATA), or the socket of no more use (SS_ERROR, and the stream is dead). */
int ss_out_flush(ss_loop *loop, ss_stream *stream, ss_output *out) {
    while (out->first) {
        bool file = out->first->kind == SS_SEGMENT_FILE;
        int answer = file ? ss_file_flush(loop, stream, out->first) : flush_bytes(loop, stream, out);
        if (answer != SS_OK)
            return answer;
        if (file)
            remove_first(loop, out);
    }
    return SS_OK;
}
