/* Any bytes are an event, an acknowledgement, a pong, or something else; and an event or acknowledgement, put
 * together again from what was read of it, is the bytes that came. */
#include "engine/engine.h"
#include "exact.h"

/* What stands before the array: the types, the namespace with its comma, the id. */
static size_t compose(char *into, int kind, const ss_engine_packet *packet, const char *data) {
    size_t used = 0, name = 0;
    into[used++] = '4';
    into[used++] = kind == SS_ENGINE_EVENT ? '2' : '3';
    if (packet->head) {
        const char *start = data + packet->json - packet->head;
        const char *comma = memchr(start, ',', packet->head);
        must(*start == '/' && comma != NULL, "a namespace begins with a slash and ends with a comma");
        name = (size_t)(comma - start) + 1;
        memcpy(into + used, start, name);
        used += name;
    }
    if (packet->id >= 0)
        used += (size_t)sprintf(into + used, "%lld", (long long)packet->id);
    return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char head[1 << 16];
    ss_engine_packet packet = {0};
    if (size > sizeof head / 2)
        return 0;
    char *copy = exact_copy((const char *)data, size);
    int kind = ss_engine_read(&packet, copy, (int64_t)size);
    must(kind >= SS_ENGINE_EVENT && kind <= SS_ENGINE_OTHER, "every message is of a kind");
    if (kind <= SS_ENGINE_ACK) {
        must(packet.json < size && copy[packet.json] == '[', "an array is there");
        must(packet.head <= SS_ENGINE_HEAD_MASK && packet.head + 2 <= packet.json, "the head lies before it");
        must(packet.id < (1ll << (62 - SS_ENGINE_ID_SHIFT)), "the id fits its place in the record");
        must(kind == SS_ENGINE_EVENT || packet.id >= 0, "an acknowledgement names what it is for");
        size_t length = compose(head, kind, &packet, copy);
        must(length == packet.json && memcmp(head, copy, length) == 0, "nothing of the head is lost");
    }
    free(copy);
    return 0;
}
