/* What the fuzz targets share: they run without the server and without Python. */
#ifndef FUZZ_EXACT_H
#define FUZZ_EXACT_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The entry that libFuzzer and replay.c call; each target defines it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy that ends where the bytes end, so that ASan sees a look beyond. */
static inline char *exact_copy(const char *bytes, size_t length) {
    char *copy = malloc(length ? length : 1);
    if (copy == NULL)
        abort();
    if (length)
        memcpy(copy, bytes, length);
    return copy;
}

/* Not assert(): a fuzz target that NDEBUG switches off tests nothing. */
static inline void must(int holds, const char *sentence) {
    if (holds)
        return;
    fprintf(stderr, "broken: %s\n", sentence);
    abort();
}

#endif
