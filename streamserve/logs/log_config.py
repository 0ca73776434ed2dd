"""The logging of a whole process, by a file: `logging.config.dictConfig` out of JSON or TOML."""

from __future__ import annotations

import json
import logging.config
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamserve.errors import ConfigurationError

__all__ = ["apply_log_config"]

_READERS: dict[str, Callable[[str], Any]] = {".json": json.loads, ".toml": tomllib.loads}


def apply_log_config(path: str) -> None:
    """Configures logging as a file says; loggers that it does not name go on as they are, unless it says otherwise.

    Args:
        path: of a .json or .toml file with the keys of `logging.config.dictConfig`.

    Raises:
        ConfigurationError: there is none, it is neither, or it says what cannot be.
    """
    file = Path(path)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise ConfigurationError(f"log_config={path!r} is of no known kind; give a .json or .toml file for dictConfig")
    try:
        config = reader(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"log_config={path!r} cannot be read: {error.strerror}; give a file") from None
    except ValueError as error:  # also of bytes that are no UTF-8
        raise ConfigurationError(f"log_config={path!r} is no {file.suffix[1:].upper()}: {error}") from None
    try:
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, **config})
    except (ValueError, TypeError, AttributeError, ImportError, KeyError, OSError) as error:
        causes = f"{error}: {error.__cause__}" if error.__cause__ is not None else str(error)
        raise ConfigurationError(f"log_config={path!r} is no configuration for dictConfig: {causes}") from error
