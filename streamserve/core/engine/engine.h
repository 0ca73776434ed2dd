/* Engine.IO above WebSocket: what the core answers and reads for itself. */
#ifndef SS_ENGINE_H
#define SS_ENGINE_H

#include "api/engine.h"

#endif
