"""HTTP as WSGI sees it: environ, request body, response heads, the exchange, the access log."""
