/* A range of a file as a segment of output: from the page cache to the socket,
 * without a pass through this process (sendfile(2)).
 *
 * A response has one only as its end, so Python has let go of the request
 * already: the descriptor is a duplicate, and the position is ours,
 * not the file's. A file that became shorter meanwhile ends the connection, as
 * the promised length cannot be kept. sendfile raises SIGPIPE, which Python
 * ignores from its start; the caller makes sure that it still does. */

#define _GNU_SOURCE
#include "stream/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define TURN_BYTES 1048576u /* of one turn: a fast client does not keep the others waiting */

ss_segment *ss_file_new(ss_loop *loop, int fd, int64_t offset, int64_t count) {
    ss_segment *file = malloc(sizeof *file);
    loop->error = 0;
    if (!file)
        return NULL;
    *file = (ss_segment){.kind = SS_SEGMENT_FILE, .offset = offset, .left = (uint64_t)count};
    file->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (file->fd < 0) {
        loop->error = errno;
        free(file);
        return NULL;
    }
    ss_streams_of(loop)->files++;
    return file;
}

void ss_file_free(ss_loop *loop, ss_segment *file) {
    close(file->fd);
    free(file);
    ss_streams_of(loop)->files--;
}

static ssize_t send_copy(ss_loop *loop, const ss_stream *stream, ss_segment *file) {
    char *scratch = ss_streams_of(loop)->scratch;
    size_t room = file->left < SS_SCRATCH ? (size_t)file->left : SS_SCRATCH;
    ssize_t count = pread(file->fd, scratch, room, file->offset);
    if (count > 0)
        count = send(stream->io.fd, scratch, (size_t)count, MSG_NOSIGNAL);
    if (count > 0)
        file->offset += count;
    return count;
}

static ssize_t send_some(ss_loop *loop, const ss_stream *stream, ss_segment *file) {
    if (file->copied)
        return send_copy(loop, stream, file);
    size_t most = file->left < TURN_BYTES ? (size_t)file->left : TURN_BYTES;
    ssize_t count = sendfile(stream->io.fd, file->fd, &file->offset, most);
    if (count < 0 && (errno == EINVAL || errno == ENOSYS)) {
        file->copied = true;
        return send_copy(loop, stream, file);
    }
    return count;
}

/* Sends until the range is out, the socket is full, or the turn is over; then
 * the stream comes back by the pending list. */
int ss_file_flush(ss_loop *loop, ss_stream *stream, ss_segment *file) {
    uint64_t stop = file->left > TURN_BYTES ? file->left - TURN_BYTES : 0;
    while (file->left > stop) {
        ssize_t count = send_some(loop, stream, file);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && ss_socket_full()) {
            stream->io.ready &= (uint8_t)~SS_WRITE;
            return SS_NEED_DATA;
        }
        if (count <= 0) {
            stream->dead = true;
            return SS_ERROR;
        }
        file->left -= (uint64_t)count;
        stream->progress = true;
    }
    if (!file->left)
        return SS_OK;
    ss_pending_add(loop, &stream->io);
    return SS_NEED_DATA;
}
