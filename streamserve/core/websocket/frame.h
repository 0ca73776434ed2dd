/* Frames of WebSocket (RFC 6455 section 5), without I/O or allocation. */
#ifndef SS_WS_FRAME_H
#define SS_WS_FRAME_H

#include "api/api.h"

#include <stdbool.h>

#define SS_WS_LONGEST_HEADER 14u /* bytes, with the mask */
#define SS_WS_MOST_CONTROL 125u  /* bytes of a control frame's payload */

typedef struct {
    uint64_t length;    /* of the payload */
    uint32_t size;      /* of the header itself */
    uint8_t opcode;     /* enum ss_ws_opcode */
    bool fin;
    bool compressed;    /* RSV1 */
    unsigned char mask[4];
} ss_ws_header;

/* What a client sent: SS_OK, SS_NEED_DATA, or SS_ERROR: a violation (1002). deflate: RSV1 may be set. */
int ss_ws_header_parse(ss_ws_header *header, const unsigned char *data, size_t length, bool deflate);
/* The header of a server's frame; returns its size, at most 10. */
size_t ss_ws_header_put(char *into, int first, uint64_t length);

/* XOR with the mask, of which byte `phase` % 4 comes first. from and into may be the same. */
void ss_ws_unmask(char *into, const char *from, size_t length, const unsigned char mask[4], size_t phase);

/* ---- UTF-8, as it arrives (RFC 3629) ---- */

typedef struct {
    uint8_t left;  /* continuation bytes still to come */
    uint8_t least; /* the next one lies between these */
    uint8_t most;
} ss_utf8;

/* False: no continuation can make this valid. */
bool ss_utf8_feed(ss_utf8 *state, const char *data, size_t length);

static inline bool ss_utf8_complete(const ss_utf8 *state) {
    return state->left == 0;
}

/* May a peer send this close code (section 7.4)? */
bool ss_ws_code_valid(unsigned code);

#endif
