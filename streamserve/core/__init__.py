"""The C core and its door: `lib` has the functions of api.h, `ffi` the types."""

from streamserve.core._native import ffi, lib

__all__ = ["ffi", "lib"]
