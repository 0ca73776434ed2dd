"""The processes that serve: the worker, and what it loads."""
