/* What goes out: heads completed with what the server adds, bodies framed, and the
 * refusals that need no Python. A response leaves in one send where it fits. */

#define _GNU_SOURCE
#include "http/http.h"

#include <stdio.h>
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
static const char *date_line(const ss_loop *loop, ss_http_shared *shared) {
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct timespec time;
    if (shared->date_polls == loop->polls)
        return shared->date; /* it is of this turn */
    shared->date_polls = loop->polls;
    clock_gettime(CLOCK_REALTIME_COARSE, &time);
    if (time.tv_sec != shared->date_second) {
        struct tm utc;
        gmtime_r(&time.tv_sec, &utc);
        shared->date_second = time.tv_sec;
        snprintf(shared->date, sizeof shared->date, "Date: %.3s, %02u %.3s %04u %02u:%02u:%02u GMT\r\n",
                 days + 3 * utc.tm_wday, (unsigned)utc.tm_mday % 100, months + 3 * utc.tm_mon,
                 (unsigned)(utc.tm_year + 1900) % 10000, (unsigned)utc.tm_hour % 100, (unsigned)utc.tm_min % 100,
                 (unsigned)utc.tm_sec % 100);
    }
    return shared->date;
}

/* The lines that the server adds to a head, and the empty line. */
static char *put_head_end(ss_loop *loop, const ss_conn *conn, char *at, int64_t body_length, int flags) {
    if (!(flags & SS_SEND_DATED))
        at = put(at, date_line(loop, ss_http_shared_of(conn)), DATE_LENGTH);
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

/* Sends the pieces in one copy where that is the cheaper way. more: a file follows, or small pieces may. */
static int send_pieces(ss_loop *loop, ss_conn *conn, struct iovec *pieces, size_t count, size_t total, bool more) {
    char *scratch = ss_streams_of(loop)->scratch, *at = scratch;
    if (total > SS_SCRATCH)
        return ss_stream_send(loop, &conn->stream, pieces, count, more);
    for (size_t i = 0; i < count; i++)
        if (pieces[i].iov_len)
            at = put(at, pieces[i].iov_base, pieces[i].iov_len);
    struct iovec whole = {.iov_base = scratch, .iov_len = total};
    return ss_stream_send(loop, &conn->stream, &whole, 1, more);
}

/* A part of a response, enum ss_send_flag says which. pieces: the head, room for one more,
 * the body, and room for another. more: as above. SS_OK or SS_BROKEN. */
int ss_response_send(ss_loop *loop, ss_conn *conn, struct iovec *pieces, int flags, bool more) {
    char middle[TAIL_ROOM];
    size_t total = assemble(loop, conn, pieces, middle, flags);
    if (total)
        return send_pieces(loop, conn, pieces, SS_RESPONSE_PIECES, total, more);
    ss_pieces_push(conn);
    return SS_OK;
}

/* The head of a response whose body, a file of that length, follows. */
int ss_response_send_head(ss_loop *loop, ss_conn *conn, struct iovec head, int64_t body_length, int flags) {
    char end[TAIL_ROOM];
    struct iovec pieces[2] = {head, {.iov_base = end}};
    pieces[1].iov_len = (size_t)(put_head_end(loop, conn, end, body_length, flags) - end);
    return send_pieces(loop, conn, pieces, 2, head.iov_len + pieces[1].iov_len, body_length > 0);
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

/* The whole answer of a request that the server refuses. SS_OK or SS_BROKEN. */
int ss_response_refuse(ss_loop *loop, ss_conn *conn, enum ss_refusal refusal) {
    char text[512];
    int status = ss_refusal_status((int)refusal);
    const char *words = ss_refusal_text((int)refusal);
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 %d %s\r\n%sConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
                          "Content-Length: %zu\r\n%s\r\n%s\n",
                          status, phrase(status), date_line(loop, ss_http_shared_of(conn)), strlen(words) + 1,
                          status == 503 ? "Retry-After: 1\r\n" : "", words);
    struct iovec whole = {.iov_base = text, .iov_len = (size_t)length};
    return ss_stream_send(loop, &conn->stream, &whole, 1, false);
}

/* 100 Continue. SS_OK or SS_BROKEN. */
int ss_response_invite_body(ss_loop *loop, ss_conn *conn) {
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec whole = {.iov_base = (char *)(uintptr_t)line, .iov_len = sizeof line - 1};
    return ss_stream_send(loop, &conn->stream, &whole, 1, false);
}
