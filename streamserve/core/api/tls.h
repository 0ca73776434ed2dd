/* TLS by Python (stream/tls.c). */
#ifndef SS_API_TLS_H
#define SS_API_TLS_H
#include "api/loop.h"

enum ss_tls_want {
    SS_TLS_READ = 1,  /* take ciphertext and feed what it says; for an unknown handle: begin a handshake */
    SS_TLS_WRITE = 2, /* of a listener, whose writers are to be taken, whatever the handle: see ss_tls_writers */
    SS_TLS_ENDED = 4  /* alone: the connection is over */
};
enum ss_tls_news {
    SS_TLS_OPEN = 1,  /* the handshake is complete */
    SS_TLS_END = 2,   /* nothing more will come */
    SS_TLS_RAGGED = 4 /* with END: the peer did not say so (no close_notify) */
};
typedef struct {
    const char *data; /* valid until the next call for this connection */
    int64_t length;   /* bytes to encrypt now: 0 while ciphertext waits for the socket */
    int32_t goodbye;  /* close_notify is due behind them */
} ss_tls_plain;
/* Reads ciphertext from the socket. Returns the count, 0 at FIN, SS_WAIT, SS_BROKEN or SS_GONE. */
int64_t ss_tls_take(ss_loop *loop, int64_t conn, char *into, int64_t capacity);
/* Plaintext that has come, and news (enum ss_tls_news). */
int ss_tls_feed(ss_loop *loop, int64_t conn, const char *data, int64_t length, int news);
/* What is to be encrypted now. */
int ss_tls_peek(ss_loop *loop, int64_t conn, ss_tls_plain *plain);
/* Ciphertext, in place of the first `taken` bytes of plaintext; goodbye: close_notify is in it.
 * Shows what is to be encrypted next. */
int ss_tls_push(ss_loop *loop, int64_t conn, const char *data, int64_t length, int64_t taken, int goodbye,
                ss_tls_plain *plain);
enum { SS_TLS_WORDS = 3 }; /* of a record of ss_tls_writers */
/* Connections of a listener with plaintext to encrypt now, `most` at the most: handle, address and length of what
 * ss_tls_peek would show; length 0: it is to be asked. Python takes them until it returns 0. */
int64_t ss_tls_writers(ss_loop *loop, int listener, int64_t *records, int64_t most);
/* ss_tls_push for many: records of ss_tls_writers, whose plaintexts were encrypted whole; how long each ciphertext is,
 * 0: none, it was dealt with alone; and the ciphertexts, `length` bytes, one behind the other. */
int ss_tls_push_all(ss_loop *loop, const int64_t *records, const int64_t *lengths, int64_t count, const char *data,
                    int64_t length);
/* The peer broke TLS; an alert was pushed before. The connection ends. */
int ss_tls_fail(ss_loop *loop, int64_t conn);
/* Instead of a handshake HTTP came: answers in the clear, and ends. */
int ss_tls_refuse_plain(ss_loop *loop, int64_t conn);

#endif
