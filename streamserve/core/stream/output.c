/* What goes out: responses in one send where they fit, the queue behind it, and
 * the refusals that the core answers by itself. */

#define _GNU_SOURCE
#include "loop/loop.h"

#include <errno.h>
#include <stdio.h>
#include <sys/uio.h>
#include <time.h>

#define DATE_LENGTH 37u
#define TAIL_ROOM 192u /* Date, Content-Length, Transfer-Encoding, Connection, empty line, chunk size */

static char *put(char *at, const void *bytes, size_t length) {
    memcpy(at, bytes, length);
    return at + length;
}
#define PUT(at, literal) put(at, literal, sizeof(literal) - 1)

static char *put_decimal(char *at, uint64_t number) {
    char digits[20];
    size_t count = 0;
    do
        digits[sizeof digits - ++count] = (char)('0' + number % 10);
    while (number /= 10);
    return put(at, digits + sizeof digits - count, count);
}

static char *put_hex(char *at, uint64_t number) {
    char digits[16];
    size_t count = 0;
    do
        digits[sizeof digits - ++count] = "0123456789abcdef"[number & 15];
    while (number >>= 4);
    return put(at, digits + sizeof digits - count, count);
}

/* "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", made once a second (RFC 9110 5.6.7). */
static const char *date_line(ss_loop *loop) {
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct timespec time;
    if (loop->date_polls == loop->polls)
        return loop->date; /* it is of this turn */
    loop->date_polls = loop->polls;
    clock_gettime(CLOCK_REALTIME_COARSE, &time);
    if (time.tv_sec != loop->date_second) {
        struct tm utc;
        gmtime_r(&time.tv_sec, &utc);
        loop->date_second = time.tv_sec;
        snprintf(loop->date, sizeof loop->date, "Date: %.3s, %02u %.3s %04u %02u:%02u:%02u GMT\r\n",
                 days + 3 * utc.tm_wday, (unsigned)utc.tm_mday % 100, months + 3 * utc.tm_mon,
                 (unsigned)(utc.tm_year + 1900) % 10000, (unsigned)utc.tm_hour % 100, (unsigned)utc.tm_min % 100,
                 (unsigned)utc.tm_sec % 100);
    }
    return loop->date;
}

/* ---- the queue ---- */

static void note_sent(ss_loop *loop, ss_conn *conn, size_t sent) {
    conn->out_start += (uint32_t)sent;
    loop->queued_bytes -= (int64_t)sent;
    ss_deadline_set(loop, &conn->io, conn->listener->config.write_timeout);
}

/* What a file follows waits for its first bytes, instead of being a segment of its own. */
static int send_flags(const ss_conn *conn) {
    return conn->file ? MSG_NOSIGNAL | MSG_MORE : MSG_NOSIGNAL;
}

static void send_queue(ss_loop *loop, ss_conn *conn) {
    while (conn->out_start < conn->out_end) {
        size_t length = conn->out_end - conn->out_start;
        ssize_t count = send(conn->io.fd, conn->out + conn->out_start, length, send_flags(conn));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            conn->dead = true;
            return;
        }
        if (count > 0)
            note_sent(loop, conn, (size_t)count);
        if (count < (ssize_t)length) {
            conn->io.ready &= (uint8_t)~SS_WRITE;
            break;
        }
    }
}

void ss_conn_flush(ss_loop *loop, ss_conn *conn) {
    if (conn->tls)
        ss_tls_flush(loop, conn);
    else
        send_queue(loop, conn);
    uint32_t queued = conn->out_end - conn->out_start;
    if (conn->dead)
        return;
    if (queued == 0) {
        ss_out_release(loop, conn);
        if (conn->file)
            ss_file_flush(loop, conn);
        else if (conn->state == SS_CONN_REQUEST && !ss_conn_unsent(conn))
            ss_deadline_set(loop, &conn->io, conn->want_body ? conn->listener->config.body_timeout : 0);
    }
    if (conn->want_drain && queued <= conn->listener->config.high_water / 4) {
        conn->want_drain = false;
        ss_event_emit(loop, SS_EVENT_DRAINED, conn->listener->number, ss_io_handle(&conn->io), 0);
    }
}

/* Sends the pieces at once if the socket is willing; queues what it leaves. With TLS
 * all is queued: Python is to encrypt it. */
static int transmit(ss_loop *loop, ss_conn *conn, struct iovec *pieces, size_t count) {
    ssize_t sent = 0;
    if (conn->io.ready & SS_WRITE && conn->out_start == conn->out_end && !conn->tls) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
        do
            sent = count == 1 ? send(conn->io.fd, pieces->iov_base, pieces->iov_len, send_flags(conn))
                              : sendmsg(conn->io.fd, &message, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            conn->dead = true;
            return SS_BROKEN;
        }
    }
    size_t skip = sent > 0 ? (size_t)sent : 0;
    for (size_t i = 0; i < count; i++) {
        size_t length = pieces[i].iov_len;
        size_t gone = skip < length ? skip : length;
        skip -= gone;
        if (gone == length)
            continue;
        if (conn->tls)
            ss_tls_ask(loop, conn, SS_TLS_WRITE);
        else
            conn->io.ready &= (uint8_t)~SS_WRITE;
        if (ss_out_append(loop, conn, (char *)pieces[i].iov_base + gone, length - gone) != SS_OK) {
            conn->dead = true;
            return SS_BROKEN;
        }
    }
    return SS_OK;
}

/* ---- responses ---- */

static bool misused(const ss_conn *conn, int flags, int64_t body_length) {
    if (conn->state != SS_CONN_REQUEST || body_length < 0)
        return true;
    return ((flags & SS_SEND_HEAD) != 0) == conn->response_started;
}

/* The lines that the server adds to a head, and the empty line. */
static char *put_head_end(ss_loop *loop, const ss_conn *conn, char *at, int64_t body_length, int flags) {
    at = put(at, date_line(loop), DATE_LENGTH);
    if (flags & SS_SEND_LENGTH) {
        at = PUT(at, "Content-Length: ");
        at = put_decimal(at, (uint64_t)body_length);
        at = PUT(at, "\r\n");
    }
    if (flags & SS_SEND_CHUNKED)
        at = PUT(at, "Transfer-Encoding: chunked\r\n");
    if (!conn->persist)
        at = PUT(at, "Connection: close\r\n");
    else if (conn->http10_keep)
        at = PUT(at, "Connection: keep-alive\r\n");
    return PUT(at, "\r\n");
}

/* Whether the connection outlives this response must be known when its head is sent.
 * Who still waits for 100 Continue will not get it any more: nobody knows whether
 * it sends its body. */
static void decide_persistence(ss_conn *conn, int flags) {
    if (conn->expect_due)
        conn->persist = false;
    if (conn->listener->draining || flags & SS_SEND_CLOSE)
        conn->persist = false;
    if (flags & SS_SEND_LAST && ss_body_pending(conn) && !ss_body_droppable(conn))
        conn->persist = false;
}

static size_t assemble(ss_loop *loop, const ss_conn *conn, struct iovec *pieces, char *middle, int flags) {
    struct iovec body = pieces[2];
    char *at = middle;
    const char *tail = "";
    bool chunk = flags & SS_SEND_CHUNKED && body.iov_len;
    if (flags & SS_SEND_HEAD)
        at = put_head_end(loop, conn, at, (int64_t)body.iov_len, flags);
    if (flags & SS_SEND_NO_BODY)
        pieces[2].iov_len = 0;
    else if (chunk)
        at = PUT(put_hex(at, body.iov_len), "\r\n");
    if (flags & SS_SEND_CHUNKED && !(flags & SS_SEND_NO_BODY)) {
        if (flags & SS_SEND_LAST)
            tail = chunk ? "\r\n0\r\n\r\n" : "0\r\n\r\n";
        else if (chunk)
            tail = "\r\n";
    }
    pieces[1] = (struct iovec){.iov_base = middle, .iov_len = (size_t)(at - middle)};
    pieces[3] = (struct iovec){.iov_base = (char *)(uintptr_t)tail, .iov_len = strlen(tail)};
    return pieces[0].iov_len + pieces[1].iov_len + pieces[2].iov_len + pieces[3].iov_len;
}

static int send_part(ss_loop *loop, ss_conn *conn, struct iovec *pieces, int flags) {
    char middle[TAIL_ROOM];
    size_t total = assemble(loop, conn, pieces, middle, flags);
    if (total == 0)
        return SS_OK;
    if (total > sizeof loop->scratch)
        return transmit(loop, conn, pieces, 4);
    char *at = loop->scratch;
    for (int i = 0; i < 4; i++)
        if (pieces[i].iov_len)
            at = put(at, pieces[i].iov_base, pieces[i].iov_len);
    struct iovec whole = {.iov_base = loop->scratch, .iov_len = total};
    return transmit(loop, conn, &whole, 1);
}

/* Something is queued and the request goes on. */
static void expect_drain(ss_loop *loop, ss_conn *conn, bool stalled) {
    conn->want_drain = conn->out_end - conn->out_start >= conn->listener->config.high_water;
    if (!stalled) /* more to send is no progress of the client */
        ss_deadline_set(loop, &conn->io, conn->listener->config.write_timeout);
}

int64_t ss_conn_send(ss_loop *loop, int64_t handle, const char *head, int64_t head_length, const char *body,
                     int64_t body_length, int flags) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (misused(conn, flags, body_length) || head_length < 0)
        return SS_MISUSE;
    if (flags & SS_SEND_HEAD)
        decide_persistence(conn, flags);
    else if (flags & SS_SEND_CLOSE)
        conn->persist = false;
    conn->response_started = true;
    struct iovec pieces[4] = {
        {.iov_base = (char *)(uintptr_t)head, .iov_len = flags & SS_SEND_HEAD ? (size_t)head_length : 0},
        {0},
        {.iov_base = (char *)(uintptr_t)body, .iov_len = (size_t)body_length},
        {0},
    };
    bool stalled = conn->out_start < conn->out_end;
    int answer = conn->dead ? SS_BROKEN : send_part(loop, conn, pieces, flags);
    int64_t queued = conn->out_end - conn->out_start;
    if (queued)
        loop->now = ss_clock(loop);
    if (flags & SS_SEND_LAST) {
        ss_conn_request_done(conn);
        ss_conn_after_response(loop, conn);
    } else if (answer == SS_OK && queued) {
        expect_drain(loop, conn, stalled);
    }
    return answer == SS_OK ? queued : answer;
}

int64_t ss_conn_interim(ss_loop *loop, int64_t handle, const char *data, int64_t length) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (conn->state != SS_CONN_REQUEST || conn->response_started || length < 0)
        return SS_MISUSE;
    bool stalled = conn->out_start < conn->out_end;
    struct iovec piece = {.iov_base = (char *)(uintptr_t)data, .iov_len = (size_t)length};
    if (conn->dead || transmit(loop, conn, &piece, 1) != SS_OK)
        return SS_BROKEN;
    int64_t queued = conn->out_end - conn->out_start;
    if (queued) {
        loop->now = ss_clock(loop);
        expect_drain(loop, conn, stalled);
    }
    return queued;
}

int64_t ss_conn_respond(ss_loop *loop, int64_t handle, const ss_response_head *head, const char *body,
                        int64_t body_length) {
    return ss_conn_send(loop, handle, head->data, head->length, body, body_length, head->flags);
}

int64_t ss_conn_send_file(ss_loop *loop, int64_t handle, const ss_response_head *head, int fd, int64_t offset,
                          int64_t count) {
    ss_conn *conn = ss_conn_find(loop, handle);
    int flags = head->flags | SS_SEND_HEAD | SS_SEND_LAST;
    char end[TAIL_ROOM];
    if (!conn)
        return SS_GONE;
    if (misused(conn, flags, count) || conn->tls || flags & (SS_SEND_CHUNKED | SS_SEND_NO_BODY))
        return SS_MISUSE;
    int answer = count ? ss_file_attach(loop, conn, fd, offset, count) : SS_OK;
    if (answer != SS_OK)
        return answer;
    decide_persistence(conn, flags);
    conn->response_started = true;
    loop->now = ss_clock(loop);
    struct iovec pieces[2] = {
        {.iov_base = (char *)(uintptr_t)head->data, .iov_len = (size_t)head->length},
        {.iov_base = end, .iov_len = (size_t)(put_head_end(loop, conn, end, count, flags) - end)},
    };
    size_t total = pieces[0].iov_len + pieces[1].iov_len;
    if (total <= sizeof loop->scratch) {
        put(put(loop->scratch, pieces[0].iov_base, pieces[0].iov_len), end, pieces[1].iov_len);
        pieces[0] = (struct iovec){.iov_base = loop->scratch, .iov_len = total};
    }
    answer = conn->dead ? SS_BROKEN : transmit(loop, conn, pieces, total <= sizeof loop->scratch ? 1 : 2);
    if (answer == SS_OK && conn->file && conn->out_start == conn->out_end)
        ss_file_flush(loop, conn);
    ss_conn_request_done(conn);
    ss_conn_after_response(loop, conn);
    return answer;
}

int64_t ss_conn_queued(ss_loop *loop, int64_t handle) {
    const ss_conn *conn = ss_conn_find(loop, handle);
    return conn ? (int64_t)(conn->out_end - conn->out_start) : SS_GONE;
}

/* ---- refusals ---- */

static const char *phrase(int status) {
    switch (status) {
    case 408:
        return "Request Timeout";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 417:
        return "Expectation Failed";
    case 431:
        return "Request Header Fields Too Large";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Bad Request";
    }
}

/* Python learns of it for its logs: who it was is kept until the next poll. */
void ss_refusal_report(ss_loop *loop, const ss_conn *conn, enum ss_refusal refusal) {
    int64_t place = SS_REFUSED_PEERS;
    if (!loop->polling)
        return;
    if (loop->refused_count < SS_REFUSED_PEERS) {
        place = loop->refused_count++;
        ss_refused_peer *peer = &loop->refused[place];
        peer->port = conn->port;
        peer->address_length = conn->address_length;
        memcpy(peer->address, conn->address, sizeof peer->address);
    }
    ss_event_emit(loop, SS_EVENT_REFUSED, conn->listener->number, place, refusal);
}

/* One answer, and the end: nothing more of this connection is parsed. */
void ss_conn_answer_refusal(ss_loop *loop, ss_conn *conn, enum ss_refusal refusal) {
    char text[512];
    int status = ss_refusal_status((int)refusal);
    const char *words = ss_refusal_text((int)refusal);
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 %d %s\r\n%sConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
                          "Content-Length: %zu\r\n%s\r\n%s\n",
                          status, phrase(status), date_line(loop), strlen(words) + 1,
                          status == 503 ? "Retry-After: 1\r\n" : "", words);
    struct iovec whole = {.iov_base = text, .iov_len = (size_t)length};
    conn->persist = false;
    conn->response_started = true;
    conn->body_failed = (uint8_t)refusal;
    conn->chunked_body = false;
    conn->body_left = UINT64_MAX; /* whatever comes is dropped, not parsed */
    (void)transmit(loop, conn, &whole, 1);
    ss_refusal_report(loop, conn, refusal);
    ss_conn_request_done(conn);
    ss_conn_after_response(loop, conn);
}

int ss_conn_refuse(ss_loop *loop, int64_t handle, int refusal) {
    ss_conn *conn = ss_conn_find(loop, handle);
    if (!conn)
        return SS_GONE;
    if (conn->state != SS_CONN_REQUEST || conn->response_started)
        return SS_MISUSE;
    loop->now = ss_clock(loop);
    ss_conn_answer_refusal(loop, conn, (enum ss_refusal)refusal);
    return SS_OK;
}
