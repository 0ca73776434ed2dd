"""The repository keeps its own promises: layers, types of the core, commands and links of the documents."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import requests

import streamserve
from streamserve.core._native import ffi, lib
from streamserve.settings import Settings, entries
from tests.support.process import ServedCommand

ROOT = Path(__file__).resolve().parents[1]
STUB = ast.parse((ROOT / "streamserve/core/_native.pyi").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
STRUCTS = {
    "Span": "ss_span",
    "Http1Limits": "ss_http1_limits",
    "Framing": "ss_framing",
    "Http1": "ss_http1",
    "Chunked": "ss_chunked",
    "ListenerConfig": "ss_listener_config",
    "ResponseHead": "ss_response_head",
    "TlsPlain": "ss_tls_plain",
    "Network": "ss_network",
    "WsConfig": "ss_ws_config",
    "EngineConfig": "ss_engine_config",
    "EnginePacket": "ss_engine_packet",
    "GuardConfig": "ss_guard_config",
}

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml", "docs/docker.md", "README.md"])
def test_variables_that_are_shown_exist_and_values_are_valid(file: str) -> None:
    """Those of Docker are given as NAME=value or as NAME: value."""
    text = (ROOT / file).read_text()
    names = {entry.variable: entry.name for entry in entries()}
    assert set(re.findall(r"STREAMSERVE_[A-Z_]+", text)) <= {*names, "STREAMSERVE_CONFIG", "STREAMSERVE_"}
    for variable, value in re.findall(r"""(STREAMSERVE_[A-Z_]+)(?:=|: )"?([^\s"`\\]+)""", text):
        Settings(**{names[variable]: value})


def test_an_engine_waits_longer_than_the_server_takes_to_stop() -> None:
    period = re.search(r"stop_grace_period: ([0-9]+)s", (ROOT / "compose.yaml").read_text())
    assert period and int(period[1]) > Settings().graceful_timeout


def stub_class(name: str) -> ast.ClassDef:
    return next(node for node in STUB.body if isinstance(node, ast.ClassDef) and node.name == name)


def stub_names(name: str) -> set[str]:
    names = set()
    for node in stub_class(name).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            names.add(ast.unparse(node.target))
    return names


def python_type(ctype: Any) -> str:
    """The type that the stub must give to a C type: which int and which struct does not matter here."""
    if ctype.kind == "void":
        return "None"
    return "pointer" if ctype.kind == "pointer" else "int"


def stub_type(annotation: ast.expr | None) -> str:
    assert annotation is not None
    text = ast.unparse(annotation)
    return text if text in ("None", "int") else "pointer"


def test_each_room_imports_only_rooms_below_it() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([lint, "--no-logo"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_stub_names_exactly_what_the_core_has() -> None:
    assert stub_names("Lib") == set(dir(lib))


def test_stub_gives_each_function_its_parameters() -> None:
    for node in stub_class("Lib").body:
        if isinstance(node, ast.FunctionDef):
            function = ffi.typeof(getattr(lib, node.name))
            parameters = [stub_type(argument.annotation) for argument in node.args.posonlyargs[1:]]
            assert parameters == [python_type(argument) for argument in function.args], node.name
            assert stub_type(node.returns) == python_type(function.result), node.name


@pytest.mark.parametrize(("name", "struct"), STRUCTS.items())
def test_stub_names_the_fields_of_each_struct(name: str, struct: str) -> None:
    assert stub_names(name) == {field for field, _ in ffi.typeof(struct).fields}


def test_stub_knows_every_struct_of_the_header() -> None:
    headers = "".join(path.read_text() for path in sorted((ROOT / "streamserve/core/api").glob("*.h")))
    assert set(re.findall(r"^\} (ss_\w+);", headers, re.MULTILINE)) == set(STRUCTS.values())


def test_installed_version_is_that_of_the_source() -> None:
    assert metadata.version("streamserve") == streamserve.__version__


def readme_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_first_app_of_the_readme_is_served(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(next(block for block in readme_blocks() if "# hello.py" in block))
    with ServedCommand("hello:app", cwd=tmp_path) as server:
        assert requests.get(server.url, timeout=60).text == "Hello from streamserve\n"


def test_socket_io_example_of_the_readme_is_served(tmp_path: Path) -> None:
    (tmp_path / "live.py").write_text(next(block for block in readme_blocks() if "SocketIOServer" in block))
    with ServedCommand("live:sio", cwd=tmp_path) as server:
        opened = requests.get(f"{server.url}/socket.io/?EIO=4&transport=polling", timeout=60)
        assert opened.text.startswith('0{"sid":')


def test_library_example_of_the_readme_says_what_it_promises(tmp_path: Path) -> None:
    example = next(block for block in readme_blocks() if "joinall" in block)
    result = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, timeout=60)
    promised = re.search(r"print\(.*\)  # (\d+)", example)
    assert promised is not None
    assert result.stdout == f"{promised[1]}\n", result.stderr


@documents
def test_commands_in_the_documents_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|[A-Z]+=\S+ )make ([a-z-]+)", document.read_text(), re.MULTILINE))
    assert named <= targets


@documents
def test_links_in_the_documents_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text())
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []


@documents
def test_files_named_in_the_documents_exist(document: Path) -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    named = re.findall(r"`([\w.-]+/[\w./-]*)`", document.read_text())
    missing = [name for name in named if name.split("/")[0] in folders and not (ROOT / name).exists()]
    assert missing == []


def test_change_fragments_have_a_kind() -> None:
    kinds = {kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"]}
    fragments = [path.name for path in (ROOT / "changes").glob("*.md") if path.name != "README.md"]
    assert [name for name in fragments if name.split(".")[1] not in kinds] == []
