"""The server's log, the access log and its formats, and complaints that are no flood."""
