/* Frame headers: a client's are checked as they are read, ours are written. */

#include "websocket/frame.h"

#include <string.h>

static bool opcode_known(unsigned opcode) {
    return opcode <= SS_WS_BINARY || (opcode >= SS_WS_CLOSE && opcode <= SS_WS_PONG);
}

/* What the first two bytes alone must fulfil. */
static bool plausible(unsigned first, unsigned second, bool deflate) {
    unsigned opcode = first & 15, length = second & 127;
    bool control = opcode >= SS_WS_CLOSE;
    unsigned reserved = first & 0x70;
    if (!opcode_known(opcode) || !(second & 128))
        return false;
    if (control && (!(first & 128) || length > SS_WS_MOST_CONTROL))
        return false;
    return !reserved || (reserved == 0x40 && deflate && (opcode == SS_WS_TEXT || opcode == SS_WS_BINARY));
}

/* The length behind the second byte; false: it is not in its shortest form, or has the highest bit. */
static bool read_length(ss_ws_header *header, const unsigned char *data, size_t size) {
    header->length = 0;
    for (size_t i = 0; i < size; i++)
        header->length = header->length << 8 | data[2 + i];
    if (size == 2)
        return header->length > SS_WS_MOST_CONTROL;
    return header->length > UINT16_MAX && header->length <= INT64_MAX;
}

int ss_ws_header_parse(ss_ws_header *header, const unsigned char *data, size_t length, bool deflate) {
    if (length < 2)
        return length && data[0] & 0x30 ? SS_ERROR : SS_NEED_DATA;
    if (!plausible(data[0], data[1], deflate))
        return SS_ERROR;
    unsigned small = data[1] & 127u;
    size_t extended = small == 126 ? 2 : small == 127 ? 8 : 0;
    header->size = (uint32_t)(2 + extended + 4);
    if (length < 2 + extended)
        return SS_NEED_DATA;
    header->length = small;
    if (extended && !read_length(header, data, extended))
        return SS_ERROR;
    if (length < header->size)
        return SS_NEED_DATA;
    header->opcode = data[0] & 15;
    header->fin = data[0] & 128;
    header->compressed = data[0] & 64;
    memcpy(header->mask, data + 2 + extended, 4);
    return SS_OK;
}

size_t ss_ws_header_put(char *into, int first, uint64_t length) {
    size_t extended = length <= SS_WS_MOST_CONTROL ? 0 : length <= UINT16_MAX ? 2 : 8;
    into[0] = (char)first;
    into[1] = (char)(extended == 0 ? length : extended == 2 ? 126 : 127);
    for (size_t i = 0; i < extended; i++)
        into[2 + i] = (char)(length >> 8 * (extended - 1 - i));
    return 2 + extended;
}

/* Eight bytes at a time; the compiler makes wider ones of it. */
void ss_ws_unmask(char *into, const char *from, size_t length, const unsigned char mask[4], size_t phase) {
    unsigned char turned[8];
    uint64_t wide, word;
    for (size_t i = 0; i < sizeof turned; i++)
        turned[i] = mask[(phase + i) & 3];
    memcpy(&wide, turned, sizeof wide);
    size_t at = 0;
    for (; length - at >= sizeof wide; at += sizeof wide) {
        memcpy(&word, from + at, sizeof word);
        word ^= wide;
        memcpy(into + at, &word, sizeof word);
    }
    for (; at < length; at++)
        into[at] = (char)(from[at] ^ (char)turned[at & 7]);
}

bool ss_ws_code_valid(unsigned code) {
    if (code >= 3000 && code <= 4999)
        return true;
    return code >= 1000 && code <= 1014 && code != 1004 && code != SS_WS_NO_CODE && code != SS_WS_ABNORMAL;
}
