"""sqlite3 is patched whenever it is imported, and wherever it was taken before."""

import pytest

from tests.support.program import printed

SHOW = "print(*(item.__module__ + '.' + item.__name__ for item in (connect, Connection, Cursor)))"
PATCH = "from streamserve.monkey import *; patch_all()"
OURS = "streamserve.green.sqlite3.connect sqlite3.Connection sqlite3.Cursor"


@pytest.mark.parametrize("module", ["sqlite3", "sqlite3.dbapi2"])
@pytest.mark.parametrize("early", [True, False])
def test_names_are_ours_however_they_are_imported(module: str, early: bool) -> None:
    take = f"from {module} import *"
    lines = [take, PATCH] if early else [PATCH, take]
    assert printed("\n".join([*lines, SHOW, "print(is_module_patched('sqlite3'))"])) == [OURS, "True"]


def test_it_is_not_imported_for_being_patched() -> None:
    assert printed(f"import sys; {PATCH}; print('sqlite3' in sys.modules, is_module_patched('sqlite3'))") == [
        "False True"
    ]


def test_it_can_be_left_alone() -> None:
    program = """
from streamserve.monkey import *
patch_all(sqlite3=False)
import sqlite3
print(sqlite3.Connection.__mro__[1] is object, is_module_patched("sqlite3"))
patch_sqlite3(), patch_sqlite3()
print(sqlite3.Connection.__mro__[1] is object, get_original("sqlite3", "Connection").__mro__[1] is object)
"""
    assert printed(program) == ["True False", "False True"]


def test_a_program_waits_in_the_loop() -> None:
    program = f"""
{PATCH}
import os, sqlite3, tempfile, threading, time
path = os.path.join(tempfile.mkdtemp(), "file.sqlite")
with sqlite3.connect(path) as made:
    made.execute("CREATE TABLE t (a)")


def write(number):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("INSERT INTO t VALUES (?)", (number,))
        time.sleep(0.01)
    connection.close()


threads = [threading.Thread(target=write, args=(number,)) for number in range(10)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sorted(made.execute("SELECT a FROM t").fetchall()) == [(number,) for number in range(10)])
"""
    assert printed(program) == ["True"]
