/* A bounded memory of byte strings that clients repeat: header blocks, targets.
 *
 * Python keeps what it made of entry N (an environ template, a decoded path)
 * under N. A slot that a running request names must not change under it, so
 * requests pin their entries, and a victim is chosen among the unpinned. An
 * entry is added only after Python has built its side, never before: a hit can
 * not name something that Python does not have. Bytes are always compared; the
 * hash only chooses the set, so collisions cost speed and nothing else. */

#include "http/http.h"

#include <stdlib.h>

/* Eight bytes a step; not keyed, because a collision is harmless here. */
static uint64_t hash_bytes(const char *bytes, uint32_t length) {
    const uint64_t prime = UINT64_C(0x9E3779B97F4A7C15);
    uint64_t hash = length * prime;
    uint64_t word;
    while (length >= 8) {
        memcpy(&word, bytes, 8);
        hash = (hash ^ word) * prime;
        hash ^= hash >> 32;
        bytes += 8;
        length -= 8;
    }
    word = 0;
    memcpy(&word, bytes, length);
    hash = (hash ^ word) * prime;
    return hash ^ hash >> 29;
}

int ss_memo_init(ss_memo *memo, uint32_t capacity) {
    uint32_t size = SS_MEMO_WAYS;
    *memo = (ss_memo){0};
    if (capacity == 0)
        return SS_OK;
    while (size < capacity && size < (1u << SS_PAGE_SHIFT))
        size *= 2;
    memo->entries = calloc(size, sizeof *memo->entries);
    if (!memo->entries)
        return SS_NOMEM;
    memo->capacity = size;
    return SS_OK;
}

void ss_memo_clear(ss_memo *memo) {
    for (uint32_t i = 0; i < memo->capacity; i++)
        free(memo->entries[i].bytes);
    free(memo->entries);
    *memo = (ss_memo){0};
}

/* Requests may hold entries, so these stay; but none is found any more. */
void ss_memo_forget(ss_memo *memo) {
    for (uint32_t i = 0; i < memo->capacity; i++) {
        memo->entries[i].length = 0;
        memo->entries[i].generation++;
    }
}

static ss_memo_entry *set_of(ss_memo *memo, uint64_t hash) {
    return &memo->entries[(hash & (memo->capacity - 1)) & ~(uint64_t)(SS_MEMO_WAYS - 1)];
}

static ss_memo_entry *find_hashed(ss_memo *memo, const char *bytes, uint32_t length, uint8_t minor, uint64_t hash) {
    ss_memo_entry *set = set_of(memo, hash);
    for (uint32_t way = 0; way < SS_MEMO_WAYS; way++) {
        ss_memo_entry *entry = &set[way];
        if (entry->bytes && entry->hash == hash && entry->length == length && entry->minor == minor &&
            memcmp(entry->bytes, bytes, length) == 0) {
            entry->used = ++memo->tick;
            return entry;
        }
    }
    return NULL;
}

ss_memo_entry *ss_memo_find(ss_memo *memo, const char *bytes, uint32_t length, uint8_t minor) {
    if (!memo->capacity)
        return NULL;
    return find_hashed(memo, bytes, length, minor, hash_bytes(bytes, length));
}

/* Returns the entry that now holds the bytes, or NULL: all of its set is in use. */
ss_memo_entry *ss_memo_add(ss_memo *memo, const char *bytes, uint32_t length, uint8_t minor) {
    if (!memo->capacity)
        return NULL;
    uint64_t hash = hash_bytes(bytes, length);
    ss_memo_entry *victim = find_hashed(memo, bytes, length, minor, hash);
    if (victim)
        return victim; /* a twin request was quicker */
    ss_memo_entry *set = set_of(memo, hash);
    for (uint32_t way = 0; way < SS_MEMO_WAYS; way++) {
        ss_memo_entry *entry = &set[way];
        if (entry->pins)
            continue;
        if (!victim || !entry->bytes || (victim->bytes && entry->used < victim->used))
            victim = entry;
    }
    if (!victim)
        return NULL;
    char *copy = malloc(length ? length : 1);
    if (!copy)
        return NULL;
    memcpy(copy, bytes, length);
    memo->filled += victim->bytes == NULL;
    free(victim->bytes);
    *victim = (ss_memo_entry){
        .hash = hash,
        .bytes = copy,
        .length = length,
        .generation = victim->generation + 1,
        .used = ++memo->tick,
        .minor = minor,
    };
    return victim;
}
