/* Timers: a four-way heap of (when, slot), and slots that know their place in
 * it, so that stopping is as cheap as starting. */

#include "loop/loop.h"

#include <stdlib.h>

#define ARITY 4u
#define FIRED_AT_ONCE 256u /* most timer events of one pass; the rest come with the next */

static void place(ss_loop *loop, uint32_t position, ss_heap_item item) {
    loop->heap[position] = item;
    loop->timers[item.slot].position = position;
}

static void sift_up(ss_loop *loop, uint32_t position, ss_heap_item item) {
    while (position > 0) {
        uint32_t parent = (position - 1) / ARITY;
        if (loop->heap[parent].when <= item.when)
            break;
        place(loop, position, loop->heap[parent]);
        position = parent;
    }
    place(loop, position, item);
}

static void sift_down(ss_loop *loop, uint32_t position, ss_heap_item item) {
    for (;;) {
        uint32_t first = position * ARITY + 1;
        uint32_t last = first + ARITY < loop->heap_count ? first + ARITY : loop->heap_count;
        uint32_t least = position;
        int64_t when = item.when;
        for (uint32_t child = first; child < last; child++) {
            if (loop->heap[child].when < when) {
                when = loop->heap[child].when;
                least = child;
            }
        }
        if (least == position)
            break;
        place(loop, position, loop->heap[least]);
        position = least;
    }
    place(loop, position, item);
}

static int slot_take(ss_loop *loop, uint32_t *slot) {
    if (loop->timer_free != SS_NOWHERE) {
        *slot = loop->timer_free;
        loop->timer_free = loop->timers[*slot].next_free;
        return SS_OK;
    }
    if (loop->timer_count == loop->timer_capacity) {
        uint32_t capacity = loop->timer_capacity ? loop->timer_capacity * 2 : 64;
        ss_timer_slot *timers = realloc(loop->timers, capacity * sizeof *timers);
        if (!timers)
            return SS_NOMEM;
        loop->timers = timers;
        ss_heap_item *heap = realloc(loop->heap, capacity * sizeof *heap);
        if (!heap)
            return SS_NOMEM;
        loop->heap = heap;
        loop->timer_capacity = loop->heap_capacity = capacity;
    }
    *slot = loop->timer_count++;
    return SS_OK;
}

int64_t ss_timer_start(ss_loop *loop, int64_t delay_ns, int counts) {
    uint32_t slot;
    if (slot_take(loop, &slot) != SS_OK)
        return SS_NOMEM;
    int64_t now = ss_clock(loop);
    if (delay_ns < 0)
        delay_ns = 0;
    int64_t when = delay_ns > INT64_MAX - now ? INT64_MAX : now + delay_ns;
    loop->timers[slot].counts = counts != 0;
    loop->timers_that_count += counts != 0;
    sift_up(loop, loop->heap_count++, (ss_heap_item){.when = when, .slot = slot});
    return slot;
}

static void remove_at(ss_loop *loop, uint32_t position) {
    uint32_t slot = loop->heap[position].slot;
    ss_heap_item last = loop->heap[--loop->heap_count];
    if (position < loop->heap_count) {
        if (position > 0 && last.when < loop->heap[(position - 1) / ARITY].when)
            sift_up(loop, position, last);
        else
            sift_down(loop, position, last);
    }
    loop->timers_that_count -= loop->timers[slot].counts;
    loop->timers[slot] = (ss_timer_slot){.position = SS_NOWHERE, .next_free = loop->timer_free};
    loop->timer_free = slot;
}

void ss_timer_stop(ss_loop *loop, int64_t slot) {
    if (slot < 0 || slot >= loop->timer_count || loop->timers[slot].position == SS_NOWHERE)
        return;
    remove_at(loop, loop->timers[slot].position);
}

int64_t ss_timers_next(const ss_loop *loop) {
    return loop->heap_count ? loop->heap[0].when : INT64_MAX;
}

void ss_timers_fire(ss_loop *loop) {
    uint32_t fired = 0;
    while (loop->heap_count && loop->heap[0].when <= loop->now && fired++ < FIRED_AT_ONCE) {
        uint32_t slot = loop->heap[0].slot;
        remove_at(loop, 0);
        ss_event_emit(loop, SS_EVENT_TIMER, 0, slot, 0);
    }
}

void ss_timers_free(ss_loop *loop) {
    free(loop->heap);
    free(loop->timers);
    loop->heap = NULL;
    loop->timers = NULL;
    loop->heap_count = loop->heap_capacity = loop->timer_count = loop->timer_capacity = loop->timers_that_count = 0;
    loop->timer_free = SS_NOWHERE;
}
