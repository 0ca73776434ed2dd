/* Load for a WebSocket server: ws_load PORT CONNECTIONS [socketio]
 *
 * Opens the connections to 127.0.0.1, one handshake each, and prints "open N". Then, for each line on standard input:
 *
 *   echo COUNT BURST SIZE OPCODE   on each connection COUNT times BURST messages of SIZE bytes in one send, the
 *                                  next when the last came back whole and equal
 *   broadcast COUNT SIZE           the first connection sends a text, all must get it, COUNT times
 *   answer SECONDS                 answers pings of Engine.IO: how many
 *   count                          how many connections have nothing to read
 *
 * With socketio each connection joins the default namespace, and a message is the argument of an event: what is echoed
 * comes back as its acknowledgement.
 *
 * And the answer "done N" or "alive N": messages that came back, or connections. What comes is compared byte for byte
 * with what must come, and each connection's messages hold its number. An error ends the program. */

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, WAIT_MS = 60000, HEAD = 2048, LONGEST_HEADER = 14, MOST_WRAPPING = 32, CHUNK = 262144 };

struct client {
    int fd;
    int waits_to_send; /* EPOLLOUT is on */
    long left;         /* bursts still to come back */
    size_t sent, got;  /* bytes of the current burst */
    char *request, *answer;
};

static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
static const char plain_handshake[] =
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
static const char socketio_handshake[] =
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: "
    "Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
static const char accepted[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; /* RFC 6455 section 1.3 */

/* What stands around the text of a message. */
struct wrapping {
    const char *before, *after;
};
static const struct wrapping none = {"", ""}, asked = {"421[\"echo\",\"", "\"]"}, acknowledged = {"431[\"", "\"]"},
                             told = {"42[\"all\",\"", "\"]"};

static int socketio;
static struct client *clients;
static long connections;
static int poller;
static size_t request_size, answer_size; /* bytes of a burst */

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void refuse(const char *why) {
    fprintf(stderr, "%s\n", why);
    exit(1);
}

/* ---- frames ---- */

static size_t put_header(char *into, int opcode, size_t size, int masked) {
    size_t extended = size < 126 ? 0 : size < 65536 ? 2 : 8;
    into[0] = (char)(0x80 | opcode);
    into[1] = (char)((extended == 0 ? (int)size : extended == 2 ? 126 : 127) | (masked ? 128 : 0));
    for (size_t i = 0; i < extended; i++)
        into[2 + i] = (char)(size >> 8 * (extended - 1 - i));
    if (masked)
        memcpy(into + 2 + extended, mask, sizeof mask);
    return 2 + extended + (masked ? sizeof mask : 0);
}

static void fill(char *payload, size_t size, long number, int index) {
    char name[32];
    int length = snprintf(name, sizeof name, "%06ld %02d ", number, index);
    for (size_t i = 0; i < size; i++) {
        char filler = (char)('!' + i % 90);
        payload[i] = i < (size_t)length ? name[i] : socketio && (filler == '"' || filler == '\\') ? '.' : filler;
    }
}

/* A frame, with its text between what wraps it; returns its end. */
static char *put_frame(char *into, int opcode, struct wrapping wrapping, const char *text, size_t size, int masked) {
    size_t before = strlen(wrapping.before), after = strlen(wrapping.after);
    char *payload = into + put_header(into, opcode, before + size + after, masked);
    memcpy(payload, wrapping.before, before);
    memcpy(payload + before, text, size);
    memcpy(payload + before + size, wrapping.after, after);
    for (size_t i = 0; masked && i < before + size + after; i++)
        payload[i] = (char)(payload[i] ^ (char)mask[i & 3]);
    return payload + before + size + after;
}

/* What connection `number` sends and must get: `burst` messages, one behind the other. */
static void compose(long number, int burst, size_t size, int opcode, struct wrapping out, struct wrapping back) {
    struct client *client = &clients[number];
    char *payload = malloc(size + 1);
    client->request = realloc(client->request, (size_t)burst * (size + LONGEST_HEADER + MOST_WRAPPING));
    client->answer = realloc(client->answer, (size_t)burst * (size + LONGEST_HEADER + MOST_WRAPPING));
    if (!payload || !client->request || !client->answer)
        fail("malloc");
    char *request = client->request, *answer = client->answer;
    for (int index = 0; index < burst; index++) {
        fill(payload, size, number, index);
        request = put_frame(request, opcode, out, payload, size, 1);
        answer = put_frame(answer, opcode, back, payload, size, 0);
    }
    request_size = (size_t)(request - client->request);
    answer_size = (size_t)(answer - client->answer);
    free(payload);
}

/* ---- one connection ---- */

static void watch(struct client *client, int operation, int waits_to_send) {
    struct epoll_event event = {.events = EPOLLIN | (waits_to_send ? EPOLLOUT : 0), .data.ptr = client};
    if (epoll_ctl(poller, operation, client->fd, &event) < 0)
        fail("epoll_ctl");
    client->waits_to_send = waits_to_send;
}

static void send_rest(struct client *client) {
    while (client->sent < request_size) {
        ssize_t count =
            send(client->fd, client->request + client->sent, request_size - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno != EAGAIN)
            fail("send");
        if (count < 0)
            break;
        client->sent += (size_t)count;
    }
    int waits = client->sent < request_size;
    if (waits != client->waits_to_send)
        watch(client, EPOLL_CTL_MOD, waits);
}

static void begin(struct client *client) {
    client->sent = client->got = 0;
    send_rest(client);
}

/* Reads what is there and compares it; true: the whole answer has come. */
static int receive(struct client *client, const char *answer) {
    static char data[CHUNK];
    ssize_t count = recv(client->fd, data, sizeof data, MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN)
        return 0;
    if (count < 0)
        fail("recv");
    if (count == 0)
        refuse("the server closed a connection");
    if ((size_t)count > answer_size - client->got || memcmp(data, answer + client->got, (size_t)count) != 0)
        refuse("a message differs from what must come");
    client->got += (size_t)count;
    return client->got == answer_size;
}

static int wait_for_events(struct epoll_event *events) {
    int found = epoll_wait(poller, events, EVENTS, WAIT_MS);
    if (found <= 0)
        refuse("nothing came back for a minute");
    return found;
}

/* ---- orders ---- */

static long echo(long count, int burst, size_t size, int opcode) {
    struct epoll_event events[EVENTS];
    long echoed = 0, busy = connections;
    for (long number = 0; number < connections; number++)
        compose(number, burst, size, opcode, socketio ? asked : none, socketio ? acknowledged : none);
    for (long number = 0; number < connections; number++) {
        clients[number].left = count;
        begin(&clients[number]);
    }
    while (busy) {
        int found = wait_for_events(events);
        for (int index = 0; index < found; index++) {
            struct client *client = events[index].data.ptr;
            if (events[index].events & EPOLLOUT)
                send_rest(client);
            if (!(events[index].events & ~(unsigned)EPOLLOUT) || !receive(client, client->answer))
                continue;
            echoed += burst;
            if (--client->left)
                begin(client);
            else
                busy--;
        }
    }
    return echoed;
}

static long broadcast(long count, size_t size) {
    struct epoll_event events[EVENTS];
    long delivered = 0;
    compose(0, 1, size, 1, socketio ? told : none, socketio ? told : none);
    for (long turn = 0; turn < count; turn++) {
        for (long number = 0; number < connections; number++)
            clients[number].got = 0;
        begin(&clients[0]);
        for (long missing = connections; missing;) {
            int found = wait_for_events(events);
            for (int index = 0; index < found; index++) {
                int whole = receive(events[index].data.ptr, clients[0].answer);
                missing -= whole;
                delivered += whole;
            }
        }
    }
    return delivered;
}

/* Answers each ping until the time is over. */
static long answer_pings(double seconds) {
    struct epoll_event events[EVENTS];
    struct timespec now;
    char frame[16], data[HEAD];
    char *end = put_frame(frame, 1, none, "3", 1, 1);
    long answered = 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double until = (double)now.tv_sec + (double)now.tv_nsec / 1e9 + seconds;
    while ((double)now.tv_sec + (double)now.tv_nsec / 1e9 < until) {
        int found = epoll_wait(poller, events, EVENTS, 20);
        for (int index = 0; index < found; index++) {
            struct client *client = events[index].data.ptr;
            ssize_t count = recv(client->fd, data, sizeof data, MSG_DONTWAIT);
            if (count != 3 || memcmp(data,
                                     "\x81\x01"
                                     "2",
                                     3) != 0)
                refuse("another packet came than a ping");
            if (send(client->fd, frame, (size_t)(end - frame), MSG_NOSIGNAL) != end - frame)
                fail("send");
            answered++;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    return answered;
}

static long alive(void) {
    long quiet = 0;
    for (long number = 0; number < connections; number++) {
        struct pollfd entry = {.fd = clients[number].fd, .events = POLLIN};
        quiet += poll(&entry, 1, 0) == 0;
    }
    return quiet;
}

/* ---- the beginning ---- */

/* Reads a frame that begins with `text`; nothing may stand behind it. */
static void expect(struct client *client, const char *text) {
    char data[HEAD];
    size_t got = 0, wanted = 2;
    while (got < wanted) {
        ssize_t count = recv(client->fd, data + got, wanted - got, 0);
        if (count <= 0)
            fail("no frame");
        got += (size_t)count;
        size_t start = (unsigned char)data[1] == 126 ? 4 : 2;
        if (got >= start)
            wanted =
                start + (start == 2 ? (size_t)data[1] : (size_t)(unsigned char)data[2] << 8 | (unsigned char)data[3]);
        else
            wanted = start;
        if (wanted > sizeof data)
            refuse("a frame is longer than expected");
        if (got == wanted && strncmp(data + start, text, strlen(text)) != 0)
            refuse("another packet came than the protocol has");
    }
}

static void join(struct client *client) {
    char frame[16];
    char *end = put_frame(frame, 1, none, "40", 2, 1);
    expect(client, "0{");
    if (send(client->fd, frame, (size_t)(end - frame), MSG_NOSIGNAL) != end - frame)
        fail("send");
    expect(client, "40{");
}

static void open_one(struct client *client, const struct sockaddr_in *address) {
    char head[HEAD];
    size_t got = 0;
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (client->fd < 0 || connect(client->fd, (const struct sockaddr *)address, sizeof *address) < 0)
        fail("connect");
    const char *handshake = socketio ? socketio_handshake : plain_handshake;
    if (send(client->fd, handshake, strlen(handshake), MSG_NOSIGNAL) != (ssize_t)strlen(handshake))
        fail("send");
    while (got < 4 || memcmp(head + got - 4, "\r\n\r\n", 4) != 0) {
        ssize_t count = recv(client->fd, head + got, 1, 0); /* what stands behind it is a frame */
        if (count <= 0 || got + 2 > sizeof head)
            fail("no head of a response");
        got += (size_t)count;
    }
    head[got] = 0;
    if (strncmp(head, "HTTP/1.1 101 ", 13) != 0 || !strstr(head, accepted))
        refuse("the handshake was not accepted");
    if (socketio)
        join(client);
    watch(client, EPOLL_CTL_ADD, 0);
}

static int obey(const char *line) {
    long count, burst, size, opcode;
    double seconds;
    if (sscanf(line, "echo %ld %ld %ld %ld", &count, &burst, &size, &opcode) == 4)
        printf("done %ld\n", echo(count, (int)burst, (size_t)size, (int)opcode));
    else if (sscanf(line, "broadcast %ld %ld", &count, &size) == 2)
        printf("done %ld\n", broadcast(count, (size_t)size));
    else if (sscanf(line, "answer %lf", &seconds) == 1)
        printf("done %ld\n", answer_pings(seconds));
    else if (strcmp(line, "count\n") == 0)
        printf("alive %ld\n", alive());
    else
        return 2;
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv) {
    char line[128];
    socketio = argc == 4 && strcmp(argv[3], "socketio") == 0;
    if (argc != 3 && !socketio)
        return 2;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connections = atol(argv[2]);
    clients = calloc((size_t)connections, sizeof *clients);
    poller = epoll_create1(0);
    if (!clients || poller < 0)
        fail("set-up");
    for (long number = 0; number < connections; number++)
        open_one(&clients[number], &address);
    printf("open %ld\n", connections);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        int answer = obey(line);
        if (answer)
            return answer;
    }
    return 0;
}
