/* What the files of the HTTP/1 parser say to each other: http1.c reads lines,
 * fields.c their meaning, target.c the request target; chunked.c reads its
 * trailer fields with the same rules. */
#ifndef SS_HTTP1_H
#define SS_HTTP1_H
#include "api/api.h"
#include "http/ascii.h"

/* The functions that check something answer with an enum ss_refusal,
 * SS_REFUSAL_NONE when all is well. */

/* Splits a field line (without CRLF, not empty) into name and trimmed value. */
int ss_field_split(ss_text line, ss_text *name, ss_text *value);
/* Splits the line and takes from it what framing and connection depend on. */
int ss_field_note(ss_http1 *head, ss_text line);
/* After the last field: what the fields must fulfil together. */
int ss_fields_judge(ss_http1 *head);

/* Finds the form of the target, given the method. */
int ss_target_check(uint8_t method_id, ss_text target, uint8_t *form);
/* Is it uri-host [":" port], RFC 9110 section 7.2? With port_needed nonzero
 * the port may not be missing. */
int ss_authority_valid(ss_text authority, int port_needed);

#endif
