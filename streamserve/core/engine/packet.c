/* Which packet a text message holds: "4" message, "2" event or "3" acknowledgement, [namespace ","] [id] array.
 *
 * Only what is plainly so is told apart. Whatever is unusual (a long id, a query behind the namespace, a leading zero)
 * is left to Python, which knows how to refuse it. */

#include "engine/engine.h"

#include <string.h>

#define MOST_ID_DIGITS 9
#define LONGEST_NAMESPACE 512

/* The length of "/name," at the start of data; 0: there is none, or not a plain one. */
static size_t namespace_length(const char *data, size_t length) {
    if (length == 0 || *data != '/')
        return 0;
    const char *comma = memchr(data, ',', length < LONGEST_NAMESPACE ? length : LONGEST_NAMESPACE);
    size_t size = comma ? (size_t)(comma - data) + 1 : 0;
    return size && !memchr(data, '?', size) ? size : 0;
}

/* Returns how many digits there are; 0: none, or not a plain number. */
static size_t read_id(int64_t *id, const char *data, size_t length) {
    size_t digits = 0;
    int64_t value = 0;
    while (digits < length && digits <= MOST_ID_DIGITS && data[digits] >= '0' && data[digits] <= '9')
        value = value * 10 + (data[digits++] - '0');
    if (digits == 0 || digits > MOST_ID_DIGITS || (digits > 1 && *data == '0'))
        return 0;
    *id = value;
    return digits;
}

int ss_engine_read(ss_engine_packet *packet, const char *data, int64_t length) {
    if (length == 1 && *data == '3')
        return SS_ENGINE_PONG;
    if (length < 4 || data[0] != '4' || (data[1] != '2' && data[1] != '3'))
        return SS_ENGINE_OTHER;
    int kind = data[1] == '2' ? SS_ENGINE_EVENT : SS_ENGINE_ACK;
    size_t left = (size_t)length - 2, name = namespace_length(data + 2, left);
    int64_t id = -1;
    size_t digits = read_id(&id, data + 2 + name, left - name);
    size_t head = name + digits;
    if (head == left || data[2 + head] != '[' || (kind == SS_ENGINE_ACK && digits == 0))
        return SS_ENGINE_OTHER;
    packet->id = id;
    packet->json = (uint32_t)(2 + head);
    packet->head = name ? (uint32_t)head : 0;
    return kind;
}
