"""WebSocket (RFC 6455) for any WSGI application: `environ["wsgi.websocket"]`, handlers without greenlets, broadcast."""

from streamserve.errors import WebSocketClosed
from streamserve.websocket.application import Resource, WebSocketApplication
from streamserve.websocket.broadcast import broadcast
from streamserve.websocket.connection import WebSocket
from streamserve.websocket.slow_clients import slow_clients

__all__ = ["Resource", "WebSocket", "WebSocketApplication", "WebSocketClosed", "broadcast", "slow_clients"]
