/* The loop: its poll, timers, and the readiness of any descriptor. */
#ifndef SS_API_LOOP_H
#define SS_API_LOOP_H
#include "api/answers.h"

typedef struct ss_loop ss_loop;

enum ss_backend_id { SS_BACKEND_EPOLL = 0, SS_BACKEND_POLL = 1 };

/* What ss_loop_poll reports besides requests: three words each
 * [kind | listener << SS_EVENT_LISTENER_SHIFT, handle, value]. The first three kinds
 * are no listener's: there the first word is the kind alone. The others are about a
 * listener or a connection of it, whose handle it is then. */
enum ss_event {
    SS_EVENT_TIMER = 1,  /* handle: the timer's slot */
    SS_EVENT_FD,         /* handle: of ss_fd_open; value: what is ready, SS_READ | SS_WRITE | SS_HUP | SS_FAIL */
    SS_EVENT_WOKEN,      /* another thread or a signal handler called ss_loop_wake */
    SS_EVENT_ACCEPTED,   /* of a raw listener. handle: the new fd, owned by the reader; value: its peer's place */
    SS_EVENT_BODY,       /* a connection whose ss_conn_read said SS_WAIT: read again */
    SS_EVENT_DRAINED,    /* a connection whose output queue fell below low water */
    SS_EVENT_REFUSED,    /* handle: of the peer, for ss_loop_refused; value: enum ss_refusal; it is answered */
    SS_EVENT_ACCEPT_FAILED, /* value: errno; accepting pauses for a second */
    SS_EVENT_TLS,           /* a connection of a listener with TLS; value: enum ss_tls_want */
    SS_EVENT_LEFT           /* a connection whose request is with Python: its client has left */
};
#define SS_EVENT_LISTENER_SHIFT 8
#define SS_READ 1
#define SS_WRITE 2
#define SS_HUP 4  /* the peer sent FIN, or urgent data is there: a short count does not mean drained */
#define SS_FAIL 8 /* error, or both directions are shut */
#define SS_EVENT_WORDS 3
#define SS_BATCH 256        /* most requests of one poll */
#define SS_EVENTS 4096      /* most events of one poll */
#define SS_PEERS 256        /* most connections that raw listeners accept in one poll */
#define SS_PEER_BYTES 32    /* of each one's address */
#define SS_REFUSED_PEERS 256 /* most refusals of one poll whose peers are remembered */
#define SS_REFUSED_LINE 512  /* most bytes of the first line of each of their requests */
#define SS_REFUSED_TEXT 16384 /* bytes of all those lines */

ss_loop *ss_loop_new(int backend);
void ss_loop_free(ss_loop *loop);
const char *ss_loop_backend(const ss_loop *loop);
/* Waits at most timeout_ns (-1: until something happens, or not at all if nothing
 * can; -2: until something happens, if only to a descriptor; 0: not at all) and
 * fills the two arrays of ss_loop_requests and ss_loop_events. Returns
 * requests | events << 16, or SS_IDLE, SS_WOKEN or SS_SYSTEM. A signal interrupts the
 * wait, but that is not seen if something is dealt with at the same time: so signals
 * also write to a descriptor without directions, which is SS_WOKEN. What the core does
 * by itself, such as an accept, does not end one without a limit. */
int64_t ss_loop_poll(ss_loop *loop, int64_t timeout_ns);
/* What the last ss_loop_poll returned, if it did not fail: for a caller that lost it. */
int64_t ss_loop_found(const ss_loop *loop);
int64_t *ss_loop_requests(ss_loop *loop); /* SS_BATCH * SS_REQUEST_WORDS words */
int64_t *ss_loop_events(ss_loop *loop);   /* SS_EVENTS * SS_EVENT_WORDS words */
/* SS_PEERS * SS_PEER_BYTES: the sockaddr of each peer of the last poll that SS_EVENT_ACCEPTED
 * counts, cut off to that length (a unix socket's is not to be had here). */
const char *ss_loop_peers(ss_loop *loop);
/* The peer that an SS_EVENT_REFUSED of the last poll counts, as of ss_conn_address: its
 * connection may be gone already. SS_GONE: there were too many. */
int ss_loop_refused(const ss_loop *loop, int64_t peer, char *text, int capacity);
/* The first line of its request, without an end, as far as it came and was kept; 0: none. */
int ss_loop_refused_line(const ss_loop *loop, int64_t peer, char *text, int capacity);
int ss_loop_errno(const ss_loop *loop);
/* From any thread or signal handler. */
void ss_loop_wake(ss_loop *loop);
int64_t ss_loop_now(ss_loop *loop);    /* reads the clock */
/* From now on time stands at now_ns and moves only by this call (tests). */
void ss_loop_set_clock(ss_loop *loop, int64_t now_ns);
/* When ss_loop_poll last returned to its caller, 0 while it waits: a watchdog
 * in another thread reads it. */
int64_t ss_loop_entered(const ss_loop *loop);
int ss_loop_fileno(const ss_loop *loop); /* the backend's own descriptor, -1 if none */
/* Ends everything inside: connections, listeners, timers, descriptors. The loop itself
 * stays until ss_loop_free, and answers SS_GONE to those that still ask it. In a child
 * after fork it leaves the parent's registrations alone. */
void ss_loop_abandon(ss_loop *loop);

/* ---- timers (loop/timers.c) ---- */

/* Returns a slot >= 0; the slot is free again once the timer fired or stopped.
 * `counts` 0: the timer alone does not keep the loop from being idle. */
int64_t ss_timer_start(ss_loop *loop, int64_t delay_ns, int counts);
void ss_timer_stop(ss_loop *loop, int64_t slot);

/* ---- readiness of any descriptor (loop/fd.c) ---- */

/* Registers fd, once; it stays the caller's. Each edge of the directions
 * (SS_READ | SS_WRITE) is an SS_EVENT_FD; with directions 0 no poll waits while
 * there is something to read, until ss_fd_drained. Returns a handle or SS_SYSTEM (a regular file:
 * EPERM, registered already: EEXIST). */
int64_t ss_fd_open(ss_loop *loop, int fd, int directions);
/* closing: the fd itself is closed right after, or was. */
int ss_fd_close(ss_loop *loop, int64_t handle, int closing);
/* From now on of these directions too; what is ready now comes as an edge. SS_SYSTEM on failure. */
int ss_fd_widen(ss_loop *loop, int64_t handle, int directions);
/* A system call found these directions not ready. Where the backend is made of edges
 * (epoll) only a descriptor without directions needs it; others report a direction once
 * until then. */
int ss_fd_drained(ss_loop *loop, int64_t handle, int directions);
/* Bytes that a socket has received and nobody has read, of any descriptor; SS_SYSTEM: it cannot be asked. */
int ss_fd_unread(int fd);

#endif
