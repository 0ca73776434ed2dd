/* From HTTP to WebSocket: the connection stays, its handle too; only what it speaks is another. */

#include "http/http.h"
#include "websocket/websocket.h"

static void configure(ss_ws *ws, const ss_ws_config *config) {
    ws->ping_interval_ms = ss_ms_of(config->ping_interval);
    ws->ping_timeout_ms = ss_ms_of(config->ping_timeout);
    ws->close_timeout_ms = ss_ms_of(config->close_timeout);
    ws->max_message = config->max_message;
    ws->out_limit = config->out_limit;
    ws->deflate = config->deflate != 0;
    ws->drop = config->drop != 0;
}

int ss_ws_upgrade(ss_loop *loop, int64_t handle, const char *head, int64_t length, const ss_ws_config *config) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (conn->state != SS_CONN_REQUEST || conn->response_started || ss_body_pending(conn) || length < 0)
        return SS_MISUSE;
    if (!ss_ws_payloads(loop))
        return SS_NOMEM;
    struct iovec piece = {.iov_base = (char *)(uintptr_t)head, .iov_len = (size_t)length};
    bool held = config->held && !conn->stream.tls;
    if (conn->stream.dead || (held ? ss_out_append(loop, &conn->stream.out, &piece, 1, 0)
                                   : ss_stream_send(loop, &conn->stream, &piece, 1, false)) != SS_OK)
        return SS_BROKEN;
    ss_stream *stream = ss_conn_hand_on(loop, conn, &ss_websocket);
    if (!stream)
        return SS_NOMEM;
    configure((ss_ws *)stream, config);
    ss_ws_begin(loop, (ss_ws *)stream);
    if (held) /* the first message finds it in the queue, and goes behind it */
        ((ss_ws *)stream)->sent_poll = (uint32_t)loop->polls;
    return SS_OK;
}
