"""The log of the server beside the logging of the application."""

import json
import logging
import logging.config
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamserve.errors import ConfigurationError
from streamserve.logs.server_log import NAMES, configure_logging


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    logger = logging.getLogger("streamserve")
    before = (logger.level, logger.handlers, logger.propagate)
    others = [other for other in logging.root.manager.loggerDict.values() if isinstance(other, logging.Logger)]
    for other in others:  # those of a test before this one may be steady already
        other.__class__ = logging.Logger
    states = [(other, other.disabled, [*other.handlers]) for other in others]
    yield
    for other in others:
        other.__class__ = logging.Logger
    for other, disabled, handlers in states:  # what dictConfig has silenced speaks again in the tests behind these
        other.disabled, other.handlers = disabled, handlers
    logger.level, logger.handlers, logger.propagate = before
    logging.getLogger().handlers.clear()


def test_a_line_tells_time_level_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    logging.getLogger("streamserve.wsgi").warning("what %s", "happened")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3} [+-][0-9]{4} WARNING what happened\n",
        captured.err,
    )


@pytest.mark.parametrize(("level", "seen"), [("info", True), ("warning", False)])
def test_log_level_silences_what_is_less_severe(capsys: pytest.CaptureFixture[str], level: str, seen: bool) -> None:
    configure_logging(level)
    logging.getLogger("streamserve").info("news")
    assert ("news" in capsys.readouterr().err) is seen


def test_application_that_silences_existing_loggers_does_not_silence_the_server(
    capsys: pytest.CaptureFixture[str],
) -> None:
    child = logging.getLogger("streamserve.wsgi")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
    assert child.disabled
    configure_logging("info")
    child.error("heard")
    assert "heard" in capsys.readouterr().err


PAGE = Path(__file__).parents[2] / "docs/logging.md"


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_a_file_configures_the_logging_of_server_and_application(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text().partition("```toml\n")[2].partition("```")[0]
    Path("logging.toml").write_text(text)
    Path("logging.json").write_text(json.dumps(tomllib.loads(text)))
    for _ in range(2):  # before the application is imported, and behind it
        configure_logging("info", f"logging.{kind}")
    logging.getLogger("streamserve").info("not severe enough")
    logging.getLogger("streamserve.wsgi").warning("heard")
    logging.getLogger("site").info("of the application")
    for handler in logging.root.handlers:
        handler.close()
    lines = Path("site.log").read_text().splitlines()
    assert lines == ["WARNING streamserve.wsgi heard", "INFO site of the application"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.toml", None, "cannot be read: No such file or directory"),
        ("logging.ini", "", "is of no known kind; give a .json or .toml file"),
        ("logging.json", "{", "is no JSON: "),
        ("logging.toml", "a", "is no TOML: "),
        ("logging.toml", "[root]\nhandlers = ['none']", "is no configuration for dictConfig: Unable to configure root"),
        ("logging.toml", "version = 7", "is no configuration for dictConfig: Unsupported version"),
        ("logging.json", "[]", "is no configuration for dictConfig: "),
        ("logging.toml", "[handlers.a]\nclass = 'no.such'", "is no configuration for dictConfig: Unable to configure"),
    ],
)
def test_a_file_that_says_nothing_possible_is_told(name: str, content: str | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        configure_logging("info", str(tmp_path / name))
    assert f"log_config='{tmp_path / name}'" in str(caught.value)


@pytest.mark.parametrize("configure", ["dict", "file"])
def test_application_that_configures_its_logging_later_silences_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, configure: str
) -> None:
    configure_logging("info")
    if configure == "dict":
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
    else:
        (tmp_path / "logging.ini").write_text(
            "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\nhandlers=\n"
        )
        logging.config.fileConfig(tmp_path / "logging.ini")
    for name in NAMES:
        logging.getLogger(name).warning("heard from %s", name)
    assert capsys.readouterr().err.count("heard from ") == len(NAMES)


def test_application_that_names_our_logger_later_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    logging.config.dictConfig({"version": 1, "loggers": {"streamserve": {"level": "ERROR"}}})
    logging.getLogger("streamserve.wsgi").warning("not asked for")
    assert capsys.readouterr().err == ""


def test_every_logger_of_the_package_is_among_those_that_stay() -> None:
    sources = (Path(__file__).parents[2] / "streamserve").rglob("*.py")
    used = {
        name for source in sources for name in re.findall(r'getLogger\("(streamserve[.\w]*)"\)', source.read_text())
    }
    assert used == set(NAMES)


def test_application_that_logs_too_does_not_double_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logging.basicConfig(force=True)
    configure_logging("info")
    configure_logging("info")
    logging.getLogger("streamserve").error("once")
    assert capsys.readouterr().err.count("once") == 1


@pytest.mark.parametrize("of_application", [False, True])
def test_socket_io_logs_in_lines_like_the_server_and_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, of_application: bool
) -> None:
    logger = logging.getLogger("socketio.server")
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler()])  # as python-socketio leaves it
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logging.root, "handlers", [])
    if of_application:
        logging.basicConfig(format="mine: %(message)s")
    configure_logging("info")
    logger.error("handler failed")
    text = capsys.readouterr().err
    assert text.count("handler failed") == 1
    assert re.match(r"mine: " if of_application else r"[0-9-]{10} [0-9:.]{12} [+-][0-9]{4} ERROR   ", text)
