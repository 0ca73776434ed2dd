/* Load for an echo server: echo_load PORT CONNECTIONS
 *
 * Opens the connections to 127.0.0.1 and prints "open N". For each line
 * "COUNT" on standard input it sends COUNT messages of 64 bytes on each
 * connection, one after the other: the next when the last came back whole and
 * equal. It then prints "done N", the number of messages that came back. */

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SIZE = 64, EVENTS = 256, WAIT_MS = 30000 };

struct client {
    int fd;
    int got;  /* bytes of the current message */
    long left; /* messages still to send */
};

static char message[SIZE];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void send_one(struct client *client) {
    if (send(client->fd, message, SIZE, MSG_NOSIGNAL) != SIZE)
        fail("send");
    client->got = 0;
}

/* True when the client has had all its messages. */
static int receive(struct client *client, long *echoed) {
    char data[SIZE];
    ssize_t count = recv(client->fd, data, (size_t)(SIZE - client->got), 0);
    if (count <= 0)
        fail("recv");
    if (memcmp(data, message + client->got, (size_t)count)) {
        fprintf(stderr, "an echo differs from what was sent\n");
        exit(1);
    }
    client->got += (int)count;
    if (client->got < SIZE)
        return 0;
    ++*echoed;
    if (--client->left == 0)
        return 1;
    send_one(client);
    return 0;
}

static long run(int epoll, struct client *clients, long connections, long count) {
    struct epoll_event events[EVENTS];
    long echoed = 0, busy = connections;
    for (long index = 0; index < connections; index++) {
        clients[index].left = count;
        send_one(&clients[index]);
    }
    while (busy) {
        int found = epoll_wait(epoll, events, EVENTS, WAIT_MS);
        if (found <= 0) {
            fprintf(stderr, "nothing came back for %d ms\n", WAIT_MS);
            exit(1);
        }
        for (int index = 0; index < found; index++)
            busy -= receive(events[index].data.ptr, &echoed);
    }
    return echoed;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    long connections = atol(argv[2]), count;
    struct client *clients = calloc((size_t)connections, sizeof *clients);
    int epoll = epoll_create1(0);
    if (!clients || epoll < 0)
        fail("set-up");
    for (int index = 0; index < SIZE; index++)
        message[index] = (char)('!' + index);
    for (long index = 0; index < connections; index++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[index]};
        clients[index].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(clients[index].fd, (struct sockaddr *)&address, sizeof address))
            fail("connect");
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, clients[index].fd, &event))
            fail("epoll_ctl");
    }
    printf("open %ld\n", connections);
    fflush(stdout);
    while (scanf("%ld", &count) == 1) {
        printf("done %ld\n", run(epoll, clients, connections, count));
        fflush(stdout);
    }
    return 0;
}
