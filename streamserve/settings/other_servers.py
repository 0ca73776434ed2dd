"""What the users of gunicorn, uvicorn and waitress write, in our words.

A flag whose meaning is the same here is taken; of every other one the row says what there is instead. A name that
becomes a setting of ours leaves this table.
"""

from dataclasses import dataclass

__all__ = ["BORROWED", "SHORT_FLAGS", "BorrowedFlag", "remedy_for"]

SHORT_FLAGS = {"bind": "-b", "config": "-c", "version": "-v"}
"""gunicorn's letters for flags that are called as ours are."""


@dataclass(frozen=True, slots=True)
class BorrowedFlag:
    """A flag of another server.

    Attributes:
        flags: Its spellings.
        setting: The setting of ours that takes its values; "": none.
        same: Values that ask for what is so here anyway. A flag that takes none has `("on",)` for that.
        other: Values that the setting would understand otherwise.
        takes_value: Whether a value follows it.
        remedy: What to write instead, the end of a sentence.
    """

    flags: tuple[str, ...]
    remedy: str
    setting: str = ""
    same: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    takes_value: bool = True

    @property
    def name(self) -> str:
        """Its name as a keyword, which no setting has."""
        return "borrowed_" + self.flags[-1].strip("-").replace("-", "_")

    def problem(self, value: str) -> str:
        """What is wrong with giving it so; "" if nothing is."""
        if value in self.same or (self.setting and value not in self.other):
            return ""
        given = f" {value}" if self.takes_value else ""
        return f"{self.flags[-1]}{given} is another server's flag: {self._remedy(value)}"

    def _remedy(self, value: str) -> str:
        if self.flags[-1] == "--pid" and value.isdecimal():
            return f"write --bind 127.0.0.1:{value} for a port; the pid stands in the first line of the log"
        return self.remedy.replace("VALUE", value)


GREENLET_WORKERS = ("gevent", "eventlet", "geventwebsocket.gunicorn.workers.GeventWebSocketWorker")

BORROWED = (
    BorrowedFlag(
        ("-w", "--workers"),
        "there is one process, whose requests run side by side (--concurrency); for more cores start several,"
        " each with its own --bind, behind a proxy",
        same=("1",),
    ),
    BorrowedFlag(
        ("-k", "--worker-class"), "leave it out, every request runs on a greenlet here", same=GREENLET_WORKERS
    ),
    BorrowedFlag(("--threads",), "requests run on greenlets, --concurrency says how many at once"),
    BorrowedFlag(
        ("--worker-connections",),
        "--max-connections says how many may be open, --concurrency how many requests run at once",
    ),
    BorrowedFlag(("--host",), "write --bind VALUE:PORT"),
    BorrowedFlag(("--port",), "write --bind 127.0.0.1:VALUE, or --bind :VALUE for every interface"),
    BorrowedFlag(("--listen",), "write --bind VALUE"),
    BorrowedFlag(("--uds",), "write --bind unix:VALUE"),
    BorrowedFlag(("--fd",), "write --bind fd://VALUE"),
    BorrowedFlag(("--access-logfile",), "", setting="access_log"),
    BorrowedFlag(("--access-logformat",), "", setting="access_log_format"),
    BorrowedFlag(
        ("--error-logfile", "--log-file"),
        "the server logs to standard error, 2>>VALUE sends it to a file",
        same=("-",),
    ),
    BorrowedFlag(
        ("--keep-alive",), "--keep-alive-timeout 0 is no deadline", setting="keep_alive_timeout", other=("0",)
    ),
    BorrowedFlag(
        ("--timeout-keep-alive",), "--keep-alive-timeout 0 is no deadline", setting="keep_alive_timeout", other=("0",)
    ),
    BorrowedFlag(
        ("-t", "--timeout"),
        "a request may take its time; --head-timeout, --body-timeout, --write-timeout and --graceful-timeout are the"
        " deadlines, and --block-warning reports code that blocks the loop",
    ),
    BorrowedFlag(("--timeout-graceful-shutdown",), "", setting="graceful_timeout"),
    BorrowedFlag(
        ("--limit-request-line",), "--max-request-line 1m is the longest", setting="max_request_line", other=("0",)
    ),
    BorrowedFlag(("--limit-request-fields",), "", setting="max_header_fields"),
    BorrowedFlag(("--limit-request-field_size",), "--max-header-bytes limits the whole head"),
    BorrowedFlag(("--proxy-allow-from",), "", setting="proxy_allow_ips"),
    BorrowedFlag(("--cert-reqs",), "write --client-cert optional or required"),
    BorrowedFlag(("--ssl-version",), "write --tls-min 1.2 or 1.3"),
    BorrowedFlag(("--ssl-certfile",), "", setting="certfile"),
    BorrowedFlag(("--ssl-keyfile",), "", setting="keyfile"),
    BorrowedFlag(("--ssl-keyfile-password",), "", setting="keyfile_password"),
    BorrowedFlag(
        ("--reload",),
        "there is no reloader; a watcher restarts it, such as `watchfiles 'streamserve module:app'`",
        takes_value=False,
    ),
    BorrowedFlag(("--preload",), "", same=("on",), takes_value=False),
    BorrowedFlag(("-m", "--umask"), "--socket-mode is for unix sockets; set the umask before the command"),
    BorrowedFlag(("-D", "--daemon"), "let a service manager such as systemd keep it running", takes_value=False),
    BorrowedFlag(("-p", "--pid"), "the pid stands in the first line of the log; a service manager needs no file"),
    BorrowedFlag(("-u", "--user"), "start it as that user, with User= of systemd or USER of Docker"),
    BorrowedFlag(("-g", "--group"), "start it as that group, with Group= of systemd"),
    BorrowedFlag(("-e", "--env"), "set the variable before the command: VALUE streamserve module:app"),
    BorrowedFlag(("-n", "--name"), "leave it out, the process keeps its name"),
    BorrowedFlag(("--pythonpath",), "write --chdir VALUE, or set PYTHONPATH"),
    BorrowedFlag(("--max-requests",), "leave it out, the process is not restarted after some requests"),
    BorrowedFlag(("--max-requests-jitter",), "leave it out, the process is not restarted after some requests"),
    BorrowedFlag(("--worker-tmp-dir",), "leave it out, no worker writes a heartbeat file"),
)
"""Each flag once, by what people come with."""


def remedy_for(name: str) -> str:
    """The end of a sentence for the name of a setting that another server has, or "" if none has it.

    Args:
        name: As in a file: `worker_class`.
    """
    flag = "--" + name.replace("_", "-").lower()
    for row in BORROWED:
        if flag in (spelling.replace("_", "-") for spelling in row.flags):
            return f"; the key is {row.setting}" if row.setting else f"; {row.remedy}"
    return ""
