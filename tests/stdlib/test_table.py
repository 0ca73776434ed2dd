"""What the table of CPython's disabled tests promises. The tests themselves run by `make test-stdlib`."""

from pathlib import Path

import pytest

from tests.stdlib.table import FILES, LIMIT, PAGE, VERSIONS, Table, read_table, render


@pytest.fixture
def table() -> Table:
    return read_table()


@pytest.mark.parametrize("version", VERSIONS)
def test_fewer_tests_are_disabled_than_the_limit(table: Table, version: str) -> None:
    assert len(table.of_version(version).disabled) < LIMIT


@pytest.mark.parametrize("version", VERSIONS)
def test_of_each_file_most_tests_run(table: Table, version: str) -> None:
    per_file = [sum(row.file == file for row in table.of_version(version).disabled) for file in FILES]
    assert max(per_file) < LIMIT // 2


def test_page_is_printed_from_the_table(table: Table) -> None:
    assert PAGE.read_text() == render(table), "run: python -m tests.stdlib.table"


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('name = "test.test_socket.T.t"\nreason = "no sentence"', "no sentence"),
        ('name = "test.test_os.T.t"\nreason = "Some."', "no test of"),
        ('name = "test.test_socket.T"\nreason = "Some."', "no test of"),
        ('name = "test.test_socket.T.t"\nreason = "Some."\nversions = ["3.9"]', "3.9"),
        (
            'name = "test.test_socket.T.t"\nreason = "A."\n[[disabled]]\nname = "test.test_socket.T.t"\nreason = "B."',
            "more than one row",
        ),
    ],
)
def test_refuses_a_row_that_says_too_little(tmp_path: Path, row: str, complaint: str) -> None:
    path = tmp_path / "disabled.toml"
    path.write_text(f"[[disabled]]\n{row}\n")
    with pytest.raises(ValueError, match=complaint):
        read_table(path)
