"""Pools: of greenlets, and of native threads for what blocks."""
