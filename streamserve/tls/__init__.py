"""TLS of StreamServer and WSGIServer: contexts, names, clients' certificates, the handshake."""
