"""The standard library's blocking modules, cooperative: a call that waits lets other greenlets run.

Each module here has the names, arguments, results and errors of the standard one that `__target__` names;
`__implements__` lists what `streamserve.monkey` puts there.
"""
