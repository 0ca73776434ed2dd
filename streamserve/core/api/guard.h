/* A thread of the core's own, which ends a process whose interpreter cannot run (guard.c). */
#ifndef SS_API_GUARD_H
#define SS_API_GUARD_H

#include "api/answers.h"

typedef struct ss_guard ss_guard;

typedef struct {
    int32_t fd;            /* a socket to which each signal writes its number: it is peeked at, never read */
    int32_t report;        /* a signal whose handler shows what every thread does; 0: none */
    int64_t patience;      /* ns without a tick after which the interpreter is held to be stuck */
    int64_t graceful;      /* ns from the first signal for which it may be, unless a second comes */
    uint64_t numbers;      /* bit N: signal N counts */
} ss_guard_config;

/* Starts the thread. fd stays the caller's, and must live as long. NULL: errno says why. */
ss_guard *ss_guard_new(const ss_guard_config *config);
/* The interpreter runs; `count` signals were read from the socket, the last of them number `last` (0: none was). From the first
 * signal on this is to be called more often than the patience lasts. */
void ss_guard_tick(ss_guard *guard, int32_t count, int32_t last);
/* Ends the thread; NULL is nothing. */
void ss_guard_free(ss_guard *guard);

#endif
