/* The request target: which of the four forms it has, and whether a host and
 * port in it, or in the Host field, are well formed. */
#include "http/http1.h"

/* "[" IPv6address "]". Beyond the alphabet only what costs nothing is checked:
 * the address is never used to connect. IPvFuture and zone identifiers are
 * refused; nothing sends the first, and the second may not leave its host. */
static uint32_t ip_literal_length(ss_text text) {
    const char *close = memchr(text.bytes, ']', text.length);
    if (close == NULL)
        return 0;
    uint32_t length = (uint32_t)(close - text.bytes), colons = 0;
    for (uint32_t at = 1; at < length; at++) {
        char byte = text.bytes[at];
        if (!ss_is(byte, SS_HEX) && byte != ':' && byte != '.')
            return 0;
        colons += byte == ':';
    }
    return colons >= 2 && colons <= 8 && length <= 46 ? length + 1 : 0;
}

static uint32_t reg_name_length(ss_text text) {
    uint32_t at = ss_run(text, SS_REG_NAME);
    while (at + 2 < text.length && text.bytes[at] == '%' && ss_is(text.bytes[at + 1], SS_HEX) &&
           ss_is(text.bytes[at + 2], SS_HEX)) {
        at += 3;
        at += ss_run(ss_after(text, at), SS_REG_NAME);
    }
    return at;
}

static int port_valid(ss_text port) {
    unsigned number = 0;
    if (port.length > 5)
        return 0;
    for (uint32_t at = 0; at < port.length; at++) {
        if (!ss_is(port.bytes[at], SS_DIGIT))
            return 0;
        number = number * 10 + (unsigned)(port.bytes[at] - '0');
    }
    return number <= 65535;
}

int ss_authority_valid(ss_text authority, int port_needed) {
    if (authority.length == 0)
        return 0;
    uint32_t host = authority.bytes[0] == '[' ? ip_literal_length(authority) : reg_name_length(authority);
    if (host == 0)
        return 0;
    if (host == authority.length)
        return !port_needed;
    ss_text port = ss_after(authority, host + 1);
    return authority.bytes[host] == ':' && port_valid(port) && !(port_needed && port.length == 0);
}

/* The length of "http://" or "https://", 0 for anything else. Schemes have no case. */
static uint32_t scheme_length(ss_text target) {
    if (target.length > 7 && ss_same((ss_text){target.bytes, 7}, "http://", 7))
        return 7;
    if (target.length > 8 && ss_same((ss_text){target.bytes, 8}, "https://", 8))
        return 8;
    return 0;
}

static int absolute_valid(ss_text target) {
    uint32_t scheme = scheme_length(target);
    if (scheme == 0)
        return 0;
    ss_text authority = ss_after(target, scheme);
    for (uint32_t at = 0; at < authority.length; at++)
        if (authority.bytes[at] == '/' || authority.bytes[at] == '?')
            authority.length = at;
    return ss_authority_valid(authority, 0);
}

/* The table of RFC 9112 section 3.2: CONNECT takes the authority form and
 * nothing else, OPTIONS alone may take the asterisk. */
int ss_target_check(uint8_t method_id, ss_text target, uint8_t *form) {
    if (ss_run(target, SS_TARGET) != target.length)
        return SS_BAD_TARGET;
    int valid;
    if (method_id == SS_CONNECT) {
        *form = SS_AUTHORITY_FORM;
        valid = ss_authority_valid(target, 1);
    } else if (target.bytes[0] == '/') {
        *form = SS_ORIGIN_FORM;
        valid = 1;
    } else if (target.bytes[0] == '*') {
        *form = SS_ASTERISK_FORM;
        valid = method_id == SS_OPTIONS && target.length == 1;
    } else {
        *form = SS_ABSOLUTE_FORM;
        valid = absolute_valid(target);
    }
    return valid ? SS_REFUSAL_NONE : SS_BAD_TARGET;
}
