/* Runs a fuzz target over the files of its corpus, and over mutations of them.
 *
 *   replay_http1 corpus/http1                        every file once
 *   replay_http1 --mutate 100000 7 corpus/http1      and 100000 mutations, seed 7
 *
 * libFuzzer does this better, but it comes with clang; this runs wherever gcc
 * does. The same seed makes the same mutations. The input that broke a target
 * is left in ./broken-input: put it into the corpus, with a case in tests/corpus. */
#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include "choice.h"
#include "exact.h"

enum { MAX_FILES = 4096, MAX_FILE = 64 * 1024, MAX_MUTATIONS = 4 };

struct input {
    char *bytes;
    size_t length;
};

static struct input corpus[MAX_FILES];
static size_t corpus_count;
static struct input current; /* what the target has, for the report of an abort */

/* ASan and the targets end with SIGABRT; only write() is safe here. */
static void leave_input(int signal_number) {
    FILE *file = fopen("broken-input", "wb");
    if (file) {
        fwrite(current.bytes, 1, current.length, file);
        fclose(file);
    }
    static const char words[] = "The input is in broken-input.\n";
    if (write(STDERR_FILENO, words, sizeof words - 1) < 0)
        _exit(1);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void run(const char *bytes, size_t length) {
    current.bytes = exact_copy(bytes, length);
    current.length = length;
    LLVMFuzzerTestOneInput((const uint8_t *)current.bytes, length);
    free(current.bytes);
}

static void load(const char *path) {
    static char bytes[MAX_FILE];
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return;
    size_t length = fread(bytes, 1, sizeof bytes, file);
    if (!ferror(file) && corpus_count < MAX_FILES)
        corpus[corpus_count++] = (struct input){exact_copy(bytes, length), length};
    fclose(file);
}

/* In the order of their names, or a seed would not make the same mutations everywhere. */
static void load_folder(const char *folder) {
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    for (int at = 0; at < count; at++) {
        char path[4096];
        int length = snprintf(path, sizeof path, "%s/%s", folder, entries[at]->d_name);
        if (entries[at]->d_name[0] != '.' && length > 0 && (size_t)length < sizeof path)
            load(path);
        free(entries[at]);
    }
    if (count >= 0)
        free(entries);
}

/* Overwrites, inserts, deletes, cuts, or takes a stretch from another file. */
static size_t mutate_once(struct choice *state, char *bytes, size_t length, size_t capacity) {
    static const char likely[] = "\r\n\t :,;=\"\\/*0159aAfFxX%#@[]\x7f\x80\xff\0"; /* the final NUL counts */
    size_t at = choose(state, length + 1);
    char byte = choose(state, 4) ? likely[choose(state, sizeof likely)] : (char)choose(state, 256);
    switch (choose(state, 5)) {
    case 0:
        if (at < length)
            bytes[at] = byte;
        return length;
    case 1:
        if (length == capacity)
            return length;
        memmove(bytes + at + 1, bytes + at, length - at);
        bytes[at] = byte;
        return length + 1;
    case 2: {
        size_t gone = choose(state, 8);
        gone = gone < length - at ? gone : length - at;
        memmove(bytes + at, bytes + at + gone, length - at - gone);
        return length - gone;
    }
    case 3:
        return choose(state, 4) ? length : at;
    default: {
        const struct input *other = &corpus[choose(state, corpus_count)];
        size_t from = choose(state, other->length + 1), stretch = choose(state, other->length - from + 1);
        stretch = stretch < capacity - at ? stretch : capacity - at;
        memcpy(bytes + at, other->bytes + from, stretch);
        return at + stretch > length ? at + stretch : length;
    }
    }
}

static void run_mutations(unsigned long count, uint64_t seed) {
    static char bytes[MAX_FILE];
    struct choice state = {seed * UINT64_C(0x9e3779b97f4a7c15) | 1}; /* xorshift may not start at zero */
    for (unsigned long done = 0; done < count; done++) {
        const struct input *from = &corpus[choose(&state, corpus_count)];
        size_t length = from->length;
        memcpy(bytes, from->bytes, length);
        for (size_t left = 1 + choose(&state, MAX_MUTATIONS); left > 0; left--)
            length = mutate_once(&state, bytes, length, sizeof bytes);
        run(bytes, length);
    }
}

int main(int count, char **words) {
    unsigned long mutations = 0;
    uint64_t seed = 0;
    int at = 1;
    if (count > 3 && strcmp(words[1], "--mutate") == 0) {
        mutations = strtoul(words[2], NULL, 10);
        seed = strtoull(words[3], NULL, 10);
        at = 4;
    }
    if (at >= count) {
        fprintf(stderr, "usage: %s [--mutate COUNT SEED] FOLDER...\n", words[0]);
        return 2;
    }
    for (; at < count; at++)
        load_folder(words[at]);
    if (corpus_count == 0) {
        fprintf(stderr, "%s: no corpus file found\n", words[0]);
        return 1;
    }
    signal(SIGABRT, leave_input);
    for (size_t file = 0; file < corpus_count; file++)
        run(corpus[file].bytes, corpus[file].length);
    run_mutations(mutations, seed);
    printf("%s: %zu corpus files, %lu mutations\n", words[0], corpus_count, mutations);
    for (size_t file = 0; file < corpus_count; file++)
        free(corpus[file].bytes);
    return 0;
}
