/* The life of connections, in the clear or through TLS: whatever bytes come, in whatever pieces and pauses, whatever the
 * application does meanwhile, and however the clients go, every structure of the core is as it must be at each step, and
 * nothing is left at the end. */
#define _GNU_SOURCE
#include "application.h"
#include "core.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CLIENTS = 3, MAX_SIZE = 8192, MAX_STEPS = 300, NOBODY = -1 };

static const int64_t pauses[] = {1, SS_SECOND / 500, SS_SECOND / 2, SS_SECOND, 7 * SS_SECOND, 70 * SS_SECOND};

static int file_fd;

struct client {
    int fd; /* NOBODY: it has gone */
    size_t sent;
    bool shut;
};

struct life {
    struct choice choice;
    struct cipher cipher;
    struct application app;
    struct client clients[CLIENTS];
    char bytes[HELLO + MAX_SIZE]; /* what each of them sends */
    size_t length;
    int listener;
};

static void start(void) {
    start_core();
    file_fd = memfd_create("file", MFD_CLOEXEC);
    must(file_fd >= 0 && ftruncate(file_fd, 1000) == 0, "there is a file");
    signal(SIGPIPE, SIG_IGN); /* sendfile has no flag for it */
}

/* 0 half of the time: no limit. */
static size_t some_or_none(struct life *life, size_t most) {
    return one_in(&life->choice, 2) ? choose(&life->choice, most) : 0;
}

/* Limits that what a client sends here can reach. */
static void choose_limits(struct life *life, ss_listener_config *config) {
    config->max_body = some_or_none(life, 6000);
    config->buffered_body = (uint32_t)choose(&life->choice, 60);
    config->buffered_chunked = (uint32_t)choose(&life->choice, 60);
    config->drain_limit = (uint32_t)choose(&life->choice, 100);
    config->high_water = (uint32_t)(1 + choose(&life->choice, 5000));
    config->max_buffers = (int64_t)some_or_none(life, 100000);
    config->max_connections = (uint32_t)choose(&life->choice, CLIENTS + 1);
    config->max_handshakes = (uint32_t)choose(&life->choice, CLIENTS + 1);
    config->left_by_fin = one_in(&life->choice, 2);
}

static void begin(struct life *life) {
    ss_listener_config config;
    ss_listener_defaults(&config);
    config.tls = life->app.cipher != NULL;
    config.left_after = SS_SECOND;
    config.handshake_patience = SS_SECOND;
    config.memo_entries = 8;
    if (!one_in(&life->choice, 4))
        choose_limits(life, &config);
    life->listener = ss_listener_open(loop, server_fd, &config);
    must(life->listener >= 0, "the core listens");
    for (int at = 0; at < CLIENTS; at++) {
        struct client *client = &life->clients[at];
        client->fd = at && one_in(&life->choice, 2) ? NOBODY : new_client();
    }
}

static int64_t poll_once(struct life *life) {
    int64_t found = ss_loop_poll(loop, 0);
    must(found >= 0, "a poll does not fail");
    const int64_t *event = ss_loop_events(loop), *request = ss_loop_requests(loop);
    for (int64_t left = found >> 16 & 0xFFFF; left; left--, event += SS_EVENT_WORDS)
        if ((event[0] & 0xFF) == SS_EVENT_TLS)
            cipher_asked(&life->cipher, life->listener, event[1], event[2]);
    for (int64_t left = found & 0xFFFF; left; left--, request += SS_REQUEST_WORDS)
        take_request(&life->app, request[1], request[3]);
    verify();
    return found;
}

/* ---- the clients ---- */

static void send_some(struct life *life, struct client *client) {
    size_t left = life->length - client->sent;
    size_t next = left && !one_in(&life->choice, 4) ? 1 + choose(&life->choice, left < 60 ? left : 60) : left;
    if (client->shut || !next)
        return;
    ssize_t count = send(client->fd, life->bytes + client->sent, next, MSG_NOSIGNAL | MSG_DONTWAIT);
    client->sent += count > 0 ? (size_t)count : 0;
}

static void leave(struct client *client) {
    close(client->fd);
    client->fd = NOBODY;
}

/* One thing that a client does. */
static void act(struct life *life, struct client *client) {
    static char ignored[65536];
    if (client->fd == NOBODY)
        return;
    size_t what = choose(&life->choice, 40);
    if (what == 0 && client->sent == life->length)
        leave(client);
    else if (what == 1)
        client->shut = shutdown(client->fd, SHUT_WR) == 0;
    else if (what < 15)
        (void)!recv(client->fd, ignored, 1 + choose(&life->choice, sizeof ignored), MSG_DONTWAIT);
    else
        send_some(life, client);
}

static void step(struct life *life) {
    size_t what = choose(&life->choice, 60);
    if (what == 0)
        (void)ss_listener_drain(loop, life->listener, SS_SECOND);
    else if (what < 6)
        ss_loop_set_clock(loop, ss_loop_now(loop) + pauses[choose(&life->choice, sizeof pauses / sizeof *pauses)]);
    else if (what < 32)
        act(life, &life->clients[choose(&life->choice, CLIENTS)]);
    else if (what < 45)
        serve(&life->app, &life->app.requests[choose(&life->choice, MOST_AT_ONCE)]);
    else
        speak(&life->app, life->app.sockets[choose(&life->choice, MOST_AT_ONCE)]);
    if (one_in(&life->choice, 2))
        (void)poll_once(life);
    verify();
}

/* ---- the end ---- */

static void settle(struct life *life) {
    for (int quiet = 0; quiet < 2;) {
        quiet = poll_once(life) || loop->pending_count ? 0 : quiet + 1;
        give_up(&life->app);
    }
}

/* Everybody leaves; time passes. */
static void end(struct life *life) {
    int64_t counts[SS_COUNT_KINDS];
    for (int at = 0; at < CLIENTS; at++)
        if (life->clients[at].fd != NOBODY)
            leave(&life->clients[at]);
    bool closed = one_in(&life->choice, 4);
    if (closed)
        (void)ss_listener_close(loop, life->listener);
    settle(life);
    ss_loop_set_clock(loop, ss_loop_now(loop) + 1000 * SS_SECOND); /* what lingers is given up */
    settle(life);
    nothing_is_left();
    for (int at = 0; at < SESSIONS; at++)
        must(closed || !life->cipher.sessions[at].handle, "the end of each session of TLS was told");
    (void)ss_listener_close(loop, life->listener);
    ss_counts(loop, counts);
    must(!counts[SS_COUNT_LISTENERS], "the listener has gone");
    for (int late; (late = accept(server_fd, NULL, NULL)) >= 0;) /* whom it did not accept any more */
        close(late);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct life life;
    if (size > MAX_SIZE)
        return 0;
    if (!loop)
        start();
    life = (struct life){.choice = choice_of(data, size)};
    life.cipher = (struct cipher){.loop = loop, .choice = &life.choice};
    life.app = (struct application){.loop = loop, .choice = &life.choice, .file = file_fd};
    if (one_in(&life.choice, 2)) {
        life.app.cipher = &life.cipher;
        life.length = one_in(&life.choice, 8) ? 0 : HELLO; /* or it has to be in the input */
    }
    memcpy(life.bytes + life.length, data, size);
    life.length += size;
    begin(&life);
    for (int steps = 0; steps < MAX_STEPS; steps++)
        step(&life);
    end(&life);
    return 0;
}
