"""Builds the C core as `streamserve.core._native`, one abi3 extension through cffi.

pip and setup.py take `ffibuilder` from here. `python streamserve/core/build.py`
builds in place, next to this file. STREAMSERVE_CFLAGS is appended to the
compiler's and the linker's flags (the sanitizers of `make asan` come that way).

The strict warnings (-Wshadow, -Wconversion) are the lint's, in the Makefile:
here they would also judge the wrapper that cffi generates.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from cffi import FFI

# The wrapper that cffi generates releases the GIL around every call: more than a third of the cost of a short one, and
# beside a thread that computes, up to its whole switch interval (5 ms) until the GIL is back. No function of the core
# blocks but the poll, so that is the only one to release it, and only to wait. A release for a look wakes who wants the
# GIL, to find it taken again and to begin anew to wait its switch interval, after which it would be given it for sure:
# beside greenlets that only yield a thread did not run for seconds.
#
# Arguments are numbers and bytes, mostly: what cffi's backend finds out about each in several calls is said again here,
# in one. The core reads no errno of before a call, so none is put back.
PREAMBLE = """
#include <stdbool.h>

#include "api/api.h"

static int64_t poll_without_gil(ss_loop *loop, int64_t timeout_ns) {
    if (timeout_ns == 0)
        return ss_loop_poll(loop, 0);
    PyThreadState *state = PyEval_SaveThread();
    int64_t found = ss_loop_poll(loop, timeout_ns);
    PyEval_RestoreThread(state);
    return found;
}
#define ss_loop_poll poll_without_gil
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }

static inline long long number_of(PyObject *object) { /* of a long, CPython sums up the digits in fewer steps */
    return sizeof(long) == sizeof(long long) ? PyLong_AsLong(object) : PyLong_AsLongLong(object);
}
static inline int small_number_of(PyObject *object) {
    long number = PyLong_AsLong(object);
    if (number != (int)number) {
        PyErr_Format(PyExc_OverflowError, "%ld does not fit 32 bits", number);
        return -1;
    }
    return (int)number;
}
static inline Py_ssize_t pointer_of(struct _cffi_ctypedescr *type, PyObject *object, char **into) {
    static struct _cffi_ctypedescr *of_bytes; /* the type for which cffi took bytes: char const * */
    bool bytes = PyBytes_CheckExact(object);
    if (bytes && type == of_bytes) {
        *into = PyBytes_AsString(object);
        return 0;
    }
    Py_ssize_t answer = _cffi_prepare_pointer_call_argument(type, object, into);
    if (bytes && !answer)
        of_bytes = type;
    return answer;
}
static inline void nothing(void) {}
#undef _cffi_to_c_i64
#define _cffi_to_c_i64 number_of
#undef _cffi_to_c_i32
#define _cffi_to_c_i32 small_number_of
#undef _cffi_prepare_pointer_call_argument
#define _cffi_prepare_pointer_call_argument pointer_of
#undef _cffi_restore_errno
#define _cffi_restore_errno nothing
"""
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCES = sorted(path for path in HERE.glob("**/*.c") if path.name != "_native.c")
HEADERS = sorted(HERE.glob("**/*.h"))
COMPILE_FLAGS = ["-std=gnu11", "-O3", "-flto=auto", "-fvisibility=hidden", "-Wall", "-Wextra"]
LINK_FLAGS = [
    "-O3",
    "-flto=auto",
]  # calls between the core's files cost nothing then: 1,300 instructions a request, not 1,500
INCLUDED = re.compile(r'#include "(api/\w+\.h)"')
NUMERIC_CONSTANT = re.compile(r"#define \w+ \d+(\s*/\*.*\*/)?")


def api_headers(name: str = "api/api.h") -> list[str]:
    """Returns the headers of api/, each behind those that it includes."""
    found: list[str] = []
    for included in INCLUDED.findall((HERE / name).read_text()):
        found += [header for header in api_headers(included) if header not in found]
    return [*found, name]


def declarations() -> str:
    """Returns api/ as cffi's cdef reads it: no preprocessor but numeric constants."""
    lines = [line for name in api_headers() for line in (HERE / name).read_text().splitlines()]
    return "\n".join(line for line in lines if not line.startswith("#") or NUMERIC_CONSTANT.fullmatch(line))


def relative(path: Path) -> str:
    """Returns a path as setuptools wants it: relative to the folder it runs in."""
    return os.path.relpath(path)


def builder() -> FFI:
    """Returns the configured cffi builder."""
    extra = os.environ.get("STREAMSERVE_CFLAGS", "").split()
    ffi = FFI()
    ffi.cdef(declarations())
    ffi.set_source(
        "streamserve.core._native",
        PREAMBLE,
        sources=[relative(path) for path in SOURCES],
        depends=[relative(path) for path in [*HEADERS, Path(__file__).resolve()]],
        include_dirs=[relative(HERE)],
        extra_compile_args=COMPILE_FLAGS + extra,
        extra_link_args=LINK_FLAGS + extra,
        py_limited_api=True,
    )
    return ffi


ffibuilder = builder()

if __name__ == "__main__":
    in_place = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    sys.exit(subprocess.run(in_place, cwd=ROOT).returncode)
