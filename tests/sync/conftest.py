"""Every test of sync/ leaves the hub of the main thread as it found it."""

import gc
import sys
from collections.abc import Iterator

import pytest

from tests.loop.conftest import clean_hub, errors, wake_up_of_signals

__all__ = ["clean_hub", "errors", "wake_up_of_signals"]


@pytest.fixture
def restless() -> Iterator[None]:
    """Native threads take turns, and garbage is collected, as often as the interpreter can."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(1)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*thresholds)
