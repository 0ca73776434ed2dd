/* Self-examination (verify.c). */
#ifndef SS_API_INSPECTION_H
#define SS_API_INSPECTION_H
#include "api/loop.h"

/* NULL, or the sentence that does not hold. */
const char *ss_verify(const ss_loop *loop);
enum ss_count {
    SS_COUNT_TIMERS = 0,
    SS_COUNT_FDS,
    SS_COUNT_LISTENERS,
    SS_COUNT_CONNECTIONS,
    SS_COUNT_REQUESTS,     /* connections whose request is with Python */
    SS_COUNT_BUFFERS,      /* read buffers in use */
    SS_COUNT_SPARE_BUFFERS,
    SS_COUNT_QUEUED_BYTES, /* output queues */
    SS_COUNT_MEMO_ENTRIES,
    SS_COUNT_FILES,        /* files of which a part is still to be sent */
    SS_COUNT_ACCEPTED,     /* ever */
    SS_COUNT_POLLS,        /* ever */
    SS_COUNT_TLS,          /* connections of which Python keeps the TLS state */
    SS_COUNT_HELD_BYTES,   /* input and output buffers of connections, as allocated */
    SS_COUNT_SKIPPED,      /* recipients that broadcasts left out, ever */
    SS_COUNT_OVERLOADED,   /* WebSockets that broadcasts ended with 1013, ever */
    SS_COUNT_KINDS
};
void ss_counts(const ss_loop *loop, int64_t *counts); /* SS_COUNT_KINDS words */

#endif
