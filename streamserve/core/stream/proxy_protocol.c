/* The PROXY protocol, versions 1 and 2: a load balancer's word on whose
 * connection it passes on, before the first byte of the client's (haproxy's
 * doc/proxy-protocol.txt).
 *
 * Never guessed: who is allowed to speak it must, from the first byte on, and
 * from anybody else it is not a request. The header is bounded, and the deadline
 * of the first request head covers it. What is not an address of TCP (LOCAL, as
 * health checks send, UNKNOWN, UNSPEC, unix sockets) leaves the peer as it is;
 * extensions (TLV) are skipped. */

#include "stream/stream.h"

#include <arpa/inet.h>
#include <stdlib.h>

#define V1_LONGEST 107u /* bytes, with CRLF */
#define V1_PREFIX "PROXY "
#define V2_HEAD 16u
#define V2_LONGEST 4096u /* bytes, with extensions; the specification has them fit into one segment */
#define V2_SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V2_SIGNATURE_LENGTH 12u

static bool begins(const char *data, uint32_t length, const char *expected, uint32_t size) {
    return memcmp(data, expected, length < size ? length : size) == 0;
}

/* The next word of a line of version 1, which ends with `stop`; its length, 0: there is none that fits. */
static size_t take_word(const char **at, const char *end, char stop, char *word, size_t room) {
    const char *found = memchr(*at, stop, (size_t)(end - *at));
    size_t length = found ? (size_t)(found - *at) : 0;
    if (!length || length >= room)
        return 0;
    memcpy(word, *at, length);
    word[length] = '\0';
    *at = found + 1;
    return length;
}

static bool take_port(const char **at, const char *end, char stop, uint16_t *port) {
    char word[6];
    size_t length = take_word(at, end, stop, word, sizeof word);
    uint32_t number = 0;
    if (!length || (word[0] == '0' && length > 1))
        return false;
    for (size_t i = 0; i < length; i++) {
        if (word[i] < '0' || word[i] > '9')
            return false;
        number = number * 10 + (uint32_t)(word[i] - '0');
    }
    *port = (uint16_t)number;
    return number <= UINT16_MAX;
}

static void set_peer(struct sockaddr_storage *peer, int family, const void *address, uint16_t port) {
    if (family == AF_INET) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&v4.sin_addr, address, sizeof v4.sin_addr);
        memcpy(peer, &v4, sizeof v4);
    } else {
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        memcpy(&v6.sin6_addr, address, sizeof v6.sin6_addr);
        memcpy(peer, &v6, sizeof v6);
    }
}

/* What stands behind "PROXY " and before CRLF; the CR is still there as the last stop. */
static int read_v1(const char *at, const char *end, struct sockaddr_storage *peer) {
    char word[INET6_ADDRSTRLEN];
    unsigned char source[16], destination[16];
    uint16_t source_port, destination_port;
    if (end - at >= 8 && memcmp(at, "UNKNOWN", 7) == 0 && (at[7] == ' ' || at[7] == '\r'))
        return SS_OK;
    if (end - at < 5 || memcmp(at, "TCP", 3) != 0 || (at[3] != '4' && at[3] != '6') || at[4] != ' ')
        return SS_ERROR;
    int family = at[3] == '4' ? AF_INET : AF_INET6;
    at += 5;
    if (!take_word(&at, end, ' ', word, sizeof word) || inet_pton(family, word, source) != 1)
        return SS_ERROR;
    if (!take_word(&at, end, ' ', word, sizeof word) || inet_pton(family, word, destination) != 1)
        return SS_ERROR;
    if (!take_port(&at, end, ' ', &source_port) || !take_port(&at, end, '\r', &destination_port) || at != end)
        return SS_ERROR;
    set_peer(peer, family, source, source_port);
    return SS_OK;
}

static int parse_v1(const char *data, uint32_t length, uint32_t *used, struct sockaddr_storage *peer) {
    const char *end = memchr(data, '\n', length < V1_LONGEST ? length : V1_LONGEST);
    if (!end)
        return length < V1_LONGEST ? SS_NEED_DATA : SS_ERROR;
    const char *at = data + sizeof V1_PREFIX - 1;
    if (end <= at || end[-1] != '\r' || memchr(data, '\0', (size_t)(end - data)))
        return SS_ERROR;
    *used = (uint32_t)(end - data) + 1;
    return read_v1(at, end, peer);
}

static uint32_t two_bytes(const unsigned char *at) {
    return (uint32_t)at[0] << 8 | at[1];
}

static int parse_v2(const unsigned char *data, uint32_t length, uint32_t *used, struct sockaddr_storage *peer) {
    if (length < V2_HEAD)
        return SS_NEED_DATA;
    uint32_t size = two_bytes(data + 14);
    unsigned command = data[12], family = data[13];
    bool valid = family == 0 || ((family >> 4) - 1u < 3u && (family & 15u) - 1u < 2u);
    if ((command != 0x20 && command != 0x21) || V2_HEAD + size > V2_LONGEST)
        return SS_ERROR;
    if (length < V2_HEAD + size)
        return SS_NEED_DATA;
    *used = V2_HEAD + size;
    if (command == 0x20)
        return SS_OK;
    if (!valid || (family >> 4 == 1 && size < 12) || (family >> 4 == 2 && size < 36) ||
        (family >> 4 == 3 && size < 216))
        return SS_ERROR;
    if (family == 0x11)
        set_peer(peer, AF_INET, data + V2_HEAD, (uint16_t)two_bytes(data + V2_HEAD + 8));
    else if (family == 0x21)
        set_peer(peer, AF_INET6, data + V2_HEAD, (uint16_t)two_bytes(data + V2_HEAD + 32));
    return SS_OK;
}

/* SS_OK: `*used` bytes are the header, and `peer` is set where it names one. */
int ss_proxy_parse(const char *data, uint32_t length, uint32_t *used, struct sockaddr_storage *peer) {
    if (begins(data, length, V2_SIGNATURE, V2_SIGNATURE_LENGTH))
        return parse_v2((const unsigned char *)data, length, used, peer);
    if (begins(data, length, V1_PREFIX, sizeof V1_PREFIX - 1))
        return parse_v1(data, length, used, peer);
    return SS_ERROR;
}

/* ---- who speaks it ---- */

static bool covers(const ss_network *network, const unsigned char *address, uint8_t length) {
    if (network->length != length)
        return false;
    uint32_t whole = network->bits / 8u, rest = network->bits % 8u;
    if (memcmp(network->address, address, whole) != 0)
        return false;
    return !rest || (network->address[whole] ^ address[whole]) >> (8 - rest) == 0;
}

/* A unix socket's peer is of this machine, and was let in by the file's mode. */
bool ss_proxy_expected(const ss_listener *listener, const unsigned char *address, uint8_t length) {
    bool expected = listener->proxy_count && length == 0;
    for (uint32_t i = 0; i < listener->proxy_count && !expected; i++)
        expected = covers(&listener->proxies[i], address, length);
    return expected;
}

int ss_listener_proxies(ss_loop *loop, int number, const ss_network *networks, int64_t count) {
    ss_listener *listener = ss_listener_find(loop, number);
    if (!listener)
        return SS_GONE;
    if (count < 0 || count > UINT16_MAX)
        return SS_MISUSE;
    ss_network *copy = count ? malloc((size_t)count * sizeof *copy) : NULL;
    if (count && !copy)
        return SS_NOMEM;
    if (count)
        memcpy(copy, networks, (size_t)count * sizeof *copy);
    free(listener->proxies);
    listener->proxies = copy;
    listener->proxy_count = (uint32_t)count;
    return SS_OK;
}
