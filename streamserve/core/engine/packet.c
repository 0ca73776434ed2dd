/* Which packet a text message holds: "4" message, "2" event or "3" acknowledgement, [namespace ","] [id] array.
 *
 * Only what is plainly so is told apart. Whatever is unusual (a long id, a query behind the namespace, a leading zero,
 * an integer of very many digits) is left to Python, which knows how to refuse it. */

#include "engine/engine.h"

#include <stdbool.h>
#include <string.h>

#define MOST_ID_DIGITS 9
#define LONGEST_NAMESPACE 512
#define EVERY 33
#define SAMPLES (SS_ENGINE_MOST_DIGITS / EVERY)

static bool is_digit(char byte) {
    return byte >= '0' && byte <= '9';
}

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
    while (digits < length && digits <= MOST_ID_DIGITS && is_digit(data[digits]))
        value = value * 10 + (data[digits++] - '0');
    if (digits == 0 || digits > MOST_ID_DIGITS || (digits > 1 && *data == '0'))
        return 0;
    *id = value;
    return digits;
}

/* Is there a run of more digits than an integer may have? A run that long covers three neighbours among every 33rd
 * byte, and only where these are digits is all of it looked at. */
static bool has_long_run(const char *data, size_t length) {
    size_t run = 0, sampled = 0;
    for (size_t at = 0; at < length && sampled < SAMPLES; at += EVERY)
        sampled = is_digit(data[at]) ? sampled + 1 : 0;
    if (sampled < SAMPLES)
        return false;
    for (size_t at = 0; at < length && run <= SS_ENGINE_MOST_DIGITS; at++)
        run = is_digit(data[at]) ? run + 1 : 0;
    return run > SS_ENGINE_MOST_DIGITS;
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
    if (head == left || data[2 + head] != '[' || (kind == SS_ENGINE_ACK && digits == 0) ||
        has_long_run(data + 2 + head, left - head))
        return SS_ENGINE_OTHER;
    packet->id = id;
    packet->json = (uint32_t)(2 + head);
    packet->head = name ? (uint32_t)head : 0;
    return kind;
}
