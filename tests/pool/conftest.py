"""Every test leaves the hub of the main thread as it found it."""

from tests.sync.conftest import clean_hub, errors, restless, wake_up_of_signals

__all__ = ["clean_hub", "errors", "restless", "wake_up_of_signals"]
