/* The core, whole, with a socket that clients connect to: what the targets of connections share. */
#ifndef FUZZ_CORE_H
#define FUZZ_CORE_H
#include "exact.h"
#include "loop/loop.h"

#include <sys/socket.h>
#include <sys/un.h>

static ss_loop *loop;
static int server_fd;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static socklen_t address_length = sizeof(sa_family_t); /* bind chooses an abstract name */

/* From now on time stands still. */
static void start_core(void) {
    loop = ss_loop_new(SS_BACKEND_EPOLL);
    server_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    must(loop && server_fd >= 0, "there is a loop and a socket");
    must(bind(server_fd, (struct sockaddr *)&address, address_length) == 0 && listen(server_fd, 16) == 0, "it listens");
    address_length = sizeof address;
    must(getsockname(server_fd, (struct sockaddr *)&address, &address_length) == 0, "it has a name");
    ss_loop_set_clock(loop, ss_loop_now(loop));
}

static int new_client(void) {
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(client >= 0 && connect(client, (struct sockaddr *)&address, address_length) == 0, "a client comes");
    return client;
}

static void verify(void) {
    const char *fault = ss_verify(loop);
    must(fault == NULL, fault ? fault : "");
}

static void nothing_is_left(void) {
    int64_t counts[SS_COUNT_KINDS];
    ss_counts(loop, counts);
    must(!counts[SS_COUNT_CONNECTIONS] && !counts[SS_COUNT_REQUESTS] && !counts[SS_COUNT_BUFFERS] &&
             !counts[SS_COUNT_QUEUED_BYTES] && !counts[SS_COUNT_HELD_BYTES] && !counts[SS_COUNT_TLS] &&
             !counts[SS_COUNT_FILES],
         "nothing is left of the connections");
}

#endif
