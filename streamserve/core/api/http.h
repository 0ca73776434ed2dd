/* HTTP/1: refusals, the parsers, and the records in which a poll reports requests. */
#ifndef SS_API_HTTP_H
#define SS_API_HTTP_H
#include "api/answers.h"

/* Why a request was refused. Status and words: ss_refusal_status, _text. */
enum ss_refusal {
    SS_REFUSAL_NONE = 0,
    SS_BAD_LINE_END,          /* bare LF, bare CR, second empty line      400 */
    SS_BAD_REQUEST_LINE,      /* not exactly: method SP target SP version 400 */
    SS_BAD_METHOD,            /* not a token, or longer than 32 bytes     400 */
    SS_BAD_TARGET,            /* bytes or form not allowed                400 */
    SS_BAD_VERSION,           /* not HTTP/digit.digit                     400 */
    SS_VERSION_UNSUPPORTED,   /* major version other than 1               505 */
    SS_BAD_FIELD_NAME,        /* not a token, empty, blank before colon   400 */
    SS_BAD_FIELD_VALUE,       /* a control character                      400 */
    SS_OBS_FOLD,              /* a line beginning with blank              400 */
    SS_BAD_HOST,              /* missing, repeated or malformed           400 */
    SS_BAD_CONTENT_LENGTH,    /* not 1*DIGIT, too large, or repeated      400 */
    SS_LENGTH_AND_CODING,     /* Content-Length beside Transfer-Encoding  400 */
    SS_BAD_CODING,            /* chunked is not the final, only coding    400 */
    SS_UNKNOWN_CODING,        /* a coding that is not implemented         501 */
    SS_DUPLICATE_FIELD,       /* a field that may stand once              400 */
    SS_EXPECTATION_FAILED,    /* Expect other than 100-continue           417 */
    SS_LINE_TOO_LONG,         /* request line over its limit              414 */
    SS_HEAD_TOO_LARGE,        /* head over its limit in bytes             431 */
    SS_TOO_MANY_FIELDS,       /* head over its limit in fields            431 */
    SS_BAD_CHUNK,             /* chunk size, extension or line end        400 */
    SS_BAD_TRAILER,           /* trailer field malformed, or forbidden    400 */
    SS_BODY_TOO_LARGE,        /* body over its limit                      413 */
    SS_HEAD_TIMEOUT,          /* head deadline passed                     408 */
    SS_BODY_TIMEOUT,          /* body made no progress in time            408 */
    SS_BODY_TRUNCATED,        /* peer closed before the end of the body   400 */
    SS_OVERLOADED,            /* over the connection or request limit     503 */
    SS_BAD_FORWARDED,         /* forwarded headers contradict each other  400 */
    SS_BUFFERS_FULL,          /* the buffers of all connections: limit    503 */
    SS_PLAIN_HTTP,            /* no TLS on a port that speaks it          400 */
    SS_TLS_HELLO,             /* TLS on a port that does not speak it     400 */
    SS_HANDSHAKE_TIMEOUT,     /* TLS handshake deadline passed; closed without an answer */
    SS_HANDSHAKES_FULL,       /* too many TLS handshakes at once, and this one kept us waiting; no answer */
    SS_BAD_PROXY_HEADER,      /* PROXY protocol: malformed, missing: no answer */
    SS_PROXY_TIMEOUT,         /* PROXY protocol: head deadline passed; no answer */
    SS_REFUSAL_COUNT
};
int ss_refusal_status(int refusal);        /* HTTP status, 0 if unknown */
const char *ss_refusal_text(int refusal);  /* one clause in words */

typedef struct {
    uint32_t offset;
    uint32_t length;
} ss_span;

typedef struct {
    uint32_t max_line;   /* bytes of the request line, without CRLF */
    uint32_t max_head;   /* bytes of the head, from its first byte to its last */
    uint32_t max_fields; /* header fields */
} ss_http1_limits;

enum ss_method {
    SS_METHOD_OTHER = 0,
    SS_GET,
    SS_HEAD,
    SS_POST,
    SS_PUT,
    SS_DELETE,
    SS_OPTIONS,
    SS_PATCH,
    SS_CONNECT,
    SS_TRACE
};
enum ss_target_form {
    SS_ORIGIN_FORM = 0,   /* begins with '/' */
    SS_ABSOLUTE_FORM,     /* http:// or https://, with a non-empty authority */
    SS_AUTHORITY_FORM,    /* only with CONNECT */
    SS_ASTERISK_FORM      /* only with OPTIONS */
};

/* What the header block says about framing and the connection. */
enum ss_framing_flag {
    SS_HAS_LENGTH = 1,    /* Content-Length present */
    SS_CHUNKED = 2,       /* Transfer-Encoding: chunked */
    SS_CLOSE = 4,         /* Connection lists close */
    SS_KEEP_ALIVE = 8,    /* Connection lists keep-alive */
    SS_EXPECT = 16,       /* Expect: 100-continue (as sent; 1.0 ignores it) */
    SS_UPGRADE = 32,      /* Connection lists upgrade, and Upgrade is present */
    SS_HOST = 64          /* Host present and not empty */
};
typedef struct {
    uint64_t content_length; /* 0 unless SS_HAS_LENGTH */
    uint32_t flags;          /* enum ss_framing_flag */
    uint32_t fields;         /* header fields in the block */
} ss_framing;

/* One request head, parsed in steps. All offsets count from the `data` that
 * each call is given; the caller passes the same bytes again, with more
 * behind them, after SS_NEED_DATA. No byte is looked at twice for a line end. */
typedef struct {
    ss_span method;
    ss_span target;
    uint32_t block;      /* offset of the header block: first byte after the request line's CRLF */
    uint32_t end;        /* offset just past the head, once both calls said SS_OK */
    ss_framing framing;
    uint32_t scanned;    /* private: no LF before this offset of the current line */
    uint32_t line;       /* private: offset of the current line */
    uint8_t stage;       /* private: which line comes next */
    uint8_t method_id;   /* enum ss_method */
    uint8_t minor;       /* minor version as sent: 0 to 9 */
    uint8_t target_form; /* enum ss_target_form */
    uint16_t seen;       /* private: which of the fields that matter came by */
    uint16_t refusal;    /* enum ss_refusal, set with SS_ERROR */
} ss_http1;

void ss_http1_init(ss_http1 *head);
/* The request line. SS_OK: method, target, minor, target_form, block are set. */
int ss_http1_line(ss_http1 *head, const char *data, uint32_t length, const ss_http1_limits *limits);
/* The header block, after ss_http1_line said SS_OK. SS_OK: end and framing are
 * set and everything that RFC 9112 asks of one head alone holds. */
int ss_http1_fields(ss_http1 *head, const char *data, uint32_t length, const ss_http1_limits *limits);

/* ---- chunked transfer coding (http/chunked.c) ---- */

typedef struct {
    uint64_t left;       /* bytes of the current chunk still to come, once its line is complete */
    uint32_t scanned;    /* private: no LF before this offset of the current line */
    uint32_t extensions; /* private: bytes of chunk extensions so far */
    uint32_t trailer_bytes;  /* private */
    uint16_t trailer_fields; /* private */
    uint16_t refusal;    /* enum ss_refusal, set with SS_ERROR */
    uint8_t stage;       /* private */
    uint8_t done;        /* 1 once the final CRLF was consumed */
} ss_chunked;

void ss_chunked_init(ss_chunked *chunked);
/* Decodes the next piece. `*used` bytes of data were consumed and must not be
 * passed again. SS_OK with body->length > 0: a piece of the body, inside data
 * (offset + length <= *used). SS_OK with length 0: the body and its trailer
 * section are complete. SS_NEED_DATA: pass the rest again with more behind. */
int ss_chunked_next(ss_chunked *chunked, const char *data, uint32_t length, uint32_t *used, ss_span *body);

/* ---- requests, as a poll reports them (http/request.c) ---- */

/* Requests: four words each
 * [listener, connection handle, page, flags | method << SS_METHOD_SHIFT].
 * page is block slot << SS_PAGE_SHIFT | target slot: what Python remembers of a
 * header block and a target. The last word is zero in the common case: GET,
 * HTTP/1.1, no body, block and target known to Python, peer address fetched
 * before. The method is given (and not zero) where it is not GET. */
enum ss_request_flag {
    SS_REQUEST_NEW_BLOCK = 1,   /* no block slot: build the template, then ss_conn_memoise */
    SS_REQUEST_NEW_TARGET = 2,  /* no target slot: likewise */
    SS_REQUEST_NEW_PEER = 4,    /* first request of this connection */
    SS_REQUEST_HAS_BODY = 8,    /* a Content-Length above zero */
    SS_REQUEST_CHUNKED = 16,    /* a body of unknown length */
    SS_REQUEST_EXPECT = 32,     /* the client waits for 100 Continue */
    SS_REQUEST_HTTP10 = 64,     /* HTTP/1.0 */
    SS_REQUEST_UPGRADE = 128,   /* the client offers an upgrade */
    SS_REQUEST_FORM = 256,      /* target is not in origin form */
    SS_REQUEST_METHOD = 512,    /* the method is not GET: bits from SS_METHOD_SHIFT on name it */
    SS_REQUEST_DECODED = 2048,  /* the body was chunked and is complete: ss_conn_body_left is its length */
    SS_REQUEST_AGAIN = 1024     /* alone: zero, and the page is that of this connection's last request */
};
#define SS_REQUEST_WORDS 4
#define SS_METHOD_SHIFT 16
#define SS_PAGE_SHIFT 14    /* a memo has at most 1 << 14 entries */

#endif
