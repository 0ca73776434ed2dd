/* Engine.IO 4 on a WebSocket, and the packets of Socket.IO 5 that the core reads for itself. */
#ifndef SS_API_ENGINE_H
#define SS_API_ENGINE_H

#include "api/websocket.h"

/* What a text message of an Engine.IO client is. Events and acknowledgements are reported as messages of these kinds,
 * in the place of an opcode; all that is not plainly one comes as the text it is, for Python to judge. */
enum ss_engine_kind {
    SS_ENGINE_EVENT = 3,
    SS_ENGINE_ACK = 4,
    SS_ENGINE_PONG = 5, /* never reported */
    SS_ENGINE_OTHER = 6 /* never reported: it keeps its opcode */
};

/* The record of an event or acknowledgement: its length is that of the JSON array, its last word is
 * offset of the array | head << SS_ENGINE_HEAD_SHIFT | (ack id + 1, 0: none) << SS_ENGINE_ID_SHIFT.
 * head: bytes before the array that hold the namespace, a comma and the id; 0: the default namespace. */
#define SS_ENGINE_OFFSET_MASK 1048575
#define SS_ENGINE_HEAD_SHIFT 20
#define SS_ENGINE_HEAD_MASK 1023
#define SS_ENGINE_ID_SHIFT 30

#define SS_ENGINE_MOST_DIGITS 100 /* of an integer in an event: turning digits into a number costs their square */

typedef struct {
    int64_t id;    /* of the acknowledgement, -1: none is asked for */
    uint32_t json; /* where the array begins */
    uint32_t head; /* bytes before it, back to the namespace's slash; 0: the default namespace */
} ss_engine_packet;

/* Reads a text message; returns an ss_engine_kind. packet is written for events and acknowledgements alone. */
int ss_engine_read(ss_engine_packet *packet, const char *data, int64_t length);

typedef struct {
    int64_t ping_interval; /* ns from one answer to the next ping */
    int64_t ping_timeout;  /* ns until the answer must come */
    uint32_t max_message;  /* bytes of a message of the client's */
    uint32_t out_limit;    /* bytes queued: beyond it the connection is ended with 1013 */
    int32_t events;        /* 1: events and acknowledgements of Socket.IO are told apart */
} ss_engine_config;

/* From now on a WebSocket speaks Engine.IO: its heartbeat is that protocol's. It is told to Python as ended
 * with 1006 and the reason "ping timeout" when a ping is not answered. */
int ss_engine_begin(ss_loop *loop, int64_t conn, const ss_engine_config *config);
/* An answer to a ping came in a message that the core could not read: compressed, or in pieces. */
int ss_engine_answered(ss_loop *loop, int64_t conn);

#define SS_ENGINE_MOST_TEXT 1024 /* bytes */
/* Acknowledges an event in the default namespace with one text; answers as ss_ws_send does. SS_MISUSE, and nothing is
 * sent: the text is longer than SS_ENGINE_MOST_TEXT, or has bytes that JSON escapes or that are not ASCII. */
int64_t ss_engine_acknowledge(ss_loop *loop, int64_t conn, int64_t id, const char *text, int64_t length);

#endif
