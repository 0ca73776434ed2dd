"""Greenlet: a function that runs beside others, with its result.

The code of a Greenlet runs on a pooled Runner (runner.py); the object itself is
only the handle: it starts, is waited for, is killed, and keeps the value or the
exception. Who waits for its end is in links.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import TracebackType
from typing import Any

import greenlet as _greenlet
from greenlet import GreenletExit

from streamserve.loop.failures import to_kill_by
from streamserve.loop.frames import release_frames
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.identities import Identity
from streamserve.loop.links import Linked
from streamserve.loop.native_threads import get_ident
from streamserve.loop.runner import run_item
from streamserve.loop.waiter import Runner

_NEW, _STARTED, _RUNNING, _VALUE, _ERROR = range(5)
_numbers = itertools.count()
_current = _greenlet.getcurrent
_allocate = object.__new__


class Greenlet(Linked):
    """A function call that runs in its own greenlet.

    Args:
        run: what to call; a subclass may define `_run` instead.
        *args, **kwargs: its arguments.

    Raises:
        TypeError: run cannot be called.

    Example:
        >>> greenlet = Greenlet.spawn(pow, 2, 10)
        >>> greenlet.get()
        1024
    """

    __slots__ = ("__dict__", "__weakref__", "_error", "_locals", "_run", "_runner", "_state", "args", "kwargs", "value")

    value: Any
    """What the function returned; the GreenletExit if it was killed with one."""

    _error: BaseException | None
    _ident: int
    """Where a thread would have its ident (green/identity.py); set when it is asked for."""
    _locals: Any
    """Attributes that locals have here (sync/local.py); set by the first one."""
    _run: Callable[..., Any]
    _runner: Runner | None
    _state: int
    _trace: TracebackType | None = None
    _timer = -1
    _name: str | None = None
    _hub: Hub | None = None

    def __init__(self, run: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> None:
        if run is not None:
            if not callable(run):
                raise TypeError(f"The run argument must be callable, not {run!r}")
            self._run = run
        elif not hasattr(self, "_run"):
            self._run = _ended
        self.args = args
        self.kwargs = kwargs
        self.value = self._links = self._runner = self._error = None
        self._state = _NEW

    # ---- starting

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "start" in cls.__dict__ and "spawn" not in cls.__dict__:
            cls.spawn = classmethod(_spawn_by_start)  # type: ignore[assignment,method-assign]

    @classmethod
    def spawn(cls, *args: Any, **kwargs: Any) -> Greenlet:
        """Makes a greenlet and starts it; it runs when the caller next waits."""
        if cls is Greenlet and args and callable(args[0]):  # the same without a second passing of the arguments
            greenlet = _allocate(Greenlet)
            greenlet._run = args[0]
            greenlet.args = args[1:]
            greenlet.kwargs = kwargs
            greenlet.value = greenlet._links = greenlet._runner = greenlet._error = None
        else:
            greenlet = cls(*args, **kwargs)
        greenlet._state = _STARTED
        get_hub().ready.append((_begin, greenlet))
        return greenlet

    @classmethod
    def spawn_later(cls, seconds: float, *args: Any, **kwargs: Any) -> Greenlet:
        """Makes a greenlet that starts after `seconds`."""
        greenlet = cls(*args, **kwargs)
        greenlet.start_later(seconds)
        return greenlet

    def start(self) -> None:
        """Queues the function to run; without effect if it was started before."""
        if self._state == _NEW:
            self._state = _STARTED
            get_hub().ready.append((_begin, self))

    def start_later(self, seconds: float) -> None:
        """Starts after `seconds`; without effect if it was started before."""
        if self._state == _NEW:
            self._state = _STARTED
            self._hub = get_hub()
            self._timer = self._hub.start_timer(seconds, self)

    def fire(self) -> None:
        """The timer of `start_later` ended; called by the hub."""
        self._timer = -1
        get_hub().ready.append((_begin, self))

    # ---- the end

    def _finish(self, state: int) -> None:
        self._state = state
        self._runner = self._locals = None
        self.args = ()
        if self.kwargs:
            self.kwargs = {}
        self._run = _ended  # frees what the function closes over, perhaps this greenlet
        if self._links:
            self.tell_links()

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, GreenletExit):
            self.value = error
            self._finish(_VALUE)
            return
        self._error = error
        self._trace = error.__traceback__
        try:
            get_hub().report(error, self)
        finally:
            self._finish(_ERROR)

    @classmethod
    def borrow(cls, runner: Runner) -> Greenlet:
        """The handle of what a runner does now, for code that asks for the current greenlet."""
        identity = runner.identity
        if identity is None:
            identity = runner.identity = Identity()
        greenlet = _allocate(cls)
        greenlet._run = _ended
        greenlet.args, greenlet.kwargs = (), {}
        greenlet.value = greenlet._links = greenlet._error = None
        greenlet._state = _RUNNING
        greenlet._runner = runner
        greenlet._locals = identity.states
        greenlet._ident = identity.ident
        greenlet._name = identity.name
        runner.task = greenlet
        return greenlet

    def detach(self, runner: Runner) -> None:
        """The runner goes on to other work; ends a borrowed handle."""
        runner.task = None
        if self._state == _RUNNING:
            self._finish(_VALUE)

    # ---- state

    def ready(self) -> bool:
        """True once it has ended, in whatever way."""
        return self._state >= _VALUE

    @property
    def dead(self) -> bool:
        return self._state >= _VALUE

    def successful(self) -> bool:
        """True once it has returned, or was killed by GreenletExit."""
        return self._state == _VALUE

    def __bool__(self) -> bool:
        """True from start to end."""
        return _STARTED <= self._state <= _RUNNING

    started = property(__bool__)

    @property
    def exception(self) -> BaseException | None:
        """The exception that ended it, or None."""
        return self._error

    @property
    def exc_info(self) -> tuple[type[BaseException], BaseException, TracebackType | None] | tuple[()]:
        """(type, value, traceback) of the exception that ended it, or ()."""
        error = self._error
        return (type(error), error, error.__traceback__) if error is not None else ()

    @property
    def loop(self) -> Hub:
        return self._hub or get_hub()

    @property
    def name(self) -> str:
        """A name for people; "Greenlet-N" unless set."""
        if self._name is None:
            self._name = f"Greenlet-{next(_numbers)}"
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    @property
    def gr_frame(self) -> Any:
        """The frame where it waits, or None."""
        return self._runner.gr_frame if self._runner is not None else None

    # ---- waiting for it

    def join(self, timeout: Any = None) -> None:
        """Waits until it has ended, or `timeout` seconds (or those of a Timeout) have passed."""
        if self._state < _VALUE:
            try:
                self.wait_for_end(timeout)
            except BaseException as error:
                if error is not timeout:
                    raise

    def get(self, block: bool = True, timeout: Any = None) -> Any:
        """Returns what the function returned, or raises what it raised.

        Args:
            block: False: do not wait.
            timeout: seconds to wait at most, or a Timeout, which is then what is raised.

        Raises:
            Timeout: it has not ended (in time).
        """
        if self._state < _VALUE:
            if block:
                self.wait_for_end(timeout)
            if self._state < _VALUE:
                raise _timeout(timeout)
        if self._state == _ERROR:
            assert self._error is not None
            try:
                raise self._error.with_traceback(self._trace)
            finally:
                del self  # the traceback holds this frame: without this, the greenlet would hold itself
        return self.value

    # ---- killing it

    def kill(self, exception: Any = GreenletExit, block: bool = True, timeout: float | None = None) -> None:
        """Raises an exception in it where it waits; it never runs if it had not begun.

        Args:
            exception: class, instance, or (type, value, traceback).
            block: wait until it has ended. A greenlet that kills itself gets the exception at
                once, or where it next waits if `block` is False.
            timeout: seconds to wait at most; then it is left alive, silently.
        """
        if self._state >= _VALUE:
            return
        error = to_kill_by(exception)
        if self._state < _RUNNING:  # no call before the next line, so it does not begin in between
            self._state = _RUNNING
            self._never_run(error)
            return
        runner = self._runner
        if block and runner is _current():
            raise error
        if runner is not None:
            self._interrupt(runner.hub, error)
        del runner  # to hold it while it ends would cost it
        if block:
            self.join(timeout)

    def _interrupt(self, hub: Hub, error: BaseException) -> None:
        if hub.thread_ident != get_ident():
            hub.run_callback_threadsafe(self._interrupt, hub, error)
        elif self._runner is not None:
            hub.interrupt(self._runner, error)

    def _never_run(self, error: BaseException) -> None:
        if self._timer >= 0 and self._hub is not None:
            self._hub.stop_timer(self._timer, self)
        self._failed(error)

    def throw(self, *exception: Any) -> None:
        """Raises an exception in it, soon, without waiting (`kill(block=False)`); in the current one at once."""
        wanted = exception if len(exception) > 1 else (exception or (GreenletExit,))[0]
        self.kill(wanted, block=self._runner is not None and self._runner is _current())

    def run_link(self, callback: Callable[[Any], Any]) -> None:
        """Calls a link's function in a greenlet of its own, at once; called by links.py in the hub."""
        greenlet = Greenlet(callback, self)
        greenlet._state = _STARTED
        run_item(get_hub(), (_begin, greenlet))

    # ---- as a context manager

    def __enter__(self) -> Greenlet:
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is not None:
            self.kill(value)
            return
        try:
            self.join()
        finally:
            self.kill()

    def __repr__(self) -> str:
        kind = type(self).__name__
        label = f" {self._name!r}" if self._name else ""
        function = "" if self._run is _ended else f": {getattr(self._run, '__name__', repr(self._run))}"
        return f"<{kind}{label} at {id(self):#x}{function}{self._describe()}>"

    def _describe(self) -> str:
        if self._state == _VALUE:
            return f" value={self.value!r:.80}"
        if self._state == _ERROR:
            return f" failed={self._error!r}"
        return (" not started", " to be started", "")[self._state]


def _begin(item: tuple[Any, Greenlet], runner: Runner) -> None:
    """What a runner does with a started greenlet."""
    greenlet = item[1]
    if greenlet._state != _STARTED:
        return  # killed before it began
    runner.task = greenlet
    greenlet._runner = runner
    greenlet._state = _RUNNING
    try:
        if greenlet.kwargs:  # noqa: SIM108 - a line for each
            value = greenlet._run(*greenlet.args, **greenlet.kwargs)
        else:
            value = greenlet._run(*greenlet.args)
    except BaseException as error:
        runner.task = None
        hub = runner.hub
        trace = error.__traceback__
        error.__traceback__ = trace.tb_next if trace is not None else None
        greenlet._failed(error)
        release_frames(error)
        if hub.interrupts:
            hub.interrupts.pop(runner, None)
        # The traceback leads to this frame, and the greenlet to the traceback: part them.
        del greenlet, item, trace, runner
    else:
        runner.task = None
        greenlet.value = value
        greenlet._finish(_VALUE)
        if runner.hub.interrupts:
            runner.hub.interrupts.pop(runner, None)  # what was not raised before the end is for nobody


def _ended(*args: Any) -> None:
    """What `_run` is after the end (the function itself must not be kept alive), and where there is nothing to run."""


def _spawn_by_start(cls: type[Greenlet], *args: Any, **kwargs: Any) -> Greenlet:
    """The `spawn` of a class that has a `start` of its own."""
    greenlet = cls(*args, **kwargs)
    greenlet.start()
    return greenlet


def _timeout(seconds: float | None) -> BaseException:
    from streamserve.loop.timeout import Timeout  # it stands on this module

    return Timeout(seconds)


def getcurrent() -> Any:
    """Returns the Greenlet whose code is running, or the raw greenlet if it is not one of ours."""
    current = _current()
    if current.__class__ is not Runner:
        return current
    task = current.task
    return task if task is not None else Greenlet.borrow(current)
