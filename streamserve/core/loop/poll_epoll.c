/* The epoll backend: edge-triggered, both directions, one epoll_ctl for the
 * life of a descriptor. */

#define _GNU_SOURCE
#include "loop/loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int epoll_open(ss_loop *loop) {
    loop->backend_fd = epoll_create1(EPOLL_CLOEXEC);
    return loop->backend_fd;
}

static void epoll_close(ss_loop *loop) {
    if (loop->backend_fd >= 0)
        close(loop->backend_fd);
    loop->backend_fd = -1;
}

static struct epoll_event wanted(const ss_io *io) {
    struct epoll_event event = {.events = EPOLLET, .data.u64 = (uint64_t)ss_io_handle(io)};
    if (io->directions & SS_READ)
        event.events |= EPOLLIN;
    if (io->directions & SS_WRITE)
        event.events |= EPOLLOUT;
    if (io->class->hang_up)
        event.events |= EPOLLRDHUP;
    if (io->class->urgent)
        event.events |= EPOLLPRI;
    return event;
}

static int epoll_add(ss_loop *loop, const ss_io *io) {
    struct epoll_event event = wanted(io);
    return epoll_ctl(loop->backend_fd, EPOLL_CTL_ADD, io->fd, &event);
}

/* This also reports what is ready now, as an edge. */
static int epoll_change(ss_loop *loop, const ss_io *io) {
    struct epoll_event event = wanted(io);
    return epoll_ctl(loop->backend_fd, EPOLL_CTL_MOD, io->fd, &event);
}

static void epoll_remove(ss_loop *loop, const ss_io *io) {
    struct epoll_event unused = {0};
    epoll_ctl(loop->backend_fd, EPOLL_CTL_DEL, io->fd, &unused);
}

/* epoll_pwait2 keeps nanoseconds (Linux 5.11); epoll_wait rounds up to a
 * millisecond, so that a timer never fires early. */
static int wait_ns(int fd, struct epoll_event *events, int capacity, int64_t timeout_ns) {
#ifdef SYS_epoll_pwait2
    if (timeout_ns > 0) {
        struct timespec time = {.tv_sec = timeout_ns / SS_SECOND, .tv_nsec = timeout_ns % SS_SECOND};
        long count = syscall(SYS_epoll_pwait2, fd, events, capacity, &time, NULL, 0);
        if (count >= 0 || (errno != ENOSYS && errno != EPERM))
            return (int)count;
    }
#endif
    int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000;
    return epoll_wait(fd, events, capacity, ms > 3600000 ? 3600000 : (int)ms);
}

static int epoll_wait_fired(ss_loop *loop, int64_t timeout_ns, ss_fired *fired, int capacity) {
    struct epoll_event events[SS_BATCH];
    int count = wait_ns(loop->backend_fd, events, capacity, timeout_ns);
    for (int i = 0; i < count; i++) {
        uint32_t mask = events[i].events;
        unsigned ready = 0;
        if (mask & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            ready |= SS_READ;
        if (mask & (EPOLLOUT | EPOLLHUP | EPOLLERR))
            ready |= SS_WRITE;
        if (mask & (EPOLLRDHUP | EPOLLHUP | EPOLLPRI))
            ready |= SS_HUP;
        if (mask & (EPOLLHUP | EPOLLERR))
            ready |= SS_FAIL;
        fired[i] = (ss_fired){.handle = events[i].data.u64, .ready = (uint8_t)ready};
    }
    return count;
}

const ss_backend ss_backend_epoll = {
    .name = "epoll",
    .edges = true,
    .open = epoll_open,
    .close = epoll_close,
    .add = epoll_add,
    .change = epoll_change,
    .remove = epoll_remove,
    .wait = epoll_wait_fired,
};
