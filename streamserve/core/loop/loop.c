/* The loop: slots, handles, the pending list, deadlines, and one poll.
 *
 * What one must know of epoll: it keys on (descriptor, open file), so an event
 * for a closed and reused number can still arrive. Every registration therefore
 * carries a handle with the generation of its slot, and an event whose
 * generation is old is dropped; that costs eight bytes a slot.
 *
 * Descriptors are registered once, edge-triggered, both directions. The ready
 * bits live in ss_io. Whoever sees a short count clears the bit; whoever leaves
 * a bit set and work undone puts the object on the pending list, because no
 * further edge will come for it. A poll runs the pending list first and does
 * not block while it is not empty.
 *
 * Events and requests are written only inside ss_loop_poll: its arrays are
 * empty when it begins. Calls from Python between two polls leave work on the
 * pending list instead. */

#define _GNU_SOURCE
#include "loop/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* ---- time ---- */

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

int64_t ss_loop_entered(const ss_loop *loop) {
    return __atomic_load_n(&loop->entered, __ATOMIC_RELAXED);
}

/* ---- slots ---- */

static int slots_grow(ss_loop *loop) {
    uint32_t capacity = loop->slot_capacity ? loop->slot_capacity * 2 : 64;
    ss_slot *slots = realloc(loop->slots, capacity * sizeof *slots);
    if (!slots)
        return SS_NOMEM;
    loop->slots = slots;
    int64_t *deadlines = realloc(loop->deadlines, capacity * sizeof *deadlines);
    if (!deadlines)
        return SS_NOMEM;
    loop->deadlines = deadlines;
    loop->slot_capacity = capacity;
    return SS_OK;
}

/* Closing a number behind the loop's back lets another object register it anew. Who
 * registered last is the only one that may remove it. */
static int owners_reserve(ss_loop *loop, uint32_t fd) {
    if (fd < loop->owner_capacity)
        return SS_OK;
    uint32_t capacity = loop->owner_capacity ? loop->owner_capacity : 64;
    while (capacity <= fd)
        capacity *= 2;
    uint64_t *owners = realloc(loop->owners, capacity * sizeof *owners);
    if (!owners)
        return SS_NOMEM;
    memset(owners + loop->owner_capacity, 0, (capacity - loop->owner_capacity) * sizeof *owners);
    loop->owners = owners;
    loop->owner_capacity = capacity;
    return SS_OK;
}

int ss_io_open(ss_loop *loop, ss_io *io, int fd, enum ss_io_kind kind, int directions) {
    uint32_t index = loop->slot_free;
    if (index == SS_NOWHERE) {
        if (loop->slot_count == loop->slot_capacity && slots_grow(loop) != SS_OK)
            return SS_NOMEM;
        index = loop->slot_count;
        loop->slots[index] = (ss_slot){.io = NULL, .generation = 1, .next_free = SS_NOWHERE};
    }
    *io = (ss_io){.index = index,
                  .generation = loop->slots[index].generation,
                  .fd = fd,
                  .kind = (uint8_t)kind,
                  .directions = (uint8_t)directions};
    if (fd >= 0 && owners_reserve(loop, (uint32_t)fd) != SS_OK)
        return SS_NOMEM;
    if (loop->backend->add(loop, io) < 0) {
        loop->error = errno;
        return SS_SYSTEM; /* the slot was not taken yet */
    }
    loop->owners[fd] = (uint64_t)ss_io_handle(io);
    if (index == loop->slot_count)
        loop->slot_count++;
    else
        loop->slot_free = loop->slots[index].next_free;
    loop->slots[index].io = io;
    loop->deadlines[index] = 0;
    return SS_OK;
}

int ss_io_widen(ss_loop *loop, ss_io *io, int directions) {
    uint8_t before = io->directions;
    io->directions |= (uint8_t)directions;
    if (loop->backend->change(loop, io) < 0) {
        loop->error = errno;
        io->directions = before;
        return SS_SYSTEM;
    }
    return SS_OK;
}

static void pending_remove(ss_loop *loop, ss_io *io) {
    if (!io->pending)
        return;
    io->previous->next = io->next;
    io->next->previous = io->previous;
    io->next = io->previous = NULL;
    io->pending = false;
    loop->pending_count--;
}

/* Closing the last descriptor of a file removes it from epoll without a call. And
 * a number that somebody closed unasked may name another file by now. */
void ss_io_close(ss_loop *loop, ss_io *io, bool closing) {
    ss_slot *slot = &loop->slots[io->index];
    pending_remove(loop, io);
    if (!closing && io->fd >= 0 && loop->owners[io->fd] == (uint64_t)ss_io_handle(io))
        loop->backend->remove(loop, io);
    slot->io = NULL;
    slot->generation = slot->generation == INT32_MAX ? 1 : slot->generation + 1;
    slot->next_free = loop->slot_free;
    loop->slot_free = io->index;
    loop->deadlines[io->index] = 0;
}

ss_io *ss_io_find(const ss_loop *loop, int64_t handle, enum ss_io_kind kind) {
    uint32_t index = (uint32_t)handle;
    if (handle < 0 || index >= loop->slot_count)
        return NULL;
    const ss_slot *slot = &loop->slots[index];
    if (!slot->io || slot->generation != (uint32_t)((uint64_t)handle >> 32) || slot->io->kind != kind)
        return NULL;
    return slot->io;
}

/* ---- the pending list ---- */

void ss_pending_add(ss_loop *loop, ss_io *io) {
    if (io->pending)
        return;
    ss_io *ring = &loop->pending;
    io->previous = ring->previous;
    io->next = ring;
    ring->previous->next = io;
    ring->previous = io;
    io->pending = true;
    loop->pending_count++;
}

static void dispatch(ss_loop *loop, ss_io *io) {
    switch ((enum ss_io_kind)io->kind) {
    case SS_IO_CONN:
        ss_conn_ready(loop, (ss_conn *)io);
        break;
    case SS_IO_LISTENER:
        ss_listener_ready(loop, (ss_listener *)io);
        break;
    case SS_IO_FD:
        ss_fd_ready(loop, io);
        break;
    case SS_IO_WAKE: {
        uint64_t count;
        if (read(io->fd, &count, sizeof count) > 0)
            ss_event_emit(loop, SS_EVENT_WOKEN, 0, 0, 0);
        io->ready = 0;
        break;
    }
    }
}

/* Work that comes back onto the list waits for the next poll: one busy
 * connection cannot hold the loop. */
static void run_pending(ss_loop *loop) {
    uint32_t turns = loop->pending_count < SS_BATCH / 2 ? loop->pending_count : SS_BATCH / 2;
    while (turns-- && loop->pending.next != &loop->pending) {
        ss_io *io = loop->pending.next;
        pending_remove(loop, io);
        dispatch(loop, io);
    }
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

static void sweep(ss_loop *loop) {
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
            if (io->kind == SS_IO_CONN)
                ss_conn_expired(loop, (ss_conn *)io);
            else if (io->kind == SS_IO_LISTENER)
                ss_pending_add(loop, io);
            when = loop->deadlines[index]; /* it may have set another */
        }
        if (when && when < earliest)
            earliest = when;
    }
    if (earliest != INT64_MAX && earliest < loop->now + SS_SWEEP_GRAIN)
        earliest = loop->now + (earliest <= loop->now ? 0 : SS_SWEEP_GRAIN);
    loop->next_sweep = earliest;
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
    return !loop->timers_that_count && !loop->connections && !loop->pending_count && !loop->listeners_open &&
           !loop->tls_ended;
}

static int64_t wait_time(const ss_loop *loop, int64_t timeout_ns) {
    int64_t due = ss_timers_next(loop);
    if (loop->next_sweep < due)
        due = loop->next_sweep;
    if (loop->request_count || loop->event_count || loop->pending_count || loop->tls_ended)
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
        dispatch(loop, io);
    }
}

int64_t ss_loop_poll(ss_loop *loop, int64_t timeout_ns) {
    ss_fired fired[SS_BATCH];
    loop->request_count = loop->event_count = loop->peer_count = loop->refused_count = 0;
    loop->polls++;
    loop->polling = true;
    loop->now = ss_clock(loop);
    if (loop->pending_count)
        run_pending(loop);
    ss_timers_fire(loop);
    /* Idle or not, ss_loop_wake may have been called: that is looked at first. */
    bool idle = timeout_ns == -1 && !loop->event_count && !loop->request_count && nothing_can_happen(loop);
    int64_t timeout = idle ? 0 : wait_time(loop, timeout_ns);
    int count = wait_for_events(loop, timeout, fired);
    if (count > 0)
        dispatch_fired(loop, fired, count);
    if (timeout != 0)
        ss_timers_fire(loop);
    if (loop->now >= loop->next_sweep)
        sweep(loop);
    if (loop->tls_ended)
        ss_tls_tell_ended(loop);
    loop->polling = false;
    if (count < 0)
        return count;
    if (idle && !loop->event_count && !loop->request_count)
        return SS_IDLE;
    return ss_loop_found(loop);
}

int64_t ss_loop_found(const ss_loop *loop) {
    return (int64_t)loop->request_count | (int64_t)loop->event_count << 16;
}

int64_t *ss_loop_requests(ss_loop *loop) {
    return loop->requests;
}

int64_t *ss_loop_events(ss_loop *loop) {
    return loop->events;
}

const char *ss_loop_peers(const ss_loop *loop) {
    return loop->peers;
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

/* ---- birth and death ---- */

ss_loop *ss_loop_new(int backend) {
    ss_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return NULL;
    loop->backend = backend == SS_BACKEND_POLL ? &ss_backend_poll : &ss_backend_epoll;
    loop->backend_fd = loop->wake.fd = loop->reserve_fd = -1;
    loop->slot_free = loop->timer_free = SS_NOWHERE;
    loop->next_sweep = INT64_MAX;
    loop->pending.next = loop->pending.previous = &loop->pending;
    loop->date_second = loop->date_polls = -1;
    loop->now = ss_clock(loop);
    if (loop->backend->open(loop) < 0)
        goto fail;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        goto fail;
    if (ss_io_open(loop, &loop->wake, fd, SS_IO_WAKE, SS_READ) != SS_OK) {
        loop->wake.fd = fd;
        goto fail;
    }
    loop->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return loop;
fail:
    ss_loop_free(loop);
    return NULL;
}

/* Ends everything inside and gives the descriptors back. The structure stays: whoever
 * still holds it is answered SS_GONE. The backend goes first: a child shares the
 * parent's epoll set, and removing from it there would remove from the parent's. */
void ss_loop_abandon(ss_loop *loop) {
    loop->backend->close(loop);
    ss_listener_free_all(loop);
    for (uint32_t index = 0; index < loop->slot_count; index++) {
        ss_io *io = loop->slots[index].io;
        if (io)
            ss_io_close(loop, io, true);
        if (io && io->kind == SS_IO_FD)
            free(io);
    }
    if (loop->wake.fd >= 0)
        close(loop->wake.fd);
    if (loop->reserve_fd >= 0)
        close(loop->reserve_fd);
    loop->wake.fd = loop->reserve_fd = -1;
    ss_timers_free(loop);
    while (loop->tls_ended)
        ss_tls_tell_ended(loop);
    ss_buffers_free(loop);
    free(loop->slots);
    free(loop->owners);
    free(loop->deadlines);
    loop->slots = NULL;
    loop->owners = NULL;
    loop->owner_capacity = 0;
    loop->deadlines = NULL;
    loop->slot_count = loop->slot_capacity = 0;
    loop->slot_free = SS_NOWHERE;
    loop->next_sweep = INT64_MAX;
    loop->fds = 0;
}

void ss_loop_free(ss_loop *loop) {
    if (loop)
        ss_loop_abandon(loop);
    free(loop);
}
