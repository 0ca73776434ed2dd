"""Engine.IO v4: sessions over long polling and WebSocket, the transport below Socket.IO."""
