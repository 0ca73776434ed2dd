/* Engine.IO as a dialect of a WebSocket: pings at its pace, answers to them, and events read where they arrive.
 *
 * The server asks with "2", the client answers "3", and then one interval passes until it is asked again. A client
 * whose answer waits behind a large message of its own is not silent: what counts is its last byte. */

#include "engine/engine.h"
#include "websocket/websocket.h"

#define LAST 0x80 /* FIN */
#define MS (SS_SECOND / 1000)

static void answered(ss_loop *loop, ss_ws *ws) {
    if (!ws->asked)
        return;
    ws->asked = false;
    ss_deadline_set(loop, &ws->stream.io, ws->ping_interval_ms * MS);
}

static bool take(ss_loop *loop, ss_ws *ws, const char *payload, size_t length) {
    ss_engine_packet packet;
    int kind = ss_engine_read(&packet, payload, (int64_t)length);
    if (kind == SS_ENGINE_PONG) {
        answered(loop, ws);
        return true;
    }
    if (kind == SS_ENGINE_OTHER || !ws->events)
        return false;
    int64_t extra = (int64_t)packet.head << SS_ENGINE_HEAD_SHIFT | (packet.id + 1) << SS_ENGINE_ID_SHIFT;
    ss_ws_report_part(loop, ws, kind, length, packet.json, extra);
    return true;
}

static bool expired(ss_loop *loop, ss_ws *ws) {
    int64_t timeout = ws->ping_timeout_ms * MS;
    if (!ws->asked) {
        ws->asked = true;
        ws->asked_at = loop->now;
        ss_deadline_set(loop, &ws->stream.io, timeout);
        return ss_ws_transmit(loop, ws, LAST | SS_WS_TEXT, "2", 1) == SS_OK;
    }
    if (ws->paused) { /* its answer may have come: it is we who do not read it */
        ss_deadline_set(loop, &ws->stream.io, timeout);
        return true;
    }
    int64_t left = (ws->heard_at > ws->asked_at ? ws->heard_at : ws->asked_at) + timeout - loop->now;
    if (left > 0)
        ss_deadline_set(loop, &ws->stream.io, left);
    return left > 0;
}

static const ss_ws_dialect engine = {.take = take, .expired = expired};

static uint32_t ms_of(int64_t ns) {
    int64_t ms = (ns + MS - 1) / MS;
    return ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

int ss_engine_begin(ss_loop *loop, int64_t handle, const ss_engine_config *config) {
    ss_ws *ws = ss_ws_find(loop, handle);
    if (!ws || ws->state != SS_WS_OPEN || ws->code || ws->stream.dead)
        return SS_GONE;
    ws->dialect = &engine;
    ws->events = config->events != 0;
    ws->drop = false;
    ws->max_message = config->max_message; /* also below a frame that is coming, which was let in */
    ws->out_limit = config->out_limit;
    ws->ping_interval_ms = ms_of(config->ping_interval);
    ws->ping_timeout_ms = ms_of(config->ping_timeout);
    ws->asked = false;
    loop->now = ss_clock(loop);
    if (!ws->leaving)
        ss_deadline_set(loop, &ws->stream.io, ws->ping_interval_ms * MS);
    return SS_OK;
}

int ss_engine_answered(ss_loop *loop, int64_t handle) {
    ss_ws *ws = ss_ws_find(loop, handle);
    if (!ws || ws->dialect != &engine)
        return SS_GONE;
    loop->now = ss_clock(loop);
    if (ws->state == SS_WS_OPEN && !ws->leaving)
        answered(loop, ws);
    return SS_OK;
}
