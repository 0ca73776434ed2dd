"""The log of the server: one line per event on standard error."""

import logging
import sys

__all__ = ["configure_logging"]

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


def configure_logging(level: str) -> None:
    """Sends what the server logs to standard error, apart from the application's own logging.

    Call it once the application is loaded: `logging.config.dictConfig` silences loggers that exist already, and they
    are given their voice again here.

    Args:
        level: The least severe level to write, as the setting log_level has it.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT, TIME_FORMAT))
    root = logging.getLogger("streamserve")
    root.handlers = [handler]
    root.setLevel(level.upper())
    root.propagate = False
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and (name == "streamserve" or name.startswith("streamserve.")):
            logger.disabled = False
