/* The whole public face of the core, by subject. cffi and the C compiler read the same
 * files (for cffi core/build.py puts each behind those that it includes, and drops the lines
 * that begin with '#', except plain numeric constants), so they hold declarations and nothing else. */
#ifndef SS_API_H
#define SS_API_H

#include "api/answers.h"
#include "api/connection.h"
#include "api/engine.h"
#include "api/guard.h"
#include "api/http.h"
#include "api/inspection.h"
#include "api/loop.h"
#include "api/tls.h"
#include "api/websocket.h"

#endif
