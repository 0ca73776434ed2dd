/* TLS as a transport: where the bytes of a stream pass through Python's.
 *
 * The core knows no cipher. A stream of a TLS listener has an ss_tls, and
 * asks Python by SS_EVENT_TLS when ciphertext has come and somebody wants bytes
 * (SS_TLS_READ), or when plaintext is to leave (SS_TLS_WRITE). Python takes
 * ciphertext from the socket (ss_tls_take) and gives plaintext (ss_tls_feed)
 * into the read buffer, where it meets the same parser, states and deadlines as
 * bytes that came in the clear. What the core sends waits as plaintext in the
 * stream's output queue; Python looks at it (ss_tls_peek) and gives the
 * ciphertext for it (ss_tls_push), which is sent, or queued here.
 *
 * Back-pressure: ciphertext is taken only when the plaintext before it is used
 * up, plaintext only when the ciphertext before it is sent. So either queue is
 * bounded by one step of Python's, whatever the peer does.
 *
 * Python is asked once until it has answered. Between two polls nobody would
 * read the event: there the question waits on the pending list. So does what Python's
 * answers mean for the protocol above: its turn comes with the next poll.
 *
 * Those who have something to encrypt are one list, and one event for each listener: a
 * broadcast makes writers of a thousand connections at once, which Python takes together
 * (ss_tls_writers) and answers together (ss_tls_push_all). Who joins a list of which its
 * listener has been told needs no event; Python empties the list, or is told again.
 *
 * An end is told to Python by SS_TLS_ENDED, also one that Python made, so that
 * it forgets what it keeps. Ends wait in streams->tls_ended for the next poll. */

#include "stream/stream.h"

#include <stdlib.h>

#define ENDS_PER_POLL 128
#define WRITERS_PER_POLL 16 /* events that tell of writers */
#define MOST_UNSENT 524288 /* bytes of ciphertext: only a peer that makes us answer and reads nothing gets there */

int ss_tls_open(ss_loop *loop, ss_stream *stream) {
    ss_tls *tls = calloc(1, sizeof *tls);
    if (!tls)
        return SS_NOMEM;
    tls->handle = ss_io_handle(&stream->io);
    tls->listener = stream->listener->number;
    stream->tls = tls;
    ss_handshakes_join(loop, stream->listener, tls);
    ss_streams_of(loop)->tls++;
    return SS_OK;
}

static void leave_writers(ss_streams *streams, ss_tls *tls) {
    if (!tls->writes)
        return;
    *(tls->previous ? &tls->previous->next : &streams->tls_writers) = tls->next;
    *(tls->next ? &tls->next->previous : &streams->tls_last_writer) = tls->previous;
    tls->next = tls->previous = NULL;
    tls->writes = false;
}

/* From now on the stream is a plain one. */
void ss_tls_close(ss_loop *loop, ss_stream *stream) {
    ss_streams *streams = ss_streams_of(loop);
    ss_tls *tls = stream->tls;
    stream->tls = NULL;
    ss_handshakes_leave(loop, stream->listener, tls);
    leave_writers(streams, tls);
    ss_out_release(loop, &tls->out);
    if (tls->known) {
        tls->next = streams->tls_ended;
        streams->tls_ended = tls;
        ss_pending_add(loop, &streams->endings);
    } else {
        streams->tls--;
        free(tls);
    }
}

static void emit(ss_loop *loop, const ss_tls *tls, int what) {
    ss_event_emit(loop, SS_EVENT_TLS, tls->listener, tls->handle, what);
}

static void forget_first(ss_streams *streams) {
    ss_tls *tls = streams->tls_ended;
    streams->tls_ended = tls->next;
    streams->tls--;
    free(tls);
}

/* The turn of streams->endings on the pending list. */
void ss_tls_tell_ended(ss_loop *loop, ss_io *endings) {
    ss_streams *streams = ss_streams_of(loop);
    for (int count = 0; streams->tls_ended && count < ENDS_PER_POLL; count++) {
        emit(loop, streams->tls_ended, SS_TLS_ENDED);
        forget_first(streams);
    }
    if (streams->tls_ended)
        ss_pending_add(loop, endings);
}

void ss_tls_forget_ended(ss_loop *loop) {
    while (ss_streams_of(loop)->tls_ended)
        forget_first(ss_streams_of(loop));
}

/* ---- asking Python ---- */

static void tell(ss_loop *loop, ss_tls *tls) {
    emit(loop, tls, SS_TLS_READ);
    tls->wants = false;
    tls->told = tls->known = true;
    tls->silent += loop->now - tls->silent_since;
}

static void ask_to_read(ss_loop *loop, ss_stream *stream) {
    ss_tls *tls = stream->tls;
    if (tls->wants || tls->told)
        return;
    tls->wants = true;
    if (loop->polling)
        tell(loop, tls);
    else
        ss_pending_add(loop, &stream->io);
}

void ss_tls_ask_to_write(ss_loop *loop, ss_stream *stream) {
    ss_streams *streams = ss_streams_of(loop);
    ss_tls *tls = stream->tls, *last = streams->tls_last_writer;
    if (tls->writes || !tls->open)
        return;
    tls->writes = true;
    tls->next = NULL;
    tls->previous = last;
    *(last ? &last->next : &streams->tls_writers) = tls;
    streams->tls_last_writer = tls;
    if (!last && loop->polling)
        emit(loop, tls, SS_TLS_WRITE);
    else if (!last || last->listener != tls->listener)
        ss_pending_add(loop, &streams->writing);
}

/* The turn of streams->writing on the pending list: an event for each run of one listener's writers. */
void ss_tls_tell_writers(ss_loop *loop, ss_io *writing) {
    int listener = -1, told = 0;
    for (const ss_tls *tls = ss_streams_of(loop)->tls_writers; tls; tls = tls->next) {
        if (tls->listener == listener)
            continue;
        if (told++ == WRITERS_PER_POLL) {
            ss_pending_add(loop, writing);
            return;
        }
        listener = tls->listener;
        emit(loop, tls, SS_TLS_WRITE);
    }
}

/* What ss_socket_receive is here: the bytes come by ss_tls_feed, into the read buffer. */
int64_t ss_tls_receive(ss_loop *loop, ss_stream *stream) {
    ss_tls *tls = stream->tls;
    if (tls->failed || tls->out.bytes > MOST_UNSENT)
        return SS_BROKEN;
    if (tls->ended)
        return 0;
    ask_to_read(loop, stream);
    return SS_WAIT;
}

/* Is there something for a reader? If not, and the socket has something, Python is asked for it. */
bool ss_tls_readable(ss_loop *loop, ss_stream *stream) {
    if (ss_stream_unread(stream) || stream->in_held)
        return true;
    return stream->io.ready & SS_READ && ss_tls_receive(loop, stream) != SS_WAIT;
}

/* ---- readiness ---- */

/* What ss_out_flush is here. */
int ss_tls_flush(ss_loop *loop, ss_stream *stream) {
    ss_tls *tls = stream->tls;
    if (tls->out.first && stream->io.ready & SS_WRITE && ss_out_flush(loop, stream, &tls->out) == SS_ERROR)
        return SS_ERROR;
    if (tls->open && !tls->out.first && stream->out.first)
        ss_tls_ask_to_write(loop, stream);
    return ss_stream_unsent(stream) ? SS_NEED_DATA : SS_OK;
}

/* What TLS needs comes first in each turn of a stream. */
int ss_tls_turn(ss_loop *loop, ss_stream *stream) {
    ss_tls *tls = stream->tls;
    if (tls->wants)
        tell(loop, tls);
    if (tls->out.first)
        (void)ss_tls_flush(loop, stream);
    if (stream->dead)
        return SS_ERROR;
    if (!tls->open && stream->io.ready & SS_READ)
        ask_to_read(loop, stream);
    return tls->open ? SS_OK : SS_NEED_DATA;
}

/* The stream ends after what is queued: is the peer still to be told (RFC 8446 section 6.1)? */
bool ss_tls_owes_goodbye(const ss_stream *stream) {
    const ss_tls *tls = stream->tls;
    return tls->open && !tls->goodbye && !tls->failed && !stream->dead;
}

/* ---- what Python does ---- */

static ss_stream *find(const ss_loop *loop, int64_t handle) {
    ss_stream *stream = ss_stream_of(ss_io_find(loop, handle));
    return stream && stream->tls ? stream : NULL;
}

int64_t ss_tls_take(ss_loop *loop, int64_t handle, char *into, int64_t capacity) {
    ss_stream *stream = find(loop, handle);
    if (!stream)
        return SS_GONE;
    if (capacity <= 0)
        return SS_MISUSE;
    stream->tls->silent_since = loop->now;
    stream->tls->wants = stream->tls->told = false;
    int64_t count = ss_socket_receive(stream, into, (size_t)capacity);
    if (stream->io.ready & SS_READ) /* there is more, and what came may not be a whole record */
        ss_pending_add(loop, &stream->io);
    return count;
}

int ss_tls_feed(ss_loop *loop, int64_t handle, const char *data, int64_t length, int news) {
    ss_stream *stream = find(loop, handle);
    if (!stream)
        return SS_GONE;
    if (length < 0 || length > INT32_MAX / 4)
        return SS_MISUSE;
    ss_pending_add(loop, &stream->io);
    if (ss_in_put(loop, stream, data, (uint32_t)length) != SS_OK) {
        stream->dead = true;
        return SS_NOMEM;
    }
    if (news & SS_TLS_OPEN) {
        ss_handshakes_leave(loop, stream->listener, stream->tls);
        stream->tls->open = stream->tls->opened = true;
    }
    if (news & SS_TLS_END) {
        stream->tls->ended = true;
        stream->tls->ragged = news & SS_TLS_RAGGED;
        stream->io.ready |= SS_READ; /* for the read that returns 0 */
    }
    return SS_OK;
}

static void look(const ss_stream *stream, ss_tls_plain *plain) {
    *plain = (ss_tls_plain){0};
    if (!stream->tls->open || stream->tls->out.first || stream->dead)
        return;
    ss_piece front = ss_out_front(&stream->out);
    plain->data = front.data;
    plain->length = (int64_t)front.length;
    plain->goodbye = front.last && stream->ending && ss_tls_owes_goodbye(stream);
}

int ss_tls_peek(ss_loop *loop, int64_t handle, ss_tls_plain *plain) {
    ss_stream *stream = find(loop, handle);
    *plain = (ss_tls_plain){0};
    if (!stream)
        return SS_GONE;
    leave_writers(ss_streams_of(loop), stream->tls);
    look(stream, plain);
    return SS_OK;
}

/* The socket is of no use: the protocol learns it in its turn. */
static int lost(ss_loop *loop, ss_stream *stream) {
    stream->dead = stream->tls->failed = true;
    ss_pending_add(loop, &stream->io);
    return SS_BROKEN;
}

static int transmit(ss_loop *loop, ss_stream *stream, const char *data, size_t length) {
    ss_tls *tls = stream->tls;
    struct iovec piece = {.iov_base = (char *)(uintptr_t)data, .iov_len = length};
    ssize_t sent = 0;
    if (stream->io.ready & SS_WRITE && !tls->out.first) {
        sent = ss_socket_send(stream, &piece, 1, false);
        if (sent < 0 && !ss_socket_full())
            return SS_BROKEN;
        stream->progress |= sent > 0;
    }
    if (sent < (ssize_t)length)
        stream->io.ready &= (uint8_t)~SS_WRITE;
    return ss_out_append(loop, &tls->out, &piece, 1, sent > 0 ? (size_t)sent : 0);
}

/* Whom nothing concerns that a push has changed needs no turn: most recipients of a broadcast. */
static bool idles(const ss_stream *stream) {
    bool (*protocol_idles)(const ss_stream *) = ss_protocol_of(stream)->idles;
    return protocol_idles && protocol_idles(stream);
}

int ss_tls_push(ss_loop *loop, int64_t handle, const char *data, int64_t length, int64_t taken, int goodbye,
                ss_tls_plain *plain) {
    ss_stream *stream = find(loop, handle);
    *plain = (ss_tls_plain){0};
    if (!stream)
        return SS_GONE;
    if (length < 0 || taken < 0 || taken > (int64_t)ss_out_front(&stream->out).length)
        return SS_MISUSE;
    ss_out_drop(loop, &stream->out, (size_t)taken);
    stream->tls->goodbye |= goodbye != 0;
    if (length && !stream->dead && transmit(loop, stream, data, (size_t)length) != SS_OK)
        return lost(loop, stream);
    if (stream->dead || ss_stream_unsent(stream) || !idles(stream))
        ss_pending_add(loop, &stream->io);
    look(stream, plain);
    return SS_OK;
}

/* ---- many at once ---- */

int64_t ss_tls_writers(ss_loop *loop, int listener, int64_t *records, int64_t most) {
    ss_streams *streams = ss_streams_of(loop);
    int64_t count = 0;
    ss_tls *next;
    for (ss_tls *tls = streams->tls_writers; tls && count < most; tls = next) {
        next = tls->next;
        if (tls->listener != listener)
            continue;
        leave_writers(streams, tls);
        ss_tls_plain plain;
        look(find(loop, tls->handle), &plain);
        int64_t *record = records + SS_TLS_WORDS * count++;
        record[0] = tls->handle;
        record[1] = (int64_t)(intptr_t)plain.data;
        record[2] = plain.goodbye ? 0 : plain.length;
    }
    if (streams->tls_writers)
        ss_pending_add(loop, &streams->writing);
    return count;
}

int ss_tls_push_all(ss_loop *loop, const int64_t *records, const int64_t *lengths, int64_t count, const char *data,
                    int64_t length) {
    ss_tls_plain plain;
    for (; count--; records += SS_TLS_WORDS) {
        int64_t encrypted = *lengths++;
        if (encrypted < 0 || encrypted > length)
            return SS_MISUSE;
        if (!encrypted)
            continue;
        (void)ss_tls_push(loop, records[0], data, encrypted, records[2], 0, &plain); /* a failure: its turn comes */
        if (plain.length)
            ss_tls_ask_to_write(loop, find(loop, records[0]));
        data += encrypted;
        length -= encrypted;
    }
    return length ? SS_MISUSE : SS_OK;
}

int ss_tls_fail(ss_loop *loop, int64_t handle) {
    ss_stream *stream = find(loop, handle);
    if (!stream)
        return SS_GONE;
    stream->tls->failed = true;
    ss_pending_add(loop, &stream->io);
    return SS_OK;
}
