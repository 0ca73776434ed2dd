"""`streamserve run`: a program as python runs it, patched."""

import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.support.process import ServedCommand, command

SCRIPT = """
import sys, threading, time
if __name__ == "__main__":
    print(*sys.argv)
    print(sys.path[0], __file__, sys.modules["__main__"].__dict__ is globals())
    print(threading.get_native_id() == threading.main_thread().native_id, time.sleep.__module__)
"""


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys\nprint(sys.argv, __package__, __name__, __spec__.name)\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    (package / "inner.py").write_text(SCRIPT)
    return tmp_path


FLASK = """
from flask import Flask
from flask_socketio import SocketIO
app = Flask(__name__)
socketio = SocketIO(app, engineio_logger=True)
socketio.run(app, port=0)
"""


class TestProgram:
    def test_socketio_run_says_where_it_serves(self, project: Path) -> None:
        (project / "serving.py").write_text(FLASK)
        with ServedCommand("run", "serving.py", cwd=project) as server:
            assert requests.get(server.url, timeout=60).status_code == 404
            assert "Server initialized for streamserve." in server.stderr
            server.process.kill()
            server.process.wait()

    def test_script_has_its_arguments_and_place(self, project: Path) -> None:
        result = command("run", "package/inner.py", "one", "--bind", "-m", "-h", cwd=project)
        assert (result.returncode, result.stderr) == (0, "")
        folder = project / "package"
        assert result.stdout.splitlines() == [
            "package/inner.py one --bind -m -h",
            f"{folder} {folder}/inner.py True",
            "True streamserve.green.time",
        ]

    def test_module_has_its_arguments_and_place(self, project: Path) -> None:
        result = command("run", "-m", "package.inner", "one", "--two", cwd=project)
        assert (result.returncode, result.stderr) == (0, "")
        lines = result.stdout.splitlines()
        assert lines[0] == f"{project}/package/inner.py one --two"
        assert lines[1].startswith(f"{project} ")

    @pytest.mark.parametrize(
        "program",
        [["-m", "package", "x"], ["package", "x"], ["-m", "json.tool", "--help"], ["script.py"], ["syntax.py"],
         ["raising.py"], ["silent.py"], ["leaving.py"], ["package/../raising.py"]],
    )  # fmt: skip
    def test_does_what_python_does(self, project: Path, program: list[str]) -> None:
        (project / "syntax.py").write_text("def function(:\n")
        (project / "raising.py").write_text("def fail():\n    raise ValueError('here')\nfail()\n")
        (project / "silent.py").write_text("raise SystemExit(7)\n")
        (project / "leaving.py").write_text("import sys\nsys.exit('some words')\n")
        expected = python(*program, cwd=project)
        result = command("run", *program, cwd=project)
        assert (result.returncode, result.stderr) == (expected.returncode, expected.stderr)
        assert result.stdout == expected.stdout.replace("True time", "True streamserve.green.time")

    def test_threads_and_exit_functions_run_to_their_end(self, project: Path) -> None:
        (project / "threads.py").write_text(
            "import atexit, threading, time\n"
            "atexit.register(print, 'at exit')\n"
            "def work():\n"
            "    time.sleep(0.01)\n"
            "    print('thread', __name__)\n"
            "threading.Thread(target=work).start()\n"
            "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
        )
        result = command("run", "threads.py", cwd=project)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.splitlines() == ["thread __main__", "at exit"]


class TestMistakes:
    def mistake(self, *arguments: str, cwd: Path) -> str:
        result = command("run", *arguments, cwd=cwd)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.count("\n") == 1
        return result.stderr.removeprefix("streamserve: error: ")

    def test_script_that_is_not_there(self, project: Path) -> None:
        assert self.mistake("nothing.py", cwd=project).startswith("there is no file nothing.py; give the path")

    def test_script_that_is_no_text_file_to_read(self, project: Path) -> None:
        (project / "loop").symlink_to("loop")
        assert self.mistake("loop", cwd=project).startswith("cannot read loop: Too many levels")

    @pytest.mark.parametrize("name", ["nothing", "nothing.inside", "script.inside"])
    def test_module_that_is_not_there(self, project: Path, name: str) -> None:
        assert self.mistake("-m", name, cwd=project).startswith(f"there is no module '{name}'")

    def test_no_program(self, project: Path) -> None:
        assert self.mistake(cwd=project).startswith("no program is given; run `streamserve run script.py`")
        assert "requires an argument" in self.mistake("-m", cwd=project)

    def test_unknown_flag(self, project: Path) -> None:
        assert self.mistake("--bind", "x", "script.py", cwd=project).startswith("unknown flag --bind")


def test_help_of_run(project: Path) -> None:
    result = command("run", "--help", cwd=project)
    assert result.returncode == 0
    assert "Usage: streamserve run [OPTIONS] PROGRAM" in result.stdout


def test_application_in_a_module_named_run_is_served(project: Path) -> None:
    (project / "run.py").write_text("def app(environ, start_response): ...\n")
    result = command("run:app", "--check-config", cwd=project)
    assert (result.returncode, result.stdout) == (0, "configuration is valid\n")
