/* The poll backend, for systems without epoll and as a check on it.
 *
 * poll is level-triggered; the loop wants edges. So each wait asks only for the
 * directions whose ready bit is clear, and leaves out a descriptor that has
 * nothing more to tell. The table is built anew for every wait: simple, and
 * linear in the number of descriptors. */

#define _GNU_SOURCE
#include "loop/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

typedef struct {
    struct pollfd *fds;
    uint64_t *handles;
    uint32_t capacity;
    uint32_t next; /* where the last wait stopped reporting: the next begins there */
} poll_table;

static int poll_open(ss_loop *loop) {
    loop->backend_state = calloc(1, sizeof(poll_table));
    return loop->backend_state ? 0 : -1;
}

static void poll_close(ss_loop *loop) {
    poll_table *table = loop->backend_state;
    if (!table)
        return;
    free(table->fds);
    free(table->handles);
    free(table);
    loop->backend_state = NULL;
}

/* As epoll does, this refuses what is always ready: files and directories. */
static int poll_add(ss_loop *loop, const ss_io *io) {
    (void)loop;
    struct stat status;
    if (fstat(io->fd, &status) < 0)
        return -1;
    if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) {
        errno = EPERM;
        return -1;
    }
    return 0;
}

static int poll_change(ss_loop *loop, const ss_io *io) {
    (void)loop;
    (void)io;
    return 0;
}

static void poll_remove(ss_loop *loop, const ss_io *io) {
    (void)loop;
    (void)io;
}

static int table_reserve(poll_table *table, uint32_t count) {
    if (count <= table->capacity)
        return 0;
    struct pollfd *fds = realloc(table->fds, count * 2 * sizeof *fds);
    if (!fds)
        return -1;
    table->fds = fds;
    uint64_t *handles = realloc(table->handles, count * 2 * sizeof *handles);
    if (!handles)
        return -1;
    table->handles = handles;
    table->capacity = count * 2;
    return 0;
}

static short missing(const ss_io *io) {
    unsigned directions = io->directions & ~(unsigned)io->ready;
    short events = 0;
    if (directions & SS_READ)
        events |= POLLIN | POLLRDHUP;
    if (directions & SS_READ && io->class->urgent)
        events |= POLLPRI;
    if (directions & SS_WRITE)
        events |= POLLOUT;
    if (io->class->ends_once)
        events |= POLLERR; /* whatever else is ready already */
    return io->fd < 0 || (io->class->ends_once && io->ready & SS_FAIL) ? 0 : events;
}

static uint32_t fill(const ss_loop *loop, poll_table *table) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < loop->slot_count; i++) {
        const ss_io *io = loop->slots[(i + table->next) % loop->slot_count].io;
        short events = io ? missing(io) : 0;
        if (!events)
            continue;
        table->fds[used] = (struct pollfd){.fd = io->fd, .events = events};
        table->handles[used++] = (uint64_t)ss_io_handle(io);
    }
    return used;
}

static unsigned ready_bits(const struct pollfd *fd) {
    unsigned ready = 0;
    if (fd->revents & (POLLIN | POLLPRI | POLLRDHUP | POLLHUP | POLLERR | POLLNVAL))
        ready |= SS_READ;
    if (fd->revents & (POLLOUT | POLLHUP | POLLERR | POLLNVAL))
        ready |= SS_WRITE;
    if (fd->revents & (POLLRDHUP | POLLHUP | POLLPRI))
        ready |= SS_HUP;
    if (fd->revents & (POLLHUP | POLLERR | POLLNVAL))
        ready |= SS_FAIL;
    return ready;
}

static int poll_wait_fired(ss_loop *loop, int64_t timeout_ns, ss_fired *fired, int capacity) {
    poll_table *table = loop->backend_state;
    if (!table)
        errno = EBADF; /* the loop was let go */
    if (!table || table_reserve(table, loop->slot_count) < 0)
        return -1;
    uint32_t used = fill(loop, table);
    struct timespec time = {.tv_sec = timeout_ns / SS_SECOND, .tv_nsec = timeout_ns % SS_SECOND};
    int left = ppoll(table->fds, used, timeout_ns < 0 ? NULL : &time, NULL);
    int count = 0;
    for (uint32_t i = 0; i < used && left > 0 && count < capacity; i++) {
        if (!table->fds[i].revents)
            continue;
        left--;
        fired[count++] = (ss_fired){.handle = table->handles[i], .ready = (uint8_t)ready_bits(&table->fds[i])};
        table->next = (uint32_t)table->handles[i] + 1;
    }
    return left < 0 ? left : count;
}

const ss_backend ss_backend_poll = {
    .name = "poll",
    .open = poll_open,
    .close = poll_close,
    .add = poll_add,
    .change = poll_change,
    .remove = poll_remove,
    .wait = poll_wait_fired,
};
