/* Slots: every object with a descriptor has one, and its handle names slot and generation.
 *
 * What one must know of epoll: it keys on (descriptor, open file), so an event
 * for a closed and reused number can still arrive. Every registration therefore
 * carries a handle with the generation of its slot, and an event whose
 * generation is old is dropped; that costs eight bytes a slot.
 *
 * An object whose ready bit is set and whose work is undone stands on the pending
 * list, because no further edge will come for it. */

#include "loop/loop.h"

#include <errno.h>
#include <stdlib.h>

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

int ss_io_open(ss_loop *loop, ss_io *io, int fd, const ss_class *class, int directions) {
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
                  .class = class,
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

/* Closing the last descriptor of a file removes it from epoll without a call. And
 * a number that somebody closed unasked may name another file by now. */
void ss_io_close(ss_loop *loop, ss_io *io, bool closing) {
    ss_slot *slot = &loop->slots[io->index];
    ss_pending_remove(loop, io);
    if (!closing && io->fd >= 0 && loop->owners[io->fd] == (uint64_t)ss_io_handle(io))
        loop->backend->remove(loop, io);
    slot->io = NULL;
    slot->generation = slot->generation == INT32_MAX ? 1 : slot->generation + 1;
    slot->next_free = loop->slot_free;
    loop->slot_free = io->index;
    loop->deadlines[io->index] = 0;
}

ss_io *ss_io_find(const ss_loop *loop, int64_t handle) {
    uint32_t index = (uint32_t)handle;
    if (handle < 0 || index >= loop->slot_count)
        return NULL;
    const ss_slot *slot = &loop->slots[index];
    return slot->generation == (uint32_t)((uint64_t)handle >> 32) ? slot->io : NULL;
}

void ss_slots_free(ss_loop *loop) {
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

void ss_pending_remove(ss_loop *loop, ss_io *io) {
    if (!io->pending)
        return;
    io->previous->next = io->next;
    io->next->previous = io->previous;
    io->next = io->previous = NULL;
    io->pending = false;
    loop->pending_count--;
}
