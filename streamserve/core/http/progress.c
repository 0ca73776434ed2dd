/* Deadlines of what goes on: the body of a request keeps coming, and a response keeps being taken.
 *
 * A body has a credit of time, body_timeout at first. While somebody waits for it, time uses
 * the credit up; each byte adds to it what one byte may take (body_rate), up to body_timeout
 * again. So a pause may last that long, but a byte now and then does not live for ever. While
 * the application is busy elsewhere nothing is used up: that is not the client's fault.
 *
 * A response makes progress when the peer's kernel confirms bytes, not only when ours takes
 * more: it asks for more when a third of its buffer is free, which at 20 kB/s can take longer
 * than write_timeout. So that deadline is looked at in quarters, each time with what the
 * kernel still holds. */

#include "http/http.h"

#define STALLED_QUARTERS 4

/* ---- the body of a request ---- */

static void use_up(ss_conn *conn, int64_t now) {
    int64_t used = now > conn->body_since ? now - conn->body_since : 0;
    conn->body_credit = used < conn->body_credit ? conn->body_credit - used : 0;
    conn->body_since = now;
}

static void arm_body(ss_loop *loop, const ss_conn *conn) {
    if (!ss_conn_config(conn)->body_timeout)
        ss_conn_deadline(loop, conn, 0);
    else
        ss_conn_deadline(loop, conn, conn->body_credit ? conn->body_credit : 1);
}

/* From now on somebody waits for bytes of the body. */
void ss_progress_await_body(ss_loop *loop, ss_conn *conn) {
    conn->body_since = loop->now;
    arm_body(loop, conn);
}

/* Somebody has waited until now, and does no longer, or goes on. */
void ss_progress_waited(ss_loop *loop, ss_conn *conn, bool goes_on) {
    use_up(conn, loop->now);
    if (goes_on)
        arm_body(loop, conn);
}

/* Bytes of the body have come. */
void ss_progress_body_came(ss_conn *conn, int64_t count) {
    const ss_listener_config *config = ss_conn_config(conn);
    int64_t most = config->body_timeout;
    int64_t rate = config->body_rate;
    int64_t worth = rate ? count * SS_SECOND / rate : most;
    conn->body_credit = worth < most - conn->body_credit ? conn->body_credit + worth : most;
}

/* ---- the response ---- */

/* From now on bytes wait for the peer. */
void ss_progress_await_room(ss_loop *loop, ss_conn *conn) {
    int64_t timeout = ss_conn_config(conn)->write_timeout;
    conn->stalls = 0;
    conn->unconfirmed = ss_socket_unconfirmed(&conn->stream);
    ss_conn_deadline(loop, conn, timeout > STALLED_QUARTERS ? timeout / STALLED_QUARTERS : timeout);
}

/* A deadline that has nothing to do with it. */
void ss_progress_last_chance(ss_loop *loop, ss_conn *conn, int64_t timeout_ns) {
    conn->stalls = STALLED_QUARTERS;
    ss_conn_deadline(loop, conn, timeout_ns);
}

/* A deadline has passed: did the peer take nothing for as long as it may? If not, there is another. */
bool ss_progress_stalled(ss_loop *loop, ss_conn *conn) {
    int64_t unconfirmed = ss_socket_unconfirmed(&conn->stream);
    int64_t timeout = ss_conn_config(conn)->write_timeout;
    if (conn->stalls < STALLED_QUARTERS)
        conn->stalls = unconfirmed < conn->unconfirmed ? 0 : (uint8_t)(conn->stalls + 1);
    conn->unconfirmed = unconfirmed;
    if (conn->stalls < STALLED_QUARTERS)
        ss_conn_deadline(loop, conn, timeout > STALLED_QUARTERS ? timeout / STALLED_QUARTERS : timeout);
    return conn->stalls >= STALLED_QUARTERS;
}
