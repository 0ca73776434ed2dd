/* The chunked transfer coding, RFC 9112 section 7.1.
 *
 * Chunk lines, chunk ends and trailer lines are looked at when they are
 * complete; until then they stay with the caller, at most MAX_LINE + 2 bytes,
 * and the search for the LF continues where it stopped. Body bytes are handed
 * on as they come.
 *
 * Everything a lenient decoder forgives here has been used to smuggle a
 * request past a stricter neighbour, so nothing is forgiven. What is thrown
 * away (extensions, trailers) is bounded, or it would be a free upload. */
#include "http/http1.h"

enum {
    MAX_LINE = 4096,           /* bytes of a chunk or trailer line, without CRLF */
    MAX_EXTENSIONS = 16 * 1024, /* bytes of all extensions of a body */
    MAX_SIZE_DIGITS = 16,      /* behind leading zeros */
    MAX_TRAILER_BYTES = 16 * 1024,
    MAX_TRAILER_FIELDS = 100
};

/* The value of ss_chunked.stage. */
enum { IN_SIZE = 0, IN_DATA, AFTER_DATA, IN_TRAILER, AT_END };

void ss_chunked_init(ss_chunked *chunked) {
    memset(chunked, 0, sizeof *chunked);
}

static int refuse(ss_chunked *chunked, int refusal) {
    chunked->refusal = (uint16_t)refusal;
    return SS_ERROR;
}

/* Takes the first line of rest, without its CRLF, and moves rest behind it. */
static int next_line(ss_chunked *chunked, ss_text *rest, int refusal, ss_text *line) {
    uint32_t window = rest->length < MAX_LINE + 2 ? rest->length : MAX_LINE + 2;
    const char *lf = NULL;
    if (chunked->scanned < window)
        lf = memchr(rest->bytes + chunked->scanned, '\n', window - chunked->scanned);
    if (lf == NULL) {
        if (chunked->scanned < window)
            chunked->scanned = window;
        return window < MAX_LINE + 2 ? SS_NEED_DATA : refuse(chunked, refusal);
    }
    uint32_t at = (uint32_t)(lf - rest->bytes);
    if (at == 0 || lf[-1] != '\r')
        return refuse(chunked, refusal);
    *line = (ss_text){rest->bytes, at - 1};
    *rest = ss_after(*rest, at + 1);
    chunked->scanned = 0;
    return SS_OK;
}

/* Bytes of the quoted string that text begins with, 0 if it does not end. */
static uint32_t quoted_length(ss_text text) {
    for (uint32_t at = 1; at < text.length; at++) {
        if (text.bytes[at] == '"')
            return at + 1;
        if (text.bytes[at] == '\\')
            at++;
        if (at == text.length || !ss_is(text.bytes[at], SS_VALUE))
            return 0;
    }
    return 0;
}

static ss_text skip_blanks(ss_text text) {
    return ss_after(text, ss_run(text, SS_BLANK));
}

/* *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ): blanks have
 * to be read around the two separators, and only there. */
static int extensions_valid(ss_text rest) {
    while (rest.length > 0) {
        rest = skip_blanks(rest);
        if (rest.length == 0 || rest.bytes[0] != ';')
            return 0;
        rest = skip_blanks(ss_after(rest, 1));
        uint32_t name = ss_run(rest, SS_TOKEN);
        if (name == 0)
            return 0;
        rest = ss_after(rest, name);
        ss_text value = skip_blanks(rest);
        if (value.length == 0 || value.bytes[0] != '=')
            continue;
        value = skip_blanks(ss_after(value, 1));
        int quoted = value.length > 0 && value.bytes[0] == '"';
        uint32_t length = quoted ? quoted_length(value) : ss_run(value, SS_TOKEN);
        if (length == 0)
            return 0;
        rest = ss_after(value, length);
    }
    return 1;
}

static int read_size(ss_chunked *chunked, ss_text line) {
    uint32_t digits = ss_run(line, SS_HEX), zeros = 0;
    while (zeros < digits && line.bytes[zeros] == '0')
        zeros++;
    if (digits == 0 || digits - zeros > MAX_SIZE_DIGITS)
        return SS_BAD_CHUNK;
    uint64_t size = 0;
    for (uint32_t at = zeros; at < digits; at++)
        size = size << 4 | ss_hex(line.bytes[at]);
    ss_text extensions = ss_after(line, digits);
    chunked->extensions += extensions.length;
    if (size > INT64_MAX || chunked->extensions > MAX_EXTENSIONS || !extensions_valid(extensions))
        return SS_BAD_CHUNK;
    chunked->left = size;
    chunked->stage = size ? IN_DATA : IN_TRAILER;
    return SS_REFUSAL_NONE;
}

/* Fields that frame, route or authenticate the request: nobody may send them after the fact, RFC 9110 section 6.5.1.
 * Others are harmless, since they are dropped. In lower case; a name with '-' at its end stands for all that begin so. */
static const ss_text forbidden[] = {
    /* the message and its connection */
    {"transfer-encoding", 17},
    {"content-length", 14},
    {"content-encoding", 16},
    {"content-range", 13},
    {"trailer", 7},
    {"te", 2},
    {"connection", 10},
    {"keep-alive", 10},
    {"upgrade", 7},
    {"expect", 6},
    /* where it goes, where it comes from */
    {"host", 4},
    {"max-forwards", 12},
    {"forwarded", 9},
    {"x-forwarded-", 12},
    /* who sends it */
    {"authorization", 13},
    {"proxy-", 6},
    {"cookie", 6},
    {"set-cookie", 10},
};

static int name_forbidden(ss_text name) {
    for (size_t at = 0; at < sizeof forbidden / sizeof *forbidden; at++) {
        ss_text start = name, entry = forbidden[at];
        if (entry.bytes[entry.length - 1] == '-' && start.length > entry.length)
            start.length = entry.length;
        if (ss_same(start, entry.bytes, entry.length))
            return 1;
    }
    return 0;
}

static int read_trailer(ss_chunked *chunked, ss_text line) {
    ss_text name, value;
    chunked->trailer_bytes += line.length + 2;
    chunked->trailer_fields++;
    if (chunked->trailer_bytes > MAX_TRAILER_BYTES || chunked->trailer_fields > MAX_TRAILER_FIELDS)
        return SS_BAD_TRAILER;
    if (ss_field_split(line, &name, &value) || name_forbidden(name))
        return SS_BAD_TRAILER;
    return SS_REFUSAL_NONE;
}

static int read_chunk_line(ss_chunked *chunked, ss_text *rest) {
    ss_text line;
    int answer = next_line(chunked, rest, SS_BAD_CHUNK, &line);
    if (answer != SS_OK)
        return answer;
    int refusal = read_size(chunked, line);
    return refusal ? refuse(chunked, refusal) : SS_OK;
}

static int read_chunk_end(ss_chunked *chunked, ss_text *rest) {
    if ((rest->length > 0 && rest->bytes[0] != '\r') || (rest->length > 1 && rest->bytes[1] != '\n'))
        return refuse(chunked, SS_BAD_CHUNK);
    if (rest->length < 2)
        return SS_NEED_DATA;
    *rest = ss_after(*rest, 2);
    chunked->stage = IN_SIZE;
    return SS_OK;
}

static int read_trailer_line(ss_chunked *chunked, ss_text *rest) {
    ss_text line;
    int answer = next_line(chunked, rest, SS_BAD_TRAILER, &line);
    if (answer != SS_OK)
        return answer;
    if (line.length == 0) {
        chunked->stage = AT_END;
        chunked->done = 1;
        return SS_OK;
    }
    int refusal = read_trailer(chunked, line);
    return refusal ? refuse(chunked, refusal) : SS_OK;
}

/* A piece of the current chunk: what is left of it, or what is here. */
static ss_text take_data(ss_chunked *chunked, ss_text *rest) {
    ss_text piece = *rest;
    if (piece.length > chunked->left)
        piece.length = (uint32_t)chunked->left;
    *rest = ss_after(*rest, piece.length);
    chunked->left -= piece.length;
    if (chunked->left == 0)
        chunked->stage = AFTER_DATA;
    return piece;
}

/* Reads on until there is a piece of the body, the end of it, or nothing complete. */
int ss_chunked_next(ss_chunked *chunked, const char *data, uint32_t length, uint32_t *used, ss_span *body) {
    ss_text rest = {data, length}, piece = {data, 0};
    int answer = chunked->refusal ? SS_ERROR : SS_OK;
    while (answer == SS_OK && piece.length == 0 && chunked->stage != AT_END) {
        switch (chunked->stage) {
        case IN_SIZE:
            answer = read_chunk_line(chunked, &rest);
            break;
        case IN_DATA:
            piece = take_data(chunked, &rest);
            answer = piece.length ? SS_OK : SS_NEED_DATA;
            break;
        case AFTER_DATA:
            answer = read_chunk_end(chunked, &rest);
            break;
        default:
            answer = read_trailer_line(chunked, &rest);
        }
    }
    *used = length - rest.length;
    *body = (ss_span){(uint32_t)(piece.bytes - data), piece.length};
    return answer;
}
