/* What each refusal means on the wire and in the log. */
#include "api/api.h"

static const struct {
    int status;
    const char *text;
} refusals[SS_REFUSAL_COUNT] = {
    [SS_REFUSAL_NONE] = {0, "nothing was refused"},
    [SS_BAD_LINE_END] = {400, "a line does not end with exactly CR LF"},
    [SS_BAD_REQUEST_LINE] = {400, "the request line is not method, target and version with one space between"},
    [SS_BAD_METHOD] = {400, "the method is not a token of at most 32 bytes"},
    [SS_BAD_TARGET] = {400, "the request target has bytes or a form that are not allowed"},
    [SS_BAD_VERSION] = {400, "the version is not HTTP/1.x"},
    [SS_VERSION_UNSUPPORTED] = {505, "the major version of HTTP is not 1"},
    [SS_BAD_FIELD_NAME] = {400, "a header field has no valid name directly before a colon"},
    [SS_BAD_FIELD_VALUE] = {400, "a header field value has a control character"},
    [SS_OBS_FOLD] = {400, "a header line begins with white space"},
    [SS_BAD_HOST] = {400, "Host is missing, repeated or malformed"},
    [SS_BAD_CONTENT_LENGTH] = {400, "Content-Length is not one decimal number below 2^63"},
    [SS_LENGTH_AND_CODING] = {400, "Content-Length stands beside Transfer-Encoding"},
    [SS_BAD_CODING] = {400, "Transfer-Encoding does not end in one chunked, or comes with HTTP/1.0"},
    [SS_UNKNOWN_CODING] = {501, "a transfer coding other than chunked is not implemented"},
    [SS_DUPLICATE_FIELD] = {400, "a header field that may stand once is repeated"},
    [SS_EXPECTATION_FAILED] = {417, "an expectation other than 100-continue cannot be met"},
    [SS_LINE_TOO_LONG] = {414, "the request line is longer than the limit"},
    [SS_HEAD_TOO_LARGE] = {431, "the request head has more bytes than the limit"},
    [SS_TOO_MANY_FIELDS] = {431, "the request head has more fields than the limit"},
    [SS_BAD_CHUNK] = {400, "a chunk's size, extension or line end is malformed or too long"},
    [SS_BAD_TRAILER] = {400, "a trailer field is malformed, forbidden or too much"},
    [SS_BODY_TOO_LARGE] = {413, "the request body is larger than the limit"},
    [SS_HEAD_TIMEOUT] = {408, "the request head did not arrive in time"},
    [SS_BODY_TIMEOUT] = {408, "the request body made no progress in time, or too little"},
    [SS_BODY_TRUNCATED] = {400, "the peer closed the connection before the end of the request body"},
    [SS_BAD_FORWARDED] = {400, "the forwarded headers are malformed or contradict each other"},
    [SS_BAD_PROXY_HEADER] = {0, "the connection does not begin with a PROXY protocol header"},
    [SS_PROXY_TIMEOUT] = {0, "the PROXY protocol header was not complete in time"},
    [SS_OVERLOADED] = {503, "the server is at its limit of connections or requests"},
    [SS_BUFFERS_FULL] = {503, "the buffers of all connections together are at their limit"},
    [SS_PLAIN_HTTP] = {400, "this port speaks TLS: ask for https, not http"},
    [SS_TLS_HELLO] = {400, "the client speaks TLS, this port does not: ask for http, not https"},
    [SS_HANDSHAKES_FULL] = {0, "its TLS handshake kept the server waiting while there were too many"},
    [SS_HANDSHAKE_TIMEOUT] = {0, "the TLS handshake was not complete in time"},
};

int ss_refusal_status(int refusal) {
    return refusal > SS_REFUSAL_NONE && refusal < SS_REFUSAL_COUNT ? refusals[refusal].status : 0;
}

const char *ss_refusal_text(int refusal) {
    return refusal >= SS_REFUSAL_NONE && refusal < SS_REFUSAL_COUNT ? refusals[refusal].text : "unknown refusal";
}
