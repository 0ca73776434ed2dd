/* HTTP/1 request heads, line by line.
 *
 * A head that comes in pieces must not cost more than one that comes whole,
 * and must not mean something else. Both follow from one rule: nothing is
 * decided about a line before its LF is there. The search for the LF continues
 * where it stopped (`scanned`), a complete line is read once, and every
 * refusal depends on complete lines alone.
 *
 * The exception is a line that has no LF within its limit. The search window
 * ends at the limit, so what stands behind it is never looked at: a line that
 * is too long is refused for that and for nothing else, no matter how much of
 * it is already here. A client that speaks TLS is recognised before its first
 * line ends, since there may be none. */
#include "http/http1.h"

enum { MAX_METHOD = 32 };

/* The value of ss_http1.stage. */
enum { AT_START = 0, AFTER_EMPTY_LINE, IN_FIELDS, AT_END };

void ss_http1_init(ss_http1 *head) {
    memset(head, 0, sizeof *head);
}

static int refuse(ss_http1 *head, int refusal) {
    head->refusal = (uint16_t)refusal;
    return SS_ERROR;
}

/* A CR inside a line breaks the rule of whatever part it stands in. For the
 * reader of the log the line end is the better name for it. */
static int refuse_line(ss_http1 *head, ss_text line, int refusal) {
    int bare_cr = memchr(line.bytes, '\r', line.length) != NULL;
    return refuse(head, bare_cr ? SS_BAD_LINE_END : refusal);
}

/* Takes the next line, without its CRLF. Its LF must stand before offset
 * `limit`, else the head is refused as `too_long`. */
static int next_line(ss_http1 *head, ss_text data, uint64_t limit, int too_long, ss_text *line) {
    uint32_t window = data.length < limit ? data.length : (uint32_t)limit;
    const char *lf = NULL;
    if (head->scanned < window)
        lf = memchr(data.bytes + head->scanned, '\n', window - head->scanned);
    if (lf == NULL) {
        if (head->scanned < window)
            head->scanned = window;
        return data.length < limit ? SS_NEED_DATA : refuse(head, too_long);
    }
    uint32_t at = (uint32_t)(lf - data.bytes);
    if (at == head->line || lf[-1] != '\r')
        return refuse(head, SS_BAD_LINE_END);
    *line = (ss_text){data.bytes + head->line, at - 1 - head->line};
    head->line = head->scanned = at + 1;
    return SS_OK;
}

static uint8_t method_id(ss_text method) {
    static const struct {
        ss_text name;
        uint8_t id;
    } methods[] = {
        {{"GET", 3}, SS_GET},     {{"POST", 4}, SS_POST},       {{"HEAD", 4}, SS_HEAD},
        {{"PUT", 3}, SS_PUT},     {{"DELETE", 6}, SS_DELETE},   {{"OPTIONS", 7}, SS_OPTIONS},
        {{"PATCH", 5}, SS_PATCH}, {{"CONNECT", 7}, SS_CONNECT}, {{"TRACE", 5}, SS_TRACE},
    };
    for (size_t at = 0; at < sizeof methods / sizeof *methods; at++) {
        ss_text name = methods[at].name;
        if (method.length == name.length && memcmp(method.bytes, name.bytes, name.length) == 0)
            return methods[at].id;
    }
    return SS_METHOD_OTHER;
}

static int read_version(ss_http1 *head, ss_text version) {
    if (version.length != 8 || memcmp(version.bytes, "HTTP/", 5) != 0 || !ss_is(version.bytes[5], SS_DIGIT) ||
        version.bytes[6] != '.' || !ss_is(version.bytes[7], SS_DIGIT))
        return SS_BAD_VERSION;
    /* HTTP/0.9 had no version to send: who writes it sends garbage. */
    if (version.bytes[5] != '1')
        return version.bytes[5] == '0' ? SS_BAD_VERSION : SS_VERSION_UNSUPPORTED;
    head->minor = (uint8_t)(version.bytes[7] - '0');
    return SS_REFUSAL_NONE;
}

/* Cuts the line at its two spaces. */
static int split_request_line(ss_text line, ss_text *method, ss_text *target, ss_text *version) {
    ss_text *const parts[2] = {method, target};
    for (int part = 0; part < 2; part++) {
        const char *space = line.length ? memchr(line.bytes, ' ', line.length) : NULL;
        if (space == NULL || space == line.bytes)
            return SS_BAD_REQUEST_LINE;
        *parts[part] = (ss_text){line.bytes, (uint32_t)(space - line.bytes)};
        line = ss_after(line, parts[part]->length + 1);
    }
    *version = line;
    return line.length == 0 || memchr(line.bytes, ' ', line.length) ? SS_BAD_REQUEST_LINE : SS_REFUSAL_NONE;
}

static int read_request_line(ss_http1 *head, const char *data, ss_text line) {
    ss_text method, target, version;
    int refusal = split_request_line(line, &method, &target, &version);
    if (refusal)
        return refusal;
    if (method.length > MAX_METHOD || ss_run(method, SS_TOKEN) != method.length)
        return SS_BAD_METHOD;
    /* The version comes before the target: another version has other targets
     * ("PRI * HTTP/2.0"), and 505 is the answer that helps. */
    refusal = read_version(head, version);
    if (refusal)
        return refusal;
    head->method = (ss_span){(uint32_t)(method.bytes - data), method.length};
    head->target = (ss_span){(uint32_t)(target.bytes - data), target.length};
    head->method_id = method_id(method);
    return ss_target_check(head->method_id, target, &head->target_form);
}

/* A TLS record that holds a handshake: the client asks for https. Two bytes settle it, before any line is complete: no
 * method begins so. */
static int is_tls_hello(const ss_http1 *head, const char *data, uint32_t length) {
    return head->stage == AT_START && length >= 2 && data[0] == 0x16 && data[1] == 0x03;
}

/* A request line without an end: the better name for why it is refused. One that is too long is all here up to its limit. */
static int unfinished_line(ss_http1 *head, ss_text data, const ss_http1_limits *limits, int answer) {
    if (is_tls_hello(head, data.bytes, data.length))
        return refuse(head, SS_TLS_HELLO);
    if (head->refusal == SS_LINE_TOO_LONG && limits->max_line > MAX_METHOD &&
        memchr(data.bytes + head->line, ' ', MAX_METHOD + 1) == NULL)
        return refuse(head, SS_BAD_METHOD); /* it is not the target that is too long (RFC 9112 section 3) */
    return answer;
}

int ss_http1_line(ss_http1 *head, const char *data, uint32_t length, const ss_http1_limits *limits) {
    if (head->refusal)
        return SS_ERROR;
    while (head->stage < IN_FIELDS) {
        uint64_t limit = (uint64_t)head->line + limits->max_line + 2;
        int head_first = limits->max_head < limit;
        ss_text line;
        int answer = next_line(head, (ss_text){data, length}, head_first ? limits->max_head : limit,
                               head_first ? SS_HEAD_TOO_LARGE : SS_LINE_TOO_LONG, &line);
        if (answer != SS_OK)
            return unfinished_line(head, (ss_text){data, length}, limits, answer);
        if (line.length == 0) {
            if (head->stage == AFTER_EMPTY_LINE)
                return refuse(head, SS_BAD_LINE_END);
            head->stage = AFTER_EMPTY_LINE;
            continue;
        }
        int refusal = read_request_line(head, data, line);
        if (refusal && is_tls_hello(head, data, length))
            return refuse(head, SS_TLS_HELLO);
        if (refusal)
            return refuse_line(head, line, refusal);
        head->block = head->line;
        head->stage = IN_FIELDS;
    }
    return SS_OK;
}

int ss_http1_fields(ss_http1 *head, const char *data, uint32_t length, const ss_http1_limits *limits) {
    if (head->refusal)
        return SS_ERROR;
    while (head->stage < AT_END) {
        ss_text line;
        int answer = next_line(head, (ss_text){data, length}, limits->max_head, SS_HEAD_TOO_LARGE, &line);
        if (answer != SS_OK)
            return answer;
        if (line.length == 0) {
            int refusal = ss_fields_judge(head);
            if (refusal)
                return refuse(head, refusal);
            head->end = head->line;
            head->stage = AT_END;
            break;
        }
        if (head->framing.fields >= limits->max_fields)
            return refuse(head, SS_TOO_MANY_FIELDS);
        head->framing.fields++;
        int refusal = ss_field_note(head, line);
        if (refusal)
            return refuse_line(head, line, refusal);
    }
    return SS_OK;
}
