/* A range of a file behind the output queue: from the page cache to the socket,
 * without a pass through this process (sendfile(2)).
 *
 * A connection has one only as the end of its response, so Python has let go of
 * the request already: the descriptor is a duplicate, and the position is ours,
 * not the file's. A file that became shorter meanwhile ends the connection, as
 * the promised length cannot be kept. sendfile raises SIGPIPE, which Python
 * ignores from its start; the caller makes sure that it still does. */

#define _GNU_SOURCE
#include "loop/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define TURN_BYTES 1048576u /* of one turn: a fast client does not keep the others waiting */

struct ss_file {
    uint64_t left;
    off_t offset;
    int fd;
    bool copy; /* its file system cannot sendfile: pread and send */
};

int ss_file_attach(ss_loop *loop, ss_conn *conn, int fd, int64_t offset, int64_t count) {
    ss_file *file = malloc(sizeof *file);
    if (!file)
        return SS_NOMEM;
    *file = (ss_file){.left = (uint64_t)count, .offset = offset};
    file->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (file->fd < 0) {
        loop->error = errno;
        free(file);
        return SS_SYSTEM;
    }
    conn->file = file;
    loop->files++;
    return SS_OK;
}

void ss_file_release(ss_loop *loop, ss_conn *conn) {
    if (!conn->file)
        return;
    close(conn->file->fd);
    free(conn->file);
    conn->file = NULL;
    loop->files--;
}

static ssize_t send_copy(ss_loop *loop, const ss_conn *conn, ss_file *file) {
    size_t room = file->left < sizeof loop->scratch ? (size_t)file->left : sizeof loop->scratch;
    ssize_t count = pread(file->fd, loop->scratch, room, file->offset);
    if (count > 0)
        count = send(conn->io.fd, loop->scratch, (size_t)count, MSG_NOSIGNAL);
    if (count > 0)
        file->offset += count;
    return count;
}

static ssize_t send_some(ss_loop *loop, const ss_conn *conn, ss_file *file) {
    if (file->copy)
        return send_copy(loop, conn, file);
    size_t most = file->left < TURN_BYTES ? (size_t)file->left : TURN_BYTES;
    ssize_t count = sendfile(conn->io.fd, file->fd, &file->offset, most);
    if (count < 0 && (errno == EINVAL || errno == ENOSYS)) {
        file->copy = true;
        return send_copy(loop, conn, file);
    }
    return count;
}

/* Sends until the socket is full, the range is out, or the turn is over; then
 * the connection comes back by the pending list. */
void ss_file_flush(ss_loop *loop, ss_conn *conn) {
    ss_file *file = conn->file;
    uint64_t stop = file->left > TURN_BYTES ? file->left - TURN_BYTES : 0;
    while (file->left > stop) {
        ssize_t count = send_some(loop, conn, file);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            conn->io.ready &= (uint8_t)~SS_WRITE;
            return;
        }
        if (count <= 0) {
            conn->dead = true;
            return;
        }
        file->left -= (uint64_t)count;
        ss_deadline_set(loop, &conn->io, conn->listener->config.write_timeout);
    }
    if (file->left)
        ss_pending_add(loop, &conn->io);
    else
        ss_file_release(loop, conn);
}
