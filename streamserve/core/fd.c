/* Readiness of descriptors that belong to others: cooperative sockets, pipes.
 *
 * The ready bits are believed until a system call contradicts them
 * (ss_fd_drained). Arming asks for one event; it is disarmed when it is given. */

#include "loop.h"

#include <stdlib.h>

typedef struct {
    ss_io io;
    uint8_t armed;
} fd_watch;

static void set_armed(ss_loop *loop, fd_watch *watch, unsigned armed) {
    loop->armed -= (uint32_t)__builtin_popcount(watch->armed);
    watch->armed = (uint8_t)armed;
    loop->armed += (uint32_t)__builtin_popcount(watch->armed);
}

int64_t ss_fd_open(ss_loop *loop, int fd) {
    fd_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return SS_NOMEM;
    int answer = ss_io_open(loop, &watch->io, fd, SS_IO_FD);
    if (answer != SS_OK) {
        free(watch);
        return answer;
    }
    loop->fds++;
    return ss_io_handle(&watch->io);
}

int ss_fd_close(ss_loop *loop, int64_t handle) {
    fd_watch *watch = (fd_watch *)ss_io_find(loop, handle, SS_IO_FD);
    if (!watch)
        return SS_GONE;
    set_armed(loop, watch, 0);
    ss_io_close(loop, &watch->io);
    free(watch);
    loop->fds--;
    return SS_OK;
}

int ss_fd_arm(ss_loop *loop, int64_t handle, int directions) {
    fd_watch *watch = (fd_watch *)ss_io_find(loop, handle, SS_IO_FD);
    if (!watch)
        return SS_GONE;
    int ready = watch->io.ready & directions;
    if (!ready)
        set_armed(loop, watch, watch->armed | ((unsigned)directions & (SS_READ | SS_WRITE)));
    return ready;
}

int ss_fd_disarm(ss_loop *loop, int64_t handle, int directions) {
    fd_watch *watch = (fd_watch *)ss_io_find(loop, handle, SS_IO_FD);
    if (!watch)
        return SS_GONE;
    set_armed(loop, watch, watch->armed & ~(unsigned)directions);
    return SS_OK;
}

/* After FIN or an error a read or write never waits, so those bits stay. */
int ss_fd_drained(ss_loop *loop, int64_t handle, int directions) {
    fd_watch *watch = (fd_watch *)ss_io_find(loop, handle, SS_IO_FD);
    if (!watch)
        return SS_GONE;
    unsigned kept = 0;
    if (watch->io.ready & SS_FAIL)
        kept = SS_READ | SS_WRITE;
    else if (watch->io.ready & SS_HUP)
        kept = SS_READ;
    watch->io.ready &= (uint8_t)~((unsigned)directions & (SS_READ | SS_WRITE) & ~kept);
    return SS_OK;
}

void ss_fd_ready(ss_loop *loop, ss_io *io) {
    fd_watch *watch = (fd_watch *)io;
    unsigned ready = watch->armed & io->ready;
    if (!ready)
        return;
    set_armed(loop, watch, watch->armed & ~ready);
    ss_event_emit(loop, SS_EVENT_FD, ss_io_handle(io), ready);
}
