/* Any bytes are accepted as a request head, or refused with a documented
 * refusal, or wait for more; and offering them in other pieces changes nothing,
 * the results included. */
#include "api/api.h"
#include "exact.h"

enum { MAX_SIZE = 4096 };

struct result {
    int answer;
    ss_http1 head;
};

static int step(ss_http1 *head, const char *bytes, uint32_t length, const ss_http1_limits *limits) {
    char *copy = exact_copy(bytes, length);
    int answer = ss_http1_line(head, copy, length, limits);
    if (answer == SS_OK)
        answer = ss_http1_fields(head, copy, length, limits);
    free(copy);
    return answer;
}

/* Offers the first bytes, and `stride` more each time. */
static struct result parse(const char *bytes, uint32_t length, uint32_t first, uint32_t stride,
                           const ss_http1_limits *limits) {
    struct result result;
    uint32_t there = first;
    ss_http1_init(&result.head);
    result.answer = step(&result.head, bytes, there, limits);
    while (result.answer == SS_NEED_DATA && there < length) {
        there = length - there < stride ? length : there + stride;
        result.answer = step(&result.head, bytes, there, limits);
    }
    return result;
}

static int same_span(ss_span one, ss_span other) {
    return one.offset == other.offset && one.length == other.length;
}

static int same(const struct result *one, const struct result *other) {
    const ss_http1 *a = &one->head, *b = &other->head;
    if (one->answer != other->answer || a->refusal != b->refusal)
        return 0;
    if (one->answer != SS_OK)
        return 1;
    return same_span(a->method, b->method) && same_span(a->target, b->target) && a->block == b->block &&
           a->end == b->end && a->method_id == b->method_id && a->minor == b->minor &&
           a->target_form == b->target_form && a->framing.flags == b->framing.flags &&
           a->framing.fields == b->framing.fields && a->framing.content_length == b->framing.content_length;
}

static void check_accepted(const ss_http1 *head, uint32_t length, const ss_http1_limits *limits) {
    must(head->end <= length && head->end <= limits->max_head, "an accepted head ends within data and limit");
    must(head->framing.fields <= limits->max_fields, "an accepted head keeps the limit of fields");
    must(head->method.length >= 1 && head->target.length >= 1, "method and target are not empty");
    must(head->method.offset + head->method.length + 1 == head->target.offset, "one space before the target");
    must(head->target.offset + head->target.length + 11 == head->block, "the block begins behind the version");
    must(head->block + 2 <= head->end, "the block ends with an empty line");
    must(head->minor == 0 || head->framing.flags & SS_HOST || head->target_form == SS_ORIGIN_FORM ||
             head->target_form == SS_ASTERISK_FORM,
         "a target with an authority comes with a Host");
    uint32_t framing = head->framing.flags & (SS_HAS_LENGTH | SS_CHUNKED);
    must(framing != (SS_HAS_LENGTH | SS_CHUNKED), "a body has one framing");
    must(framing == SS_HAS_LENGTH || head->framing.content_length == 0, "a length has its flag");
    must(head->framing.content_length <= INT64_MAX, "a length fits a signed number");
}

static void check(const char *bytes, uint32_t length, const ss_http1_limits *limits) {
    struct result whole = parse(bytes, length, length, 1, limits);
    if (whole.answer == SS_ERROR)
        must(ss_refusal_status(whole.head.refusal) >= 400, "a refusal is documented");
    else
        must(whole.head.refusal == SS_REFUSAL_NONE, "nothing is refused without saying so");
    if (whole.answer == SS_OK)
        check_accepted(&whole.head, length, limits);

    /* Strides grow so that a long input does not cost the square of its length. */
    uint32_t stride = 1 + length / 512;
    struct result pieces = parse(bytes, length, 0, stride, limits);
    must(same(&whole, &pieces), "small pieces change nothing");
    for (uint32_t cut = 0; cut < length; cut += 1 + length / 64) {
        pieces = parse(bytes, length, cut, length, limits);
        must(same(&whole, &pieces), "one cut changes nothing");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const ss_http1_limits roomy = {8192, 65536, 100}, tight = {24, 96, 3};
    if (size > MAX_SIZE)
        return 0;
    check((const char *)data, (uint32_t)size, &roomy);
    check((const char *)data, (uint32_t)size, &tight);
    return 0;
}
