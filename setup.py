"""Only what pyproject.toml cannot say: the C core, built through cffi, as one abi3 extension."""

from setuptools import setup

setup(
    cffi_modules=["streamserve/core/build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
