"""The command line, run as its users run it."""

import contextlib
import os
import re
import signal
import socket
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from streamserve.settings import entries
from tests.support.process import ServedCommand, command

SITE = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]
"""

# Its response begins, and ends once there is a file named go.
WAITING = """
import os
import streamserve

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"started\\n"
    while not os.path.exists("go"):
        streamserve.sleep(0.01)
    yield b"finished\\n"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "site_module.py").write_text(SITE)
    (tmp_path / "waiting.py").write_text(WAITING)
    return tmp_path


def mistake(*arguments: str, cwd: Path, **environ: str) -> str:
    """The one line with which the command refuses these arguments."""
    result = command(*arguments, cwd=cwd, **environ)
    assert result.returncode == 2, result
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("streamserve: error: ")
    return lines[0].removeprefix("streamserve: error: ")


class TestInformation:
    def test_help_lists_every_setting_with_its_default(self, project: Path) -> None:
        result = command("--help", cwd=project, COLUMNS="200")
        assert result.returncode == 0
        text = " ".join(result.stdout.split())
        for entry in entries():
            if entry.name != "app":  # which is the argument
                assert " ".join(f"{entry.flag} {entry.kind.metavar} {entry.help}".split()) in text
        assert "[bytes, default 65536]" in text

    def test_help_stands_in_one_column(self, project: Path) -> None:
        lines = command("-h", cwd=project).stdout.splitlines()
        starts = {re.match(r"  --[\w-]+ [A-Z]+ +", line) for line in lines}
        assert len({match.end() for match in starts if match}) == 1

    def test_version(self, project: Path) -> None:
        result = command("--version", cwd=project)
        assert (result.returncode, result.stderr) == (0, "")
        assert re.fullmatch(r"streamserve [0-9]+\.[0-9]+\.[0-9]+ \(CPython 3\.[0-9.]+\w*\)\n", result.stdout)

    def test_print_config_is_a_file_that_gives_the_same_settings(self, project: Path) -> None:
        first = command("site_module", "--backlog", "77", "--print-config", cwd=project, STREAMSERVE_QUEUE="5")
        assert first.returncode == 0
        assert "backlog = 77  # from --backlog" in first.stdout
        assert "queue = 5  # from STREAMSERVE_QUEUE" in first.stdout
        (project / "streamserve.toml").write_text(first.stdout)
        second = command("--print-config", cwd=project)
        assert tomllib.loads(second.stdout) == tomllib.loads(first.stdout)

    def test_check_config_loads_the_application_and_binds_nothing(self, project: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            bind = f"127.0.0.1:{taken.getsockname()[1]}"
            result = command("site_module", "--check-config", "--bind", bind, cwd=project)
        assert (result.returncode, result.stdout, result.stderr) == (0, "configuration is valid\n", "")

    def test_check_config_refuses_a_wrong_application(self, project: Path) -> None:
        assert "has no attribute 'ap'" in mistake("site_module:ap", "--check-config", cwd=project)

    def test_print_config_names_only_flags_that_exist(self, project: Path) -> None:
        arguments = ["-b", "127.0.0.1:1", "--access-logfile", "-", "--no-patch", "--keep-alive", "5", "--print-config"]
        output = command("site_module", *arguments, cwd=project).stdout
        assert 'app = "site_module"  # from the command line' in output
        assert 'bind = ["127.0.0.1:1"]  # from --bind' in output
        assert 'access_log = "-"  # from --access-log' in output
        assert "keep_alive_timeout = 5  # from --keep-alive-timeout" in output
        flags = set(re.findall(r"# from (--\S+)", output))
        help_text = command("--help", cwd=project).stdout
        assert flags and all(f"{flag} " in help_text for flag in flags)

    @pytest.mark.parametrize(
        "arguments", [["-w", "1"], ["-k", "gevent"], ["--preload"], ["--error-logfile", "-"], ["-c", "other.toml"]]
    )
    def test_flags_of_others_that_mean_the_same_are_taken(self, project: Path, arguments: list[str]) -> None:
        (project / "other.toml").write_text("backlog = 9")
        result = command("site_module", *arguments, "--check-config", cwd=project)
        assert (result.returncode, result.stdout, result.stderr) == (0, "configuration is valid\n", "")

    def test_unknown_variable_is_told(self, project: Path) -> None:
        variables = {"STREAMSERVE_WORKERS": "4", "STREAMSERVE_PORT_80_TCP": "tcp://10.0.0.1:80"}
        result = command("site_module", "--check-config", cwd=project, **variables)
        assert result.returncode == 0
        line = (
            r"\d{4}-\S+ \S+ [+-]\d{4} WARNING unknown environment variable STREAMSERVE_WORKERS is ignored; .*--bind.*\n"
        )
        assert re.fullmatch(line, result.stderr)

    def test_config_names_the_file(self, project: Path) -> None:
        (project / "other.toml").write_text("backlog = 9")
        result = command("--config", "other.toml", "--print-config", cwd=project)
        assert "backlog = 9  # from other.toml" in result.stdout


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (["--head-timout", "3"], "unknown flag --head-timout; did you mean --head-timeout?"),
            (["--zzz"], "unknown flag --zzz; streamserve --help lists the flags"),
            (["-x"], "unknown flag -x; streamserve --help lists the flags"),
            (["--backlog"], "Option '--backlog' requires an argument; streamserve --help shows the usage"),
            (["a:b", "c:d"], "Got unexpected extra argument (c:d); streamserve --help shows the usage"),
            (
                ["--backlog", "0"],
                "backlog='0' (from --backlog) is below the least, 1; give a whole number from 1 to 65535",
            ),
            (
                ["--port", "80", "site_module"],
                "--port 80 is another server's flag: write --bind 127.0.0.1:80, or --bind :80 for every interface",
            ),
            (
                ["-k", "tornado", "site_module"],
                "--worker-class tornado is another server's flag: leave it out, every request runs on a greenlet here",
            ),
            (["--keep-alive", "0"], "--keep-alive 0 is another server's flag: --keep-alive-timeout 0 is no deadline"),
            (
                ["-p", "9000"],
                "--pid 9000 is another server's flag: write --bind 127.0.0.1:9000 for a port; the pid stands in the"
                " first line of the log",
            ),
            (
                ["hello.py:app"],
                "'hello.py' is not the name of a module; give the module, not its file: streamserve hello:app",
            ),
            (
                ["my sites/hello.py:make('a')"],
                "'my sites/hello.py' is not the name of a module; give the module, not its file:"
                """ streamserve --chdir 'my sites' 'hello:make('"'"'a'"'"')'""",
            ),
            (["--config", "gone.toml"], "there is no file gone.toml; give another --config"),
            ([], "no application is given; run `streamserve module:application`, or set app in a file"),
        ],
    )
    def test_one_line_and_exit_code_2(self, project: Path, arguments: list[str], line: str) -> None:
        assert mistake(*arguments, cwd=project) == line

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["-w", "4"], "--concurrency"),
            (["--workers=4"], "--concurrency"),
            (["--threads", "8"], "--concurrency"),
            (["--timeout", "30"], "--head-timeout"),
            (["-t", "30"], "--block-warning"),
            (["--host", "0.0.0.0"], "--bind 0.0.0.0:PORT"),
            (["--uds", "/run/a.sock"], "--bind unix:/run/a.sock"),
            (["--limit-request-line", "0"], "--max-request-line 1m"),
            (["--reload"], "watchfiles"),
            (["-D"], "systemd"),
            (["-e", "A=b"], "A=b streamserve"),
        ],
    )
    def test_flag_of_another_server_names_what_there_is_instead(
        self, project: Path, arguments: list[str], named: str
    ) -> None:
        line = mistake("site_module", *arguments, cwd=project)
        assert "is another server's flag: " in line and named in line

    def test_configuration_in_python_names_the_page_with_its_keys(self, project: Path) -> None:
        (project / "gunicorn.conf.py").write_text("workers = 4\n")
        line = mistake("site_module", "-c", "gunicorn.conf.py", cwd=project)
        assert line.startswith("gunicorn.conf.py is Python, settings are read from TOML; docs/coming-from-gunicorn.md")

    def test_wrong_variable_and_wrong_key(self, project: Path) -> None:
        line = mistake("site_module", cwd=project, STREAMSERVE_HEAD_TIMEOUT="soon")
        assert line.startswith("head_timeout='soon' (from STREAMSERVE_HEAD_TIMEOUT) is not a time")
        (project / "streamserve.toml").write_text("backlogg = 3")
        assert mistake("site_module", cwd=project) == (
            "unknown key backlogg in streamserve.toml; did you mean backlog?"
        )

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
    def test_unreadable_file(self, project: Path) -> None:
        (project / "streamserve.toml").touch(mode=0)
        assert "cannot read streamserve.toml: Permission denied" in mistake("site_module", cwd=project)

    def test_wrong_module(self, project: Path) -> None:
        assert mistake("sitemodule:application", cwd=project).startswith("there is no module 'sitemodule' in ")

    def test_a_name_within_a_module_is_no_module(self, project: Path) -> None:
        (project / "whole.py").write_text("application = print\n")
        assert mistake("whole.application", cwd=project).endswith("; whole has 'application': give whole:application")
        assert "; check the name, or give its directory" in mistake("whole.other", cwd=project)

    def test_configuration_error_of_the_application_keeps_its_own_remedy(self, project: Path) -> None:
        (project / "failing.py").write_text("from streamserve.wsgi import WSGIServer\nWSGIServer('nowhere')\n")
        last = command("failing", cwd=project).stderr.splitlines()[-1]
        assert last == (
            "streamserve: error: importing failing failed: 'nowhere' has no port;"
            " give host:port, [IPv6]:port, :port, unix:/path or fd://N"
        )

    def test_failing_module_shows_its_traceback_before_the_line(self, project: Path) -> None:
        (project / "failing.py").write_text("\n1 / 0\n")
        result = command("failing", cwd=project)
        assert result.returncode == 2
        lines = result.stderr.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[1] == f'  File "{project}/failing.py", line 2, in <module>'
        assert lines[-1].startswith("streamserve: error: importing failing failed: ZeroDivisionError: division by zero")

    def test_owner_that_does_not_exist(self, project: Path) -> None:
        line = mistake("site_module", "--bind", "unix:app.sock", "--socket-owner", "nobody-here", cwd=project)
        assert line.startswith("cannot listen on unix:app.sock: socket_owner='nobody-here' is no user, user:group or")
        assert not (project / "app.sock").exists()

    def test_port_in_use(self, project: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            bind = f"127.0.0.1:{taken.getsockname()[1]}"
            assert mistake("site_module", "--bind", bind, cwd=project).startswith(
                f"cannot listen on {bind}: another process listens there"
            )

    def test_access_log_that_cannot_be_opened(self, project: Path) -> None:
        line = mistake("site_module", "--bind", "unix:app.sock", "--access-log", "gone/access.log", cwd=project)
        assert line == (
            "access_log='gone/access.log' (from --access-log) cannot be opened: No such file or directory;"
            " give a file that can be written, or -"
        )
        assert not (project / "app.sock").exists()

    def test_interrupt_while_the_application_loads_leaves_no_traceback(self, project: Path) -> None:
        (project / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nsignal.pause()\n")
        result = command("slow", cwd=project)
        assert result.returncode == 130
        assert "Traceback" not in result.stderr


class TestServing:
    def test_announces_the_real_port_and_serves(self, project: Path) -> None:
        with ServedCommand("site_module", cwd=project) as server:
            assert not server.url.endswith(":0")
            assert requests.get(server.url, timeout=60).text == "hello"
            line = r"streamserve [0-9.]+ serving site_module on http://127\.0\.0\.1:[0-9]+ \(pid ([0-9]+), epoll\)"
            match = re.search(line, server.stderr)
            assert match is not None and int(match[1]) == server.process.pid

    @pytest.mark.parametrize("backend", ["epoll", "poll"])
    def test_serves_with_the_backend_that_is_chosen(self, project: Path, backend: str) -> None:
        with ServedCommand("site_module", "--loop-backend", backend, cwd=project) as server:
            assert requests.get(server.url, timeout=60).text == "hello"
            assert f", {backend})" in server.stderr

    def test_serves_on_several_addresses(self, project: Path) -> None:
        arguments = ["--bind", "127.0.0.1:0", "--bind", "127.0.0.1:0", "--bind", "unix:app.sock"]
        with ServedCommand("site_module", *arguments, cwd=project) as server:
            server.wait_for(re.compile("serving .* on unix:app.sock"))
            urls = re.findall(r"http://\S+", server.stderr)
            assert len(set(urls)) == 2
            for url in urls:
                assert requests.get(url, timeout=60).text == "hello"
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(project / "app.sock"))
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert client.makefile("rb").read().endswith(b"\r\n\r\nhello")
            server.stop()
            assert not (project / "app.sock").exists()

    @pytest.mark.parametrize(("flags", "mode"), [([], 0o666), (["--socket-mode", "0600"], 0o600)])
    def test_unix_socket_lets_in_whom_its_mode_says(self, project: Path, flags: list[str], mode: int) -> None:
        arguments = ["--bind", "unix:app.sock", "--bind", "127.0.0.1:0", *flags]
        with ServedCommand("site_module", *arguments, cwd=project):
            assert stat.S_IMODE((project / "app.sock").stat().st_mode) == mode

    def test_serves_on_an_inherited_descriptor(self, project: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            fd = listener.fileno()
            with ServedCommand("site_module", "--bind", f"fd://{fd}", cwd=project, pass_fds=(fd,)) as server:
                assert server.url == f"http://127.0.0.1:{listener.getsockname()[1]}"
                assert requests.get(server.url, timeout=60).text == "hello"

    def test_settings_come_from_variables_and_files(self, project: Path) -> None:
        (project / "streamserve.toml").write_text("app = 'site_module'\nserver_header = 'from the file'\n")
        with ServedCommand(cwd=project, STREAMSERVE_MAX_HEADER_FIELDS="5") as server:
            assert requests.get(server.url, timeout=60).headers["Server"] == "from the file"
            many = {f"X-{number}": "x" for number in range(5)}
            assert requests.get(server.url, headers=many, timeout=60).status_code == 431

    @pytest.mark.parametrize("start", [["site_module", "--check-config"], ["run", "site_module.py"]])
    def test_what_patching_cannot_mend_is_a_line_of_the_log(self, project: Path, start: list[str]) -> None:
        (project / "sitecustomize.py").write_text("import socket\nkept = socket.socket()\n")
        path = f"{project}:{Path(__file__).parents[1]}"
        result = command(*start, cwd=project, PYTHONPATH=path)
        assert re.fullmatch(
            r"\d{4}-\S+ \S+ [+-]\d{4} WARNING sockets made before patching still block .*\n", result.stderr
        )

    def test_what_the_application_logs_at_import_has_a_time(self, project: Path) -> None:
        (project / "talking.py").write_text(
            "import logging\nlogging.getLogger('streamserve.engine').warning('early')\n" + SITE
        )
        with ServedCommand("talking", cwd=project) as server:
            assert re.search(r"^\d{4}-\S+ \S+ [+-]\d{4} WARNING early$", server.stderr, re.MULTILINE)

    def test_log_survives_an_application_that_configures_logging_late(self, project: Path) -> None:
        (project / "late.py").write_text(
            "import logging, logging.config\n" + SITE.replace("    start_response", """    logging.config.dictConfig({
        "version": 1, "root": {"handlers": ["own"]}, "handlers": {"own": {"class": "logging.StreamHandler"}}})
    start_response""")
        )  # fmt: skip
        with ServedCommand("late", cwd=project) as server:
            assert requests.get(server.url, timeout=60).text == "hello"
            server.stop()
            assert re.search(r"INFO    SIGTERM: stopping", server.stderr)
            assert "0 requests cut off" in server.stderr

    def test_access_log_goes_to_standard_output(self, project: Path) -> None:
        with ServedCommand("site_module", "--access-log", "-", cwd=project) as server:
            requests.get(server.url + "/path?query", timeout=60)
            output = server.stop()
        assert '"GET /path?query HTTP/1.1" 200 5' in output


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_idle_server_stops_at_once_with_exit_code_0(self, project: Path, number: signal.Signals) -> None:
        with ServedCommand("site_module", cwd=project) as server, requests.Session() as session:
            assert session.get(server.url, timeout=60).text == "hello"  # and its connection idles from here
            server.signal(number)
            assert server.wait() == 0
            assert f"{number.name}: stopping; no request is running" in server.stderr
            assert re.search(r"stopped after [0-9]\.[0-9]+ s; 0 requests cut off", server.stderr)
            assert "Traceback" not in server.stderr

    def test_running_request_finishes(self, project: Path) -> None:
        with ServedCommand("waiting", cwd=project) as server, begun(server) as lines:
            server.signal(signal.SIGTERM)
            server.wait_for(re.compile("SIGTERM: stopping; 1 request may take 30 s, a second signal stops at once"))
            (project / "go").touch()
            assert list(lines) == [b"finished"]
            assert server.wait() == 0
            assert re.search(r"stopped after [0-9.]+ s; 0 requests cut off", server.stderr)

    @pytest.mark.parametrize("timeout", ["50ms", "0"])
    def test_request_that_takes_longer_than_graceful_timeout_is_cut_off(self, project: Path, timeout: str) -> None:
        with ServedCommand("waiting", "--graceful-timeout", timeout, cwd=project) as server, begun(server) as lines:
            server.signal(signal.SIGTERM)
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                list(lines)
            assert server.wait() == 0
            assert re.search(r"stopped after [0-9.]+ s; 1 request cut off", server.stderr)

    def test_second_signal_stops_at_once(self, project: Path) -> None:
        with ServedCommand("waiting", "--graceful-timeout", "1h", cwd=project) as server, begun(server) as lines:
            server.signal(signal.SIGINT)
            server.wait_for(re.compile("SIGINT: stopping; 1 request"))
            server.signal(signal.SIGINT)
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                list(lines)
            assert server.wait() == 0
            assert "SIGINT came again: stopping at once, with 1 request" in server.stderr
            assert re.search(r"stopped after [0-9.]+ s; 1 request cut off", server.stderr)


@contextlib.contextmanager
def begun(server: ServedCommand) -> Iterator[Iterator[bytes]]:
    """The lines of a response of which the first, "started", has arrived."""
    with requests.get(server.url, stream=True, timeout=30) as response:
        lines = response.iter_lines(chunk_size=None)
        assert next(lines) == b"started"
        yield lines
