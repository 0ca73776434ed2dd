/* The end of a process whose interpreter cannot run: a call of C holds the GIL and does not come back.
 *
 * No thread of Python's can notice that, nor any signal's function. But a signal still
 * writes its number to Python's wake-up socket (signal.set_wakeup_fd), in its handler in C,
 * and this thread looks at that socket. From the first signal that asks for the end it expects
 * ticks of a Python thread. Without one for longer than its patience, the process ends: after a
 * second signal, or once a graceful stop would have been over.
 *
 * Before the end it raises a signal whose handler needs no GIL either (faulthandler's): it shows the
 * stacks. This thread blocks every signal, so that others handle them. It holds no lock, and nothing
 * of Python's. */

#define _GNU_SOURCE
#include "api/guard.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 100      /* between two looks while signals lie there */
#define REPORT_NS 500000000 /* for the handler that shows the stacks */
#define SECOND INT64_C(1000000000)

struct ss_guard {
    ss_guard_config config;
    pthread_t thread;
    int wake;      /* eventfd: a tick with signals, or the stop */
    int32_t stop;  /* atomic, like all that follow */
    int32_t read;  /* signals that count, which others took from the socket */
    int32_t last;  /* the number of the last of these */
    int64_t ticked; /* when the interpreter was seen to run */
};

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * SECOND + time.tv_nsec;
}

/* How many signals that count lie unread; *last is the number of the last. */
static int unread(const ss_guard *guard, int *last) {
    unsigned char numbers[256];
    int count = 0;
    ssize_t length = recv(guard->config.fd, numbers, sizeof numbers, MSG_PEEK | MSG_DONTWAIT);
    for (ssize_t i = 0; i < length; i++) {
        if (numbers[i] >= 64 || !(guard->config.numbers >> numbers[i] & 1))
            continue;
        count++;
        *last = numbers[i];
    }
    return count;
}

static void end(const ss_guard *guard, int number) {
    static const char text[] = "streamserve: the interpreter cannot run, a call of C holds its lock: ending at once\n";
    const struct timespec pause = {.tv_nsec = REPORT_NS};
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) {
        /* nobody is left to tell */
    }
    if (guard->config.report)
        kill(getpid(), guard->config.report);
    nanosleep(&pause, NULL);
    _exit(128 + number);
}

/* Waits for something to look at: a tick, the stop, and before the first signal for that. */
static void await(const ss_guard *guard, bool asked) {
    struct pollfd fds[2] = {{.fd = guard->wake, .events = POLLIN}, {.fd = guard->config.fd, .events = POLLIN}};
    uint64_t count;
    poll(fds, asked ? 1 : 2, asked ? LOOK_MS : -1);
    if (fds[0].revents && read(guard->wake, &count, sizeof count) < 0) {
        /* EAGAIN: another look took it */
    }
}

static void *run(void *argument) {
    ss_guard *guard = argument;
    int64_t asked = 0; /* when the first signal was seen; 0: none was */
    while (!__atomic_load_n(&guard->stop, __ATOMIC_ACQUIRE)) {
        int last = __atomic_load_n(&guard->last, __ATOMIC_RELAXED);
        int count = __atomic_load_n(&guard->read, __ATOMIC_RELAXED) + unread(guard, &last);
        int64_t ticked = __atomic_load_n(&guard->ticked, __ATOMIC_RELAXED);
        asked = count && !asked ? now() : asked;
        bool stuck = asked && now() - (ticked > asked ? ticked : asked) > guard->config.patience;
        if (stuck && (count > 1 || now() - asked > guard->config.graceful))
            end(guard, last);
        await(guard, asked != 0);
    }
    return NULL;
}

static int start(ss_guard *guard) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread inherits it */
    int error = pthread_create(&guard->thread, NULL, run, guard);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

ss_guard *ss_guard_new(const ss_guard_config *config) {
    ss_guard *guard = calloc(1, sizeof *guard);
    if (!guard)
        return NULL;
    guard->config = *config;
    guard->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (guard->wake < 0)
        goto fail;
    int error = start(guard);
    if (error) {
        errno = error;
        goto fail;
    }
    return guard;
fail:
    if (guard->wake >= 0)
        close(guard->wake);
    free(guard);
    return NULL;
}

static void wake(const ss_guard *guard) {
    const uint64_t one = 1;
    while (write(guard->wake, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

void ss_guard_tick(ss_guard *guard, int32_t count, int32_t last) {
    __atomic_store_n(&guard->ticked, now(), __ATOMIC_RELAXED);
    if (!count)
        return;
    __atomic_store_n(&guard->last, last, __ATOMIC_RELAXED);
    __atomic_fetch_add(&guard->read, count, __ATOMIC_RELAXED);
    wake(guard);
}

void ss_guard_free(ss_guard *guard) {
    if (!guard)
        return;
    __atomic_store_n(&guard->stop, 1, __ATOMIC_RELEASE);
    wake(guard);
    pthread_join(guard->thread, NULL);
    close(guard->wake);
    free(guard);
}
