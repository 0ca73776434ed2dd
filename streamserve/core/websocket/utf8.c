/* UTF-8 as it arrives: what can no longer become valid is refused at the byte that shows it (RFC 3629 section 4).
 *
 * Text is mostly ASCII, which is skipped eight bytes at a time. Of a longer sequence the
 * first byte says how many follow, and where the second may lie: that rules out overlong
 * forms, surrogates, and what is beyond U+10FFFF. */

#include "websocket/frame.h"

#include <string.h>

#define HIGH_BITS UINT64_C(0x8080808080808080)

static size_t ascii_prefix(const char *data, size_t length) {
    size_t at = 0;
    uint64_t word;
    for (; length - at >= sizeof word; at += sizeof word) {
        memcpy(&word, data + at, sizeof word);
        if (word & HIGH_BITS)
            break;
    }
    while (at < length && !(data[at] & (char)0x80))
        at++;
    return at;
}

static bool begin(ss_utf8 *state, unsigned char first) {
    state->least = 0x80;
    state->most = 0xBF;
    if (first >= 0xC2 && first <= 0xDF)
        state->left = 1;
    else if (first >= 0xE0 && first <= 0xEF)
        state->left = 2;
    else if (first >= 0xF0 && first <= 0xF4)
        state->left = 3;
    else
        return false;
    if (first == 0xE0)
        state->least = 0xA0;
    else if (first == 0xED)
        state->most = 0x9F;
    else if (first == 0xF0)
        state->least = 0x90;
    else if (first == 0xF4)
        state->most = 0x8F;
    return true;
}

bool ss_utf8_feed(ss_utf8 *state, const char *data, size_t length) {
    size_t at = 0;
    while (at < length) {
        if (!state->left) {
            at += ascii_prefix(data + at, length - at);
            if (at == length)
                break;
            if (!begin(state, (unsigned char)data[at++]))
                return false;
            continue;
        }
        unsigned char next = (unsigned char)data[at++];
        if (next < state->least || next > state->most)
            return false;
        state->left--;
        state->least = 0x80;
        state->most = 0xBF;
    }
    return true;
}
