/* Readiness of descriptors that belong to others: cooperative sockets, pipes.
 *
 * Every edge is one event; whoever tries the system call after the last edge
 * that it knows of and finds nothing waits for the next. So nothing is asked of
 * the core, or of the kernel, between two waits. Only a backend that is not made
 * of edges must be told (ss_fd_drained), and the one that only ends polls. */

#include "loop/loop.h"

#include <stdlib.h>
#include <sys/ioctl.h>

typedef struct {
    ss_io io;
    bool quiet;
} fd_watch;

static void fd_ready(ss_loop *loop, ss_io *io) {
    const fd_watch *watch = (fd_watch *)io;
    unsigned ready = io->ready;
    if (loop->backend->edges)
        io->ready = 0; /* the next edge tells anew */
    if (watch->quiet)
        loop->woken = true;
    else
        ss_event_emit(loop, SS_EVENT_FD, 0, ss_io_handle(io), ready);
}

static void fd_free(ss_loop *loop, ss_io *io) {
    ss_io_close(loop, io, true);
    free(io);
    loop->fds--;
}

static const ss_class fd_class = {
    .name = "descriptor", .ready = fd_ready, .free = fd_free, .hang_up = true, .urgent = true};

static fd_watch *find(const ss_loop *loop, int64_t handle) {
    ss_io *io = ss_io_find(loop, handle);
    return io && io->class == &fd_class ? (fd_watch *)io : NULL;
}

int64_t ss_fd_open(ss_loop *loop, int fd, int directions) {
    fd_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return SS_NOMEM;
    watch->quiet = !(directions & (SS_READ | SS_WRITE));
    int answer = ss_io_open(loop, &watch->io, fd, &fd_class, watch->quiet ? SS_READ : directions);
    if (answer != SS_OK) {
        free(watch);
        return answer;
    }
    loop->fds++;
    return ss_io_handle(&watch->io);
}

int ss_fd_close(ss_loop *loop, int64_t handle, int closing) {
    fd_watch *watch = find(loop, handle);
    if (!watch)
        return SS_GONE;
    loop->woken = loop->woken && !watch->quiet;
    ss_io_close(loop, &watch->io, closing);
    free(watch);
    loop->fds--;
    return SS_OK;
}

int ss_fd_widen(ss_loop *loop, int64_t handle, int directions) {
    fd_watch *watch = find(loop, handle);
    if (!watch)
        return SS_GONE;
    loop->woken = loop->woken && !watch->quiet;
    watch->quiet = false;
    return ss_io_widen(loop, &watch->io, directions);
}

int ss_fd_drained(ss_loop *loop, int64_t handle, int directions) {
    fd_watch *watch = find(loop, handle);
    if (!watch)
        return SS_GONE;
    watch->io.ready &= (uint8_t)~(unsigned)directions;
    loop->woken = loop->woken && !watch->quiet;
    return SS_OK;
}

int ss_fd_unread(int fd) {
    int count;
    return ioctl(fd, FIONREAD, &count) < 0 ? SS_SYSTEM : count;
}
