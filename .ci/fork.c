/* fork() for programs under AddressSanitizer: gives a child that can allocate. Preloaded by .ci/asan.

   The allocator of GCC 12's libasan does not take its locks before a fork. What another thread holds of them at that
   moment (it starts, ends, or fetches memory) stays locked in the child, which then waits for ever: one child in 260
   where two threads start threads all the time. So a child first uses what is behind those locks, and says that it
   could; one that could not is ended, and another one is made. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    TRIES = 10,
    PATIENCE = 5000,  /* milliseconds; a child needs about 10 */
    LARGEST = 65536,  /* bytes; a size of which a thread's cache holds nothing */
    MOST_AT_ONCE = 256,
};

static pid_t (*plain_fork)(void);

__attribute__((constructor)) static void find_fork(void) {
    *(void **)&plain_fork = dlsym(RTLD_NEXT, "fork");
}

static void *nothing(void *argument) {
    return argument;
}

/* Takes more memory of each size than a thread keeps, frees more than it collects, and starts a thread. */
static void use_all_locks(void) {
    void *taken[MOST_AT_ONCE];
    for (size_t size = 16; size <= LARGEST; size += size < 256 ? 16 : size / 4) {
        size_t count = 0;
        while (count < MOST_AT_ONCE && (count < 4 || count * size < 2 * LARGEST))
            taken[count++] = malloc(size);
        while (count)
            free(taken[--count]);
    }
    pthread_t thread;
    if (!pthread_create(&thread, NULL, nothing, NULL))
        pthread_join(thread, NULL);
}

/* Whether the child said that it could, or has ended; 0: it waits for ever. */
static int could(int reader) {
    struct pollfd said = {.fd = reader, .events = POLLIN};
    int found;
    do
        found = poll(&said, 1, PATIENCE);
    while (found < 0 && errno == EINTR);
    return found != 0;
}

pid_t fork(void) {
    for (int tries = 1;; tries++) {
        int ends[2];
        if (tries == TRIES || pipe2(ends, O_CLOEXEC))
            return plain_fork();
        pid_t pid = plain_fork();
        int before = errno;
        if (!pid) {
            close(ends[0]);
            use_all_locks();
            while (write(ends[1], "", 1) < 0 && errno == EINTR)
                continue;
            close(ends[1]);
            errno = before;
            return 0;
        }
        close(ends[1]);
        int fine = pid < 0 || could(ends[0]);
        close(ends[0]);
        errno = before;
        if (fine)
            return pid;
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
}
