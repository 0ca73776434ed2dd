/* Header fields: their grammar, and the meaning of the seven that decide where
 * the body ends and what becomes of the connection. All others pass unread.
 *
 * A name is compared as sent, so `Content_Length` is an unknown field here:
 * only the mapping to environ, which Python does, would make the two equal. */
#include "http/http1.h"

/* Bits of ss_http1.seen. */
enum {
    SEEN_HOST = 1,
    SEEN_CONTENT_TYPE = 2,
    SEEN_CODING = 4,
    SEEN_OTHER_CODING = 8,  /* one that is not chunked */
    SEEN_UPGRADE = 16,      /* Upgrade names a protocol */
    SEEN_UPGRADE_OPTION = 32 /* Connection lists upgrade */
};

enum { MAX_LENGTH_DIGITS = 19 }; /* 2^63-1 has as many, and 10^19-1 fits uint64_t */

/* Is there a byte below 0x20, or DEL, among these eight? A difference borrows
 * from the next byte only behind a byte that is itself suspicious, so a clean
 * answer is certain. Suspicion is not (HTAB is allowed): the table settles it. */
static int eight_suspicious(const char *bytes) {
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones * 0x80;
    uint64_t word, del;
    memcpy(&word, bytes, sizeof word);
    del = word ^ (ones * 0x7f);
    return (((word - ones * 0x20) & ~word & tops) | ((del - ones) & ~del & tops)) != 0;
}

/* Values are most of the bytes of a head, hence eight at a time. */
static int value_valid(ss_text value) {
    while (value.length >= 8) {
        if (eight_suspicious(value.bytes) && ss_run((ss_text){value.bytes, 8}, SS_VALUE) != 8)
            return 0;
        value = ss_after(value, 8);
    }
    return ss_run(value, SS_VALUE) == value.length;
}

int ss_field_split(ss_text line, ss_text *name, ss_text *value) {
    if (ss_is(line.bytes[0], SS_BLANK))
        return SS_OBS_FOLD;
    uint32_t length = ss_run(line, SS_TOKEN);
    if (length == 0 || length == line.length || line.bytes[length] != ':')
        return SS_BAD_FIELD_NAME;
    *name = (ss_text){line.bytes, length};
    *value = ss_trim(ss_after(line, length + 1));
    return value_valid(*value) ? SS_REFUSAL_NONE : SS_BAD_FIELD_VALUE;
}

static int note_host(ss_http1 *head, ss_text value) {
    if (head->seen & SEEN_HOST)
        return SS_BAD_HOST;
    head->seen |= SEEN_HOST;
    if (value.length == 0)
        return SS_REFUSAL_NONE; /* ss_fields_judge knows whether it may */
    head->framing.flags |= SS_HOST;
    return ss_authority_valid(value, 0) ? SS_REFUSAL_NONE : SS_BAD_HOST;
}

static int note_content_type(ss_http1 *head) {
    if (head->seen & SEEN_CONTENT_TYPE)
        return SS_DUPLICATE_FIELD;
    head->seen |= SEEN_CONTENT_TYPE;
    return SS_REFUSAL_NONE;
}

/* One field with one number. RFC 9112 lets equal repeats collapse; who repeats
 * it is probing for a server that reads the other one. */
static int note_content_length(ss_http1 *head, ss_text value) {
    if (head->framing.flags & SS_HAS_LENGTH)
        return SS_BAD_CONTENT_LENGTH;
    if (value.length == 0 || value.length > MAX_LENGTH_DIGITS || ss_run(value, SS_DIGIT) != value.length)
        return SS_BAD_CONTENT_LENGTH;
    uint64_t number = 0;
    for (uint32_t at = 0; at < value.length; at++)
        number = number * 10 + (uint64_t)(value.bytes[at] - '0');
    if (number > INT64_MAX)
        return SS_BAD_CONTENT_LENGTH;
    head->framing.flags |= SS_HAS_LENGTH;
    head->framing.content_length = number;
    return SS_REFUSAL_NONE;
}

/* Several lines are one list. An empty element, a parameter, a quoted word or
 * anything behind chunked has no honest use. */
static int note_coding(ss_http1 *head, ss_text value) {
    ss_text coding;
    int more;
    head->seen |= SEEN_CODING;
    do {
        more = ss_list_next(&value, &coding);
        if (coding.length == 0 || ss_run(coding, SS_TOKEN) != coding.length)
            return SS_BAD_CODING;
        if (head->framing.flags & SS_CHUNKED)
            return SS_BAD_CODING;
        if (ss_same(coding, "chunked", 7))
            head->framing.flags |= SS_CHUNKED;
        else
            head->seen |= SEEN_OTHER_CODING;
    } while (more);
    return SS_REFUSAL_NONE;
}

static void note_connection(ss_http1 *head, ss_text value) {
    ss_text option;
    int more;
    do {
        more = ss_list_next(&value, &option);
        if (ss_same(option, "close", 5))
            head->framing.flags |= SS_CLOSE;
        else if (ss_same(option, "keep-alive", 10))
            head->framing.flags |= SS_KEEP_ALIVE;
        else if (ss_same(option, "upgrade", 7))
            head->seen |= SEEN_UPGRADE_OPTION;
    } while (more);
}

/* A list, of which elements may be empty, and all of them (RFC 9110 section 5.6.1). HTTP/1.0 knows neither Expect nor Upgrade: RFC 9110 sections 10.1.1, 7.8. */
static int note_expect(ss_http1 *head, ss_text value) {
    ss_text expectation;
    int more = 1;
    if (head->minor == 0)
        return SS_REFUSAL_NONE;
    while (more) {
        more = ss_list_next(&value, &expectation);
        if (expectation.length == 0)
            continue;
        if (!ss_same(expectation, "100-continue", 12))
            return SS_EXPECTATION_FAILED;
        head->framing.flags |= SS_EXPECT;
    }
    return SS_REFUSAL_NONE;
}

static void note_upgrade(ss_http1 *head, ss_text value) {
    if (value.length > 0 && head->minor > 0)
        head->seen |= SEEN_UPGRADE;
}

/* The seven names differ in length, so one comparison settles each field. */
int ss_field_note(ss_http1 *head, ss_text line) {
    ss_text name, value;
    int refusal = ss_field_split(line, &name, &value);
    if (refusal)
        return refusal;
    switch (name.length) {
    case 4:
        return ss_same(name, "host", 4) ? note_host(head, value) : SS_REFUSAL_NONE;
    case 6:
        return ss_same(name, "expect", 6) ? note_expect(head, value) : SS_REFUSAL_NONE;
    case 7:
        if (ss_same(name, "upgrade", 7))
            note_upgrade(head, value);
        return SS_REFUSAL_NONE;
    case 10:
        if (ss_same(name, "connection", 10))
            note_connection(head, value);
        return SS_REFUSAL_NONE;
    case 12:
        return ss_same(name, "content-type", 12) ? note_content_type(head) : SS_REFUSAL_NONE;
    case 14:
        return ss_same(name, "content-length", 14) ? note_content_length(head, value) : SS_REFUSAL_NONE;
    case 17:
        return ss_same(name, "transfer-encoding", 17) ? note_coding(head, value) : SS_REFUSAL_NONE;
    default:
        return SS_REFUSAL_NONE;
    }
}

static int judge_coding(const ss_http1 *head) {
    if (!(head->seen & SEEN_CODING))
        return SS_REFUSAL_NONE;
    if (head->framing.flags & SS_HAS_LENGTH)
        return SS_LENGTH_AND_CODING;
    if (head->minor == 0 || !(head->framing.flags & SS_CHUNKED))
        return SS_BAD_CODING;
    return head->seen & SEEN_OTHER_CODING ? SS_UNKNOWN_CODING : SS_REFUSAL_NONE;
}

/* An empty Host says that the target has no authority: then it may not have
 * one. A missing Host is excused in HTTP/1.0 only. */
static int judge_host(const ss_http1 *head) {
    if (head->framing.flags & SS_HOST)
        return SS_REFUSAL_NONE;
    int authority = head->target_form == SS_ABSOLUTE_FORM || head->target_form == SS_AUTHORITY_FORM;
    if (head->seen & SEEN_HOST)
        return authority ? SS_BAD_HOST : SS_REFUSAL_NONE;
    return head->minor > 0 ? SS_BAD_HOST : SS_REFUSAL_NONE;
}

int ss_fields_judge(ss_http1 *head) {
    const unsigned both = SEEN_UPGRADE | SEEN_UPGRADE_OPTION;
    if ((head->seen & both) == both)
        head->framing.flags |= SS_UPGRADE;
    int refusal = judge_coding(head);
    return refusal ? refusal : judge_host(head);
}
