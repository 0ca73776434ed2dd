/* The floor: what the system calls alone cost. One epoll, level-triggered, so
 * that a request is one recv and one send and their share of an epoll_wait;
 * nothing is parsed. A read that ends in an empty line is taken as one whole
 * request, which holds for wrk without pipelining and for nothing else.
 *
 * Usage: floor PORT   (serves 127.0.0.1 until it is killed)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 256, BUFFER = 65536 };

/* As long as a Python server's answer, with a date that does not move. */
static const char response[] = "HTTP/1.1 200 OK\r\n"
                               "Content-Type: text/plain\r\n"
                               "Content-Length: 14\r\n"
                               "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                               "\r\n"
                               "Hello, world!\n";

static void die(const char *call) {
    perror(call);
    exit(1);
}

static void watch(int poller, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl");
}

static int listen_on(int port) {
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        die("socket");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1024) < 0)
        die("bind");
    return fd;
}

static void accept_one(int poller, int listener) {
    int on = 1;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(poller, fd);
}

static void answer(int fd) {
    char buffer[BUFFER];
    ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got < 4 || memcmp(buffer + got - 4, "\r\n\r\n", 4) != 0) {
        close(fd);
        return;
    }
    if (send(fd, response, sizeof response - 1, MSG_NOSIGNAL) != (ssize_t)sizeof response - 1)
        close(fd);
}

int main(int argc, char **argv) {
    struct epoll_event events[BATCH];
    if (argc != 2)
        return 2;
    int listener = listen_on(atoi(argv[1]));
    int poller = epoll_create1(0);
    if (poller < 0)
        die("epoll_create1");
    watch(poller, listener);
    for (;;) {
        int count = epoll_wait(poller, events, BATCH, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                accept_one(poller, listener);
            else
                answer(events[i].data.fd);
        }
    }
}
