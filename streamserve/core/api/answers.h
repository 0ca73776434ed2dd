/* What functions of the core answer.
 *
 * Words used in this folder:
 *   handle   63-bit integer, generation << 32 | index. A handle whose object
 *            was closed is recognised: calls on it answer SS_GONE.
 *   now      monotonic time in integer nanoseconds.
 *   span     32-bit offset and length into a buffer that the caller holds. */
#ifndef SS_API_ANSWERS_H
#define SS_API_ANSWERS_H

#include <stddef.h>
#include <stdint.h>

enum ss_answer {
    SS_OK = 0,        /* a result is there */
    SS_NEED_DATA = 1, /* call again with more bytes, or park until told */
    SS_ERROR = 2      /* it failed; the reason is in the object */
};

/* Negative answers of functions that return a count or a handle. */
enum ss_failure {
    SS_GONE = -1,    /* no such object: closed, or its number is reused */
    SS_WAIT = -2,    /* nothing yet: park until the event arrives */
    SS_BROKEN = -3,  /* the peer is gone, or broke the protocol or a deadline */
    SS_NOMEM = -4,   /* out of memory */
    SS_SYSTEM = -5,  /* a system call failed; ss_loop_errno() tells which error */
    SS_IDLE = -6,    /* ss_loop_poll: nothing can ever happen */
    SS_MISUSE = -7,  /* the call does not fit the state of the object */
    SS_ELSEWHERE = -8, /* another thread polls the loop: ask there */
    SS_WOKEN = -9    /* ss_loop_poll: nothing, but a descriptor without directions is ready */
};

#endif
