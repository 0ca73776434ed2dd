"""From `module:application` to the WSGI callable."""

import ast
import difflib
import importlib
import inspect
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any
from wsgiref.types import WSGIApplication

from streamserve.errors import ConfigurationError

__all__ = ["load_app"]

DEFAULT_ATTRIBUTES = ("application", "app")

_log = logging.getLogger("streamserve")


def load_app(
    spec: str, chdir: str = "", *, patch: bool = False, begin: Callable[[], object] | None = None
) -> WSGIApplication:
    """Imports a WSGI application.

    The working directory, after the change to `chdir`, becomes the first entry of sys.path.

    Args:
        spec: `package.module:attribute`, where attribute may be nested (`site.wsgi`) and may call a factory with
            literal arguments (`create_app("test", debug=True)`). Without an attribute `application` is taken, or
            else `app`.
        chdir: A directory to change to first; empty to stay.
        patch: Whether to make the standard library cooperative and Socket.IO servers streamserve's, before anything of
            the application is imported.
        begin: Called when that is done, before the import.

    Raises:
        ConfigurationError: There is no such application, or importing or making it failed; then `details` has the
            traceback, cut to the frames outside of streamserve.
    """
    module_name, colon, expression = spec.strip().partition(":")
    if not module_name:
        raise ConfigurationError("no application is given; run `streamserve module:application`, or set app in a file")
    if patch:
        from streamserve.monkey import patch_all  # with the loop, which --help and --print-config do without

        patch_all(socketio=True)
    else:
        from streamserve.loop.other_patchers import refuse_patched
        from streamserve.monkey.other_patchers import leave_out_others

        refuse_patched()
        leave_out_others()
    if begin is not None:
        begin()
    _enter(chdir)
    module = _import(module_name, expression)
    target = _parse(spec, expression) if colon else _default(module)
    application = _evaluate(spec, module, target)
    _check(spec, application)
    _note_wrapper(spec, module, application)
    return application  # type: ignore[no-any-return]  # it is callable, as far as one can see without calling it


def _enter(directory: str) -> None:
    try:
        if directory:
            os.chdir(directory)
        here = os.getcwd()
    except OSError as error:
        shown = directory or "the working directory"
        raise ConfigurationError(f"cannot change to {shown}: {error.strerror}; give another --chdir") from error
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)


def _import(name: str, expression: str) -> ModuleType:
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigurationError(f"{name!r} is not the name of a module; {_module_remedy(name, expression)}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise ConfigurationError(
                f"there is no module {error.name!r} in {os.getcwd()} or among the installed packages;"
                f" {_name_remedy(error.name)}"
            ) from None
        raise _failed(f"importing {name} failed", error, _import_remedy(error)) from error
    except (Exception, SystemExit) as error:
        raise _failed(f"importing {name} failed", error, "correct the module") from error


def _name_remedy(missing: str) -> str:
    package, _, name = missing.rpartition(".")
    if package in sys.modules and hasattr(sys.modules[package], name):
        return f"{package} has {name!r}: give {package}:{name}"
    return "check the name, or give its directory with --chdir"


def _import_remedy(error: ModuleNotFoundError) -> str:
    package = (error.name or "").partition(".")[0]
    if package in ("gevent", "eventlet", "psycogreen"):
        return f"remove the line if it is for patching, which streamserve does itself, or install {package}"
    return "install or correct what it imports"


def _module_remedy(name: str, expression: str) -> str:
    directory, file = os.path.split(name)
    module = file.removesuffix(".py")
    if not all(part.isidentifier() for part in module.split(".")):
        return "give package.module:application"
    start = f"--chdir {shlex.quote(directory)} " if directory else ""
    named = f"{module}:{expression}" if expression else module
    return f"give the module, not its file: streamserve {start}{shlex.quote(named)}"


def _parse(spec: str, expression: str) -> ast.expr:
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _not_understood(spec) from None


def _not_understood(spec: str) -> ConfigurationError:
    return ConfigurationError(
        f"{spec!r} is not understood after the colon; give module:name, module:name.attribute or module:factory(...)"
        " with literal arguments"
    )


def _default(module: ModuleType) -> ast.expr:
    for name in DEFAULT_ATTRIBUTES:
        if hasattr(module, name):
            return ast.Name(name)
    raise ConfigurationError(
        f"module {module.__name__!r} has neither application nor app; say which one it is:"
        f" {module.__name__}:{_callable_names(module, '', ['NAME'])[0]}"
    )


def _evaluate(spec: str, module: ModuleType, node: ast.expr) -> Any:
    match node:
        case ast.Name(name):
            return _attribute(module, name, f"module {module.__name__!r}")
        case ast.Attribute(inner, name):
            return _attribute(_evaluate(spec, module, inner), name, repr(ast.unparse(inner)))
        case ast.Call(inner):
            return _call(spec, _evaluate(spec, module, inner), node)
        case _:
            raise _not_understood(spec)


def _attribute(holder: object, name: str, shown: str) -> Any:
    try:
        return getattr(holder, name)
    except AttributeError:
        close = _callable_names(holder, name, [])
        remedy = f"did you mean {close[0]!r}?" if close else "check the name"
        raise ConfigurationError(f"{shown} has no attribute {name!r}; {remedy}") from None
    except Exception as error:
        raise _failed(f"looking up {name!r} in {shown} failed", error, "correct the module") from error


def _callable_names(holder: object, name: str, otherwise: list[str]) -> list[str]:
    """The callables of `holder` that its author may have meant, those closest to `name` first."""
    names = [key for key, value in vars(holder).items() if callable(value)] if hasattr(holder, "__dict__") else []
    if name:
        return difflib.get_close_matches(name, names) or otherwise
    here = getattr(holder, "__name__", None)
    return [key for key in names if _is_made_in(here, getattr(holder, key))] or otherwise


def _is_made_in(module: str | None, value: object) -> bool:
    """Whether a callable is a module's own: a function or class of it, or an application that it made of a class."""
    kind = type(value)  # nothing is asked of the value itself: Flask's request raises whatever one asks
    if issubclass(kind, (type, FunctionType, BuiltinFunctionType)):
        return getattr(value, "__module__", module) == module
    code = getattr(kind.__call__, "__code__", None)
    return code is not None and code.co_argcount == 3  # self, environ, start_response


def _call(spec: str, factory: Any, node: ast.Call) -> Any:
    try:
        arguments = [ast.literal_eval(argument) for argument in node.args]
        keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
    except (ValueError, TypeError):
        raise _not_understood(spec) from None
    if len(keywords) < len(node.keywords):  # **mapping
        raise _not_understood(spec)
    shown = ast.unparse(node)
    if not callable(factory):
        raise ConfigurationError(
            f"{ast.unparse(node.func)!r} is {_kind(factory)}, not a factory; leave out the parentheses"
        )
    try:
        return factory(*arguments, **keywords)
    except (Exception, SystemExit) as error:
        raise _failed(f"{shown} failed", error, "correct the factory or its arguments") from error


def _check(spec: str, application: object) -> None:
    if type(application).__module__ == "flask_socketio":
        raise ConfigurationError(
            f"{spec!r} is Flask-SocketIO's object; name the Flask application that it was made with, which serves both"
        )
    if not callable(application):
        raise ConfigurationError(f"{spec!r} is {_kind(application)}, which cannot be called; name a WSGI application")
    if _is_coroutine(application):
        raise ConfigurationError(
            f"{spec!r} is an ASGI application or a coroutine; streamserve serves WSGI applications"
        )
    try:
        # What it wraps may take other arguments: werkzeug's Request.application makes a WSGI callable of f(request).
        inspect.signature(application, follow_wrapped=False).bind({}, None)
    except TypeError:
        raise ConfigurationError(
            f"{spec!r} cannot be called with (environ, start_response); if it makes the application, write {spec}()"
        ) from None
    except ValueError:  # a built-in that does not tell its signature
        pass


def _note_wrapper(spec: str, module: ModuleType, application: object) -> None:
    """Warns when a Socket.IO server of the module stands around the application, and is not what is served."""
    for name, value in vars(module).items():
        if hasattr(type(value), "_engineio_server_class") and getattr(value, "wsgi_app", None) is application:
            _log.warning(
                "%s is served without the Socket.IO server that stands around it; for both: %s:%s",
                spec, module.__name__, name,
            )  # fmt: skip
            return


def _is_coroutine(application: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(type(application).__call__)


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _failed(what: str, error: BaseException, remedy: str) -> ConfigurationError:
    kind = type(error).__name__
    if isinstance(error, ConfigurationError):  # it says itself what is to be corrected
        kind, remedy = "", ""
    reason = ": ".join(filter(None, [kind, *str(error).splitlines()[:1]]))
    shown = traceback.TracebackException.from_exception(error)
    _cut(shown)
    line = "; ".join(filter(None, [f"{what}: {reason}", remedy]))
    return ConfigurationError(line, "".join(shown.format()).rstrip("\n"))


def _cut(shown: traceback.TracebackException) -> None:
    """Leaves the frames of the application: those of the import system and of this file explain nothing."""
    shown.stack = traceback.StackSummary.from_list([frame for frame in shown.stack if not _is_ours(frame.filename)])
    for other in (shown.__cause__, shown.__context__, *(shown.exceptions or ())):
        if other is not None:
            _cut(other)


def _is_ours(filename: str) -> bool:
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib.")
