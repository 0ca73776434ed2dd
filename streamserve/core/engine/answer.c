/* The commonest acknowledgement, one text in the default namespace, made where it is sent: 43 id ["text"]. */

#include "engine/engine.h"
#include "websocket/websocket.h"

#define MOST_DIGITS_OF_AN_ID 19

/* Is every byte one that JSON holds as it is? Told without a branch, so that the compiler takes many at a time. */
static bool is_plain(const char *text, size_t length) {
    unsigned other = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        other |= (unsigned)(byte < ' ') | (unsigned)(byte > '~') | (unsigned)(byte == '"') | (unsigned)(byte == '\\');
    }
    return !other;
}

static char *put_number(char *into, uint64_t number) {
    char digits[MOST_DIGITS_OF_AN_ID];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    while (count)
        *into++ = digits[--count];
    return into;
}

int64_t ss_engine_acknowledge(ss_loop *loop, int64_t handle, int64_t id, const char *text, int64_t length) {
    char packet[SS_ENGINE_MOST_TEXT + MOST_DIGITS_OF_AN_ID + sizeof "43[\"\"]"];
    if (id < 0 || length < 0 || length > SS_ENGINE_MOST_TEXT || !is_plain(text, (size_t)length))
        return SS_MISUSE;
    char *end = packet;
    *end++ = '4';
    *end++ = '3';
    end = put_number(end, (uint64_t)id);
    *end++ = '[';
    *end++ = '"';
    memcpy(end, text, (size_t)length);
    end += length;
    *end++ = '"';
    *end++ = ']';
    return ss_ws_send(loop, handle, SS_WS_TEXT, packet, end - packet, 0);
}
