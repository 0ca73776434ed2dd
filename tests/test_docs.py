"""The documents about the core and the house say what the code says."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
ROOMS = """core core/api core/loop core/stream core/http core/websocket core/engine settings listening loop sync pool
    debug green monkey logs tls server websocket gateway engine cluster""".split()
FOLDERS = ["", "streamserve/", *(f"streamserve/{room}/" for room in ROOMS)]


@pytest.fixture
def printer() -> ModuleType:
    """docs/print_states.py."""
    spec = importlib.util.spec_from_file_location("print_states", ROOT / "docs/print_states.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def linked() -> set[str]:
    return set(re.findall(r"\]\(([^)#]+)\)", ARCHITECTURE))


def source_files() -> set[str]:
    """What a reader of the package finds: the core's C, and the modules; of the `__init__.py` those that hold code."""
    package = ROOT / "streamserve"
    files = [path for pattern in ("**/*.c", "**/*.h", "**/*.py", "**/*.pyi") for path in package.glob(pattern)]
    return {
        str(path.relative_to(ROOT))
        for path in files
        if path.name != "_native.c" and not (path.name == "__init__.py" and "import" not in path.read_text())
    }


def test_architecture_names_every_source_file() -> None:
    assert sorted(source_files() - linked()) == []


def test_files_named_in_the_architecture_exist() -> None:
    named = set(re.findall(r"(?<![\w./])[\w./-]+\.(?:c|h|py|pyi|md|toml)\b", ARCHITECTURE))
    named -= {"design.md"}  # the plan, which is no file of this repository
    missing = [name for name in named if not any((ROOT / folder / name).exists() for folder in FOLDERS)]
    assert missing == []
    assert [link for link in linked() if not (ROOT / link).exists()] == []


def test_page_of_connection_states_is_that_of_the_core(printer: ModuleType) -> None:
    page = (ROOT / "docs/connection-states.md").read_text()
    assert page == printer.render(), "run: python docs/print_states.py"


class TestPrinter:
    STATES = "enum ss_conn_state {\n    SS_CONN_A = 0, /* first */\n    SS_CONN_B,\n    SS_CONN_STATES\n};"
    TABLE = (
        "legal_moves[SS_CONN_STATES] = {\n"
        "    [SS_CONN_A] =\n        TO(SS_CONN_B) | TO(SS_CONN_A),\n"
        "    [SS_CONN_B] = 0,\n};"
    )

    def test_reads_rows_over_several_lines(self, printer: ModuleType) -> None:
        states = printer.read_states(self.STATES)
        assert list(states) == ["A", "B"]
        assert printer.read_moves(self.TABLE, states) == {"A": ["B", "A"], "B": []}

    def test_refuses_a_state_without_a_row(self, printer: ModuleType) -> None:
        with pytest.raises(ValueError, match="legal_moves names"):
            printer.read_moves(self.TABLE, {"A": "", "B": "", "C": ""})

    def test_refuses_a_move_whose_cause_nobody_wrote(
        self, printer: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(printer.CAUSES, ("HEAD", "BODY"))
        with pytest.raises(ValueError, match="'HEAD', 'BODY'"):
            printer.render()
