/* Time, and the deadlines of objects.
 *
 * Moving a deadline is a store, without any heap: the sweep finds those that passed, at
 * most SS_SWEEP_GRAIN late. Timers, which must be exact, are in timers.c. */

#define _GNU_SOURCE
#include "loop/loop.h"

#include <time.h>

int64_t ss_clock(const ss_loop *loop) {
    struct timespec time;
    if (loop->manual_clock)
        return loop->now;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * SS_SECOND + time.tv_nsec;
}

/* Good to a few milliseconds at a third of the cost; never before the time of this turn. */
int64_t ss_clock_coarse(const ss_loop *loop) {
    struct timespec time;
    if (loop->manual_clock)
        return loop->now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    int64_t coarse = (int64_t)time.tv_sec * SS_SECOND + time.tv_nsec;
    return coarse > loop->now ? coarse : loop->now;
}

int64_t ss_loop_now(ss_loop *loop) {
    return loop->now = ss_clock(loop);
}

void ss_loop_set_clock(ss_loop *loop, int64_t now_ns) {
    loop->manual_clock = true;
    loop->now = now_ns;
}

/* ---- deadlines ---- */

/* Moving a deadline is a store. The sweep finds those that passed; it is due
 * when the earliest that was ever set is, and it learns the true earliest. */
void ss_deadline_set(ss_loop *loop, const ss_io *io, int64_t timeout_ns) {
    int64_t when = timeout_ns ? loop->now + timeout_ns : 0;
    loop->deadlines[io->index] = when;
    if (when && when < loop->next_sweep)
        loop->next_sweep = when;
}

#define SWEEP_EVENTS 128u

void ss_deadlines_sweep(ss_loop *loop) {
    int64_t earliest = INT64_MAX;
    uint32_t budget = SWEEP_EVENTS;
    for (uint32_t index = 0; index < loop->slot_count; index++) {
        int64_t when = loop->deadlines[index];
        if (!when)
            continue;
        if (when <= loop->now && budget) {
            budget--;
            loop->deadlines[index] = 0;
            ss_io *io = loop->slots[index].io;
            if (io->class->expired)
                io->class->expired(loop, io);
            when = loop->deadlines[index]; /* it may have set another */
        }
        if (when && when < earliest)
            earliest = when;
    }
    if (earliest != INT64_MAX && earliest < loop->now + SS_SWEEP_GRAIN)
        earliest = loop->now + (earliest <= loop->now ? 0 : SS_SWEEP_GRAIN);
    loop->next_sweep = earliest;
}
