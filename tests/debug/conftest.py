"""Every test leaves the hub of the main thread as it found it."""

from tests.loop.conftest import clean_hub, errors, wake_up_of_signals

__all__ = ["clean_hub", "errors", "wake_up_of_signals"]
