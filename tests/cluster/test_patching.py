"""The server patches the standard library before it imports the application."""

import re
import threading
from pathlib import Path

import pytest
import requests

from tests.support.process import ServedCommand, command

# Each request waits until as many have come as its path says.
MEETING = """
import logging, threading
from collections import defaultdict
from time import sleep

at_import = sleep.__module__
meetings = defaultdict(lambda: None)
guard = threading.Lock()

def app(environ, start_response):
    number = int(environ["PATH_INFO"][1:])
    with guard:
        meeting = meetings[number] = meetings[number] or threading.Barrier(number)
    meeting.wait(60)
    sleep(0)
    logging.getLogger("app").warning("met as %s", threading.current_thread().name)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{at_import} {threading.active_count()}".encode()]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "meeting.py").write_text(MEETING)
    return tmp_path


def ask_together(url: str, number: int) -> list[str]:
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(requests.get(f"{url}/{number}", timeout=60).text))
        for _ in range(number)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_requests_wait_side_by_side_on_threads_that_the_next_ones_take(project: Path) -> None:
    with ServedCommand("meeting:app", cwd=project) as server:
        answers = ask_together(server.url, 20)
        assert len(answers) == 20 and all(answer.startswith("streamserve.green.time ") for answer in answers)
        for _ in range(3):  # the main one, and those that the twenty ran on
            assert ask_together(server.url, 1) == ["streamserve.green.time 21"]
    names = re.findall("met as (request-[0-9]+)", server.stderr)
    assert (len(names), len(set(names))) == (23, 20)


@pytest.mark.parametrize("way", ["flag", "variable", "file"])
def test_patching_can_be_turned_off(project: Path, way: str) -> None:
    if way == "file":
        (project / "streamserve.toml").write_text("patch = false\n")
    flags = ["--no-patch"] if way == "flag" else []
    environ = {"STREAMSERVE_PATCH": "no"} if way == "variable" else {}
    with ServedCommand("meeting:app", *flags, cwd=project, **environ) as server:
        assert ask_together(server.url, 1) == ["time 1"]


def test_check_of_the_configuration_imports_the_application_as_the_server_does(project: Path) -> None:
    (project / "checking.py").write_text(
        "import time\nprint(time.sleep.__module__)\ndef app(environ, start_response): ...\n"
    )
    assert command("checking:app", "--check-config", cwd=project).stdout.splitlines()[0] == "streamserve.green.time"
    assert command("checking:app", "--check-config", "--no-patch", cwd=project).stdout.splitlines()[0] == "time"
