/* The floor of WebSocket: what the system calls and the mask alone cost: ws_floor PORT echo|broadcast
 *
 * One epoll, level-triggered: an event is a recv, unmasking, and one send of all whole messages that have come; or, as
 * broadcast, a send of the message to each connection. Nothing is checked: that holds for ws_load's handshake and
 * frames and for nothing else. A message of up to 1 MB is gathered in one buffer of its connection, unmasked there
 * as it comes and sent with its header from there. Serves 127.0.0.1 until it is killed. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 256, BUFFER = 65536, LARGEST = (1 << 20) + 14, MOST = 65536 };

struct peer {
    int fd, open;        /* open: its handshake was answered */
    size_t sent, ready;  /* of `out`, an answer that the socket did not take at once */
    char *large;         /* a frame that has not come whole; owned */
    size_t got, total;   /* bytes of it, with its header */
    size_t unmasked;     /* of its payload */
};

static const char accepted[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static struct peer *peers[MOST];
static int poller, broadcasts, highest; /* the highest descriptor that was a peer's */

static void die(const char *call) {
    perror(call);
    exit(1);
}

static void leave(struct peer *peer) {
    peers[peer->fd] = NULL;
    close(peer->fd);
    free(peer->large);
    free(peer);
}

static void watch(int operation, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, operation, fd, &event) < 0)
        die("epoll_ctl");
}

/* ---- frames ---- */

static void unmask(char *data, size_t length, const char *mask, size_t phase) {
    uint64_t wide, word;
    char turned[8];
    size_t at = 0;
    for (size_t i = 0; i < sizeof turned; i++)
        turned[i] = mask[(phase + i) & 3];
    memcpy(&wide, turned, sizeof wide);
    for (; length - at >= sizeof wide; at += sizeof wide) {
        memcpy(&word, data + at, sizeof word);
        word ^= wide;
        memcpy(data + at, &word, sizeof word);
    }
    for (; at < length; at++)
        data[at] ^= turned[at & 7];
}

static size_t header_size(const char *data) {
    int small = data[1] & 127;
    return small == 127 ? 14 : small == 126 ? 8 : 6;
}

static size_t payload_size(const char *data) {
    const unsigned char *bytes = (const unsigned char *)data;
    size_t extended = header_size(data) - 6, length = bytes[1] & 127;
    for (size_t i = 0; extended && i < extended; i++)
        length = (i ? length << 8 : 0) | bytes[2 + i];
    return length;
}

/* The answer stands where the payload does, its header where the mask was; returns where it begins. */
static char *turn_into_answer(char *frame) {
    size_t header = header_size(frame) - 4;
    memmove(frame + 4, frame, header);
    frame[5] &= 127;
    return frame + 4;
}

/* ---- answers ---- */

static void to_all(const char *data, size_t length) {
    for (int fd = 0; fd <= highest; fd++)
        if (peers[fd] && peers[fd]->open)
            if (send(fd, data, length, MSG_NOSIGNAL) != (ssize_t)length)
                leave(peers[fd]);
}

static void answer(struct peer *peer, const char *data, size_t length) {
    if (broadcasts)
        to_all(data, length);
    else if (send(peer->fd, data, length, MSG_NOSIGNAL) != (ssize_t)length)
        leave(peer);
}

/* The rest of a large answer; level-triggered EPOLLOUT calls it again. */
static void send_large(struct peer *peer) {
    ssize_t count = send(peer->fd, peer->large + peer->sent, peer->ready - peer->sent, MSG_NOSIGNAL);
    if (count < 0 && errno != EAGAIN) {
        leave(peer);
        return;
    }
    peer->sent += count > 0 ? (size_t)count : 0;
    int whole = peer->sent == peer->ready;
    watch(EPOLL_CTL_MOD, peer->fd, whole ? EPOLLIN : EPOLLOUT);
    if (whole)
        peer->got = peer->total = peer->unmasked = peer->ready = 0;
}

/* ---- input ---- */

static void take_large(struct peer *peer) {
    ssize_t count = recv(peer->fd, peer->large + peer->got, peer->total - peer->got, 0);
    if (count <= 0) {
        leave(peer);
        return;
    }
    peer->got += (size_t)count;
    size_t header = header_size(peer->large), have = peer->got - header;
    unmask(peer->large + header + peer->unmasked, have - peer->unmasked, peer->large + header - 4, peer->unmasked);
    peer->unmasked = have;
    if (peer->got < peer->total)
        return;
    peer->sent = (size_t)(turn_into_answer(peer->large) - peer->large);
    peer->ready = peer->total;
    send_large(peer);
}

static void begin_large(struct peer *peer, const char *data, size_t length) {
    if (!peer->large)
        peer->large = malloc(LARGEST);
    peer->total = header_size(data) + payload_size(data);
    if (!peer->large || peer->total > LARGEST)
        die("a message of over 1 MB");
    memcpy(peer->large, data, length);
    peer->got = length;
    size_t header = header_size(data);
    peer->unmasked = length - header;
    unmask(peer->large + header, peer->unmasked, peer->large + header - 4, 0);
}

/* All whole frames are answered by one send. */
static void take(struct peer *peer) {
    static char data[BUFFER];
    ssize_t count = recv(peer->fd, data, sizeof data, 0);
    if (count <= 0) {
        if (count == 0 || errno != EAGAIN)
            leave(peer);
        return;
    }
    if (!peer->open) {
        peer->open = 1;
        if (send(peer->fd, accepted, sizeof accepted - 1, MSG_NOSIGNAL) != sizeof accepted - 1)
            leave(peer);
        return;
    }
    size_t length = (size_t)count, at = 0, out = 0;
    while (length - at >= 14) { /* ws_load's frames are longer than the longest header */
        size_t header = header_size(data + at), size = payload_size(data + at);
        if (header + size > length - at)
            break;
        unmask(data + at + header, size, data + at + header - 4, 0);
        char *begin = turn_into_answer(data + at);
        memmove(data + out, begin, header - 4 + size);
        out += header - 4 + size;
        at += header + size;
    }
    if (at < length)
        begin_large(peer, data + at, length - at);
    if (out)
        answer(peer, data, out);
}

/* ---- the loop ---- */

static int listen_on(int port) {
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        die("socket");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1024) < 0)
        die("bind");
    return fd;
}

static void accept_one(int listener) {
    int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (fd >= MOST || !(peers[fd] = calloc(1, sizeof **peers)))
        die("accept");
    peers[fd]->fd = fd;
    highest = fd > highest ? fd : highest;
    watch(EPOLL_CTL_ADD, fd, EPOLLIN);
}

static void serve(struct peer *peer) {
    if (!peer)
        return;
    if (peer->ready)
        send_large(peer);
    else if (peer->total)
        take_large(peer);
    else
        take(peer);
}

int main(int argc, char **argv) {
    struct epoll_event events[BATCH];
    if (argc != 3)
        return 2;
    broadcasts = strcmp(argv[2], "broadcast") == 0;
    int listener = listen_on(atoi(argv[1]));
    poller = epoll_create1(0);
    if (poller < 0)
        die("epoll_create1");
    watch(EPOLL_CTL_ADD, listener, EPOLLIN);
    for (;;) {
        int count = epoll_wait(poller, events, BATCH, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                accept_one(listener);
            else
                serve(peers[events[i].data.fd]);
        }
    }
}
