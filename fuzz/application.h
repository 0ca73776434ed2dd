/* What stands for an application in a fuzz target: it does with its requests and WebSockets whatever it may. */
#ifndef FUZZ_APPLICATION_H
#define FUZZ_APPLICATION_H
#include "cipher.h"
#include "loop/loop.h"

enum { MOST_AT_ONCE = 4, MOST_BODY = 400000 };

static const char ok[] = "HTTP/1.1 200 OK\r\n";
static const char switching[] = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
static const char early[] = "HTTP/1.1 103 Early Hints\r\n\r\n";

struct request {
    int64_t handle; /* 0: there is none */
    bool started, chunked;
};

struct application {
    ss_loop *loop;
    struct choice *choice;
    struct cipher *cipher; /* NULL: in the clear */
    int file;              /* a file, shorter than what is sent of it at times */
    struct request requests[MOST_AT_ONCE];
    int64_t sockets[MOST_AT_ONCE]; /* WebSockets; 0: none */
};

/* ---- responses ---- */

/* It is over, unless the call did not fit. */
static void finish(struct request *request, int64_t answer) {
    if (answer != SS_MISUSE)
        request->handle = 0;
}

static void send_part(const struct application *app, int64_t handle, int flags) {
    size_t size = choose(app->choice, one_in(app->choice, 10) ? MOST_BODY : 200);
    char *body = calloc(1, size + 1);
    int64_t length = flags & SS_SEND_HEAD ? (int64_t)(sizeof ok - 1) : 0;
    must(ss_conn_send(app->loop, handle, ok, length, body, (int64_t)size, flags) != SS_MISUSE,
         "a response in its order is taken");
    free(body);
}

static void respond(const struct application *app, struct request *request) {
    bool last = one_in(app->choice, 2);
    int end = (last ? SS_SEND_LAST : 0);
    if (one_in(app->choice, 8))
        end |= SS_SEND_CLOSE;
    if (!request->started) {
        request->chunked = !last && one_in(app->choice, 2);
        int frame = last ? SS_SEND_LENGTH : request->chunked ? SS_SEND_CHUNKED : SS_SEND_CLOSE;
        send_part(app, request->handle, SS_SEND_HEAD | frame | end);
        request->started = true;
    } else {
        send_part(app, request->handle, (request->chunked ? SS_SEND_CHUNKED : 0) | end);
    }
    if (last)
        request->handle = 0;
}

static void send_file(const struct application *app, struct request *request) {
    ss_response_head head = {ok, sizeof ok - 1, SS_SEND_HEAD | SS_SEND_LENGTH | SS_SEND_LAST};
    int64_t count = 1 + (int64_t)choose(app->choice, 2000);
    int64_t answer = ss_conn_send_file(app->loop, request->handle, &head, app->file, 0, count);
    must(answer >= 0 || answer == SS_BROKEN || (answer == SS_MISUSE && app->cipher), "a file is sent, but not by TLS");
    finish(request, answer);
}

/* One thing that is done with a request. */
static void serve(const struct application *app, struct request *request) {
    char read[300];
    int64_t handle = request->handle;
    if (!handle)
        return;
    size_t what = choose(app->choice, 12);
    if (what == 0)
        finish(request, ss_conn_abort(app->loop, handle, one_in(app->choice, 2)));
    else if (what == 1)
        finish(request, ss_conn_refuse(app->loop, handle, SS_BODY_TOO_LARGE));
    else if (what == 2)
        (void)ss_conn_interim(app->loop, handle, early, sizeof early - 1);
    else if (what == 3)
        (void)ss_conn_hung_up(app->loop, handle);
    else if (what == 4 && !request->started)
        send_file(app, request);
    else if (what < 8)
        (void)ss_conn_read(app->loop, handle, read, (int64_t)(1 + choose(app->choice, sizeof read)));
    else
        respond(app, request);
    if (app->cipher && !one_in(app->choice, 4))
        cipher_flush(app->cipher, handle);
}

/* ---- WebSockets ---- */

static void upgrade(struct application *app, struct request *request, int64_t *place) {
    ss_ws_config config = {.max_message = 4096,
                           .out_limit = 5000,
                           .close_timeout = SS_SECOND,
                           .ping_interval = 25 * SS_SECOND,
                           .ping_timeout = 20 * SS_SECOND};
    static const ss_engine_config engine = {.ping_interval = 25 * SS_SECOND,
                                            .ping_timeout = 20 * SS_SECOND,
                                            .max_message = 4096,
                                            .out_limit = 5000,
                                            .events = 1};
    config.deflate = one_in(app->choice, 2);
    config.drop = one_in(app->choice, 2);
    if (ss_ws_upgrade(app->loop, request->handle, switching, sizeof switching - 1, &config) != SS_OK)
        return; /* it has a body */
    *place = request->handle;
    request->handle = 0;
    if (one_in(app->choice, 2))
        (void)ss_engine_begin(app->loop, *place, &engine);
}

static void broadcast(const struct application *app, const char *message, int64_t length) {
    int64_t skipped;
    ss_frame *frame = ss_ws_frame_new(SS_WS_BINARY, message, length, 0);
    must(frame != NULL, "there is a frame");
    (void)ss_ws_broadcast(app->loop, app->sockets, MOST_AT_ONCE, app->sockets, one_in(app->choice, 2), frame, &skipped);
    ss_frame_free(frame);
}

/* One thing that is done with a WebSocket, or with all of them. */
static void speak(const struct application *app, int64_t handle) {
    int64_t length = (int64_t)choose(app->choice, 3000);
    char *message = calloc(1, (size_t)length + 1);
    size_t what = choose(app->choice, 9);
    if (what == 0)
        (void)ss_ws_close(app->loop, handle, SS_WS_NORMAL, "bye", 3);
    else if (what == 1)
        (void)ss_ws_reading(app->loop, handle, one_in(app->choice, 2));
    else if (what == 2)
        (void)ss_ws_send(app->loop, handle, SS_WS_PING, message, length % 126, 0);
    else if (what == 3)
        (void)ss_engine_acknowledge(app->loop, handle, length, "taken", 5);
    else if (what < 6)
        broadcast(app, message, length);
    else
        (void)ss_ws_send(app->loop, handle, SS_WS_TEXT, message, length, 0);
    free(message);
}

/* ---- what a poll tells ---- */

static void take_request(struct application *app, int64_t handle, int64_t flags) {
    struct request *request = NULL;
    int64_t *place = NULL;
    for (int at = 0; at < MOST_AT_ONCE; at++) {
        must(app->requests[at].handle != handle, "a connection has one request at a time");
        request = app->requests[at].handle ? request : &app->requests[at];
        place = ss_ws_queued(app->loop, app->sockets[at]) < 0 ? &app->sockets[at] : place;
    }
    must(request && place, "there are no more requests than connections");
    *request = (struct request){.handle = handle};
    (void)ss_conn_memoise(app->loop, handle, 0);
    (void)ss_conn_memoise(app->loop, handle, 1);
    if (flags & SS_REQUEST_UPGRADE && !one_in(app->choice, 8))
        upgrade(app, request, place);
}

/* What was not finished is aborted. */
static void give_up(struct application *app) {
    for (int at = 0; at < MOST_AT_ONCE; at++) {
        if (app->requests[at].handle)
            (void)ss_conn_abort(app->loop, app->requests[at].handle, 0);
        app->requests[at].handle = 0;
    }
}

#endif
