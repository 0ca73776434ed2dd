/* Any bytes of a client - a request, frames behind an upgrade - leave every structure of the core as it must be, and
 * nothing once the client has gone; and offering them in other pieces changes nothing of what Python is told. */
#define _GNU_SOURCE
#include "core.h"

#include <unistd.h>

enum { MAX_SIZE = 8192, MAX_MESSAGE = 4096, MAX_TOLD = 65536, DEFLATE = 1, QUIET_POLLS = 2 };

static const char switching[] = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
static int listener;

/* What Python is told of one connection: messages, one behind the other. */
struct story {
    size_t length;
    uint32_t requests;
    char text[MAX_TOLD];
};

static void start(void) {
    ss_listener_config config;
    start_core();
    ss_listener_defaults(&config);
    listener = ss_listener_open(loop, server_fd, &config);
    must(listener >= 0, "the core listens");
}

/* As Python does: an offer of an upgrade is taken, any other request ends its connection. */
static void take_requests(int64_t count, const ss_ws_config *config, struct story *story) {
    const int64_t *words = ss_loop_requests(loop);
    for (int64_t i = 0; i < count; i++, words += SS_REQUEST_WORDS) {
        story->requests++;
        if (!(words[3] & SS_REQUEST_UPGRADE) ||
            ss_ws_upgrade(loop, words[1], switching, sizeof switching - 1, config) != SS_OK)
            (void)ss_conn_abort(loop, words[1], 0);
    }
}

static void take_messages(int64_t count, struct story *story) {
    const int64_t *words = ss_loop_messages(loop);
    for (int64_t i = 0; i < count; i++, words += SS_MESSAGE_WORDS) {
        size_t length = (size_t)(words[2] >> SS_WS_LENGTH_SHIFT);
        must(words[3] >= 0 && length <= MAX_MESSAGE, "a message is within its limit");
        must(story->length + length + 3 <= sizeof story->text, "messages are no longer than what was sent");
        story->text[story->length++] = (char)words[2];
        story->text[story->length++] = (char)(length >> 8);
        story->text[story->length++] = (char)length;
        memcpy(story->text + story->length, ss_ws_payloads(loop) + words[3], length);
        story->length += length;
    }
}

/* Polls until nothing is left to do, also for a connection that the first poll accepts; the client takes what it is sent. */
static void go_on(int client, const ss_ws_config *config, struct story *story) {
    static char ignored[65536];
    for (int quiet = 0; quiet < QUIET_POLLS;) {
        int64_t found = ss_loop_poll(loop, 0);
        must(found >= 0, "a poll does not fail");
        take_messages(found >> 32, story);
        take_requests(found & 0xFFFF, config, story);
        verify();
        while (client >= 0 && recv(client, ignored, sizeof ignored, MSG_DONTWAIT) > 0)
            continue;
        quiet = found || loop->pending_count ? 0 : quiet + 1;
    }
}

/* Sends the first bytes, and `stride` more each time; then the client leaves. */
static void live(const char *bytes, size_t length, size_t first, size_t stride, struct story *story) {
    ss_ws_config config = {.max_message = MAX_MESSAGE, .out_limit = 1 << 20, .close_timeout = SS_SECOND};
    int client = new_client();
    config.deflate = length & DEFLATE;
    story->length = story->requests = 0;
    for (size_t sent = 0, next = first; sent < length; next = length - sent < stride ? length - sent : stride) {
        if (next && send(client, bytes + sent, next, MSG_NOSIGNAL) != (ssize_t)next)
            break; /* it was thrown out */
        sent += next;
        go_on(client, &config, story);
    }
    close(client);
    go_on(-1, &config, story);
    ss_loop_set_clock(loop, ss_loop_now(loop) + 1000 * SS_SECOND); /* what lingers is given up */
    go_on(-1, &config, story);
    nothing_is_left();
}

static int same(const struct story *one, const struct story *other) {
    return one->requests == other->requests && one->length == other->length &&
           memcmp(one->text, other->text, one->length) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct story whole, pieces;
    const char *bytes = (const char *)data;
    if (size > MAX_SIZE)
        return 0;
    if (!loop)
        start();
    live(bytes, size, size, 1, &whole);
    live(bytes, size, 1, 1 + size / 16, &pieces);
    must(same(&whole, &pieces), "small pieces change nothing");
    live(bytes, size, size / 2, size, &pieces);
    must(same(&whole, &pieces), "one cut changes nothing");
    return 0;
}
