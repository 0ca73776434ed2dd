/* Choices of a fuzz target that its input decides: the same bytes make the same ones. */
#ifndef FUZZ_CHOICE_H
#define FUZZ_CHOICE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct choice {
    uint64_t state;
};

/* FNV-1a: any byte changes all that follows. xorshift may not start at zero. */
static inline struct choice choice_of(const uint8_t *data, size_t size) {
    uint64_t state = UINT64_C(0xcbf29ce484222325);
    for (size_t at = 0; at < size; at++)
        state = (state ^ data[at]) * UINT64_C(0x100000001b3);
    return (struct choice){state | 1};
}

/* 0 to count - 1. xorshift64: good enough, and the same on every machine. */
static inline size_t choose(struct choice *choice, size_t count) {
    choice->state ^= choice->state << 13;
    choice->state ^= choice->state >> 7;
    choice->state ^= choice->state << 17;
    return (size_t)(choice->state % count);
}

static inline bool one_in(struct choice *choice, size_t count) {
    return !choose(choice, count);
}

#endif
