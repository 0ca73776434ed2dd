/* From bytes to messages: frames are read as they come, unmasked, checked, and put together.
 *
 * A message that came whole and is small goes from the read buffer to the records of the
 * poll, unmasked on the way. Any other is gathered in memory of its own, which grows as bytes
 * come, never by what a header promises. A message is refused at the header that makes it too
 * large, text at the byte that makes it invalid. A control frame waits in the read buffer until
 * it is whole. */

#include "websocket/websocket.h"

#include <stdlib.h>

#define LEAST_MESSAGE 4096u
#define QUICK_GROWTH 65536u /* bytes: what is longer grows fourfold, and is copied the less often for it */
#define FRAMES_PER_TURN 256 /* of one connection: a busy one does not keep the others waiting */

static int fault(ss_ws *ws, enum ss_ws_code code) {
    ws->code = (uint16_t)code;
    return SS_ERROR;
}

void ss_ws_message_release(ss_loop *loop, ss_ws *ws) {
    ss_streams_of(loop)->held_bytes -= ws->capacity;
    free(ws->message);
    ws->message = NULL;
    ws->length = ws->capacity = 0;
    ws->taken = false;
}

static bool is_text(const ss_ws *ws) {
    return ws->opcode == SS_WS_TEXT;
}

/* Nobody will read it: we have sent Close. */
static bool drops(const ss_ws *ws) {
    return ws->state != SS_WS_OPEN;
}

/* ---- frames ---- */

static int check_order(ss_ws *ws, const ss_ws_header *header) {
    bool continuation = header->opcode == SS_WS_CONTINUATION;
    if (continuation != ws->in_message)
        return fault(ws, SS_WS_PROTOCOL_ERROR);
    if (header->length + ws->length > ws->max_message)
        return fault(ws, SS_WS_TOO_BIG);
    if (!continuation) {
        ws->opcode = (uint8_t)(header->opcode | (header->compressed ? SS_WS_COMPRESSED : 0));
        ws->utf8 = (ss_utf8){0};
    }
    ws->in_message = true;
    return SS_OK;
}

static int begin_frame(ss_ws *ws, const ss_ws_header *header) {
    if (check_order(ws, header) != SS_OK)
        return SS_ERROR;
    ws->stream.in_start += header->size;
    ws->in_frame = true;
    ws->frame_left = (uint32_t)header->length;
    ws->frame_fin = header->fin;
    ws->mask_phase = 0;
    memcpy(ws->mask, header->mask, sizeof ws->mask);
    return SS_OK;
}

/* Unmasks bytes of the frame that is being read. */
static void take(ss_ws *ws, char *into, const char *from, size_t length) {
    ss_ws_unmask(into, from, length, ws->mask, ws->mask_phase);
    ws->mask_phase = (uint8_t)((ws->mask_phase + length) & 3);
    ws->frame_left -= (uint32_t)length;
}

/* ---- data ---- */

static int reserve(ss_loop *loop, ss_ws *ws, size_t room) {
    size_t needed = ws->length + room;
    size_t capacity = ws->capacity ? ws->capacity : LEAST_MESSAGE;
    if (needed <= ws->capacity)
        return SS_OK;
    while (capacity < needed)
        capacity *= capacity < QUICK_GROWTH ? 2 : 4;
    size_t most = (size_t)ws->length + ws->frame_left;
    if (!ws->frame_fin && most < ws->max_message)
        most = ws->max_message;
    if (capacity > most)
        capacity = most;
    char *grown = realloc(ws->message, capacity);
    if (!grown)
        return SS_NOMEM;
    ss_streams_of(loop)->held_bytes += (int64_t)capacity - ws->capacity;
    ws->message = grown;
    ws->capacity = (uint32_t)capacity;
    return SS_OK;
}

/* Bytes have come to the end of the message. */
static int gathered(ss_ws *ws, size_t length) {
    const char *at = ws->message + ws->length;
    ws->length += (uint32_t)length;
    return !is_text(ws) || ss_utf8_feed(&ws->utf8, at, length) ? SS_OK : fault(ws, SS_WS_BAD_DATA);
}

static int gather(ss_loop *loop, ss_ws *ws, size_t length) {
    ss_stream *stream = &ws->stream;
    if (drops(ws)) {
        stream->in_start += (uint32_t)length;
        ws->frame_left -= (uint32_t)length;
        return SS_OK;
    }
    if (reserve(loop, ws, length) != SS_OK)
        return fault(ws, SS_WS_FAILED);
    take(ws, ws->message + ws->length, stream->in + stream->in_start, length);
    stream->in_start += (uint32_t)length;
    return gathered(ws, length);
}

/* The whole of a small message is in the read buffer. SS_WAIT: no room in this poll. */
static int report_small(ss_loop *loop, ss_ws *ws) {
    ss_stream *stream = &ws->stream;
    size_t length = ws->frame_left;
    if (!ss_ws_has_room(loop, length))
        return SS_WAIT;
    char *into = ss_ws_room(loop);
    take(ws, into, stream->in + stream->in_start, length);
    stream->in_start += (uint32_t)length;
    if (is_text(ws) && !(ss_utf8_feed(&ws->utf8, into, length) && ss_utf8_complete(&ws->utf8)))
        return fault(ws, SS_WS_BAD_DATA);
    if (!ws->dialect || ws->opcode != SS_WS_TEXT || !ws->dialect->take(loop, ws, into, length))
        ss_ws_report(loop, ws, ws->opcode, length, false);
    return SS_OK;
}

/* The last byte of a gathered message is there. */
static int report_gathered(ss_loop *loop, ss_ws *ws) {
    bool large = ws->length > SS_WS_SMALL;
    if (is_text(ws) && !ss_utf8_complete(&ws->utf8))
        return fault(ws, SS_WS_BAD_DATA);
    if (!ss_ws_has_room(loop, large ? 0 : ws->length))
        return SS_WAIT;
    if (!large && ws->length)
        memcpy(ss_ws_room(loop), ws->message, ws->length);
    ss_ws_report(loop, ws, ws->opcode, ws->length, large);
    if (!large)
        ss_ws_message_release(loop, ws);
    ws->taken = large;
    ws->taken_poll = (uint32_t)loop->polls;
    return SS_OK;
}

static int end_message(ss_loop *loop, ss_ws *ws) {
    int answer = drops(ws) ? SS_OK : report_gathered(loop, ws);
    if (answer == SS_OK)
        ws->in_message = ws->in_frame = false;
    return answer;
}

static int read_data(ss_loop *loop, ss_ws *ws) {
    uint32_t unread = ss_stream_unread(&ws->stream);
    bool whole = unread >= ws->frame_left;
    if (whole && ws->frame_fin && !ws->length && ws->frame_left <= SS_WS_SMALL && !drops(ws)) {
        int answer = report_small(loop, ws);
        if (answer == SS_OK)
            ws->in_message = ws->in_frame = false;
        return answer;
    }
    if (ws->frame_left) {
        int answer = gather(loop, ws, whole ? ws->frame_left : unread);
        if (answer != SS_OK || ws->frame_left)
            return answer == SS_OK ? SS_NEED_DATA : answer;
    }
    if (ws->frame_fin)
        return end_message(loop, ws);
    ws->in_frame = false;
    return SS_OK;
}

/* ---- control frames ---- */

/* RFC 6455 section 5.5.1: nothing, or a code and a reason in UTF-8. */
static int read_close(ss_loop *loop, ss_ws *ws, const char *payload, size_t length) {
    unsigned code = SS_WS_NO_CODE;
    ss_utf8 utf8 = {0};
    size_t reason = length > 2 ? length - 2 : 0;
    if (length == 1)
        return fault(ws, SS_WS_PROTOCOL_ERROR);
    if (length)
        code = (unsigned)(unsigned char)payload[0] << 8 | (unsigned char)payload[1];
    if (length && !ss_ws_code_valid(code))
        return fault(ws, SS_WS_PROTOCOL_ERROR);
    if (!ss_utf8_feed(&utf8, payload + 2, reason) || !ss_utf8_complete(&utf8))
        return fault(ws, SS_WS_BAD_DATA);
    (void)ss_ws_report_close(loop, ws, code, payload + 2, reason); /* there is room: read_control saw to it */
    return fault(ws, code);
}

/* Unmasks it where it lies. SS_WAIT: no room in this poll to report a Close. */
static int read_control(ss_loop *loop, ss_ws *ws, const ss_ws_header *header) {
    ss_stream *stream = &ws->stream;
    size_t length = (size_t)header->length;
    if (ss_stream_unread(stream) < header->size + length)
        return SS_NEED_DATA;
    if (header->opcode == SS_WS_CLOSE && !ss_ws_has_room(loop, SS_WS_MOST_CONTROL))
        return SS_WAIT;
    char *payload = stream->in + stream->in_start + header->size;
    stream->in_start += header->size + (uint32_t)length;
    ss_ws_unmask(payload, payload, length, header->mask, 0);
    if (header->opcode == SS_WS_CLOSE)
        return read_close(loop, ws, payload, length);
    if (header->opcode == SS_WS_PING && !drops(ws) &&
        ss_ws_transmit(loop, ws, 0x80 | SS_WS_PONG, payload, length) != SS_OK)
        return fault(ws, SS_WS_ABNORMAL);
    return SS_OK;
}

/* ---- a turn ---- */

/* Reads once: into the message itself where a large frame goes on, else into the read buffer. */
static int64_t receive(ss_loop *loop, ss_ws *ws) {
    ss_stream *stream = &ws->stream;
    bool straight =
        ws->in_frame && !drops(ws) && !stream->tls && !ss_stream_unread(stream) && ws->frame_left >= SS_READ_BUFFER;
    if (!straight) {
        if (ss_in_reserve(loop, stream, SS_WS_LONGEST_HEADER + SS_WS_MOST_CONTROL) != SS_OK)
            return SS_BROKEN;
        int64_t count =
            ss_stream_receive(loop, stream, stream->in + stream->in_end, stream->in_capacity - stream->in_end);
        stream->in_end += count > 0 ? (uint32_t)count : 0;
        return count;
    }
    if (reserve(loop, ws, SS_READ_BUFFER) != SS_OK)
        return SS_BROKEN;
    size_t room = ws->capacity - ws->length;
    char *into = ws->message + ws->length;
    int64_t count = ss_stream_receive(loop, stream, into, room < ws->frame_left ? room : ws->frame_left);
    if (count > 0) {
        take(ws, into, into, (size_t)count);
        if (gathered(ws, (size_t)count) != SS_OK)
            return SS_BROKEN;
    }
    return count;
}

static int read_frame(ss_loop *loop, ss_ws *ws) {
    if (ws->in_frame)
        return read_data(loop, ws);
    ss_stream *stream = &ws->stream;
    if (!ss_stream_unread(stream))
        return SS_NEED_DATA;
    ss_ws_header header;
    const unsigned char *data = (const unsigned char *)stream->in + stream->in_start;
    int answer = ss_ws_header_parse(&header, data, ss_stream_unread(stream), ws->deflate);
    if (answer == SS_ERROR)
        return fault(ws, SS_WS_PROTOCOL_ERROR);
    if (answer != SS_OK)
        return answer;
    if (header.opcode >= SS_WS_CLOSE)
        return read_control(loop, ws, &header);
    return begin_frame(ws, &header) == SS_OK ? read_data(loop, ws) : SS_ERROR;
}

static int read_frames(ss_loop *loop, ss_ws *ws) {
    for (int turn = 0; turn < FRAMES_PER_TURN; turn++) {
        if (ws->paused || ws->taken)
            return SS_OK;
        int answer = read_frame(loop, ws);
        if (answer != SS_OK)
            return answer == SS_WAIT ? SS_OK : answer;
    }
    return SS_OK;
}

/* What is buffered first; then, where that is not enough for a frame, one read and what it gave. */
int ss_ws_read(ss_loop *loop, ss_ws *ws) {
    if (ss_ws_held_for_python(loop, ws))
        return SS_OK;
    if (ws->taken)
        ss_ws_message_release(loop, ws);
    int answer = read_frames(loop, ws);
    if (answer != SS_NEED_DATA || !(ws->stream.io.ready & SS_READ))
        return answer;
    int64_t count = receive(loop, ws);
    if (count == SS_WAIT)
        return SS_NEED_DATA;
    if (count <= 0)
        return ws->code ? SS_ERROR : fault(ws, SS_WS_ABNORMAL);
    ws->heard_at = loop->now;
    return read_frames(loop, ws);
}
