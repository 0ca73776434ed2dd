/* What stands for Python's TLS in a fuzz target: a "cipher" that changes nothing.
 *
 * A client opens with HELLO bytes, which are answered; from then on plaintext comes in records of a length of its own,
 * and is given to the core record by record. What the core asks and is answered is as in gateway/tls.py. */
#ifndef FUZZ_CIPHER_H
#define FUZZ_CIPHER_H
#include "api/api.h"
#include "choice.h"
#include "exact.h"

enum { SESSIONS = 4, HELLO = 3, RECORD = 17, MOST_RECORDS = 64, TOGETHER = 2, WORDS = SS_TLS_WORDS };

/* TLS of one connection. */
struct session {
    int64_t handle; /* 0: it is free */
    size_t hello;   /* bytes of it that have come */
    char record[RECORD];
    size_t held; /* of a record that is not whole */
};

struct cipher {
    ss_loop *loop;
    struct choice *choice;
    struct session sessions[SESSIONS];
};

static struct session *cipher_session(struct cipher *cipher, int64_t handle) {
    for (int at = 0; at < SESSIONS; at++)
        if (cipher->sessions[at].handle == handle)
            return &cipher->sessions[at];
    return NULL;
}

static void cipher_reply(struct cipher *cipher, const struct session *session) {
    ss_tls_plain plain;
    must(ss_tls_push(cipher->loop, session->handle, "hi", 2, 0, 0, &plain) != SS_MISUSE,
         "what TLS itself says is taken");
}

static void cipher_fail(struct cipher *cipher, const struct session *session) {
    cipher_reply(cipher, session);
    (void)ss_tls_fail(cipher->loop, session->handle);
}

/* Feeds the whole records of what has come, and keeps the rest. */
static void cipher_decrypt(struct cipher *cipher, struct session *session, const char *data, size_t length, int news) {
    char plain[RECORD * MOST_RECORDS];
    memcpy(plain, session->record, session->held);
    memcpy(plain + session->held, data, length);
    size_t whole = (session->held + length) / RECORD * RECORD;
    session->held = session->held + length - whole;
    memcpy(session->record, plain + whole, session->held);
    char *exact = exact_copy(plain, whole);
    if (whole || news)
        must(ss_tls_feed(cipher->loop, session->handle, exact, (int64_t)whole, news) != SS_MISUSE,
             "plaintext is taken");
    free(exact);
}

static void cipher_take(struct cipher *cipher, struct session *session, const char *taken, size_t count) {
    size_t before = session->hello, missing = HELLO - before;
    size_t hello = count < missing ? count : missing;
    int news = hello && before + hello == HELLO ? SS_TLS_OPEN : 0;
    if (one_in(cipher->choice, 100))
        news |= SS_TLS_END;
    session->hello += hello;
    if (hello)
        cipher_reply(cipher, session);
    if (session->hello == HELLO)
        cipher_decrypt(cipher, session, taken + hello, count - hello, news);
}

static void cipher_read(struct cipher *cipher, struct session *session) {
    char taken[RECORD * (MOST_RECORDS - 1)];
    size_t capacity = 1 + choose(cipher->choice, sizeof taken);
    int64_t count = ss_tls_take(cipher->loop, session->handle, taken, (int64_t)capacity);
    if (count == SS_WAIT)
        return;
    if (count < 0 || (count == 0 && session->hello < HELLO) || one_in(cipher->choice, 100))
        cipher_fail(cipher, session);
    else if (count == 0)
        cipher_decrypt(cipher, session, "", 0, SS_TLS_END | SS_TLS_RAGGED);
    else if (!session->hello && taken[0] == 'G')
        (void)ss_tls_refuse_plain(cipher->loop, session->handle);
    else
        cipher_take(cipher, session, taken, (size_t)count);
}

/* Encrypts what a connection has to send, as long as its socket takes it. */
static void cipher_flush(struct cipher *cipher, int64_t handle) {
    const struct session *session = cipher_session(cipher, handle);
    ss_tls_plain look;
    if (!session || session->hello < HELLO || ss_tls_peek(cipher->loop, handle, &look) < 0)
        return;
    while (look.length > 0) {
        int64_t count = 1 + (int64_t)choose(cipher->choice, (size_t)look.length);
        char *exact = exact_copy(look.data, (size_t)count); /* which also reads all of it */
        int goodbye = look.goodbye && count == look.length;
        must(ss_tls_push(cipher->loop, handle, exact, count, count, goodbye, &look) != SS_MISUSE,
             "ciphertext is taken");
        free(exact);
    }
    if (look.goodbye)
        (void)ss_tls_push(cipher->loop, handle, "bye", 3, 0, 1, &look);
}

/* Those who have something to encrypt, together; of some alone. */
static void cipher_flush_all(struct cipher *cipher, int listener) {
    static char ciphertexts[1 << 20];
    int64_t records[WORDS * TOGETHER], lengths[TOGETHER], count;
    while ((count = ss_tls_writers(cipher->loop, listener, records, TOGETHER)) > 0) {
        size_t length = 0;
        for (int64_t at = 0; at < count; at++) {
            int64_t *record = records + WORDS * at;
            if (record[2] > (int64_t)(sizeof ciphertexts / TOGETHER) || one_in(cipher->choice, 4))
                record[2] = 0;
            lengths[at] = record[2];
            if (!record[2]) {
                cipher_flush(cipher, record[0]);
                continue;
            }
            memcpy(ciphertexts + length, (const char *)(intptr_t)record[1], (size_t)record[2]);
            length += (size_t)record[2];
        }
        char *exact = exact_copy(ciphertexts, length);
        must(ss_tls_push_all(cipher->loop, records, lengths, count, exact, (int64_t)length) == SS_OK, "all are taken");
        free(exact);
    }
}

/* An event of the core's. */
static void cipher_asked(struct cipher *cipher, int listener, int64_t handle, int64_t wants) {
    if (wants & SS_TLS_WRITE) {
        cipher_flush_all(cipher, listener);
        return;
    }
    struct session *session = cipher_session(cipher, handle);
    if (!session && !(wants & SS_TLS_ENDED))
        session = cipher_session(cipher, 0);
    must(session != NULL, "only what was known ends");
    session->handle = handle;
    if (wants & SS_TLS_ENDED)
        *session = (struct session){0};
    else
        cipher_read(cipher, session);
}

#endif
