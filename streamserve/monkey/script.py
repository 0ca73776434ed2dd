"""Runs a Python program as `python script.py` and `python -m module` do, with the standard library patched first."""

from __future__ import annotations

import importlib.util
import io
import os
import pkgutil
import runpy
import sys
from collections.abc import Callable, Sequence
from types import ModuleType, TracebackType
from typing import Any

from streamserve.errors import ConfigurationError
from streamserve.monkey.patches import patch_all

__all__ = ["run_module", "run_script"]

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # as the shell reports a death by SIGINT


def run_script(path: str, arguments: Sequence[str], begin: Callable[[], object]) -> int:
    """Runs a file, or the `__main__.py` of a directory or a zip archive, as the main program.

    Args:
        path: The file; it becomes sys.argv[0], and its directory sys.path[0].
        arguments: The rest of sys.argv.
        begin: Called when the standard library is patched, before the program.

    Returns:
        The exit code: 1 after an exception, which was printed as Python does. SystemExit is let through.

    Raises:
        ConfigurationError: There is no such file, or it cannot be read.
    """
    is_container = os.path.exists(path) and pkgutil.get_importer(path) is not None  # a directory, a zip archive
    code = None if is_container else _read(path)
    patch_all(socketio=True)
    begin()
    sys.argv = [path, *arguments]
    if code is None:
        _set_first_path(path)
        return _run(_new_main(), lambda main: _run_module("__main__", alter_argv=False))
    _set_first_path(os.path.dirname(os.path.realpath(path)))
    main = _new_main()
    file = os.path.join(os.getcwd(), path)  # not normalised, as Python has it
    main.__dict__.update(__file__=file, __cached__=None)
    return _run(main, lambda main: exec(compile(code, file, "exec", dont_inherit=True), main.__dict__))


def run_module(name: str, arguments: Sequence[str], begin: Callable[[], object]) -> int:
    """Runs a module, or the `__main__` of a package, as the main program.

    Args:
        name: The module's; the working directory becomes sys.path[0].
        arguments: The rest of sys.argv.
        begin: Called when the standard library is patched, before the program.

    Returns:
        As `run_script`.

    Raises:
        ConfigurationError: There is no such module.
    """
    patch_all(socketio=True)
    begin()
    _set_first_path(os.getcwd())
    sys.argv = ["-m", *arguments]
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(f"there is no module {name!r}: {error}; check the name") from error
    if found is None:
        raise ConfigurationError(f"there is no module {name!r} in {os.getcwd()} or among the installed packages")
    return _run(_new_main(), lambda main: _run_module(name, alter_argv=True))


def _run_module(name: str, alter_argv: bool) -> None:
    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]  # what `python -m` itself calls


def _read(path: str) -> bytes:
    try:
        with io.open_code(os.path.abspath(path)) as file:
            return file.read()
    except FileNotFoundError:
        raise ConfigurationError(f"there is no file {path}; give the path of a script, or -m and a module") from None
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}; give the path of a script") from error


def _set_first_path(directory: str) -> None:
    """sys.path[0] is where this command was found; for the program it is where that was found."""
    if not sys.flags.safe_path:
        sys.path[0] = directory


def _new_main() -> ModuleType:
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
    return main


def _run(main: ModuleType, program: Any) -> int:
    try:
        program(main)
    except SystemExit:
        raise
    except BaseException as error:
        trace = _without_ours(error.__traceback__)
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return EXIT_INTERRUPTED if isinstance(error, KeyboardInterrupt) else EXIT_FAILED
    return 0


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """Drops the frames from here to the program's first."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace
