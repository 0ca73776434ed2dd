"""What is read from callgrind_annotate."""

from __future__ import annotations

from bench.peers import PEERS
from bench.profile import Share, parse, table

TEXT = """\
Ir                   file:function
75,634,419 (100.0%)  PROGRAM TOTALS
20,000 (40.00%)  /tmp/Python/ceval.c:_PyEval_EvalFrameDefault [/usr/lib/libpython3.11.so.1.0]
 4,000 ( 8.00%)  /tmp/Include/object.h:_PyEval_EvalFrameDefault
 6,000 (12.00%)  ???:ss_conn_send [/work/streamserve/core/_native.abi3.so]
 1,000 ( 2.00%)  /tmp/Objects/longobject.c:long_hash
"""


def test_lines_of_one_function_are_added_and_divided_by_requests() -> None:
    assert parse(TEXT, requests=10) == [
        Share(2400.0, "_PyEval_EvalFrameDefault", "libpython3.11.so.1.0"),
        Share(600.0, "ss_conn_send", "_native.abi3.so"),
        Share(100.0, "long_hash", "?"),
    ]


def test_the_table_holds_libraries_their_sum_and_functions() -> None:
    lines = table(PEERS["streamserve"], parse(TEXT, requests=10)).splitlines()
    assert [line.split() for line in lines[2:6]] == [
        ["libpython3.11.so.1.0", "2,400", "77.4%"],
        ["_native.abi3.so", "600", "19.4%"],
        ["?", "100", "3.2%"],
        ["all", "3,100", "100.0%"],
    ]
