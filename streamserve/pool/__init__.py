"""Pools: of greenlets, and of native threads for what blocks."""

from streamserve.pool.group import Group, Pool, PoolFull
from streamserve.pool.threadpool import ThreadPool

__all__ = ["Group", "Pool", "PoolFull", "ThreadPool"]
