/* Any bytes are read as a client's frames, or refused with a documented close
 * code, or wait for more; and offering them in other pieces changes nothing,
 * the unmasked payloads and the place of the first bad byte of a text included. */
#include "exact.h"
#include "websocket/frame.h"

enum { MAX_SIZE = 8192 };

struct result {
    int answer;        /* SS_NEED_DATA, or SS_ERROR */
    unsigned code;     /* enum ss_ws_code */
    uint32_t frames;
    uint32_t consumed; /* bytes that were understood; of a bad text those before its bad byte */
    uint32_t payload_length;
    char payload[MAX_SIZE];
};

/* What is known of the frame that is being read. */
struct reader {
    ss_ws_header header;
    ss_utf8 utf8;
    uint64_t left;
    size_t phase;
    bool in_frame, deflate;
};

static void refuse(struct result *result, unsigned code) {
    result->answer = SS_ERROR;
    result->code = code;
}

static void check_header(const ss_ws_header *header, uint32_t there, bool deflate) {
    must(header->size >= 6 && header->size <= SS_WS_LONGEST_HEADER && header->size <= there,
         "a header lies in the bytes");
    must(header->opcode <= SS_WS_BINARY || (header->opcode >= SS_WS_CLOSE && header->opcode <= SS_WS_PONG),
         "an opcode is known");
    must(header->opcode < SS_WS_CLOSE || (header->fin && header->length <= SS_WS_MOST_CONTROL),
         "a control frame is whole and small");
    must(!header->compressed || (deflate && (header->opcode == SS_WS_TEXT || header->opcode == SS_WS_BINARY)),
         "only what was agreed is compressed");
    char written[16];
    must(ss_ws_header_put(written, 0x80 | header->opcode, header->length) + 4 == header->size,
         "a length that was read is in its shortest form");
}

static void begin_frame(struct reader *reader, const char *bytes, uint32_t there, struct result *result) {
    uint32_t length = there - result->consumed;
    char *copy = exact_copy(bytes + result->consumed, length);
    result->answer = ss_ws_header_parse(&reader->header, (unsigned char *)copy, length, reader->deflate);
    free(copy);
    if (result->answer == SS_ERROR)
        refuse(result, SS_WS_PROTOCOL_ERROR);
    if (result->answer != SS_OK)
        return;
    check_header(&reader->header, length, reader->deflate);
    result->consumed += reader->header.size;
    result->frames++;
    reader->left = reader->header.length;
    reader->phase = 0;
    reader->utf8 = (ss_utf8){0};
    reader->in_frame = true;
}

/* Bytes that were unmasked, one way and in place. */
static void unmask(const struct reader *reader, const char *bytes, size_t length, char *into) {
    char *copy = exact_copy(bytes, length);
    ss_ws_unmask(into, bytes, length, reader->header.mask, reader->phase);
    ss_ws_unmask(copy, copy, length, reader->header.mask, reader->phase);
    must(memcmp(copy, into, length) == 0, "unmasking in place gives the same");
    for (size_t i = 0; i < length; i++)
        must(into[i] == (char)(bytes[i] ^ (char)reader->header.mask[(reader->phase + i) & 3]), "unmasking is XOR");
    free(copy);
}

static void read_payload(struct reader *reader, const char *bytes, uint32_t there, struct result *result) {
    size_t length = there - result->consumed;
    length = length > reader->left ? (size_t)reader->left : length;
    char *into = result->payload + result->payload_length;
    unmask(reader, bytes + result->consumed, length, into);
    bool text = reader->header.opcode == SS_WS_TEXT && !reader->header.compressed;
    ss_utf8 before = reader->utf8;
    if (text && !ss_utf8_feed(&reader->utf8, into, length)) {
        for (length = 0; ss_utf8_feed(&before, into + length, 1); length++)
            ;
        refuse(result, SS_WS_BAD_DATA);
    }
    result->consumed += (uint32_t)length;
    result->payload_length += (uint32_t)length;
    if (result->answer == SS_ERROR)
        return;
    reader->phase += length;
    reader->left -= length;
    if (reader->left)
        result->answer = SS_NEED_DATA;
    else if (text && reader->header.fin && !ss_utf8_complete(&reader->utf8))
        refuse(result, SS_WS_BAD_DATA);
    else
        reader->in_frame = false;
}

/* Reads what is there until more is needed, or it is refused. */
static void decode(struct reader *reader, const char *bytes, uint32_t there, struct result *result) {
    result->answer = SS_OK;
    while (result->answer == SS_OK) {
        if (!reader->in_frame)
            begin_frame(reader, bytes, there, result);
        else
            read_payload(reader, bytes, there, result);
    }
}

/* Offers the first bytes, and `stride` more each time. */
static void parse(const char *bytes, uint32_t length, uint32_t first, uint32_t stride, struct result *result) {
    struct reader reader = {.deflate = length & 1};
    uint32_t there = first;
    result->code = result->frames = result->consumed = result->payload_length = 0;
    decode(&reader, bytes, there, result);
    while (result->answer == SS_NEED_DATA && there < length) {
        there = length - there < stride ? length : there + stride;
        decode(&reader, bytes, there, result);
    }
}

static int same(const struct result *one, const struct result *other) {
    return one->answer == other->answer && one->code == other->code && one->frames == other->frames &&
           one->consumed == other->consumed && one->payload_length == other->payload_length &&
           memcmp(one->payload, other->payload, one->payload_length) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct result whole, pieces;
    const char *bytes = (const char *)data;
    if (size > MAX_SIZE)
        return 0;
    uint32_t length = (uint32_t)size;
    parse(bytes, length, length, 1, &whole);
    must(whole.answer == SS_NEED_DATA || whole.code == SS_WS_PROTOCOL_ERROR || whole.code == SS_WS_BAD_DATA,
         "a refusal is documented");

    /* Strides grow so that a long input does not cost the square of its length. */
    parse(bytes, length, 0, 1 + length / 512, &pieces);
    must(same(&whole, &pieces), "small pieces change nothing");
    for (uint32_t cut = 0; cut < length; cut += 1 + length / 64) {
        parse(bytes, length, cut, length, &pieces);
        must(same(&whole, &pieces), "one cut changes nothing");
    }
    return 0;
}
