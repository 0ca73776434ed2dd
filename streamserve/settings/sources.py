"""Where settings come from: flags before environment variables before a file before the defaults."""

import difflib
import json
import logging
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from streamserve.errors import ConfigurationError
from streamserve.settings.other_servers import remedy_for
from streamserve.settings.table import Entry, Settings, entries

__all__ = ["closest", "read_settings", "tell_public_secrets", "tell_unknown_variables", "to_toml", "toml_value"]

_log = logging.getLogger("streamserve")

CONFIG_VARIABLE = "STREAMSERVE_CONFIG"


def read_settings(flags: Mapping[str, object], environ: Mapping[str, str], config: str | None = None) -> Settings:
    """Puts the settings together and remembers where each came from.

    Args:
        flags: What the command line gave, by the names of the settings.
        environ: The environment, of which the STREAMSERVE_* variables count. An empty one counts as not set, unless
            the empty text is a value of that setting.
        config: The file to read. Without one that is STREAMSERVE_CONFIG, or else streamserve.toml or the
            [tool.streamserve] of pyproject.toml in the working directory, if there.

    Raises:
        ConfigurationError: A file cannot be read, a name is not known or a value is not allowed.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in (_from_file(config or environ.get(CONFIG_VARIABLE, "")), _from_environ(environ), _from_flags(flags)):
        for name, (value, origin) in layer.items():
            values[name] = value
            origins[name] = origin
    return Settings(**values, origins=origins)


def to_toml(settings: Settings) -> str:
    """The settings as a streamserve.toml, each with a comment that says where it came from."""
    lines: list[str] = []
    group = ""
    for entry in entries():
        if entry.group != group:
            group = entry.group
            lines += ["", f"# {group}"]
        value = getattr(settings, entry.name)
        origin = settings.origin(entry.name)
        if entry.kind.hidden and value:
            lines.append(f"# {entry.name} is set, and not shown  # {origin}")
        else:
            lines.append(f"{entry.name} = {toml_value(value)}  # {origin}")
    return "\n".join(lines[1:])


def toml_value(value: object) -> str:
    """One value as TOML writes it."""
    if isinstance(value, int):
        return str(value).lower()  # a bool too
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(str(item)) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)  # a TOML basic string is a JSON string here: no control characters


def closest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that names the known one most like `name`, or "" if none is like it."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]}?" if match else ""


Layer = dict[str, tuple[object, str]]  # name: (value, where it came from)


def _from_flags(flags: Mapping[str, object]) -> Layer:
    by_name = {entry.name: entry for entry in entries()}
    return {name: (value, by_name[name].given_as) for name, value in flags.items()}


def _from_environ(environ: Mapping[str, str]) -> Layer:
    by_variable = {entry.variable: entry for entry in entries()}
    layer: Layer = {}
    for variable, value in environ.items():
        entry = by_variable.get(variable)
        if entry is None:
            _reject_misspelt(variable, by_variable)
        elif value or entry.kind.empty:
            layer[entry.name] = (value, variable)
    return layer


def _reject_misspelt(variable: str, by_variable: Mapping[str, Entry]) -> None:
    """Refuses a variable that looks like one of ours; of others `tell_unknown_variables` tells."""
    if not variable.startswith("STREAMSERVE_") or variable == CONFIG_VARIABLE:
        return
    match = difflib.get_close_matches(variable, [*by_variable, CONFIG_VARIABLE], n=1, cutoff=0.9)
    if match:
        raise ConfigurationError(f"unknown environment variable {variable}; did you mean {match[0]}?")


def tell_public_secrets(settings: Settings) -> None:
    """Warns of each secret that stands on the command line, where others can read it."""
    for entry in entries():
        if entry.kind.hidden and settings.origins.get(entry.name) == entry.given_as:
            _log.warning(
                "%s stands on the command line, which everybody on this machine can read (ps); give it by %s or a file",
                entry.name,
                entry.variable,
            )


def tell_unknown_variables(environ: Mapping[str, str]) -> None:
    """Warns of each STREAMSERVE_* variable that is none of ours and not of Kubernetes, and of gunicorn's arguments."""
    if environ.get("GUNICORN_CMD_ARGS"):
        _log.warning("GUNICORN_CMD_ARGS is not read; give its flags on the command line, or as keys of a file")
    known = {CONFIG_VARIABLE, *(entry.variable for entry in entries())}
    for variable, value in environ.items():
        if variable.startswith("STREAMSERVE_") and variable not in known and not _is_of_kubernetes(variable, value):
            remedy = remedy_for(variable.removeprefix("STREAMSERVE_"))
            _log.warning("unknown environment variable %s is ignored%s", variable, remedy)


def _is_of_kubernetes(variable: str, value: str) -> bool:
    """Kubernetes sets these in every pod beside a service of our name, or of one like streamserve-web."""
    if variable.endswith("_PORT") and "://" in value:
        return True
    return re.fullmatch(r"\w+_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)", variable) is not None


def _from_file(config: str) -> Layer:
    if config:
        return _read_file(Path(config), required=True)
    return _read_file(Path("streamserve.toml")) or _read_file(Path("pyproject.toml"))


def _read_file(path: Path, required: bool = False) -> Layer:
    if path.suffix == ".py":
        raise ConfigurationError(
            f"{path} is Python, settings are read from TOML; docs/coming-from-gunicorn.md has gunicorn's keys in ours"
        )
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        if not required:
            return {}
        raise ConfigurationError(f"there is no file {path}; give another --config") from None
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror}; correct that or give another --config"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}; correct it") from error
    if path.name != "pyproject.toml":
        return _known(content, str(path))
    tools = content.get("tool")
    table = tools.get("streamserve", {}) if isinstance(tools, dict) else {}
    if not isinstance(table, dict):
        raise ConfigurationError(f"tool.streamserve in {path} is no table; begin it with [tool.streamserve]")
    return _known(table, f"[tool.streamserve] of {path}")


def _known(table: Mapping[str, object], origin: str) -> Layer:
    names = [entry.name for entry in entries()]
    for key in table:
        if key not in names:
            hint = remedy_for(key) or closest(key, names) or "; `streamserve --help` lists the settings"
            raise ConfigurationError(f"unknown key {key} in {origin}{hint}")
    return {name: (value, origin) for name, value in table.items()}
