/* A client that leaves while its request is with Python.
 *
 * A reset says so at once. A FIN does not: who has only shut its sending side waits for the response, and has a right to
 * it (RFC 9112 section 9.6), and who has closed sends the same FIN. Their kernels answer bytes differently: a closed
 * socket resets. So a request that is still with Python left_after its client's FIN is sent, once, what means nothing:
 * before the response 100 Continue, of which a client takes any number (RFC 9110 section 15.2), and amid a chunked one a
 * zero, which the size of the next chunk, or the last one, may begin with (RFC 9112 section 7.1).
 *
 * Neither is possible to a client of HTTP/1.0, nor amid a body that has its own length: there the next bytes of the
 * response tell, unless left_by_fin says that every FIN does. */

#include "http/http.h"

/* May the client have left without that having been asked? */
static bool is_doubtful(const ss_conn *conn) {
    return conn->stream.io.ready & (SS_HUP | SS_FAIL) && !conn->left_asked && ss_conn_config(conn)->left_after;
}

/* Nothing else has a deadline while the request is with Python. */
void ss_leaving_rest(ss_loop *loop, ss_conn *conn) {
    ss_conn_deadline(loop, conn, is_doubtful(conn) ? ss_conn_config(conn)->left_after : 0);
}

/* Something has happened to the socket. */
void ss_leaving_noted(ss_loop *loop, ss_conn *conn) {
    if (is_doubtful(conn) && !conn->want_body && !ss_stream_unsent(&conn->stream))
        ss_leaving_rest(loop, conn);
}

static int send_nothing(ss_loop *loop, ss_conn *conn) {
    struct iovec zero = {.iov_base = (char *)(uintptr_t)"0", .iov_len = 1};
    if (!conn->response_started)
        return conn->head.minor ? ss_response_invite_body(loop, conn) : SS_OK;
    return conn->chunked_response ? ss_stream_send(loop, &conn->stream, &zero, 1, false) : SS_OK;
}

void ss_leaving_expired(ss_loop *loop, ss_conn *conn) {
    if (!is_doubtful(conn))
        return;
    conn->left_asked = true;
    bool left = conn->stream.io.ready & SS_FAIL || ss_conn_config(conn)->left_by_fin;
    if (left || send_nothing(loop, conn) != SS_OK || conn->stream.dead)
        ss_conn_fail(loop, conn);
}

/* It has left: Python is told, once for a request. */
void ss_leaving_tell(ss_loop *loop, ss_conn *conn) {
    if (conn->state != SS_CONN_REQUEST || conn->left_told || !ss_conn_config(conn)->left_after)
        return;
    conn->left_told = true;
    ss_conn_tell(loop, conn, SS_EVENT_LEFT);
}
