"""The table of settings, the files and variables that fill it, and the page that documents it."""

import dataclasses
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from streamserve.errors import ConfigurationError
from streamserve.listening.addresses import TcpAddress, UnixAddress
from streamserve.settings import Settings, entries
from streamserve.settings.other_servers import BORROWED, SHORT_FLAGS
from streamserve.settings.sources import read_settings, tell_public_secrets, tell_unknown_variables, to_toml

DOCS = Path(__file__).parents[2] / "docs"

# One value other than the default for each setting, as its users write it.
OTHER_VALUES = {
    "app": "site:application",
    "chdir": "/srv",
    "patch": "off",
    "bind": "127.0.0.1:9000",
    "socket_mode": "660",
    "socket_owner": "www-data:www-data",
    "backlog": "100",
    "max_connections": "50",
    "tcp_notsent_lowat": "64k",
    "certfile": "/etc/site.pem",
    "keyfile": "/etc/site.key",
    "keyfile_password": "open sesame",
    "ca_certs": "/etc/clients.pem",
    "client_cert": "required",
    "tls_min": "1.3",
    "ciphers": "ECDHE+AESGCM",
    "certificate_check": "1m",
    "handshake_timeout": "3s",
    "max_handshakes": "64",
    "concurrency": "10",
    "queue": "20",
    "thread_idle_timeout": "5s",
    "context_variables": "request",
    "max_request_line": "4k",
    "max_header_bytes": "128k",
    "max_header_fields": "30",
    "max_body_bytes": "1g",
    "max_buffer_bytes": "512m",
    "websocket_origins": "https://example.com",
    "max_websocket_message": "1m",
    "websocket_ping_interval": "5s",
    "websocket_ping_timeout": "5s",
    "websocket_close_timeout": "5s",
    "websocket_queue": "128k",
    "websocket_slow": "skip",
    "websocket_compression": "on",
    "websocket_compression_threshold": "4k",
    "head_timeout": "500ms",
    "body_timeout": "2m",
    "body_rate": "1k",
    "buffered_body": "64k",
    "queue_timeout": "5s",
    "discard_timeout": "2s",
    "discard_total": "1m",
    "write_timeout": "45s",
    "client_gone": "hangup",
    "keep_alive_timeout": "5",
    "graceful_timeout": "0",
    "underscore_headers": "refuse",
    "forwarded_allow_ips": "10.0.0.0/8",
    "forwarded_parts": "for",
    "proxy_protocol": "on",
    "proxy_allow_ips": "10.0.0.0/8",
    "early_hints": "on",
    "server_header": "mine",
    "request_ids": "make",
    "request_id_header": "X-Request-ID",
    "access_log": "-",
    "access_log_format": "%(h)s %({host}i)s",
    "log_level": "debug",
    "log_config": "logging.toml",
    "loop_backend": "poll",
    "block_warning": "250ms",
}


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(**values: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Settings(**values)  # type: ignore[arg-type]
    line = str(caught.value)
    assert "\n" not in line
    return line


def refused_file(text: str) -> str:
    Path("streamserve.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_settings({}, {})
    return str(caught.value)


class TestTable:
    def test_every_setting_has_a_value_to_try(self) -> None:
        assert set(OTHER_VALUES) == {entry.name for entry in entries()}

    def test_defaults_pass_their_own_validation_unchanged(self) -> None:
        settings = Settings()
        assert {entry.name: getattr(settings, entry.name) for entry in entries()} == {
            entry.name: entry.default for entry in entries()
        }

    def test_defaults_are_those_that_the_behaviour_page_promises(self) -> None:
        settings = Settings()
        assert (settings.max_request_line, settings.max_header_bytes, settings.max_header_fields) == (8192, 65536, 100)
        assert (settings.head_timeout, settings.body_timeout, settings.write_timeout) == (15, 30, 60)
        assert (settings.keep_alive_timeout, settings.graceful_timeout, settings.handshake_timeout) == (75, 30, 10)
        assert (settings.max_connections, settings.concurrency, settings.queue) == (20000, 1000, 1000)
        assert (settings.max_body_bytes, settings.max_buffer_bytes) == (0, 1 << 30)

    def test_is_immutable(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            Settings().backlog = 1  # type: ignore[misc]

    def test_page_is_current(self) -> None:
        generator = load_generator()
        assert (DOCS / "settings.md").read_text() == generator.render(), "run: python docs/generate_settings.py"


class TestValues:
    @pytest.mark.parametrize(
        ("given", "size"),
        [("0", 0), (77, 77), ("1k", 1024), ("64K", 65536), ("2 m", 2 << 20), ("1g", 1 << 30), ("3MiB", 3 << 20)],
    )
    def test_reads_sizes(self, given: object, size: int) -> None:
        assert Settings(max_body_bytes=given).max_body_bytes == size  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("given", "seconds"),
        [("0", 0), (7, 7), (0.25, 0.25), ("1.5", 1.5), ("500ms", 0.5), ("30s", 30), ("2M", 120), ("1 h", 3600)],
    )
    def test_reads_times(self, given: object, seconds: float) -> None:
        assert Settings(head_timeout=given).head_timeout == seconds  # type: ignore[arg-type]

    @pytest.mark.parametrize("given", ["660", "0660", "0o660", 0o660])
    def test_reads_modes_of_files(self, given: object) -> None:
        settings = Settings(socket_mode=given)  # type: ignore[arg-type]
        assert (settings.socket_mode, settings.unix_file.mode) == ("0660", 0o660)

    def test_reads_several_addresses_from_one_text(self) -> None:
        settings = Settings(bind="127.0.0.1:1, unix:/run/a.sock")  # type: ignore[arg-type]
        assert settings.bind == (TcpAddress("127.0.0.1", 1), UnixAddress("/run/a.sock"))

    @pytest.mark.parametrize(
        ("values", "parts"),
        [
            ({"patch": "maybe"}, ["patch='maybe'", "neither on nor off", "give true or false"]),
            ({"patch": 1}, ["patch=1", "neither on nor off"]),
            ({"socket_mode": "rw-"}, ["socket_mode='rw-'", "is no mode of a file", "such as 0666"]),
            ({"socket_mode": 666}, ["socket_mode=666", "is no mode of a file", "octal digits as text"]),
            ({"socket_mode": "4777"}, ["is no mode of a file"]),
            ({"socket_owner": "a:b:c"}, ["socket_owner='a:b:c'", "give user, user:group or :group"]),
            ({"backlog": 0}, ["backlog=0", "below the least, 1", "from 1 to 65535"]),
            ({"backlog": "70000"}, ["backlog='70000'", "above the most, 65535"]),
            ({"backlog": "many"}, ["backlog='many'", "not a whole number"]),
            ({"backlog": True}, ["backlog=True", "not a whole number"]),
            ({"backlog": 1.5}, ["backlog=1.5", "not a whole number"]),
            ({"max_header_bytes": "10"}, ["max_header_bytes='10'", "below the least, 256", "16m"]),
            ({"max_header_bytes": "1t"}, ["max_header_bytes='1t'", "not a size", "k, m or g"]),
            ({"max_header_bytes": "17m"}, ["above the most, 16m"]),
            ({"max_body_bytes": "-1"}, ["below the least", "(0: no limit)"]),
            ({"forwarded_allow_ips": "10.0.0.1/8"}, ["forwarded_allow_ips (", "10.0.0.1/8 has host bits set", "or *"]),
            ({"forwarded_allow_ips": ["::1", "proxy"]}, ["'proxy'", "give addresses such as"]),
            ({"forwarded_parts": "for,scheme"}, ["has 'scheme'", "for, proto, host, port"]),
            ({"head_timeout": "soon"}, ["head_timeout='soon'", "not a time", "(0: none)"]),
            ({"head_timeout": "-3s"}, ["below the least, 0.001 s"]),
            ({"head_timeout": "25h"}, ["above the most, 86400 s"]),
            ({"head_timeout": float("nan")}, ["above the most"]),
            ({"head_timeout": []}, ["not a time"]),
            ({"underscore_headers": "yes"}, ["underscore_headers='yes'", "drop, refuse or keep"]),
            ({"server_header": "a\r\nb"}, ["server_header='a\\r\\nb'", "printable ASCII"]),
            ({"chdir": "a\0b"}, ["chdir='a\\x00b'", "not allowed"]),
            ({"app": 3}, ["app=3", "is no text"]),
            ({"bind": "nowhere"}, ["bind", "'nowhere' has no port", "host:port"]),
            ({"bind": []}, ["bind", "at least one address"]),
            ({"bind": ["a:1", "a:1"]}, ["bind", "names a:1 twice"]),
            ({"app": "x" * 200 + "\n"}, ["xxx..."]),
        ],
    )
    def test_refuses_in_one_line_with_value_limit_and_remedy(self, values: dict[str, object], parts: list[str]) -> None:
        line = refusal(**values)
        for part in parts:
            assert part in line

    def test_free_ports_may_repeat(self) -> None:
        assert len(Settings(bind=["a:0", "a:0"]).bind) == 2  # type: ignore[arg-type]

    def test_refuses_a_request_line_longer_than_the_head_that_contains_it(self) -> None:
        line = refusal(max_request_line=2048, max_header_bytes=1024, origins={"max_header_bytes": "--max-header-bytes"})
        assert "max_request_line=2048 (set by the program)" in line
        assert "max_header_bytes=1024 (from --max-header-bytes)" in line


class TestSources:
    @pytest.mark.parametrize("name", OTHER_VALUES)
    def test_each_setting_is_a_flag_a_variable_and_a_key(self, name: str) -> None:
        text = OTHER_VALUES[name]
        expected = getattr(Settings(**{name: text}), name)  # type: ignore[arg-type]
        assert expected != getattr(Settings(), name)
        entry = next(entry for entry in entries() if entry.name == name)

        assert getattr(read_settings({name: text}, {}), name) == expected
        assert getattr(read_settings({}, {entry.variable: text}), name) == expected
        Path("streamserve.toml").write_text(f"{name} = '{text}'\n")
        assert getattr(read_settings({}, {}), name) == expected

    def test_flag_before_variable_before_file_before_default(self) -> None:
        Path("streamserve.toml").write_text("backlog = 1\nqueue = 1\nconcurrency = 1\n")
        environ = {"STREAMSERVE_BACKLOG": "2", "STREAMSERVE_QUEUE": "2"}
        settings = read_settings({"backlog": "3"}, environ)
        assert (settings.backlog, settings.queue, settings.concurrency, settings.max_header_fields) == (3, 2, 1, 100)
        assert [settings.origin(name) for name in ("backlog", "queue", "concurrency", "max_header_fields")] == [
            "from --backlog",
            "from STREAMSERVE_QUEUE",
            "from streamserve.toml",
            "default",
        ]

    @pytest.mark.parametrize(
        ("flags", "environ", "text", "origin"),
        [
            ({"queue": "x"}, {}, "", "(from --queue)"),
            ({}, {"STREAMSERVE_QUEUE": "x"}, "", "(from STREAMSERVE_QUEUE)"),
            ({}, {}, "queue = 'x'", "(from streamserve.toml)"),
        ],
    )
    def test_refusal_names_where_the_value_came_from(
        self, flags: dict[str, object], environ: dict[str, str], text: str, origin: str
    ) -> None:
        Path("streamserve.toml").write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            read_settings(flags, environ)
        assert str(caught.value).startswith(f"queue='x' {origin} is not a whole number")

    def test_reads_the_table_of_pyproject(self) -> None:
        Path("pyproject.toml").write_text("[tool.other]\nx = 1\n[tool.streamserve]\nbacklog = 7\n")
        settings = read_settings({}, {})
        assert (settings.backlog, settings.origin("backlog")) == (7, "from [tool.streamserve] of pyproject.toml")

    def test_streamserve_toml_hides_pyproject(self) -> None:
        Path("pyproject.toml").write_text("[tool.streamserve]\nbacklog = 7\nqueue = 7\n")
        Path("streamserve.toml").write_text("backlog = 8\n")
        settings = read_settings({}, {})
        assert (settings.backlog, settings.queue) == (8, Settings().queue)

    @pytest.mark.parametrize("text", ["", "tool = 3", "[tool]\nx = 1"])
    def test_pyproject_without_the_table_changes_nothing(self, text: str) -> None:
        Path("pyproject.toml").write_text(text)
        assert read_settings({}, {}) == Settings()

    def test_config_names_another_file(self, tmp_path: Path) -> None:
        Path("streamserve.toml").write_text("backlog = 1\n")
        Path("other.toml").write_text("queue = 5\n")
        for settings in (read_settings({}, {}, "other.toml"), read_settings({}, {"STREAMSERVE_CONFIG": "other.toml"})):
            assert (settings.queue, settings.backlog) == (5, Settings().backlog)

    def test_a_list_of_addresses_in_a_file(self) -> None:
        Path("streamserve.toml").write_text("bind = ['a:1', 'unix:/x']\n")
        assert read_settings({}, {}).bind == (TcpAddress("a", 1), UnixAddress("/x"))

    def test_empty_variable_counts_as_not_set_unless_empty_is_a_value(self) -> None:
        settings = read_settings({}, {"STREAMSERVE_BACKLOG": "", "STREAMSERVE_SERVER_HEADER": ""})
        assert (settings.backlog, settings.server_header) == (Settings().backlog, "")

    def test_unknown_key_names_the_closest(self) -> None:
        assert (
            refused_file("head_timout = 3") == "unknown key head_timout in streamserve.toml; did you mean head_timeout?"
        )
        assert "--help" in refused_file("zzzz = 3")

    def test_unknown_table_is_refused(self) -> None:
        assert "unknown key limits" in refused_file("[limits]\nbacklog = 3")

    def test_misspelt_variable_names_the_closest(self) -> None:
        with pytest.raises(
            ConfigurationError, match=r"STREAMSERVE_HEAD_TIMOUT; did you mean STREAMSERVE_HEAD_TIMEOUT\?"
        ):
            read_settings({}, {"STREAMSERVE_HEAD_TIMOUT": "3"})

    @pytest.mark.parametrize(
        "variable",
        [
            "STREAMSERVE_SERVICE_HOST",
            "STREAMSERVE_SERVICE_PORT",
            "STREAMSERVE_SERVICE_PORT_HTTP",
            "STREAMSERVE_PORT",
            "STREAMSERVE_PORT_8000_TCP",
            "STREAMSERVE_PORT_8000_TCP_ADDR",
            "STREAMSERVE_PORT_8000_TCP_PROTO",
        ],
    )
    def test_variables_of_a_kubernetes_service_of_our_name_are_left_alone(self, variable: str) -> None:
        assert read_settings({}, {variable: "tcp://10.0.0.1:8000"}) == Settings()

    def test_variable_that_is_not_known_is_told_and_one_of_kubernetes_is_not(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        kubernetes = {
            "STREAMSERVE_PORT": "tcp://10.0.0.1:8000",
            "STREAMSERVE_SERVICE_HOST": "10.0.0.1",
            "STREAMSERVE_WEB_PORT": "tcp://10.0.0.1:8000",
            "STREAMSERVE_WEB_SERVICE_PORT_HTTP": "8000",
            "STREAMSERVE_WEB_PORT_8000_TCP_ADDR": "10.0.0.1",
        }
        ours = {"STREAMSERVE_CONFIG": "x.toml", "STREAMSERVE_BACKLOG": "1"}
        tell_unknown_variables({**kubernetes, **ours, "PATH": "/bin", "STREAMSERVE_ZZZ": "1"})
        tell_unknown_variables({"STREAMSERVE_PORT": "8000"})
        assert [record.getMessage() for record in caplog.records] == [
            "unknown environment variable STREAMSERVE_ZZZ is ignored",
            "unknown environment variable STREAMSERVE_PORT is ignored; write --bind 127.0.0.1:VALUE, or --bind :VALUE"
            " for every interface",
        ]

    def test_arguments_of_gunicorn_in_a_variable_are_told(self, caplog: pytest.LogCaptureFixture) -> None:
        tell_unknown_variables({"GUNICORN_CMD_ARGS": "-w 4", "PORT": "80"})
        assert [record.getMessage() for record in caplog.records] == [
            "GUNICORN_CMD_ARGS is not read; give its flags on the command line, or as keys of a file"
        ]

    def test_key_of_another_server_names_ours(self) -> None:
        assert "--concurrency" in refused_file("workers = 4")
        assert refused_file("accesslog = '-'").endswith("did you mean access_log?")
        assert refused_file("ssl_certfile = 'a'").endswith("; the key is certfile")

    @pytest.mark.parametrize("content", [b"backlog = ", b"\xff = 1", b"a = 1\na = 2"])
    def test_broken_file_is_refused_by_name(self, content: bytes) -> None:
        Path("streamserve.toml").write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"streamserve\.toml is not TOML: .*; correct it"):
            read_settings({}, {})

    def test_missing_and_unreadable_files_are_refused_by_name(self) -> None:
        with pytest.raises(ConfigurationError, match=r"there is no file gone\.toml; give another --config"):
            read_settings({}, {}, "gone.toml")
        Path("directory.toml").mkdir()
        with pytest.raises(ConfigurationError, match=r"cannot read directory\.toml: Is a directory"):
            read_settings({}, {}, "directory.toml")

    def test_table_of_pyproject_that_is_no_table_is_refused(self) -> None:
        Path("pyproject.toml").write_text("[tool]\nstreamserve = 3\n")
        with pytest.raises(ConfigurationError, match=r"tool\.streamserve in pyproject\.toml is no table"):
            read_settings({}, {})


class TestOtherServers:
    def test_no_flag_of_another_server_is_one_of_ours(self) -> None:
        ours = {entry.flag for entry in entries()}
        borrowed = [flag for row in BORROWED for flag in row.flags]
        assert not ours & set(borrowed)
        assert len({*borrowed, *SHORT_FLAGS.values()}) == len(borrowed) + len(SHORT_FLAGS)

    def test_every_row_leads_to_a_setting_that_exists_or_has_a_remedy(self) -> None:
        names = {entry.name for entry in entries()}
        flags = {entry.flag for entry in entries()}
        for row in BORROWED:
            assert row.setting in names or row.remedy or row.same, row
            assert set(re.findall(r"--[a-z][a-z-]+", row.remedy)) <= flags, row


class TestPageForUsersOfGunicorn:
    PAGE = (DOCS / "coming-from-gunicorn.md").read_text()
    ROWS = [  # noqa: RUF012
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.partition("## Flags")[2].partition("## Signals")[0].splitlines()
        if line.startswith("| `")
    ]

    @pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
    def test_row_names_flags_and_keys_that_exist(self, row: list[str]) -> None:
        ours = {entry.flag for entry in entries()} | {"--config", "-c", "-b"}
        theirs = {flag for borrowed in BORROWED for flag in borrowed.flags}
        left, right, key = row
        for flag in re.findall(r"(?<![\w-])--?[a-z][\w-]*", left):
            assert flag in theirs or (flag in ours and right.startswith(("the same", "`" + flag)))
        assert set(re.findall(r"--[a-z][a-z-]+", right)) <= ours
        assert set(re.findall(r"\w+", key)) <= {entry.name for entry in entries()}

    def test_every_setting_of_ours_with_a_name_of_gunicorn_is_in_it(self) -> None:
        for borrowed in BORROWED:
            if borrowed.setting and not borrowed.flags[-1].startswith(("--ssl", "--timeout")):  # uvicorn's
                assert f"`{borrowed.flags[-1]}`" in self.PAGE


class TestToml:
    def test_what_is_printed_reads_back_the_same(self) -> None:
        settings = read_settings(dict(OTHER_VALUES), {})
        Path("streamserve.toml").write_text(to_toml(settings))
        hidden = {entry.name: OTHER_VALUES[entry.name] for entry in entries() if entry.kind.hidden}
        assert read_settings(hidden, {}) == settings
        Path("streamserve.toml").write_text(to_toml(Settings(server_header='say "\\"')))
        assert read_settings({}, {}).server_header == 'say "\\"'

    def test_each_line_says_where_the_value_came_from(self) -> None:
        lines = to_toml(read_settings({"backlog": "5"}, {"STREAMSERVE_BIND": "[::1]:80"})).splitlines()
        assert "backlog = 5  # from --backlog" in lines
        assert 'bind = ["[::1]:80"]  # from STREAMSERVE_BIND' in lines
        assert "head_timeout = 15  # default" in lines

    def test_is_toml_with_every_setting(self) -> None:
        assert list(tomllib.loads(to_toml(Settings()))) == [entry.name for entry in entries()]


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_settings", DOCS / "generate_settings.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestSecrets:
    """The password of a key: no message, representation or print shows it."""

    def test_no_representation_shows_it(self) -> None:
        settings = read_settings({}, {"STREAMSERVE_KEYFILE_PASSWORD": "open sesame"})
        assert settings.keyfile_password == "open sesame"
        assert "sesame" not in repr(settings)
        printed = to_toml(settings)
        assert "sesame" not in printed
        assert "# keyfile_password is set, and not shown  # from STREAMSERVE_KEYFILE_PASSWORD" in printed.splitlines()
        assert "keyfile_password" not in tomllib.loads(printed)

    @pytest.mark.parametrize("value", ["sesame\n", "sesame" * 200, ["sesame"], "sesame\udc80"])
    def test_no_refusal_shows_it(self, value: object) -> None:
        with pytest.raises(ConfigurationError) as caught:
            Settings(keyfile_password=value)  # type: ignore[arg-type]
        assert "sesame" not in str(caught.value)
        assert "keyfile_password (set by the program) " in str(caught.value)

    def test_command_line_is_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        tell_public_secrets(read_settings({}, {"STREAMSERVE_KEYFILE_PASSWORD": "open sesame"}))
        assert not caplog.records
        tell_public_secrets(read_settings({"keyfile_password": "open sesame"}, {}))
        (line,) = [record.getMessage() for record in caplog.records]
        assert "keyfile_password stands on the command line" in line and "STREAMSERVE_KEYFILE_PASSWORD" in line
        assert "sesame" not in line
