/* The inside of the loop: slots, readiness, deadlines, timers, and what a poll reports.
 *
 * It knows no guest. A descriptor has a class, which says what is done when it is ready,
 * when its deadline passed, and when the loop ends. What guests share hangs on one pointer. */
#ifndef SS_LOOP_H
#define SS_LOOP_H

#include "api/api.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define SS_SECOND INT64_C(1000000000)
#define SS_SWEEP_GRAIN (SS_SECOND / 10) /* how late a deadline may be found */

/* ---- anything with a descriptor ---- */

typedef struct ss_io ss_io;

/* What kind of thing it is. Each function may free the object. */
typedef struct {
    const char *name;
    void (*ready)(ss_loop *loop, ss_io *io);   /* its ready bits changed, or it stood on the pending list */
    void (*expired)(ss_loop *loop, ss_io *io); /* its deadline passed; NULL: it sets none */
    void (*free)(ss_loop *loop, ss_io *io);    /* the loop ends */
    bool hang_up;   /* the backend is asked for the peer's FIN... */
    bool urgent;    /* ...and for urgent data */
    bool ends_once; /* after an error it has nothing more to tell */
    bool stream;    /* it begins with an ss_stream */
} ss_class;

struct ss_io {
    ss_io *next, *previous; /* in the pending list, when `pending` */
    const ss_class *class;
    uint32_t index;      /* its slot */
    uint32_t generation; /* of the slot when this object took it */
    int fd;
    uint8_t directions; /* SS_READ | SS_WRITE: what the backend is asked for */
    uint8_t ready;      /* remembered readiness: set by the backend, cleared by short counts */
    bool pending;
};

typedef struct {
    ss_io *io; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
} ss_slot;

typedef struct {
    uint64_t handle;
    uint8_t ready;
} ss_fired;

/* The few functions that a backend is. Readiness is edge-like for the loop: a
 * backend may report a direction again only after its ready bit was cleared. */
typedef struct {
    const char *name;
    bool edges; /* false: it must be told when a direction is not ready any more */
    int (*open)(ss_loop *loop);
    void (*close)(ss_loop *loop);
    int (*add)(ss_loop *loop, const ss_io *io);
    int (*change)(ss_loop *loop, const ss_io *io); /* io->directions did */
    void (*remove)(ss_loop *loop, const ss_io *io);
    int (*wait)(ss_loop *loop, int64_t timeout_ns, ss_fired *fired, int capacity);
} ss_backend;
extern const ss_backend ss_backend_epoll;
extern const ss_backend ss_backend_poll;

/* ---- the loop ---- */

/* What the guests of a loop share: made by the first of them, freed with the loop. */
typedef struct ss_guest {
    void (*free)(ss_loop *loop, struct ss_guest *guest); /* also every object of theirs that is left */
} ss_guest;

typedef struct {
    int64_t when;
    uint32_t slot;
} ss_heap_item;

typedef struct {
    uint32_t position; /* in the heap, SS_NOWHERE: free */
    uint32_t next_free;
    bool counts;
} ss_timer_slot;
#define SS_NOWHERE UINT32_MAX

struct ss_loop {
    const ss_backend *backend;
    void *backend_state;
    int backend_fd;
    int error; /* errno of the last SS_SYSTEM */

    int64_t now;     /* the time that this turn goes by */
    int64_t entered; /* see ss_loop_entered; written and read atomically */
    pthread_t thread; /* that made it, and polls it */
    bool manual_clock;
    bool woken;   /* a descriptor without directions is ready: no poll waits until it was drained */
    bool polling; /* inside ss_loop_poll: events may be emitted */

    ss_slot *slots;
    uint64_t *owners; /* by descriptor: the handle that registered it last */
    uint32_t owner_capacity;
    int64_t *deadlines; /* beside slots; 0: none */
    uint32_t slot_count, slot_capacity, slot_free;
    int64_t next_sweep; /* no deadline passes before; INT64_MAX: none */

    ss_io wake;
    ss_io pending; /* head of the ring of objects with work left over */
    uint32_t pending_count;
    uint32_t busy; /* objects that keep the loop from being idle: listeners, connections */
    uint32_t fds;  /* descriptors that others watch (fd.c) */

    ss_heap_item *heap;
    uint32_t heap_count, heap_capacity;
    ss_timer_slot *timers;
    uint32_t timer_count, timer_capacity, timer_free;
    uint32_t timers_that_count;

    ss_guest *guest;       /* owned; NULL: none came */
    const char *violation; /* what a guest did that its rules do not allow, for ss_verify */

    void (*turn_ends)(ss_loop *loop); /* called once, when the next poll begins; NULL: nothing was put off till then */
    int64_t polls; /* ever: also the name of the poll that runs, or ran last */
    uint32_t request_count, event_count, message_count;
    int64_t requests[SS_BATCH * SS_REQUEST_WORDS];
    int64_t events[SS_EVENTS * SS_EVENT_WORDS];
};

static inline int64_t ss_io_handle(const ss_io *io) {
    return (int64_t)((uint64_t)io->generation << 32 | io->index);
}

/* slots.c */
int ss_io_open(ss_loop *loop, ss_io *io, int fd, const ss_class *class, int directions);
int ss_io_widen(ss_loop *loop, ss_io *io, int directions);
void ss_io_close(ss_loop *loop, ss_io *io, bool closing); /* closing: the fd itself is closed right after */
ss_io *ss_io_find(const ss_loop *loop, int64_t handle); /* of any class; NULL: gone */
void ss_slots_free(ss_loop *loop);
void ss_pending_add(ss_loop *loop, ss_io *io);
void ss_pending_remove(ss_loop *loop, ss_io *io);

/* May be asked in any thread. */
static inline bool ss_loop_is_elsewhere(const ss_loop *loop) {
    return !pthread_equal(loop->thread, pthread_self());
}

/* deadlines.c */
void ss_deadline_set(ss_loop *loop, const ss_io *io, int64_t timeout_ns); /* 0: none */
void ss_deadlines_sweep(ss_loop *loop);
int64_t ss_clock(const ss_loop *loop);
int64_t ss_clock_coarse(const ss_loop *loop);

/* loop.c */
void ss_event_emit(ss_loop *loop, enum ss_event kind, int listener, int64_t handle, int64_t value);

/* timers.c */
void ss_timers_fire(ss_loop *loop);
void ss_timers_free(ss_loop *loop);
int64_t ss_timers_next(const ss_loop *loop); /* when the next one is due, INT64_MAX: never */

#endif
