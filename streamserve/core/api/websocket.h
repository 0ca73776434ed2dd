/* WebSocket (RFC 6455): a connection that was upgraded, and the messages that a poll reports. */
#ifndef SS_API_WEBSOCKET_H
#define SS_API_WEBSOCKET_H

#include "api/connection.h"
#include "api/loop.h"

enum ss_ws_opcode {
    SS_WS_CONTINUATION = 0,
    SS_WS_TEXT = 1,
    SS_WS_BINARY = 2,
    SS_WS_CLOSE = 8,
    SS_WS_PING = 9,
    SS_WS_PONG = 10
};

/* Why a connection ends, as it is told to the peer (RFC 6455 section 7.4.1) and to Python. */
enum ss_ws_code {
    SS_WS_NORMAL = 1000,
    SS_WS_GOING_AWAY = 1001,
    SS_WS_PROTOCOL_ERROR = 1002,
    SS_WS_NO_CODE = 1005,  /* never on the wire: the peer's Close had none */
    SS_WS_ABNORMAL = 1006, /* never on the wire: the connection ended without a Close */
    SS_WS_BAD_DATA = 1007,
    SS_WS_TOO_BIG = 1009,
    SS_WS_FAILED = 1011,
    SS_WS_OVERLOADED = 1013
};

/* Messages: four words each
 * [listener, connection handle, opcode | SS_WS_COMPRESSED | length << SS_WS_LENGTH_SHIFT, offset].
 * offset is that of the payload in ss_ws_payloads, valid until the next poll; below zero: the message is
 * large, and is fetched by ss_ws_take. Text is valid UTF-8, unless it is compressed. A Close comes once, as the
 * last message of its connection: two bytes of code, in network order, and the reason. */
#define SS_WS_COMPRESSED 16
#define SS_WS_LENGTH_SHIFT 8
#define SS_MESSAGE_WORDS 4
#define SS_MESSAGES 1024          /* most messages of one poll */
#define SS_WS_PAYLOAD_BYTES 262144 /* of the small ones together */
#define SS_WS_SMALL 65536          /* bytes: a longer message is large */

/* Python cuts at it, and looks for five bytes in fewer steps than for one. It begins with none of its ends, so none is
 * found between a text and what follows it: in a text that has it, cutting gives a piece more. */
extern const char ss_ws_text_end[5];

int64_t *ss_loop_messages(ss_loop *loop); /* SS_MESSAGES * SS_MESSAGE_WORDS words; NULL: no memory */
const char *ss_ws_payloads(ss_loop *loop); /* SS_WS_PAYLOAD_BYTES; NULL: no memory */
/* SS_WS_TEXT, SS_WS_BINARY, or SS_ENGINE_EVENT (api/engine.h): all messages that the last poll reported are of this
 * kind and of one listener, small and not compressed, and their payloads lie one behind the other, from the first byte
 * on, with ss_ws_text_end behind each text. 0: they are not. */
int ss_ws_alike(const ss_loop *loop);
/* The payload of a large message that the last poll reported; valid until the next call for this connection. */
const char *ss_ws_take(ss_loop *loop, int64_t conn);

typedef struct {
    int64_t ping_interval; /* ns of silence after which the peer is asked for a sign of life; 0: never */
    int64_t ping_timeout;  /* ns until it must come */
    int64_t close_timeout; /* ns for the peer's Close after ours, and for the end of the connection */
    uint32_t max_message;  /* bytes of all fragments together */
    uint32_t out_limit;    /* bytes queued: beyond it a broadcast leaves the connection out, or ends it */
    int32_t deflate;       /* 1: permessage-deflate was agreed: RSV1 marks compressed messages */
    int32_t held;          /* 1: the head leaves with the first message, at the end of the turn at the latest */
    int32_t drop;          /* 1: a broadcast leaves out whom it cannot reach; 0: it ends them with 1013 */
} ss_ws_config;

/* Sends the head of a 101 response, complete, and makes a request's connection a WebSocket: the request is
 * over, the handle stays. SS_MISUSE: the response has begun, or the request has a body. After this and any other
 * failure the request is still Python's. */
int ss_ws_upgrade(ss_loop *loop, int64_t conn, const char *head, int64_t length, const ss_ws_config *config);
/* Sends a message. The first of a turn of the loop leaves at once, those that follow at its end, together; where the
 * turn has messages of many peers, the answers to others than the first leave sixteen at a time.
 * Returns the bytes now queued, SS_GONE (also after a Close), SS_BROKEN, SS_MISUSE, SS_ELSEWHERE. At or above
 * high_water park until SS_EVENT_DRAINED. flags: 0 or SS_WS_COMPRESSED. */
int64_t ss_ws_send(ss_loop *loop, int64_t conn, int opcode, const char *data, int64_t length, int flags);
/* The same for text that is not compressed: each argument costs a caller in Python. */
int64_t ss_ws_send_text(ss_loop *loop, int64_t conn, const char *data, int64_t length);
int64_t ss_ws_queued(ss_loop *loop, int64_t conn); /* bytes in the output queue */
/* Sends Close, once; its answer, or the lack of one, ends the connection. code 0: without one. */
int ss_ws_close(ss_loop *loop, int64_t conn, int code, const char *reason, int64_t length);
/* on 0: nothing more of the connection is read, until on 1. */
int ss_ws_reading(ss_loop *loop, int64_t conn, int on);
/* A frame for ss_ws_broadcast: message and header. NULL: no memory. */
ss_frame *ss_ws_frame_new(int opcode, const char *data, int64_t length, int flags);
/* Sends a frame to many connections, but not to those of `but`, a few; none is waited for. Returns how many got it; the
 * others are gone, closing, or were over their out_limit: *skipped counts these. */
int64_t ss_ws_broadcast(ss_loop *loop, const int64_t *conns, int64_t count, const int64_t *but, int64_t but_count,
                        ss_frame *frame, int64_t *skipped);

#endif
