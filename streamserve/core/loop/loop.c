/* The loop: one poll, what it reports, birth and death.
 *
 * Descriptors are registered once, edge-triggered, both directions. The ready
 * bits live in ss_io. Whoever sees a short count clears the bit; whoever leaves
 * a bit set and work undone puts the object on the pending list (slots.c). A poll
 * runs the pending list first and does not block while it is not empty.
 *
 * Events and requests are written only inside ss_loop_poll: its arrays are
 * empty when it begins. Calls from Python between two polls leave work on the
 * pending list instead. */

#define _GNU_SOURCE
#include "loop/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

int64_t ss_loop_entered(const ss_loop *loop) {
    return __atomic_load_n(&loop->entered, __ATOMIC_RELAXED);
}

/* ---- poll ---- */

/* Between two polls nobody would read it. Within one, each source is bounded so
 * that SS_EVENTS are enough (pending 128, timers 2 * 256, descriptors 256,
 * deadlines 128, two events each at most; accepts stop at half). */
void ss_event_emit(ss_loop *loop, enum ss_event kind, int listener, int64_t handle, int64_t value) {
    if (!loop->polling)
        return;
    if (loop->event_count == SS_EVENTS) {
        loop->violation = "more events in one poll than there is room for";
        return;
    }
    int64_t *words = &loop->events[loop->event_count * SS_EVENT_WORDS];
    words[0] = (int64_t)kind | (int64_t)listener << SS_EVENT_LISTENER_SHIFT;
    words[1] = handle;
    words[2] = value;
    loop->event_count++;
}

static bool nothing_can_happen(const ss_loop *loop) {
    return !loop->timers_that_count && !loop->busy && !loop->pending_count;
}

/* Work that comes back onto the list waits for the next poll: one busy
 * connection cannot hold the loop. */
static void run_pending(ss_loop *loop) {
    uint32_t turns = loop->pending_count < SS_BATCH / 2 ? loop->pending_count : SS_BATCH / 2;
    while (turns-- && loop->pending.next != &loop->pending) {
        ss_io *io = loop->pending.next;
        ss_pending_remove(loop, io);
        io->class->ready(loop, io);
    }
}

/* Is there something that Python should see at once? */
static bool reported(const ss_loop *loop) {
    return loop->request_count || loop->event_count || loop->message_count;
}

static int64_t wait_time(const ss_loop *loop, int64_t timeout_ns) {
    int64_t due = ss_timers_next(loop);
    if (loop->next_sweep < due)
        due = loop->next_sweep;
    if (reported(loop) || loop->pending_count || loop->woken)
        return 0;
    if (due != INT64_MAX) {
        int64_t left = due > loop->now ? due - loop->now : 0;
        if (timeout_ns < 0 || left < timeout_ns)
            timeout_ns = left;
    }
    return loop->manual_clock ? 0 : timeout_ns;
}

/* Waits, sets the time, and says how many descriptors fired, or SS_SYSTEM. */
static int wait_for_events(ss_loop *loop, int64_t timeout_ns, ss_fired *fired) {
    __atomic_store_n(&loop->entered, 0, __ATOMIC_RELAXED);
    int count = loop->backend->wait(loop, timeout_ns, fired, (int)(SS_BATCH - loop->request_count));
    int error = errno;
    loop->now = ss_clock(loop);
    __atomic_store_n(&loop->entered, loop->now, __ATOMIC_RELAXED);
    if (count < 0 && error == EINTR)
        return 0;
    loop->error = count < 0 ? error : loop->error;
    return count < 0 ? SS_SYSTEM : count;
}

static void dispatch_fired(ss_loop *loop, const ss_fired *fired, int count) {
    for (int i = 0; i < count; i++) {
        uint32_t index = (uint32_t)fired[i].handle;
        ss_io *io = index < loop->slot_count ? loop->slots[index].io : NULL;
        if (!io || io->generation != (uint32_t)(fired[i].handle >> 32))
            continue; /* closed since, perhaps by an earlier event of this batch */
        io->ready |= fired[i].ready;
        io->class->ready(loop, io);
    }
}

/* One look at everything. Returns what ss_loop_poll does; *again: only the core's own work was done, such as an accept
 * or the answer to a ping, and whoever waits for something to happen waits on. */
static int64_t poll_once(ss_loop *loop, int64_t timeout_ns, bool *again) {
    ss_fired fired[SS_BATCH];
    loop->request_count = loop->event_count = loop->message_count = 0;
    loop->polls++;
    loop->polling = true;
    loop->now = ss_clock(loop);
    if (loop->pending_count)
        run_pending(loop);
    ss_timers_fire(loop);
    /* Idle or not, ss_loop_wake may have been called: that is looked at first. */
    bool idle = timeout_ns == -1 && !reported(loop) && nothing_can_happen(loop);
    int64_t timeout = idle ? 0 : wait_time(loop, timeout_ns);
    int count = wait_for_events(loop, timeout, fired);
    if (count > 0)
        dispatch_fired(loop, fired, count);
    if (timeout != 0)
        ss_timers_fire(loop);
    if (loop->now >= loop->next_sweep)
        ss_deadlines_sweep(loop);
    loop->polling = false;
    if (count < 0)
        return count;
    if (reported(loop))
        return ss_loop_found(loop);
    if (loop->woken)
        return SS_WOKEN;
    if (idle)
        return SS_IDLE;
    *again = count > 0 && timeout_ns < 0;
    return 0;
}

int64_t ss_loop_poll(ss_loop *loop, int64_t timeout_ns) {
    void (*turn_ends)(ss_loop *) = loop->turn_ends;
    loop->turn_ends = NULL;
    if (turn_ends)
        turn_ends(loop);
    int64_t answer;
    bool again;
    do {
        again = false;
        answer = poll_once(loop, timeout_ns, &again);
    } while (again);
    return answer;
}

int64_t ss_loop_found(const ss_loop *loop) {
    return (int64_t)loop->request_count | (int64_t)loop->event_count << 16 | (int64_t)loop->message_count << 32;
}

int64_t *ss_loop_requests(ss_loop *loop) {
    return loop->requests;
}

int64_t *ss_loop_events(ss_loop *loop) {
    return loop->events;
}

int ss_loop_errno(const ss_loop *loop) {
    return loop->error;
}

const char *ss_loop_backend(const ss_loop *loop) {
    return loop->backend->name;
}

int ss_loop_fileno(const ss_loop *loop) {
    return loop->backend_fd;
}

/* Async-signal-safe: one write, and a full eventfd counter wakes all the same. */
void ss_loop_wake(ss_loop *loop) {
    const uint64_t one = 1;
    int saved = errno;
    if (write(loop->wake.fd, &one, sizeof one) < 0) {
        /* EAGAIN: it is awake already */
    }
    errno = saved;
}

/* ---- the descriptor that wakes ---- */

static void wake_ready(ss_loop *loop, ss_io *io) {
    uint64_t count;
    if (read(io->fd, &count, sizeof count) > 0)
        ss_event_emit(loop, SS_EVENT_WOKEN, 0, 0, 0);
    io->ready = 0;
}

static void wake_free(ss_loop *loop, ss_io *io) {
    ss_io_close(loop, io, true);
    close(io->fd);
    io->fd = -1;
}

static const ss_class wake_class = {.name = "wake", .ready = wake_ready, .free = wake_free};

/* ---- birth and death ---- */

ss_loop *ss_loop_new(int backend) {
    ss_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return NULL;
    loop->backend = backend == SS_BACKEND_POLL ? &ss_backend_poll : &ss_backend_epoll;
    loop->backend_fd = loop->wake.fd = -1;
    loop->slot_free = loop->timer_free = SS_NOWHERE;
    loop->next_sweep = INT64_MAX;
    loop->thread = pthread_self();
    loop->pending.next = loop->pending.previous = &loop->pending;
    loop->now = ss_clock(loop);
    if (loop->backend->open(loop) < 0)
        goto fail;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        goto fail;
    if (ss_io_open(loop, &loop->wake, fd, &wake_class, SS_READ) != SS_OK) {
        close(fd);
        loop->wake.fd = -1;
        goto fail;
    }
    return loop;
fail:
    ss_loop_free(loop);
    return NULL;
}

/* Ends everything inside and gives the descriptors back. The structure stays: whoever
 * still holds it is answered SS_GONE. The backend goes first: a child shares the
 * parent's epoll set, and removing from it there would remove from the parent's. */
void ss_loop_abandon(ss_loop *loop) {
    loop->turn_ends = NULL;
    loop->backend->close(loop);
    if (loop->guest)
        loop->guest->free(loop, loop->guest);
    loop->guest = NULL;
    for (uint32_t index = 0; index < loop->slot_count; index++) {
        ss_io *io = loop->slots[index].io;
        if (io)
            io->class->free(loop, io);
    }
    ss_timers_free(loop);
    ss_slots_free(loop);
}

void ss_loop_free(ss_loop *loop) {
    if (loop)
        ss_loop_abandon(loop);
    free(loop);
}
