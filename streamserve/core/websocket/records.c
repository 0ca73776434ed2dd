/* The messages of a poll: records, and the payloads of those that are small, one behind the other.
 *
 * They are read before the next poll begins, so its first record overwrites them. A connection
 * whose message finds no room comes again with the next poll. */

#include "websocket/websocket.h"

#include <stdlib.h>

#define TEXT_END sizeof ss_ws_text_end
#define LAST_ALIKE 3 /* the first kind of a dialect: its events */

const char ss_ws_text_end[] = {0, 1, 2, 3, 4};

static ss_ws_batch *batch_make(ss_loop *loop) {
    ss_streams *streams = ss_streams_make(loop);
    if (!streams)
        return NULL;
    if (!streams->batch)
        streams->batch = calloc(1, sizeof(ss_ws_batch));
    return streams->batch;
}

int64_t *ss_loop_messages(ss_loop *loop) {
    ss_ws_batch *batch = batch_make(loop);
    return batch ? batch->records : NULL;
}

const char *ss_ws_payloads(ss_loop *loop) {
    ss_ws_batch *batch = batch_make(loop);
    return batch ? batch->payloads : NULL;
}

int ss_ws_alike(const ss_loop *loop) {
    const ss_ws_batch *batch = ss_ws_batch_of(loop);
    for (int kind = SS_WS_TEXT; kind <= LAST_ALIKE; kind++)
        if (batch->kinds == 1u << kind)
            return kind;
    return 0;
}

bool ss_ws_has_room(ss_loop *loop, size_t length) {
    ss_ws_batch *batch = ss_ws_batch_of(loop);
    if (batch->poll != loop->polls) {
        batch->poll = loop->polls;
        batch->used = batch->kinds = 0;
    }
    return loop->polling && loop->message_count < SS_MESSAGES &&
           sizeof batch->payloads - batch->used >= length + TEXT_END;
}

char *ss_ws_room(ss_loop *loop) {
    ss_ws_batch *batch = ss_ws_batch_of(loop);
    return batch->payloads + batch->used;
}

/* The next record, with whose it is. A peer that sent several at once is answered at once, too: what is sent to it in
 * this turn waits for the turn's end from the first message on. */
static int64_t *next_record(ss_loop *loop, ss_ws *ws) {
    int64_t *words = &ss_ws_batch_of(loop)->records[loop->message_count++ * SS_MESSAGE_WORDS];
    words[0] = ws->stream.listener->number;
    words[1] = ss_io_handle(&ws->stream.io);
    if (loop->message_count > 1 && words[1 - SS_MESSAGE_WORDS] == words[1])
        ws->sent_poll = (uint32_t)loop->polls;
    return words;
}

void ss_ws_report(ss_loop *loop, ss_ws *ws, int opcode, uint64_t length, bool large) {
    ss_ws_batch *batch = ss_ws_batch_of(loop);
    int64_t *words = next_record(loop, ws);
    words[2] = opcode | (int64_t)(length << SS_WS_LENGTH_SHIFT);
    words[3] = large ? -1 : (int64_t)batch->used;
    batch->kinds |= large || words[0] != batch->records[0] ? 1u : 1u << opcode;
    if (large)
        return;
    batch->used += (uint32_t)length;
    if (opcode != SS_WS_TEXT)
        return;
    memcpy(batch->payloads + batch->used, ss_ws_text_end, TEXT_END); /* ss_ws_has_room left room for it */
    batch->used += TEXT_END;
}

void ss_ws_report_part(ss_loop *loop, ss_ws *ws, int kind, size_t length, size_t start, int64_t extra) {
    ss_ws_batch *batch = ss_ws_batch_of(loop);
    int64_t *words = next_record(loop, ws);
    words[2] = kind | (int64_t)(length - start) << SS_WS_LENGTH_SHIFT;
    words[3] = (int64_t)(batch->used + start) | extra;
    batch->kinds |= words[0] != batch->records[0] ? 1u : 1u << kind;
    batch->used += (uint32_t)length;
}

/* The last record of a connection, once. False: there is no room for it in this poll. */
bool ss_ws_report_close(ss_loop *loop, ss_ws *ws, unsigned code, const char *reason, size_t length) {
    if (ws->told)
        return true;
    if (!ss_ws_has_room(loop, length + 2))
        return false;
    char *into = ss_ws_room(loop);
    into[0] = (char)(code >> 8);
    into[1] = (char)code;
    if (length)
        memcpy(into + 2, reason, length);
    ss_ws_report(loop, ws, SS_WS_CLOSE, length + 2, false);
    ws->told = true;
    return true;
}
