/* What a stream does on its socket: one read, one write, and whose it is. */

#define _GNU_SOURCE
#include "stream/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined __SANITIZE_ADDRESS__
#define CHECKED /* AddressSanitizer looks at the buffers that recv and send are given */
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define CHECKED
#endif
#endif

/* glibc makes recv and send points where pthread_cancel may end a thread, at several atomic operations a call. Nobody
 * cancels a thread that holds Python's lock; and where a system has no such call of its own, theirs are used. */
static ssize_t quick_recv(int fd, char *into, size_t room) {
#if defined SYS_recvfrom && !defined CHECKED
    return syscall(SYS_recvfrom, fd, into, room, 0, NULL, NULL);
#else
    return recv(fd, into, room, 0);
#endif
}

static ssize_t quick_send(int fd, const void *data, size_t length, int flags) {
#if defined SYS_sendto && !defined CHECKED
    return syscall(SYS_sendto, fd, data, length, flags, NULL, 0);
#else
    return send(fd, data, length, flags);
#endif
}

/* recv; cut: descriptors came along, which are closed, and behind which a read of a unix socket ends. */
static ssize_t receive(const ss_stream *stream, char *into, size_t room, bool *cut) {
    if (!stream->local)
        return quick_recv(stream->io.fd, into, room);
    struct iovec piece = {.iov_base = into, .iov_len = room};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    ssize_t count = recvmsg(stream->io.fd, &message, 0);
    *cut = count > 0 && (message.msg_flags & MSG_CTRUNC);
    return count;
}

/* A short count means that the socket is drained, unless descriptors cut it, or FIN or
 * an error is behind it; then the bit stays, for the read that says so. A reset may be
 * seen half done, as an error without an end, and where it is known nobody polls again. */
int64_t ss_socket_receive(ss_stream *stream, char *into, size_t room) {
    ssize_t count;
    bool cut = false;
    do
        count = receive(stream, into, room, &cut);
    while (count < 0 && errno == EINTR);
    if (count < 0 && ss_socket_full()) {
        stream->io.ready &= (uint8_t)~SS_READ;
        return SS_WAIT;
    }
    if (count < 0)
        return SS_BROKEN;
    if (count > 0 && (size_t)count < room && !cut && !(stream->io.ready & (SS_HUP | SS_FAIL)))
        stream->io.ready &= (uint8_t)~SS_READ;
    return count;
}

/* more: what follows at once shall share a segment with it. */
ssize_t ss_socket_send(const ss_stream *stream, struct iovec *pieces, size_t count, bool more) {
    int flags = more ? MSG_NOSIGNAL | MSG_MORE : MSG_NOSIGNAL;
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    ssize_t sent;
    do
        sent = count == 1 ? quick_send(stream->io.fd, pieces->iov_base, pieces->iov_len, flags)
                          : sendmsg(stream->io.fd, &message, flags);
    while (sent < 0 && errno == EINTR);
    return sent;
}

/* What was sent with `more` waits no longer for it. The option is set already: setting it is what pushes. */
void ss_socket_push(const ss_stream *stream) {
    const int on = 1;
    (void)setsockopt(stream->io.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Bytes that the kernel holds, and the peer's has not confirmed; -1: nobody knows. */
int64_t ss_socket_unconfirmed(const ss_stream *stream) {
    int count;
    return ioctl(stream->io.fd, TIOCOUTQ, &count) < 0 ? -1 : count;
}

bool ss_socket_full(void) {
    return errno == EAGAIN || errno == EWOULDBLOCK;
}

/* ---- addresses ---- */

void ss_stream_set_peer(ss_stream *stream, const struct sockaddr_storage *peer) {
    if (peer->ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, peer, sizeof v4);
        memcpy(stream->address, &v4.sin_addr, 4);
        stream->address_length = 4;
        stream->port = ntohs(v4.sin_port);
    } else if (peer->ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, peer, sizeof v6);
        bool mapped = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr);
        stream->address_length = mapped ? 4 : 16;
        memcpy(stream->address, v6.sin6_addr.s6_addr + (mapped ? 12 : 0), stream->address_length);
        stream->port = ntohs(v6.sin6_port);
    }
}

static int address_text(const unsigned char *address, uint8_t length, uint16_t port, char *text, int capacity) {
    if (capacity < INET6_ADDRSTRLEN + 8)
        return SS_MISUSE;
    text[0] = text[1] = '\0';
    if (length == 0)
        return 2;
    inet_ntop(length == 4 ? AF_INET : AF_INET6, address, text, (socklen_t)capacity);
    size_t host = strlen(text) + 1;
    int written = snprintf(text + host, (size_t)capacity - host, "%u", (unsigned)port);
    return (int)host + written + 1;
}

int ss_stream_address(const ss_stream *stream, int local, char *text, int capacity) {
    ss_stream own = {.address_length = 0};
    if (local) {
        struct sockaddr_storage name = {0};
        socklen_t length = sizeof name;
        if (getsockname(stream->io.fd, (struct sockaddr *)&name, &length) < 0)
            return SS_BROKEN;
        ss_stream_set_peer(&own, &name);
        stream = &own;
    }
    return address_text(stream->address, stream->address_length, stream->port, text, capacity);
}

static const ss_peer *refused_peer(const ss_loop *loop, int64_t place) {
    const ss_streams *streams = ss_streams_of(loop);
    if (!streams || streams->peers_poll != loop->polls || place < 0 || place >= streams->refused_count)
        return NULL;
    return &streams->refused[place];
}

int ss_loop_refused(const ss_loop *loop, int64_t place, char *text, int capacity) {
    const ss_peer *peer = refused_peer(loop, place);
    return peer ? address_text(peer->address, peer->address_length, peer->port, text, capacity) : SS_GONE;
}

int ss_loop_refused_line(const ss_loop *loop, int64_t place, char *text, int capacity) {
    const ss_peer *peer = refused_peer(loop, place);
    if (!peer || peer->line_length > capacity)
        return SS_GONE;
    memcpy(text, ss_streams_of(loop)->refused_lines + peer->line_start, peer->line_length);
    return peer->line_length;
}
