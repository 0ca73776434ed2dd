/* Load for a WebSocket server: ws_load PORT CONNECTIONS
 *
 * Opens the connections to 127.0.0.1, one handshake each, and prints "open N". Then, for each line on standard input:
 *
 *   echo COUNT BURST SIZE OPCODE   on each connection COUNT times BURST messages of SIZE bytes in one send, the
 *                                  next when the last came back whole and equal
 *   broadcast COUNT SIZE           the first connection sends a text, all must get it, COUNT times
 *   count                          how many connections have nothing to read
 *
 * and the answer "done N" or "alive N": messages that came back, or connections. What comes is compared byte for byte
 * with what must come, and each connection's messages hold its number. An error ends the program. */

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, WAIT_MS = 60000, HEAD = 2048, LONGEST_HEADER = 14, CHUNK = 262144 };

struct client {
    int fd;
    int waits_to_send; /* EPOLLOUT is on */
    long left;         /* bursts still to come back */
    size_t sent, got;  /* bytes of the current burst */
    char *request, *answer;
};

static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
static const char handshake[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
static const char accepted[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; /* RFC 6455 section 1.3 */

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
    for (size_t i = 0; i < size; i++)
        payload[i] = i < (size_t)length ? name[i] : (char)('!' + i % 90);
}

/* What connection `number` sends and must get: `burst` messages, one behind the other. */
static void compose(long number, int burst, size_t size, int opcode) {
    struct client *client = &clients[number];
    char *payload = malloc(size + 1);
    client->request = realloc(client->request, (size_t)burst * (size + LONGEST_HEADER));
    client->answer = realloc(client->answer, (size_t)burst * (size + LONGEST_HEADER));
    if (!payload || !client->request || !client->answer)
        fail("malloc");
    request_size = answer_size = 0;
    for (int index = 0; index < burst; index++) {
        fill(payload, size, number, index);
        answer_size += put_header(client->answer + answer_size, opcode, size, 0);
        memcpy(client->answer + answer_size, payload, size);
        answer_size += size;
        request_size += put_header(client->request + request_size, opcode, size, 1);
        for (size_t i = 0; i < size; i++)
            client->request[request_size + i] = (char)(payload[i] ^ (char)mask[i & 3]);
        request_size += size;
    }
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
        compose(number, burst, size, opcode);
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
    compose(0, 1, size, 1);
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

static long alive(void) {
    long quiet = 0;
    for (long number = 0; number < connections; number++) {
        struct pollfd entry = {.fd = clients[number].fd, .events = POLLIN};
        quiet += poll(&entry, 1, 0) == 0;
    }
    return quiet;
}

/* ---- the beginning ---- */

/* The head is read byte-exact: what stands behind it would be a frame that nobody asked for. */
static void open_one(struct client *client, const struct sockaddr_in *address) {
    char head[HEAD];
    size_t got = 0;
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (client->fd < 0 || connect(client->fd, (const struct sockaddr *)address, sizeof *address) < 0)
        fail("connect");
    if (send(client->fd, handshake, sizeof handshake - 1, MSG_NOSIGNAL) != sizeof handshake - 1)
        fail("send");
    while (got < 4 || memcmp(head + got - 4, "\r\n\r\n", 4) != 0) {
        ssize_t count = recv(client->fd, head + got, sizeof head - 1 - got, 0);
        if (count <= 0)
            fail("no head of a response");
        got += (size_t)count;
    }
    head[got] = 0;
    if (strncmp(head, "HTTP/1.1 101 ", 13) != 0 || !strstr(head, accepted))
        refuse("the handshake was not accepted");
    watch(client, EPOLL_CTL_ADD, 0);
}

static int obey(const char *line) {
    long count, burst, size, opcode;
    if (sscanf(line, "echo %ld %ld %ld %ld", &count, &burst, &size, &opcode) == 4)
        printf("done %ld\n", echo(count, (int)burst, (size_t)size, (int)opcode));
    else if (sscanf(line, "broadcast %ld %ld", &count, &size) == 2)
        printf("done %ld\n", broadcast(count, (size_t)size));
    else if (strcmp(line, "count\n") == 0)
        printf("alive %ld\n", alive());
    else
        return 2;
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv) {
    char line[128];
    if (argc != 3)
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
