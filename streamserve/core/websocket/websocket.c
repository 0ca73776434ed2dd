/* A WebSocket's life: its states, their legal moves, and what readiness and deadlines do in each.
 *
 * A function that may free its connection says so; after it, nothing touches ws. Python is
 * told of the end by one Close record, whatever the end was; where a poll has no room for it, the
 * connection waits for the next. */

#include "websocket/websocket.h"

#include <stdlib.h>

#define TO(state) (1u << (state))
#define LINGER_READS 16       /* reads of one turn while lingering */
#define SILENT "ping timeout" /* the reason of an end for want of an answer */
#define LEAVING_PACE 10u      /* ms between two connections that learn of a stop, on average */

static const uint8_t legal_moves[SS_WS_STATES] = {
    [SS_WS_OPEN] = TO(SS_WS_CLOSING) | TO(SS_WS_FLUSH) | TO(SS_WS_CLOSED),
    [SS_WS_CLOSING] = TO(SS_WS_FLUSH) | TO(SS_WS_CLOSED),
    [SS_WS_FLUSH] = TO(SS_WS_LINGER) | TO(SS_WS_CLOSED),
    [SS_WS_LINGER] = TO(SS_WS_CLOSED),
    [SS_WS_CLOSED] = 0,
};

static void move(ss_loop *loop, ss_ws *ws, enum ss_ws_state state) {
    if (!(legal_moves[ws->state] & TO(state)))
        loop->violation = "a WebSocket made a move that its table does not have";
    ws->state = (uint8_t)state;
}

static void set_deadline(ss_loop *loop, const ss_ws *ws, uint32_t ms) {
    ss_deadline_set(loop, &ws->stream.io, (int64_t)ms * (SS_SECOND / 1000));
}

/* ---- ends ---- */

/* Frees ws. */
static void close_now(ss_loop *loop, ss_ws *ws) {
    move(loop, ws, SS_WS_CLOSED);
    ss_ws_message_release(loop, ws);
    ss_stream_close(loop, &ws->stream, false);
}

/* The connection is gone, or of no more use: it is kept only until Python was told. May free ws. */
static void lost(ss_loop *loop, ss_ws *ws) {
    ws->stream.dead = true;
    ss_out_release(loop, &ws->stream.out);
    if (ws->want_drain)
        ss_event_emit(loop, SS_EVENT_DRAINED, ws->stream.listener->number, ss_io_handle(&ws->stream.io), 0);
    ws->want_drain = false;
    if (ss_ws_report_close(loop, ws, SS_WS_ABNORMAL, SILENT, ws->silent ? sizeof SILENT - 1 : 0))
        close_now(loop, ws);
    else
        ss_pending_add(loop, &ws->stream.io);
}

/* May free ws. */
static void begin_linger(ss_loop *loop, ss_ws *ws) {
    ss_stream *stream = &ws->stream;
    if (stream->dead || shutdown(stream->io.fd, SHUT_WR) < 0) {
        close_now(loop, ws);
        return;
    }
    move(loop, ws, SS_WS_LINGER);
    if (stream->tls)
        ss_tls_close(loop, stream);
    set_deadline(loop, ws, ws->close_timeout_ms);
    if (stream->io.ready & SS_READ)
        ss_pending_add(loop, &stream->io);
}

/* In FLUSH: is all of it out, with TLS our goodbye too? May free ws. */
static void go_on_flushing(ss_loop *loop, ss_ws *ws) {
    ss_stream *stream = &ws->stream;
    if (stream->dead)
        close_now(loop, ws);
    else if (ss_stream_unsent(stream))
        return;
    else if (stream->tls && ss_tls_owes_goodbye(stream))
        ss_tls_ask_to_write(loop, stream);
    else
        begin_linger(loop, ws);
}

/* Both have sent Close, or we end it alone: nothing more is read. May free ws. */
static void begin_flush(ss_loop *loop, ss_ws *ws) {
    move(loop, ws, SS_WS_FLUSH);
    ss_in_release(loop, &ws->stream);
    ss_ws_message_release(loop, ws);
    ws->in_frame = ws->in_message = false;
    ws->stream.ending = true;
    set_deadline(loop, ws, ws->close_timeout_ms);
    go_on_flushing(loop, ws);
}

/* Our Close was sent, and the peer's is awaited. */
void ss_ws_begin_closing(ss_loop *loop, ss_ws *ws) {
    move(loop, ws, SS_WS_CLOSING);
    ss_ws_message_release(loop, ws);
    loop->now = ss_clock(loop);
    set_deadline(loop, ws, ws->close_timeout_ms);
    ws->paused = false; /* its Close must be seen */
    ss_pending_add(loop, &ws->stream.io);
}

/* The peer sent Close, or broke the rules, as ws->code says: it is answered once, and that is the end. May free ws. */
static void end(ss_loop *loop, ss_ws *ws) {
    bool by_peer = ws->told;
    if (ws->code == SS_WS_ABNORMAL) {
        lost(loop, ws);
        return;
    }
    if (!by_peer && !ss_ws_report_close(loop, ws, ws->code, NULL, 0)) {
        ss_pending_add(loop, &ws->stream.io);
        return;
    }
    unsigned code = by_peer && ws->code == SS_WS_NO_CODE ? 0 : ws->code;
    if (ws->state == SS_WS_OPEN)
        (void)ss_ws_transmit_close(loop, ws, code, NULL, 0); /* a failure is seen in begin_flush: it is dead */
    begin_flush(loop, ws);
}

/* ---- readiness ---- */

/* Sends what is queued; false: ws may be gone. */
static bool flush(ss_loop *loop, ss_ws *ws) {
    ss_stream *stream = &ws->stream;
    if (stream->io.ready & SS_WRITE && (stream->out.first || (stream->tls && stream->tls->out.first)))
        (void)ss_stream_flush(loop, stream);
    if (stream->dead) {
        lost(loop, ws);
        return false;
    }
    if (ws->want_drain && stream->out.bytes <= stream->listener->config.high_water / 4) {
        ws->want_drain = false;
        ss_event_emit(loop, SS_EVENT_DRAINED, stream->listener->number, ss_io_handle(&stream->io), 0);
    }
    return true;
}

/* Reads a turn; a peer that takes nothing of our answers is not read either. May free ws. */
static void read_turn(ss_loop *loop, ss_ws *ws) {
    ss_stream *stream = &ws->stream;
    if (ws->code) {
        end(loop, ws);
        return;
    }
    if (ws->state == SS_WS_OPEN && (ws->paused || stream->out.bytes > ws->out_limit)) {
        if (ws->taken) /* Python has it, and nothing more may come for long */
            ss_ws_message_release(loop, ws);
        return;
    }
    int answer = ss_ws_read(loop, ws);
    if (answer == SS_ERROR) {
        end(loop, ws);
        return;
    }
    ss_in_settle(loop, stream, true);
    if ((answer == SS_OK && !ws->paused) || stream->io.ready & SS_READ)
        ss_pending_add(loop, &stream->io);
}

/* May free ws. */
static void linger(ss_loop *loop, ss_ws *ws) {
    for (int turn = 0; turn < LINGER_READS; turn++) {
        int64_t count = ss_socket_receive(&ws->stream, ss_streams_of(loop)->scratch, SS_SCRATCH);
        if (count == SS_WAIT)
            return;
        if (count <= 0) {
            close_now(loop, ws);
            return;
        }
    }
    ss_pending_add(loop, &ws->stream.io);
}

static void ws_ready(ss_loop *loop, ss_io *io) {
    ss_ws *ws = (ss_ws *)io;
    ss_stream *stream = &ws->stream;
    if (ss_ws_held_for_python(loop, ws)) {
        ss_pending_add(loop, io);
        return;
    }
    if (stream->dead || io->ready & SS_FAIL ||
        (stream->tls && (ss_tls_turn(loop, stream) == SS_ERROR || stream->tls->failed))) {
        lost(loop, ws);
        return;
    }
    if (ws->state != SS_WS_LINGER && !flush(loop, ws))
        return;
    switch ((enum ss_ws_state)ws->state) {
    case SS_WS_OPEN:
    case SS_WS_CLOSING:
        if (io->ready & SS_READ || ss_stream_unread(stream) || ws->code || ws->taken || ws->in_frame)
            read_turn(loop, ws);
        break;
    case SS_WS_FLUSH:
        go_on_flushing(loop, ws);
        break;
    case SS_WS_LINGER:
        if (io->ready & SS_READ)
            linger(loop, ws);
        break;
    default:
        break;
    }
}

/* ---- deadlines ---- */

/* A peer from which nothing came for an interval is asked, and given up when nothing comes of that. Moving the
 * deadline with each message would be a store too; this way it is only the time that is stored. May free ws. */
static void open_expired(ss_loop *loop, ss_ws *ws) {
    if (ws->leaving) {
        if (ss_ws_transmit_close(loop, ws, SS_WS_GOING_AWAY, NULL, 0) == SS_OK)
            ss_ws_begin_closing(loop, ws);
        else
            lost(loop, ws);
        return;
    }
    if (ws->dialect) {
        if (!ws->dialect->expired(loop, ws)) {
            ws->silent = !ws->stream.dead;
            lost(loop, ws);
        }
        return;
    }
    if (ws->asked && ws->heard_at < ws->asked_at) {
        lost(loop, ws);
        return;
    }
    ws->asked = false;
    int64_t left = ws->heard_at + ws->ping_interval_ms * (SS_SECOND / 1000) - loop->now;
    if (left > 0) {
        ss_deadline_set(loop, &ws->stream.io, left);
        return;
    }
    ws->asked = true;
    ws->asked_at = loop->now;
    if (ss_ws_transmit(loop, ws, 0x80 | SS_WS_PING, NULL, 0) != SS_OK)
        lost(loop, ws);
    else
        set_deadline(loop, ws, ws->ping_timeout_ms);
}

static void ws_expired(ss_loop *loop, ss_io *io) {
    ss_ws *ws = (ss_ws *)io;
    if (ss_ws_held_for_python(loop, ws))
        set_deadline(loop, ws, 1);
    else if (ws->state == SS_WS_OPEN)
        open_expired(loop, ws);
    else
        lost(loop, ws);
}

/* ---- what WebSocket is to its listener ---- */

/* A connection was upgraded. */
void ss_ws_begin(ss_loop *loop, ss_ws *ws) {
    ws->sent_poll = (uint32_t)loop->polls - 1;
    loop->now = ws->heard_at = ss_clock(loop);
    set_deadline(loop, ws, ws->ping_interval_ms);
    ss_pending_add(loop, &ws->stream.io); /* for what came behind the request, and what TLS was to be asked */
}

/* Over how many ms the connections of a listener that stops are told; `quarter` as below. */
static uint32_t leaving_spread(const ss_listener *listener, uint32_t quarter) {
    uint64_t paced = (uint64_t)listener->connections * LEAVING_PACE;
    if (quarter < SS_SWEEP_GRAIN / (SS_SECOND / 1000))
        return 1; /* one sweep must find them all */
    return paced < quarter ? 1 + (uint32_t)paced : quarter;
}

/* Peers learn of a stop one after another, so that they do not all come back at once: in the first quarter of the time
 * that is left. Another is for their answers, one for what is still queued for them, the last for the application. */
static void stopping(ss_loop *loop, ss_stream *stream) {
    ss_ws *ws = (ss_ws *)stream;
    uint32_t quarter = 1 + ss_ms_of(stream->listener->stop_left / 4);
    if (ws->leaving || ws->state >= SS_WS_LINGER)
        return;
    ws->leaving = true;
    if (!ws->close_timeout_ms || ws->close_timeout_ms > quarter)
        ws->close_timeout_ms = quarter;
    if (ws->state == SS_WS_OPEN)
        set_deadline(loop, ws, 1 + stream->io.index * 2654435761u % leaving_spread(stream->listener, quarter));
    else
        set_deadline(loop, ws, ws->close_timeout_ms);
}

static bool unfinished(const ss_stream *stream) {
    return ((const ss_ws *)stream)->state != SS_WS_LINGER;
}

static void close_stream(ss_loop *loop, ss_stream *stream) {
    ss_ws_let_go(loop);
    close_now(loop, (ss_ws *)stream);
}

static bool idles(const ss_stream *stream) {
    const ss_ws *ws = (const ss_ws *)stream;
    return ws->state == SS_WS_OPEN && !ws->code && !ws->want_drain && !ws->taken && !ws->in_frame &&
           !(stream->io.ready & SS_READ) && !ss_stream_unread(stream);
}

static void free_io(ss_loop *loop, ss_io *io) {
    close_now(loop, (ss_ws *)io);
}

const ss_protocol ss_websocket = {
    .class = {.name = "websocket",
              .ready = ws_ready,
              .expired = ws_expired,
              .free = free_io,
              .hang_up = true,
              .ends_once = true,
              .stream = true},
    .size = sizeof(ss_ws),
    .stopping = stopping,
    .unfinished = unfinished,
    .close = close_stream,
    .idles = idles,
};
