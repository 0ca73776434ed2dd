"""What the image promises and reading the Dockerfile can show; `make docker-replay` shows the rest."""

import re
from pathlib import Path

from tests.docker.dockerfile import read_context, read_dockerfile

ROOT = Path(__file__).resolve().parents[2]
BUILD, RUNTIME = read_dockerfile((ROOT / "Dockerfile").read_text())


def test_runtime_has_no_build_step() -> None:
    assert [instruction for instruction in RUNTIME.instructions if instruction.name == "RUN"] == []


def test_runs_as_a_number_that_is_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", RUNTIME.last("USER").argument)


def test_starts_without_a_shell_and_stops_by_sigterm() -> None:
    assert RUNTIME.last("ENTRYPOINT").exec_form == ["streamserve"]
    assert RUNTIME.last("CMD").exec_form
    assert RUNTIME.last("STOPSIGNAL").argument == "SIGTERM"


def test_health_check_needs_nothing_that_slim_lacks() -> None:
    check = RUNTIME.last("HEALTHCHECK").argument
    assert check.startswith('CMD ["python", "-c", ')
    assert "curl" not in check


def test_context_is_what_is_copied() -> None:
    context = read_context(ROOT)
    copied = [
        source.removeprefix("./")
        for stage in (BUILD, RUNTIME)
        for instruction in stage.instructions
        if instruction.name == "COPY" and "from" not in instruction.flags
        for source in instruction.argument.split()[:-1]
    ]
    assert {path.parts[0] for path in context} == set(copied)
    assert [path for path in context if path.suffix in (".so", ".pyc") or path.name == "_native.c"] == []
