"""The cooperative standard library leaves the hub as it found it."""

from tests.loop.conftest import clean_hub, wake_up_of_signals

__all__ = ["clean_hub", "wake_up_of_signals"]
