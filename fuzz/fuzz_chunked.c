/* Any bytes are decoded as a chunked body, or refused with a documented
 * refusal, or wait for more; and offering them in other pieces changes nothing,
 * the body included. */
#include "api/api.h"
#include "exact.h"

enum { MAX_SIZE = 8192 };

struct result {
    int answer;
    int refusal;
    uint32_t consumed;
    uint32_t body_length;
    char body[MAX_SIZE];
};

/* Decodes what is there until more is needed, the body ends, or it is refused. */
static void decode(ss_chunked *chunked, const char *bytes, uint32_t there, struct result *result) {
    do {
        ss_span piece;
        uint32_t used, length = there - result->consumed;
        char *copy = exact_copy(bytes + result->consumed, length);
        result->answer = ss_chunked_next(chunked, copy, length, &used, &piece);
        must(used <= length, "no more is used than there is");
        must(piece.length == 0 ||
                 (result->answer == SS_OK && piece.length <= used && piece.offset <= used - piece.length),
             "a piece lies in the bytes that were used");
        must(result->answer != SS_OK || piece.length > 0 || chunked->done, "an empty piece is the end");
        if (piece.length)
            memcpy(result->body + result->body_length, copy + piece.offset, piece.length);
        result->body_length += piece.length;
        result->consumed += used;
        free(copy);
    } while (result->answer == SS_OK && !chunked->done);
    result->refusal = chunked->refusal;
}

/* Offers the first bytes, and `stride` more each time. */
static void parse(const char *bytes, uint32_t length, uint32_t first, uint32_t stride, struct result *result) {
    ss_chunked chunked;
    uint32_t there = first;
    ss_chunked_init(&chunked);
    result->consumed = result->body_length = 0;
    decode(&chunked, bytes, there, result);
    while (result->answer == SS_NEED_DATA && there < length) {
        there = length - there < stride ? length : there + stride;
        decode(&chunked, bytes, there, result);
    }
}

static int same(const struct result *one, const struct result *other) {
    /* What a refused body consumed is nobody's business: nothing follows it. */
    return one->answer == other->answer && one->refusal == other->refusal && one->body_length == other->body_length &&
           memcmp(one->body, other->body, one->body_length) == 0 &&
           (one->answer == SS_ERROR || one->consumed == other->consumed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct result whole, pieces;
    const char *bytes = (const char *)data;
    if (size > MAX_SIZE)
        return 0;
    uint32_t length = (uint32_t)size;
    parse(bytes, length, length, 1, &whole);
    if (whole.answer == SS_ERROR)
        must(ss_refusal_status(whole.refusal) == 400, "a refusal is documented");
    else
        must(whole.refusal == SS_REFUSAL_NONE, "nothing is refused without saying so");

    /* Strides grow so that a long input does not cost the square of its length. */
    parse(bytes, length, 0, 1 + length / 512, &pieces);
    must(same(&whole, &pieces), "small pieces change nothing");
    for (uint32_t cut = 0; cut < length; cut += 1 + length / 64) {
        parse(bytes, length, cut, length, &pieces);
        must(same(&whole, &pieces), "one cut changes nothing");
    }
    return 0;
}
