"""Addresses as people write them, and the sockets that are made of them."""
